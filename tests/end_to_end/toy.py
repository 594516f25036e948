"""Methods on scikit-learn's digits, as small as it gets: every step is real, every size is tiny."""

import contextlib
import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from common.experiment.commands import main
from common.experiment.files import read_json
from dass.__main__ import STEPS as DASS_STEPS
from dass.official_flags import translate as translate_dass
from dna.__main__ import STEPS as DNA_STEPS
from dna.__main__ import name_first
from metad2a.__main__ import steps_for as metad2a_steps
from metad2a.official_flags import translate as translate_metad2a
from mfkd.__main__ import STEPS as MFKD_STEPS
from mfkd.__main__ import name_file
from tans.__main__ import STEPS as TANS_STEPS
from tans.official_flags import translate as translate_tans

ROOT = Path(__file__).resolve().parents[2]
RESOLUTION = 16
PRESET = """
train-teacher:
  resolution: 16
  space: &space {teacher_widths: [16, 32, 48, 64], max_depth: 2}
  recipe: &teacher
    {loss: ce, epochs: 6, epoch_images: 256, batch_size: 16, learning_rate: 0.02, validate_every: 6, flip: "no",
     channels_last: true}
collect:
  tasks: [digits/0-4, images/turned]
  resolution: 16
  space: *space
  teacher_recipe: *teacher
  pool: &pool
    num_students: 4
    recipe: &student
      {epochs: 2, epoch_images: 128, batch_size: 32, learning_rate: 0.05, validate_every: 2, flip: "no",
       channels_last: true}
meta-train:
  meta_valid_tasks: ["folder:turned"]
  num_episodes: 40
  num_queries: 3
  validate_every: 10
  predictor: {hidden_channels: 16, out_channels: 32, hidden_dim: 16}
search: {resolution: 16, space: *space, teacher: {recipe: *teacher}, num_candidates: 30, top_k: 3}
distill:
  resolution: 16
  space: *space
  teacher: {recipe: *teacher}
  recipe:
    {epochs: 3, epoch_images: 256, batch_size: 32, learning_rate: 0.05, validate_every: 1, flip: "no",
     channels_last: true}
  seeds: [1, 2]
evaluate:
  resolution: 16
  space: *space
  teacher_recipe: *teacher
  pool: {num_students: 5, seeds: [0, 1], recipe: *student}
"""
METAD2A_PRESET = """
collect:
  sources: [digits, images/turned]
  drawing: {num_tasks: 6, num_valid_tasks: 2, min_classes: 2, max_classes: 3, num_cells: 4, num_valid_cells: 3}
  training:
    space: {channels: 4, cells_per_stage: 1}
    resolution: 8
    recipe: &recipe {loss: ce, epochs: 2, epoch_images: 96, batch_size: 32, learning_rate: 0.1, validate_every: 2,
                     padding: 0, flip: "no"}
    lock_step: 2
meta-train:
  features: &features {extractor: random, max_per_class: 20}
  num_sample: 5
  latent_dim: 24
  generator: {hidden_dim: 24, num_targets: 2, epochs: 40, batch_size: 3, learning_rate: 5.0e-3, schedule: cosine,
              validate_every: 10}
  predictor: {hidden_dim: 16, epochs: 20, batch_size: 4, learning_rate: 5.0e-3, cells_per_task: 3, target: task_rank}
search:
  data_root: nowhere
  features: *features
  generation: &generation {num_generated: 40, draws_per_batch: 5, graphs_per_draw: 10}
  top_k: 3
train:
  resolution: 16
  space: {channels: 4, cells_per_stage: 1}
  recipe: {loss: ce, epochs: 8, epoch_images: 256, batch_size: 16, learning_rate: 0.1, validate_every: 4, padding: 0,
           flip: "no"}
  seeds: [1, 2]
  num_random: 2
evaluate: {features: *features, generation: *generation, seeds: [0, 1]}
"""
MFKD_PRESET = """
train-teacher:
  resolution: 16
  space: &space
    channels: ["8,16", "8,16", "16,24", "16,24", "24,32", "24,32", "32,40"]
    repetitions: ["1", "1", "1,2", "1", "1,2", "1", "1"]
    first_stride: 2
    last_channel: 64
  recipe: &teacher
    {loss: ce, epochs: 5, epoch_images: 320, batch_size: 16, learning_rate: 0.1, validate_every: 5, flip: "no",
     channels_last: true}
search: &search
  resolution: 16
  space: *space
  teacher: {recipe: *teacher}
  low:
    portion: 0.5
    recipe: {loss: nst, epochs: 4, epoch_images: 128, batch_size: 16, learning_rate: 0.1, validate_every: 4, flip: "no",
             channels_last: true}
  high:
    recipe: &full {loss: ce, epochs: 3, epoch_images: 256, batch_size: 16, learning_rate: 0.1, validate_every: 3,
                   flip: "no", channels_last: true}
  num_low: 4
  init_low: 2
  num_high: 3
  init_high: 2
distill:
  resolution: 16
  space: *space
  teacher: {recipe: *teacher}
  recipe: {loss: kd, temperature: 4.0, alpha: 0.1, epochs: 10, epoch_images: 320, batch_size: 16, learning_rate: 0.1,
           validate_every: 5, flip: "no", channels_last: true}
  seeds: [1, 2]
  num_random: 1
evaluate:
  <<: *search
  recipe: *full
  seeds: [0, 1]
correlate:
  resolution: 16
  space: *space
  teacher: {recipe: *teacher}
  low:
    portion: 0.1
    recipe: {epochs: 2, epoch_images: 32, batch_size: 16, learning_rate: 0.1, validate_every: 2, flip: "no"}
  high: {recipe: {loss: ce, epochs: 1, epoch_images: 64, batch_size: 16, learning_rate: 0.1, flip: "no"}}
  num_networks: 4
  seeds: [0, 1]
"""
DNA_PRESET = """
train-teacher:
  resolution: 16
  model: dna_teacher
  recipe: {loss: ce, epochs: 3, epoch_images: 256, batch_size: 32, learning_rate: 0.1, validate_every: 3, flip: "no",
           channels_last: true}
meta-train:
  resolution: 16
  space: &space
    skeleton: &skeleton {stem_width: 16, stem_stride: 2, first_width: 8, strides: [1, 2, 1, 1, 2, 1], head_width: 32}
    cells: [1x8, 1x8+2x8, 1x16, 1x16, 1x16, 1x16]
  teacher: &teacher {model: dna_teacher, pretrained: false}
  distill: {schedule: joint, epochs: 4, epoch_images: 128, batch_size: 32, flip: "no", validate_every: 2}
  hold_out: 60
search: {resolution: 16, space: *space, top_k: 2}
retrain:
  resolution: 16
  skeleton: *skeleton
  teacher: *teacher
  recipe: &recipe
    {loss: ce, epochs: 6, epoch_images: 256, batch_size: 16, optimizer: sgd, schedule: cosine, warmup_epochs: 0,
     learning_rate: 0.1, ema_decay: null, validate_every: 3, flip: "no", channels_last: true}
  drop_rate: 0.0
  drop_path_rate: 0.0
  seeds: [1, 2]
evaluate: {resolution: 16, space: *space, recipe: *recipe, drop_rate: 0.0, drop_path_rate: 0.0, num_equal: 2,
           tolerance: 0.3, num_spread: 1, seeds: [1, 2]}
"""
TANS_PRESET = """
build-zoo:
  sources: [images/grey-low, images/inverted-high, images/red-low, images/mirrored-high]
  zoo: zoo
  resolution: 16
  width_mult: 0.1
  first_stride: 1
  functional_dim: 256
  features: &features {extractor: compact, max_per_class: 20}
  base:
    recipe: {epochs: 8, epoch_images: 512, batch_size: 32, learning_rate: 0.1, validate_every: 8, flip: "no",
             padding: 1, channels_last: true}
    shrinking: {kernels: [0.7, 0.7], depths: [0.7, 0.7], expansions: [0.7, 0.7], num_random: 1, has_smallest: false}
  own:
    recipe: {epochs: 3, epoch_images: 192, batch_size: 32, learning_rate: 0.1, validate_every: 3, flip: "no",
             padding: 1, channels_last: true}
    shrinking: {num_random: 1, has_smallest: false}
  num_networks: 5
  measuring: {num_calibration: 64}
meta-train: {zoo: zoo, embedding_dim: 16, learning: {steps: 150, validate_every: 25, standardise: "yes"}}
search: {zoo: zoo, features: *features}
finetune:
  zoo: zoo
  recipe: &training {epochs: 2, epoch_images: 128, batch_size: 32, channels_last: true}
  seeds: [1, 2]
evaluate: {zoo: zoo, features: *features, recipe: *training, budgets: [1, 2], max_evaluated: 60, seeds: [0, 1]}
zoo add: {zoo: zoo, features: *features}
"""
PROGRAMS = {
    "dass": (lambda line: DASS_STEPS, translate_dass, PRESET),
    "metad2a": (metad2a_steps, translate_metad2a, METAD2A_PRESET),
    "mfkd": (lambda line: MFKD_STEPS, name_file, MFKD_PRESET),
    "dna": (lambda line: DNA_STEPS, name_first, DNA_PRESET),
    "tans": (lambda line: TANS_STEPS, translate_tans, TANS_PRESET),
}
"""Method -> its steps for a command line, its released flags, and a preset of the smallest sizes."""
_LOG_LINE = re.compile(r"\d\d:\d\d:\d\d (INFO|WARNING|ERROR) ")


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def lines(self) -> list[str]:
        """Lines of stderr that are neither empty nor log."""
        return [line for line in self.err.splitlines() if line.strip() and not _LOG_LINE.match(line)]

    def error(self, code: int) -> str:
        """The one error line of a command that failed as it should."""
        assert self.code == code, (self.code, self.out, self.err)
        assert "Traceback" not in self.err, self.err
        (line,) = self.lines()
        assert re.match(r"[a-z0-9]+( [a-z-]+)+: error: ", line), line
        return line


