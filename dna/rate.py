"""Step `rate`: every path of every block, by how near it comes to the teacher on held-out images.

Source: Li et al., CVPR 2020, searching for the best student.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.tasks import Task, open_task, task_id
from common.experiment.config import StepConfig, UsageError, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.progress import track
from common.experiment.run import Run, open_run
from common.kd.guide import weights_digest
from common.report.facts import commands_of
from dna.archs import NUM_STAGES, OPS
from dna.artifacts import TrainedSupernet, load_supernet
from dna.images import Part, batches_of, recalibration_batch, split_task, step_folder, stratified
from dna.meta_train import supernet_file
from dna.potentials import Potential, load, save, write_official, write_pool
from dna.rating import StageBatches, potential_of, rate_block, stage_batches
from dna.report import rate_page
from dna.report_inputs import RateFacts
from dna.teacher import Teacher, load_teacher

PRODUCTS = ("potential-*.npz", "potential-*.yaml", "modelpool-*.yaml")
POOL = 3
"""Best paths in a pool file, as published."""


@dataclass(frozen=True, kw_only=True)
class RateConfig(StepConfig):
    """Rate every path of every block of a supernet on images that it has not seen."""

    data: str = "imagenet"
    """The dataset that the supernet was trained on."""
    supernet: Path | None = None
    """Its file; None takes the one of meta-train on this dataset."""
    teacher_file: Path | None = None
    """Weights of its teacher, where they were moved."""
    part: Part = "held_out"
    """held_out: training images that no block has seen; evaluation: those that accuracy is reported on (published)."""
    num_images: int | None = None
    """Take so many of them, of all classes alike; None takes all that were held out."""
    batch_size: int = 64
    """Images of a batch; the rating is the mean over the batches of what is measured in each."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.batch_size < 2 or (self.num_images is not None and self.num_images < 2):
            raise ValueError(f"batch_size is {self.batch_size}, num_images {self.num_images}: both must be 2 or more")


def file_name(stage: int, cell: int, suffix: str = ".npz", kind: str = "potential") -> str:
    """Name of a cell's file; that of the first cell is the released code's."""
    return f"{kind}-{stage}{f'-cell{cell}' if cell else ''}{suffix}"


def rate(cfg: RateConfig) -> Path:
    """Run the step; returns its folder.

    Raises:
        UsageError: there is no supernet of the dataset.
        RuntimeError: a file is damaged, or the teacher is not the one that guided the supernet.
    """
    file = cfg.supernet or supernet_file(task_id(cfg.data, data_root=cfg.data_root))
    if not file.is_file():
        raise UsageError(f"there is no supernet {file}: run `python -m dna meta-train --data {cfg.data}` first")
    trained = load_supernet(file)
    task = open_task(cfg.data, resolution=trained.resolution, data_root=cfg.data_root, seed=trained.seed)
    if task.id != trained.task:
        raise UsageError(
            f"{file} was trained on {trained.task}, not on {task.id}: give its data, or another --supernet"
        )
    folder = cfg.out or step_folder("rate", task.id)
    with open_run(folder, program="dna", step="rate", config=cfg, products=PRODUCTS) as run:
        if run.result is None:
            print(f"rate: {file} on {task.description}, {cfg.part.replace('_', ' ')} images -> {folder}", flush=True)
            _rate(cfg, trained, task, run, file)
        assert run.result is not None
        _report(run.result, folder)
    return folder


