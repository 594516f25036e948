"""One run, one folder: what was asked, with what, how it went, where it stands, what came out."""

import contextlib
import dataclasses
import fcntl
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from torch import Tensor

from common.experiment.checkpoints import load_checkpoint, save_checkpoint
from common.experiment.config import to_dict, to_yaml
from common.experiment.environment import describe_environment
from common.experiment.files import TEMPORARY_SUFFIX, read_json, write_json, write_text
from common.experiment.metrics import Metrics
from common.experiment.presets import UsageError, from_yaml

_log = logging.getLogger(__name__)

_FREE_FIELDS = ("gpu", "threads", "workers", "debug", "restart", "data_root", "out")
"""Fields and sections that do not change what a run computes: it may go on with other values of these."""
_OWN = ("result.json", "checkpoint", "metrics.csv", "report.html", "environment.json", "config.yaml")
"""What a run leaves, in an order in which a removal that is cut short leaves a run that can go on."""


class Run:
    """The folder of one run; a context manager. Use `open_run`.

    It holds `config.yaml` (usable with `--config`), `environment.json`, `metrics.csv`, TensorBoard events,
    `checkpoint/` (last.pt, previous.pt, best.pt) and `result.json`. A kill at any moment leaves it resumable.

    Attributes:
        folder: the folder.
        checkpoint: its folder `checkpoint`, for what a step keeps beside `save`.
        result: what `finish` was given, if the run is finished; else None.
    """

    def __init__(self, folder: Path, *, lock: int) -> None:
        self.folder = folder
        self.checkpoint = folder / "checkpoint"
        self.result: dict[str, Any] | None = None
        self._metrics = Metrics(folder)
        result = folder / "result.json"
        if result.exists():
            self.result = read_json(result)
        self._lock = lock  # from here on it is ours to close

    def log(self, step: int, values: Mapping[str, float | Tensor], split: str = "train") -> None:
        """Keep numbers of one step; written by `save`, `flush`, `finish`, and now and then.

        The first step that is logged after opening a folder (or the one that `restore` returned) drops what an earlier
        process logged at or beyond it, so that the file equals that of an uninterrupted run.

        Args:
            step: 0 or more, not falling.
            values: one number by name; tensors, on any device, are read when they are written.
            split: "train", "valid" or another word.

        Raises:
            ValueError: a tensor of more than one number, or a name with a comma, quote or line break.
        """
        self._metrics.log(step, values, split)

    def flush(self) -> None:
        """Write what was logged to the disk, before state is kept elsewhere than with `save`."""
        self._metrics.flush()

    def due(self, step: int, every: int) -> bool:
        """Whether `step`, counted from 0, completes a group of `every` steps; never if `every` is 0."""
        return every > 0 and (step + 1) % every == 0

    def save(self, step: int, **objects: Any) -> None:
        """Keep the state before `step` as the last one, and the one before it as the previous one.

        The states of torch's own random generators, which dropout draws from, are kept too.

        Args:
            step: the next step to do, which `restore` returns.
            objects: by name, anything with `state_dict` and `load_state_dict`, a `torch.Generator`, or a dict of
                tensors and plain values (whose tensors come back on the CPU).

        Raises:
            ValueError: an object is none of these.
            OSError: the disk is full; the last state that was saved is still there.
        """
        self._metrics.flush()  # rows before the step are on the disk before the state that relies on them
        following = self.checkpoint / "next.pt"
        save_checkpoint(following, step, objects)
        last = self.checkpoint / "last.pt"
        if last.exists():
            last.replace(self.checkpoint / "previous.pt")
        following.replace(last)

    def restore(self, **objects: Any) -> int:
        """Load the last saved state into the objects that `save` is given.

        Returns:
            The next step to do: 0 for a run that has saved nothing, and then the objects are untouched.

        Raises:
            RuntimeError: the file is damaged, or the objects are not those that were saved; the message says
                what to do.
        """
        path = self.checkpoint / "last.pt"
        if not path.exists():
            path = self.checkpoint / "previous.pt"  # killed between the two renames of `save`
        if not path.exists():
            self._metrics.rewind(0)
            return 0
        try:
            step = load_checkpoint(path, objects)
        except RuntimeError as error:
            raise RuntimeError(f"{error} -- {self._way_out(path)}") from error
        self._metrics.rewind(step)
        _log.info("going on from step %d of %s", step, self.folder)
        return step

    def save_best(self, step: int, **objects: Any) -> None:
        """Keep a state as the best one, in `checkpoint/best.pt`; takes the same objects as `save`."""
        save_checkpoint(self.checkpoint / "best.pt", step, objects)

    def restore_best(self, **objects: Any) -> int:
        """Load the best state into some or all of the objects that `save_best` was given.

        Returns:
            The step that was given with it.

        Raises:
            FileNotFoundError: there is none.
            RuntimeError: it is damaged, or has no object of such a name.
        """
        return load_checkpoint(self.checkpoint / "best.pt", objects, only_these=True)

    def finish(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write `result.json`, which marks the run as finished, and let go of the folder.

        Args:
            result: plain values.

        Returns:
            The result.

        Raises:
            ValueError: the result holds something that JSON has no form for.
        """
        self._metrics.close()
        write_json(self.folder / "result.json", dict(result))
        self.result = dict(result)
        self.close()
        return self.result

    def close(self) -> None:
        """Write what was logged and let go of the folder; closing twice is fine."""
        if self._lock >= 0:
            try:
                self._metrics.close()
            finally:
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.nullcontext() if error is None else contextlib.suppress(OSError):
            self.close()  # what ended the block is the error to show

    def __del__(self) -> None:
        if getattr(self, "_lock", -1) >= 0:
            os.close(self._lock)

    def _way_out(self, path: Path) -> str:
        if path.name == "last.pt" and (self.checkpoint / "previous.pt").exists():
            return f"delete {path} to go on from previous.pt beside it, or begin anew with --restart"
        return f"delete {path} or pass --restart to begin anew"


def open_run(folder: Path, *, program: str, step: str, config: Any, products: Sequence[str] = ()) -> Run:
    """Open the folder of a run: a new one, one to go on with, or a finished one (then `run.result` is not None).

    Args:
        folder: made when it is not there.
        program: package of the command.
        step: name of the step.
        config: dataclass; its field `restart`, if there is one, removes what an earlier run left in the folder.
        products: glob patterns of what the step itself writes into the folder, removed with it.

    Raises:
        UsageError: the folder holds a run of another command or with other settings; the message lists them.
        RuntimeError: another process uses the folder, or a file in it is damaged.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock_folder(folder)
    try:
        if getattr(config, "restart", False):
            _remove_run(folder, products)
        for unfinished in [*folder.glob(f".*{TEMPORARY_SUFFIX}"), *folder.glob(f"checkpoint/.*{TEMPORARY_SUFFIX}")]:
            unfinished.unlink(missing_ok=True)
        if (folder / "config.yaml").exists():
            _check_same(folder, program, step, config)
        else:
            _describe_run(folder, program, step, config)
        (folder / "checkpoint").mkdir(exist_ok=True)
        return Run(folder, lock=lock)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(lock)
        raise


def _lock_folder(folder: Path) -> int:
    """Take the folder for this process; the system lets go of it when the process ends, however it ends."""
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(lock, 32).decode(errors="replace") or "unknown"
        os.close(lock)
        raise RuntimeError(
            f"{folder} is in use by process {owner}: wait for it, or choose another folder with --out"
        ) from error
    os.ftruncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def _remove_run(folder: Path, products: Sequence[str]) -> None:
    """Remove what a run leaves in its folder, the mark of being finished first, and nothing else."""
    patterns = ("result.json", *_OWN, "events.out.tfevents.*", *products)
    for path in [path for pattern in patterns for path in folder.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _describe_run(folder: Path, program: str, step: str, config: Any) -> None:
    """Write what identifies a run; `config.yaml` last, because it marks the folder as taken."""
    again = {name: False for name in ("restart", "debug") if hasattr(config, name)}
    about = {"program": program, "step": step, "seed": getattr(config, "seed", None), **describe_environment()}
    write_json(folder / "environment.json", about)
    write_text(folder / "config.yaml", to_yaml(dataclasses.replace(config, **again)))


def _check_same(folder: Path, program: str, step: str, config: Any) -> None:
    about = read_json(folder / "environment.json")
    there = f"{about.get('program')} {about.get('step')}"
    if there != f"{program} {step}":
        raise UsageError(f"{folder} holds a run of {there}, not of {program} {step}: choose another folder with --out")
    try:
        earlier = _flat(from_yaml((folder / "config.yaml").read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError) as error:
        raise RuntimeError(
            f"{folder / 'config.yaml'} is damaged: restore it, or pass --restart to begin anew"
        ) from error
    now = _flat(to_dict(config))
    names = [name for name in {**now, **earlier} if name.split(".")[0] not in _FREE_FIELDS]
    missing = object()
    different = [
        f"{name} is {earlier.get(name, 'not set')!r} there and {now.get(name, 'not set')!r} here"
        for name in names
        if now.get(name, missing) != earlier.get(name, missing)
    ]
    if different:
        raise UsageError(
            f"{folder} holds a run with other settings ({'; '.join(different)}): choose another folder with --out, "
            "or pass --restart to begin anew"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
