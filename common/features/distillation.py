"""Training of the compact network: the teacher's features and the labels of several sets, in one loop.

`common.kd.trainer` trains classifiers of one task from logits. Here the teacher gives features, kept for fixed views of
14 sets that are each normalised with their own constants and have their own classes, so the loop is one of its own; its
loss, optimiser, schedule and precision are those of `common.kd`.
"""

import time
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.data.dataset import ImageDataset
from common.experiment.progress import track
from common.experiment.run import Run
from common.features.compact import FEATURE_DIM, CompactNetwork
from common.features.views import Batch, Pool
from common.kd.evaluate import eval_mode
from common.kd.guide import autocast
from common.kd.losses import hint_loss
from common.kd.optimizers import build_optimizer
from common.kd.recipe import Recipe
from common.kd.schedules import learning_rate

_SAVE_SECONDS = 60.0
_OTHER_CLASS = -1e4  # logit of a class of another set: finite, so that nothing becomes NaN


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Optimisation of the compact network."""

    epochs: int = 22
    """Passes over all images, each in one of the views."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 4e-3
    """Of AdamW; rises over the warm-up and falls to 0 as a cosine."""
    weight_decay: float = 0.05
    """Of AdamW."""
    warmup_steps: int = 200
    """Steps over which the learning rate rises from 0."""
    label_weight: float = 0.02
    """Weight of the labels' cross-entropy beside the distance to the teacher's features. A larger one teaches the sets
    that are trained on, and reads worse on others."""
    clip_norm: float = 5.0
    """Largest norm of a step's gradient."""
    amp: Literal["off", "bf16"] = "bf16"
    """Mixed precision; on CPUs with bfloat16 units about half of the time."""

    def __post_init__(self) -> None:
        """Check the fields; raises ValueError."""
        if self.warmup_steps < 0 or self.label_weight < 0:
            raise ValueError("distill.warmup_steps and distill.label_weight must be 0 or more")
        _ = self.recipe

    @property
    def recipe(self) -> Recipe:
        """The same for the parts of `common.kd`, which check the values."""
        return Recipe(
            loss="hint",
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer="adamw",
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            amp=self.amp,
        )


class Student(nn.Module):
    """The compact network with what only its training needs.

    Args:
        num_classes: classes of all sets together.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.network = CompactNetwork()
        self.regressor = nn.Linear(FEATURE_DIM, FEATURE_DIM)
        self.classifier = nn.Linear(FEATURE_DIM, num_classes)

    def losses(self, features: Tensor, batch: Batch, is_class_of: Tensor) -> tuple[Tensor, Tensor]:
        """Distance to the teacher and cross-entropy among the classes of each image's own set.

        Args:
            features: (B, 512) float32 of the network.
            batch: what they are of.
            is_class_of: (num sets, num classes) bool.

        Returns:
            Mean squared error of the regressed features (in units of the teacher's deviation), and nats; scalars.
        """
        regressed = self.regressor(features)
        distance = hint_loss(regressed[:, :, None, None], batch.targets[:, :, None, None])
        return distance, F.cross_entropy(self.logits(features, batch.sets, is_class_of), batch.labels)

    def logits(self, features: Tensor, sets: Tensor, is_class_of: Tensor) -> Tensor:
        """(B, num classes), with classes of other sets far below."""
        every_logit: Tensor = self.classifier(features)
        return every_logit.masked_fill(~is_class_of[sets], _OTHER_CLASS)


def distill(student: Student, pool: Pool, cfg: DistillConfig, run: Run, *, device: torch.device) -> float:
    """Train in place, from the run's last state on.

    Args:
        student: on `device`.
        pool: the views.
        cfg: how.
        run: keeps metrics (means over each epoch) and state.
        device: where.

    Returns:
        Seconds spent in the loop, those before an interruption included.

    Raises:
        RuntimeError: the loss is not finite.
    """
    recipe, num_steps = cfg.recipe, cfg.epochs * pool.steps
    student.to(memory_format=torch.channels_last)
    optimizer = build_optimizer([*student.parameters()], recipe)
    course = {"sums": torch.zeros(2), "seconds": torch.zeros(())}
    start = run.restore(student=student, optimizer=optimizer, course=course)
    sums, begin, saved = course["sums"].to(device), time.monotonic() - float(course["seconds"]), time.monotonic()
    student.train()
    progress = track(total=num_steps, description="compact network")
    progress.update(start)
    for step in range(start, num_steps):
        rate = _rate(recipe, cfg.warmup_steps, step, num_steps)
        sums += _step(student, pool, cfg, optimizer, step=step, rate=rate)
        is_epoch = (step + 1) % pool.steps == 0
        if is_epoch:
            _log_epoch(run, step, sums / pool.steps, rate)
            sums.zero_()
        if is_epoch or time.monotonic() - saved > _SAVE_SECONDS:
            course = {"sums": sums, "seconds": torch.tensor(time.monotonic() - begin)}
            run.save(step + 1, student=student, optimizer=optimizer, course=course)
            saved = time.monotonic()
        progress.update()
    progress.close()
    return time.monotonic() - begin


def _step(
    student: Student, pool: Pool, cfg: DistillConfig, optimizer: torch.optim.Optimizer, *, step: int, rate: float
) -> Tensor:
    """One optimiser step; returns (2,): distance and cross-entropy."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    batch = pool.batch(step)
    with autocast(cfg.recipe, pool.device):
        features = student.network(batch.images)
    distance, label_loss = student.losses(features.float(), batch, pool.is_class_of)
    optimizer.zero_grad(set_to_none=True)
    (distance + cfg.label_weight * label_loss).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(student.parameters(), cfg.clip_norm)
    optimizer.step()
    return torch.stack([distance, label_loss]).detach()


def _rate(recipe: Recipe, warmup_steps: int, step: int, num_steps: int) -> float:
    return learning_rate(recipe, step, num_steps) * min(1.0, (step + 1) / (warmup_steps + 1))


def _log_epoch(run: Run, step: int, means: Tensor, rate: float) -> None:
    if not bool(means.isfinite().all()):
        raise RuntimeError(f"the loss is not finite up to step {step}: try a lower --distill.learning-rate")
    run.log(step, {"distance": means[0], "label_loss": means[1], "learning_rate": rate})


def accuracy(student: Student, pool: Pool, index: int, dataset: ImageDataset, *, device: torch.device) -> float:
    """Share of a set's test images that the student's own classifier gets right.

    Args:
        student: on `device`.
        pool: what it was trained on.
        index: number of the set within the pool.
        dataset: the set at 32 pixels.
        device: where to compute.

    Returns:
        In [0, 1].
    """
    hits = 0
    offset = int(pool.is_class_of[index].int().argmax())
    with eval_mode(student), torch.inference_mode():
        for rows in torch.split(dataset.test, pool.batch_size):
            sets = torch.full((len(rows),), index)
            features = student.network(pool.normalise(dataset.images[rows], sets).to(device))
            guessed = student.logits(features, sets.to(device), pool.is_class_of).argmax(dim=1) - offset
            hits += int((guessed == dataset.labels[rows].to(device)).sum())
    return hits / len(dataset.test)