@dataclass(frozen=True)
class Toy:
    """A folder in which commands run, with image folders and a preset.

    `images/turned` (quarter turns of 5 to 9, inverted) and `images/own` (upright 5 to 9) are a user's own pictures.
    """

    folder: Path
    program: str = "dass"

    @classmethod
    def make(cls, folder: Path, program: str = "dass") -> "Toy":
        """Write the preset and the pictures."""
        (folder / "toy.yaml").write_text(PROGRAMS[program][2])
        write_digits(folder / "images/turned", "56789", per_class=90, change=lambda image: 16 - np.rot90(image))
        write_digits(folder / "images/own", "56789", per_class=90, first=80)
        return cls(folder, program)

    def run(self, step: str, *argv: object, preset: bool = True) -> Finished:
        """Runs a command in this process, as `python -m` would."""
        steps_for, translate, _ = PROGRAMS[self.program]
        line = arguments(step, *argv, preset=preset)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(self.program, steps_for(line), line, aliases=translate)
        return Finished(code, out.getvalue(), err.getvalue())

    def do(self, step: str, *argv: object) -> Finished:
        """Runs a command that must succeed."""
        done = self.run(step, *argv)
        assert done.code == 0, done.err
        return done

    def start(self, step: str, *argv: object, **options: Any) -> "subprocess.Popen[str]":
        """Starts `python -m` with the program in a process group of its own."""
        return self.start_line(*arguments(step, *argv), **options)

    def start_line(self, *line: str, **options: Any) -> "subprocess.Popen[str]":
        """The same with a command line that is taken as it is; one text is split at its spaces."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        words = line[0].split() if len(line) == 1 else line
        return subprocess.Popen(
            [sys.executable, "-m", self.program, *words],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def do_alone(self, step: str, *argv: object) -> Finished:
        """Runs a command in a process of its own; it must succeed."""
        done = ended(self.start(step, *argv))
        assert done.code == 0, done.err
        return done

    def result(self, run: str) -> dict[str, Any]:
        """`result.json` of a run folder."""
        found: dict[str, Any] = read_json(self.folder / run / "result.json")
        return found


def arguments(step: str, *argv: object, preset: bool = True) -> list[str]:
    """A whole command line: the preset, one thread, no GPU."""
    common = ["--config", "toy.yaml"] if preset else []
    return [step, *common, "--threads", "1", "--gpu", "cpu", *map(str, argv)]


def write_digits(
    folder: Path,
    digits: str,
    *,
    per_class: int,
    first: int = 0,
    change: Callable[[np.ndarray], np.ndarray] = lambda image: image,
) -> Path:
    """A folder of class folders with 8x8 pictures of handwritten digits, values 0 to 16 before and after `change`."""
    raw = load_digits()
    for digit in digits:
        place = folder / f"digit {digit}"
        place.mkdir(parents=True, exist_ok=True)
        for index, image in enumerate(raw.images[raw.target == int(digit)][first : first + per_class]):
            levels = np.rint(np.clip(change(image), 0, 16) * (255 / 16)).astype(np.uint8)
            Image.fromarray(levels).save(place / f"{index:03d}.png")
    return folder


def ended(process: "subprocess.Popen[str]", seconds: float = 600) -> Finished:
    """Waits for a command and the workers that hold its pipes; none of them is left behind."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return Finished(process.returncode, out, err)


def wait_for(process: "subprocess.Popen[str]", reached: Callable[[], bool], seconds: float = 600) -> None:
    """Polls until a process has come so far; fails if it ends before."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, ended(process)
        assert time.monotonic() < deadline, ended(process, seconds=0)
        time.sleep(0.005)


def records_of(run: Path) -> list[tuple[Any, ...]]:
    """All rows of a record store in the order in which they came, times included."""
    file = run / "records.sqlite"
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            return connection.execute("SELECT rowid, * FROM records ORDER BY rowid").fetchall()
        except sqlite3.OperationalError:  # the table is not made yet
            return []


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    """Bytes of files by their path within the folder."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob(pattern))}
    assert found, f"no {pattern} in {folder}"
    return found
