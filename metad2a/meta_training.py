"""The meta-training loop that generator and predictor share, and how it learns.

Source: Lee et al., ICLR 2021, released code; the deviations are said where they are made.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from common.experiment.progress import track
from common.experiment.run import Run
from common.experiment.seeds import generator


@dataclass(frozen=True, kw_only=True)
class Learning:
    """How a model learns. The defaults are the published ones."""

    epochs: int = 400
    """Passes over the rows; published name max-epoch."""
    epoch_steps: int | None = None
    """Steps of an epoch at most; none means a whole pass."""
    batch_size: int = 32
    """Rows of a step: (task, good cell) for the generator, (task, cell, accuracy) for the predictor."""
    learning_rate: float = 1e-4
    """Of Adam."""
    schedule: Literal["plateau", "cosine"] = "plateau"
    """plateau: a tenth whenever the training loss did not improve for 10 epochs, as published; cosine: to 0."""
    validate_every: int = 1
    """Epochs between validations; the last epoch is always validated."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a count is not positive or a rate is out of range.
        """
        for name in ("epochs", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.epoch_steps is not None and self.epoch_steps < 1:
            raise ValueError(f"epoch_steps is {self.epoch_steps}; it must be at least 1, or none for a whole pass")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive")


class Learner(Protocol):
    """What the loop needs of a model in training."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        ...

    @property
    def num_rows(self) -> int:
        """Rows of a pass."""
        ...

    def losses(self, rows: Tensor, random: torch.Generator) -> Mapping[str, Tensor]:
        """Scalars of a batch of rows; `loss` is differentiated, a sum over the batch."""
        ...

    def validate(self) -> dict[str, float]:
        """Measures on rows that were not learned from; by a `score` among them the best state is kept."""
        ...


def meta_train(learner: Learner, learning: Learning, *, seed: int, run: Run) -> dict[str, float]:
    """Learn; the model ends as it was at its best validation, or at the end where validations have no score.

    Args:
        learner: its model is changed in place.
        learning: how.
        seed: of the draws, which depend on it and on the epoch alone.
        run: takes metrics and training state; an unfinished run goes on after its last epoch.

    Returns:
        The validation that belongs to the model, with its `epoch`.

    Raises:
        RuntimeError: the loss is not finite any more.
    """
    steps = math.ceil(learner.num_rows / learning.batch_size)
    steps = steps if learning.epoch_steps is None else min(steps, learning.epoch_steps)
    optimizer = torch.optim.Adam(learner.model.parameters(), lr=learning.learning_rate, fused=True)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.1, patience=10)
    kept: dict[str, Any] = {}
    state = {"model": learner.model, "optimizer": optimizer, "plateau": plateau, "kept": kept}
    start = run.restore(**state) // steps  # states are kept at the ends of epochs, and named by steps, as metrics are
    progress = track(total=learning.epochs * steps, description="meta-train")
    progress.update(start * steps)
    for epoch in range(start, learning.epochs):
        random = generator(seed, "batches", epoch)
        order = torch.randperm(learner.num_rows, generator=random)
        total = torch.zeros(())
        for index in range(steps):
            step = epoch * steps + index
            if learning.schedule == "cosine":
                _set_rate(optimizer, learning.learning_rate * _cosine(step / (learning.epochs * steps)))
            rows = order[index * learning.batch_size : (index + 1) * learning.batch_size]
            losses = learner.losses(rows, random)
            optimizer.zero_grad(set_to_none=True)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            means = {name: value.detach() / len(rows) for name, value in losses.items()}
            total = total.to(means["loss"].device) + means["loss"]
            run.log(step, means)
            progress.update()
        if not torch.isfinite(total):
            raise RuntimeError(
                f"the loss is not finite in epoch {epoch}: lower learning_rate ({learning.learning_rate:g}), then "
                "start again with --restart"
            )
        if learning.schedule == "plateau":
            plateau.step(float(total))
        if (epoch + 1) % learning.validate_every == 0 or epoch + 1 == learning.epochs:
            _validate(learner, kept, run, epoch=epoch + 1, step=(epoch + 1) * steps - 1)
        run.save((epoch + 1) * steps, **state)
    progress.close()
    if "score" in kept:
        run.restore_best(model=learner.model)
    return dict(kept)


def _validate(learner: Learner, kept: dict[str, Any], run: Run, *, epoch: int, step: int) -> None:
    """Measure, and keep the state if it is the best so far."""
    learner.model.eval()
    with torch.no_grad():
        found = learner.validate()
    learner.model.train()
    run.log(step, found, split="valid")
    if "score" not in found:
        kept.update(found, epoch=epoch)
    elif found["score"] > kept.get("score", -math.inf):
        kept.update(found, epoch=epoch)
        run.save_best(epoch, model=learner.model)


def _cosine(done: float) -> float:
    return (1 + math.cos(math.pi * done)) / 2


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
