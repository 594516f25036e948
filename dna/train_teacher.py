"""Step `train-teacher`: a timm network that guides the supernet, trained on the dataset itself."""

from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.run import Run, open_run
from common.kd.recipe import Recipe
from common.kd.trainer import Log, train
from common.report.facts import commands_of, dataset_facts, run_facts, settings_of
from common.store.weights import save_weights
from dna.images import step_folder
from dna.report import teacher_page
from dna.report_inputs import TeacherFacts
from dna.teacher import KIND, check_name

TEACHER_FILE = "teacher.safetensors"
TEACHER_RECIPE = Recipe(
    loss="ce", epochs=180, learning_rate=0.1, weight_decay=5e-4, batch_size=128, label_smoothing=0.1, validate_every=10
)


@dataclass(frozen=True, kw_only=True)
class TrainTeacherConfig(StepConfig):
    """Train a teacher for a dataset that no published weights fit: any timm network with six feature stages."""

    data: str = "imagenet"
    """A known name (`cifar10`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 224
    """Side of the images in pixels."""
    model: str = "efficientnet_b0"
    """Name in timm; dna_teacher is a small network of ours for images of 32 pixels."""
    recipe: Recipe = TEACHER_RECIPE
    """The training; its loss is ce."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.resolution < 1:
            raise ValueError(f"resolution is {self.resolution}; it must be 1 pixel or more")
        if self.recipe.loss != "ce":
            raise ValueError(f"a teacher learns from labels: recipe.loss is {self.recipe.loss!r} and must be ce")


def teacher_file(task: str) -> Path:
    """Where a dataset's teacher is kept."""
    return step_folder("train-teacher", task) / TEACHER_FILE


def train_teacher(cfg: TrainTeacherConfig) -> None:
    """Run the step.

    Raises:
        ValueError: timm has no such network, or the data cannot be trained on.
        FileNotFoundError: there are no such images.
    """
    check_name(cfg.model)
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    folder = cfg.out or step_folder("train-teacher", task.id)
    with open_run(folder, program="dna", step="train-teacher", config=cfg, products=[TEACHER_FILE]) as run:
        if run.result is None:
            print(
                f"teacher {cfg.model} of {task.description}: {len(task.train)} training images -> {folder}", flush=True
            )
            _train(cfg, task, run)
        else:
            print(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        print(
            f"teacher of {task.description}: best {100 * run.result['best_accuracy']:.2f} %, final "
            f"{100 * run.result['final_accuracy']:.2f} %\nweights: {folder / TEACHER_FILE}\n"
            f"report: {folder / 'report.html'}"
        )


def _train(cfg: TrainTeacherConfig, task: Task, run: Run) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        network: nn.Module = timm.create_model(cfg.model, pretrained=False, num_classes=task.num_classes)
    outcome = train(
        [network],
        task,
        cfg.recipe,
        device=resolve_device(cfg.gpu),
        seed=cfg.seed,
        checkpoint=run.checkpoint / "training.pt",
        log=logger_of(run),
        description=f"{cfg.model} on {task.id}",
    )[0]
    save_weights(
        run.folder / TEACHER_FILE,
        outcome.best_state,
        {"kind": KIND, "model": cfg.model, "task": task.id, "resolution": str(task.resolution)},
    )
    accuracies = {name: getattr(outcome, f"{name}_accuracy") for name in ("best", "final", "initial")}
    num_params = sum(parameter.numel() for parameter in network.parameters())
    facts = TeacherFacts(
        dataset=dataset_facts(task),
        model=cfg.model,
        num_params=num_params,
        run=run_facts(cfg.seed, accuracies, outcome.curve, outcome.seconds),
        settings=settings_of(to_dict(cfg.recipe)),
        commands=commands_of(
            "dna", "train-teacher", run.folder, next_step=f"python -m dna meta-train --data {cfg.data}"
        ),
    )
    write_text(run.folder / "report.html", teacher_page(facts))
    run.finish(
        {
            "task": task.id,
            "description": task.description,
            "model": cfg.model,
            "num_params": num_params,
            **{f"{name}_accuracy": value for name, value in accuracies.items()},
            "seconds": outcome.seconds,
        }
    )


def logger_of(run: Run) -> Log:
    """Writes an epoch's measures at once: the trainer keeps its state in a file of its own."""

    def log(step: int, prefix: str, values: dict[str, Tensor | float]) -> None:
        run.log(step, values)
        run.flush()

    return log
