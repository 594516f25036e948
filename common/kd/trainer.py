"""The one classifier trainer: several networks in lock-step over the same batches and one teacher."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from common.data.tasks import Task
from common.experiment.progress import track
from common.experiment.seeds import derive_seed
from common.kd.evaluate import check_outputs, eval_mode
from common.kd.guide import Guide
from common.kd.learner import Examination, Learner, Outcome
from common.kd.recipe import Recipe
from common.kd.schedules import learning_rate
from common.kd.state import Checkpoint, identity
from common.kd.views import TrainingSet

Log = Callable[[int, str, dict[str, Tensor | float]], None]


def train(
    networks: Sequence[nn.Module],
    task: Task,
    recipe: Recipe,
    *,
    device: torch.device,
    seed: int,
    teacher: nn.Module | None = None,
    checkpoint: Path | None = None,
    log: Log | None = None,
    description: str = "",
    teacher_cache: Path | None = None,
    checkpoint_every_seconds: float = 20.0,
    learner: Callable[..., Learner] = Learner,
) -> list[Outcome]:
    """Train networks in place; each becomes, bit for bit, what it would become alone with this seed.

    Args:
        networks: classifiers of the task's classes; feature losses need their `features_and_logits`.
        task: images, labels, training and evaluation side.
        recipe: how.
        device: where; the networks and the teacher are moved there.
        seed: of shuffling, augmentation, views, and the layers that draw (dropout).
        teacher: needed by every loss but ce, which does not use it. It is left unchanged.
        checkpoint: file of the training state; one that exists is continued, or gives its outcomes if it is finished.
        log: called with (step, prefix, values) at the end of epochs; the prefix is "" for one network, else "0/" ...
        description: in front of the progress bar.
        teacher_cache: file of teacher outputs, shared by runs with the same teacher, task, seed and views.
        checkpoint_every_seconds: least time between two saves of the state (0: every step); the last is made anyhow.
        learner: makes the learners, with the arguments of `Learner`.

    Returns:
        One outcome a network. The networks hold their last weights (averaged ones with ema_decay).

    Raises:
        ValueError: too few images for a batch; outputs not of the classes; no teacher or feature maps; fp16 on a CPU.
        RuntimeError: a loss that is not finite, naming the step; a checkpoint that is damaged or of another run.
    """
    if recipe.amp == "fp16" and device.type != "cuda":
        raise ValueError(f"amp fp16 needs a GPU and the device is {device}: take --recipe.amp bf16 or off")
    teachers = () if teacher is None else (teacher.to(device),)
    for network in networks:
        network.to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), eval_mode(*teachers):
        data = TrainingSet(task, recipe, device, seed)
        indices = _evaluation_indices(task, recipe)
        guide = Guide(teacher, data, indices, teacher_cache)
        learners = _learners(networks, guide, data, learner)
        examination = Examination(
            task=task,
            images=data.images,
            indices=indices,
            labels=task.labels[indices].to(device),
            teacher_logits=guide.evaluation_logits,
        )
        about = identity(networks, task, recipe, seed, teacher) | learners[0].identity()
        keeper = Checkpoint(checkpoint, about, checkpoint_every_seconds)
        session = _Session(learners=learners, data=data, guide=guide, examination=examination, keeper=keeper, log=log)
        seconds = _fit(session, description)
    return [learner.finish(seconds / len(learners)) for learner in learners]


@dataclass(frozen=True, kw_only=True)
class _Session:
    """What one training works with."""

    learners: list[Learner]
    data: TrainingSet
    guide: Guide
    examination: Examination
    keeper: Checkpoint
    log: Log | None


def _fit(session: _Session, description: str) -> float:
    """The training loop; returns the seconds spent, those before an interruption included."""
    learners, data, keeper = session.learners, session.data, session.keeper
    recipe, num_steps = data.recipe, data.recipe.epochs * data.steps
    start, spent = keeper.restore(learners)
    begin = time.monotonic() - spent
    draws = derive_seed(data.seed, "layers")
    if start == 0:
        for learner in learners:
            learner.initial_accuracy = learner.examine(session.examination)["accuracy"]
    for learner in learners:
        learner.network.train()
    progress = track(total=num_steps, description=description)
    progress.update(start)
    for step in range(start, num_steps):
        batch = data.batch(step)
        teacher = session.guide(batch)
        rate = learning_rate(recipe, step, num_steps)
        for learner in learners:
            _seed_layers(data.device, draws + step)  # dropout draws the same with and without the other networks
            learner.step(step, batch, teacher, rate)
        if (step + 1) % data.steps == 0:
            _finish_epoch(session, step + 1, rate)
        if step + 1 == num_steps or keeper.due():
            _check_finite(learners, data, keeper, step)
            keeper.save(step + 1, time.monotonic() - begin, learners)
        progress.update()
    progress.close()
    return time.monotonic() - begin


def _finish_epoch(session: _Session, step: int, rate: float) -> None:
    """Check, validate where it is time, and log."""
    learners, data = session.learners, session.data
    _check_finite(learners, data, session.keeper, step - 1)
    epoch = step // data.steps
    is_due = epoch % data.recipe.validate_every == 0 or epoch == data.recipe.epochs
    for index, learner in enumerate(learners):
        values: dict[str, Tensor | float] = {"train_loss": learner.losses.mean(), "learning_rate": rate}
        if is_due:
            measured = learner.validate(session.examination, epoch=epoch, step=step)
            values |= {f"valid_{name}": value for name, value in measured.items()}
        if session.log is not None:
            session.log(step, f"{index}/" if len(learners) > 1 else "", values)


def _check_finite(learners: list[Learner], data: TrainingSet, keeper: Checkpoint, step: int) -> None:
    """Raise RuntimeError if a loss of the epoch that `step` belongs to was not finite."""
    epoch, index = divmod(step, data.steps)
    for learner in learners:
        bad = learner.first_bad_step(index + 1)
        if bad is not None:
            raise RuntimeError(
                f"the loss of {learner.name} on {data.task.id} is not finite at step {epoch * data.steps + bad}; "
                f"{keeper.describe()}; try a lower --recipe.learning-rate or --recipe.clip-norm 1"
            )


def _learners(
    networks: Sequence[nn.Module], guide: Guide, data: TrainingSet, make: Callable[..., Learner]
) -> list[Learner]:
    """A learner a network, each with the same draws."""
    example = data.batch(0).images[:2]
    teacher = guide.ask(example) if guide.teacher is not None else None
    if teacher is not None:
        check_outputs(teacher.logits, data.task.num_classes, "the teacher")
    learners = []
    for index, network in enumerate(networks):
        torch.manual_seed(derive_seed(data.seed, "regressor"))
        name = f"network {index}"
        learners.append(
            make(network, data.recipe, data.device, steps=data.steps, example=example, teacher=teacher, name=name)
        )
    return learners


def _evaluation_indices(task: Task, recipe: Recipe) -> Tensor:
    """All evaluation images, or with official_eval those of whole batches."""
    if not recipe.official_eval:
        return task.evaluation
    num_whole = len(task.evaluation) // recipe.batch_size * recipe.batch_size
    if num_whole == 0:
        raise ValueError(
            f"task {task.id} has {len(task.evaluation)} evaluation images, fewer than a batch of {recipe.batch_size}: "
            "nothing is left with official_eval; turn it off or lower --recipe.batch-size"
        )
    return task.evaluation[:num_whole]


def _seed_layers(device: torch.device, seed: int) -> None:
    """Seed what layers draw from; not torch.manual_seed, which reaches for every accelerator at every call."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