def _rate(cfg: RateConfig, trained: TrainedSupernet, task: Task, run: Run, file: Path) -> None:
    start, device = time.monotonic(), resolve_device(cfg.gpu)
    teacher = _teacher_of(cfg, trained, device)
    learned, rows = split_task(task, trained.hold_out, trained.seed)
    if cfg.part == "evaluation":
        wanted = min(cfg.num_images or trained.hold_out, len(task.evaluation))
        rows = task.evaluation[stratified(task.labels[task.evaluation], wanted, trained.seed)]
    rows = rows[: cfg.num_images]
    recalibration = recalibration_batch(learned, trained.distill, teacher, device, trained.seed)
    batches = batches_of(task, rows, teacher, batch_size=cfg.batch_size, device=device)
    stages = stage_batches(teacher, recalibration, batches)
    num_paths = _rate_all(trained, stages, run.folder, device)
    potentials = [[load(run.folder / file_name(stage, cell)) for cell in cells] for stage, cells in _cells_of(trained)]
    facts = RateFacts(
        dataset=task.description,
        num_images=len(rows),
        potentials=potentials,
        commands=commands_of("dna", "rate", run.folder, next_step=f"python -m dna search --data {cfg.data}"),
    )
    write_text(run.folder / "report.html", rate_page(facts))
    run.finish(
        _result(cfg, trained, task, potentials, file=file, num_images=len(rows), num_paths=num_paths)
        | {"seconds": time.monotonic() - start}
    )


def _teacher_of(cfg: RateConfig, trained: TrainedSupernet, device: torch.device) -> Teacher:
    known = None if trained.teacher_file is None else Path(trained.teacher_file)
    file = cfg.teacher_file or known
    teacher = load_teacher(trained.teacher, file, num_classes=trained.num_classes, device=device)
    if weights_digest(teacher.network) != trained.teacher_digest:
        raise RuntimeError(
            f"{file or trained.teacher.model} is not the teacher that guided this supernet: give its weights as "
            "--teacher-file, or train the supernet again"
        )
    teacher.network.to(memory_format=torch.channels_last)
    return teacher


def _cells_of(trained: TrainedSupernet) -> list[tuple[int, range]]:
    return [(stage, range(len(cells))) for stage, cells in enumerate(trained.space.stages())]


def _rate_all(trained: TrainedSupernet, stages: Sequence[StageBatches], folder: Path, device: torch.device) -> int:
    """Write the files that are not there yet; returns the number of paths."""
    supernet = trained.build(device)
    cells = [(stage, cell) for stage, of_stage in _cells_of(trained) for cell in of_stage]
    total = sum(supernet.block(stage, cell).num_paths for stage, cell in cells)
    bar = track(total=total, description="paths")
    for stage, cell in cells:
        block, file = supernet.block(stage, cell), folder / file_name(stage, cell)
        if file.exists():
            bar.update(block.num_paths)
            continue
        of_cell = trained.space.stages()[stage][cell]
        potential = potential_of(rate_block(block, stages[stage], bar.update), stage=stage, width=of_cell.width)
        write_official(folder / file_name(stage, cell, ".yaml"), potential)
        best = potential.top_index[:POOL].tolist()
        write_pool(folder / file_name(stage, cell, ".yaml", "modelpool"), best, of_cell.num_layers)
        save(file, potential)  # the last, as it says that the cell is done
    bar.close()
    return total


def _result(
    cfg: RateConfig,
    trained: TrainedSupernet,
    task: Task,
    potentials: Sequence[Sequence[Potential]],
    *,
    file: Path,
    num_images: int,
    num_paths: int,
) -> dict[str, Any]:
    spread = {
        f"stage{stage}": {
            "best": float(min(potential.rating().min() for potential in of_stage)),
            "median": float(np.median(np.concatenate([potential.rating() for potential in of_stage]))),
            "worst": float(max(potential.rating().max() for potential in of_stage)),
        }
        for stage, of_stage in enumerate(potentials)
    }
    assert len(potentials) == NUM_STAGES
    return {
        "task": task.id,
        "description": task.description,
        "supernet": str(file),
        "space": to_dict(trained.space),
        "resolution": trained.resolution,
        "num_classes": trained.num_classes,
        "part": cfg.part,
        "num_images": num_images,
        "num_paths": num_paths,
        "ops": list(OPS),
        "ratings": spread,
    }


def _report(result: Mapping[str, Any], folder: Path) -> None:
    print(
        f"{result['num_paths']:,} paths on {result['num_images']:,} {result['part'].replace('_', ' ')} images; "
        "relative L1, best to worst: "
        + ", ".join(f"{name} {spread['best']:.3f}-{spread['worst']:.3f}" for name, spread in result["ratings"].items())
        + f"\nratings: {folder / 'potential-*.npz'} (and .yaml)\nreport: {folder / 'report.html'}"
    )
