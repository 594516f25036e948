"""Step `train-teacher`: the network that low-fidelity trainings are distilled from."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from common.experiment.config import UsageError
from common.experiment.run import open_run
from mfkd.pipeline import Pipeline, TrainStep, read_pipeline
from mfkd.run import PRODUCTS, RunConfig, check_pipeline, do_steps

TEACHER_FILE = "teacher.safetensors"
_FOLDER = Path("exp/mfkd/train-teacher")


@dataclass(frozen=True, kw_only=True)
class TrainTeacherConfig(RunConfig):
    """Train the teacher that a pipeline file describes: one step that trains one network with labels."""


def train_teacher(cfg: TrainTeacherConfig) -> Path:
    """Run the step; returns the teacher's file.

    Raises:
        UsageError: the pipeline is not one training of one network with labels.
    """
    pipeline = read_pipeline(cfg.file, folder=cfg.out, default=_FOLDER)
    _check_teacher(pipeline, cfg.file)
    check_pipeline(pipeline, cfg)
    file = pipeline.folder / TEACHER_FILE
    products = [*PRODUCTS, TEACHER_FILE]
    with open_run(pipeline.folder, program="mfkd", step="train-teacher", config=cfg, products=products) as run:
        if run.result is None:
            print(f"teacher of {cfg.file}, into {pipeline.folder}", flush=True)
        teacher = do_steps(pipeline, cfg, run)["steps"][0]["models"][0]
        if not file.exists():
            shutil.copyfile(pipeline.folder / teacher["weights"], file)
        print(f"{teacher['description']}: {teacher['architecture']} {100 * teacher['accuracy']:.2f} %")
        print(f"weights: {file}\nnext: python -m mfkd run FILE, whose trainer.teacher is {file}")
    return file


def _check_teacher(pipeline: Pipeline, file: Path) -> None:
    step = pipeline.steps[0]
    if len(pipeline.steps) > 1 or not isinstance(step, TrainStep) or step.model is None:
        raise UsageError(
            f"{file}: a teacher is one step of type TrainPipeStep with model.model_desc; use `run` for others"
        )
    if step.training.recipe.loss != "ce":
        raise UsageError(f"{file}: a teacher learns from labels: take the type Trainer and CrossEntropyLoss")
