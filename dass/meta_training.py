"""The meta-training loop: weights and step sizes learn from episodes, meta-validation selects.

Source: Lee et al., ICLR 2023, released code; the deviations are said where they are made.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from common.experiment.progress import track
from common.experiment.run import Run
from common.meta.ranking import is_undefined, pearson, spearman
from dass.bilevel import OuterLoss, bilevel_loss
from dass.episodes import Label, TaskTensors, draw_queries, groups_of_tasks
from dass.prediction import adapt_and_predict
from dass.predictor import Predictor, new_step_sizes

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MetaLearning:
    """How the predictor learns. The defaults are the published ones."""

    num_episodes: int = 1000
    """Meta-training updates."""
    num_queries: int = 50
    """Students drawn from each task in an episode, or all where there are fewer; published name n_q."""
    validate_every: int = 20
    """Episodes between two validations; published name mvld_frequency."""
    learning_rate: float = 5e-4
    """Of Adam, for weights and step sizes together; published name meta_lr."""
    step_size: float = 0.005
    """Initial step size of the adaptation, for every scalar weight."""
    learn_step_size: bool = True
    """Learn the step sizes, one for every scalar weight; published name task_lr."""
    num_inner_updates: int = 1
    """Steps of one adaptation."""
    first_order: bool = False
    """Ignore the second derivatives of the adaptation."""
    adapt: bool = True
    """Adapt to the teacher at all; published name bilevel."""
    outer_loss: OuterLoss = "error"
    """error: squared error of the predictions, as published; standardised: only differences between the students of a
    task count, for databases whose tasks differ more than their students."""
    label: Label = "best"
    """Accuracy that is predicted: the best over a training's validations, or the last; published name acc_type."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: a count is not positive or a rate is out of range.
        """
        for name in ("num_episodes", "num_queries", "validate_every", "num_inner_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.learning_rate < math.inf or not math.isfinite(self.step_size):
            raise ValueError(f"learning_rate {self.learning_rate} must be positive, step_size {self.step_size} finite")


class MetaLearner(nn.Module):
    """A predictor and its step sizes, which are learned and stored together.

    The released code stores no step sizes and searches with the initial ones; here a search uses what was learned.
    """

    def __init__(self, predictor: Predictor, learning: MetaLearning) -> None:
        super().__init__()
        self.predictor = predictor
        sizes = new_step_sizes(predictor, learning.step_size).values()
        learned = learning.learn_step_size and learning.adapt
        self._step_sizes = nn.ParameterList(nn.Parameter(size, requires_grad=learned) for size in sizes)

    @property
    def params(self) -> dict[str, Tensor]:
        """The predictor's weights by name."""
        return dict(self.predictor.named_parameters())

    @property
    def step_sizes(self) -> dict[str, Tensor]:
        """Step sizes by the names of the weights."""
        return dict(zip(self.params, self._step_sizes, strict=True))


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What one validation found, on every task.

    Attributes:
        spearman: rank correlation by task; -1 where the predictions are constant or not finite.
        pearson: linear correlation by task, likewise.
        error_before: squared error on the teacher before adaptation, by task.
        error_after: and after it.
        undefined: tasks whose correlations do not exist.
    """

    spearman: dict[str, float]
    pearson: dict[str, float]
    error_before: dict[str, float]
    error_after: dict[str, float]
    undefined: tuple[str, ...]

    @property
    def score(self) -> float:
        """Mean Spearman correlation, by which checkpoints are selected."""
        return sum(self.spearman.values()) / len(self.spearman)

    def metrics(self) -> dict[str, float]:
        """All figures under one name each, for the log."""
        by_task = {
            f"{name}/{task}": value
            for name in ("spearman", "pearson", "error_before", "error_after")
            for task, value in getattr(self, name).items()
        }
        return {"spearman": self.score, "undefined": len(self.undefined), **by_task}

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a result file."""
        names = ("spearman", "pearson", "error_before", "error_after")
        return {"score": self.score, "undefined": list(self.undefined)} | {name: getattr(self, name) for name in names}


def validate(learner: MetaLearner, tasks: Sequence[TaskTensors], learning: MetaLearning) -> Validation:
    """Adapt to each task's teacher, predict all its students, correlate. Leaves weights and step sizes alone."""
    correlations: list[tuple[float, float]] = []
    errors: list[tuple[float, float]] = []
    undefined = []
    for task in tasks:
        found = adapt_and_predict(
            learner.predictor,
            learner.step_sizes if learning.adapt else None,
            task.teacher,
            task.teacher_code,
            float(task.teacher_accuracy),
            maps=task.student,
            codes=task.codes,
            num_steps=learning.num_inner_updates,
        )
        measured = task.accuracy.cpu()
        if is_undefined(found.scores, measured):
            undefined.append(task.task)
        correlations.append((spearman(found.scores, measured), pearson(found.scores, measured)))
        errors.append((found.error_before, found.error_after))
    names = [task.task for task in tasks]
    return Validation(
        spearman=dict(zip(names, (rho for rho, _ in correlations), strict=True)),
        pearson=dict(zip(names, (r for _, r in correlations), strict=True)),
        error_before=dict(zip(names, (before for before, _ in errors), strict=True)),
        error_after=dict(zip(names, (after for _, after in errors), strict=True)),
        undefined=tuple(undefined),
    )


def accumulate_gradients(
    learner: MetaLearner, episode: Sequence[TaskTensors], learning: MetaLearning
) -> tuple[Tensor, Tensor]:
    """Add the gradient of one episode's mean outer loss to `.grad`, group by group so that memory stays that of one.

    Returns:
        Mean outer and mean inner loss, detached scalars.
    """
    outer_sum = inner_sum = torch.zeros((), device=episode[0].accuracy.device)
    for group in groups_of_tasks(episode):
        outer, inner = bilevel_loss(
            learner.predictor,
            learner.params,
            learner.step_sizes if learning.adapt else None,
            group,
            num_steps=learning.num_inner_updates,
            first_order=learning.first_order,
            outer=learning.outer_loss,
        )
        (outer / len(episode)).backward()  # type: ignore[no-untyped-call]
        outer_sum, inner_sum = outer_sum + outer.detach(), inner_sum + inner
    return outer_sum / len(episode), inner_sum / len(episode)


def meta_train(
    learner: MetaLearner,
    train: Sequence[TaskTensors],
    valid: Sequence[TaskTensors],
    learning: MetaLearning,
    *,
    seed: int,
    run: Run,
) -> Validation:
    """Learn weights and step sizes from episodes; the learner ends as it was at the best validation.

    Args:
        learner: changed in place.
        train: meta-training tasks, all in every episode.
        valid: meta-validation tasks; they alone select.
        learning: how.
        seed: of the draws.
        run: takes metrics and training state; an unfinished run goes on from there.

    Returns:
        The best validation, one of those after 0, validate_every, 2 * validate_every, ... and all episodes.

    Raises:
        RuntimeError: the loss is not finite any more.
    """
    optimizer = torch.optim.Adam(
        [p for p in learner.parameters() if p.requires_grad], lr=learning.learning_rate, fused=True
    )
    best: dict[str, Any] = {"score": -math.inf}
    start = run.restore(learner=learner, optimizer=optimizer, best=best)
    for episode in track(range(start, learning.num_episodes + 1), description="meta-train"):
        if episode % learning.validate_every == 0 or episode == learning.num_episodes:
            found = validate(learner, valid, learning)
            if found.undefined:
                _LOG.warning("episode %d: constant predictions on %s count as -1", episode, ", ".join(found.undefined))
            run.log(episode, found.metrics(), split="valid")
            if found.score > best["score"]:
                best["score"] = found.score
                run.save_best(episode, learner=learner)
            run.save(episode, learner=learner, optimizer=optimizer, best=best)
        if episode == learning.num_episodes:
            break
        optimizer.zero_grad(set_to_none=True)
        drawn = [draw_queries(task, learning.num_queries, seed, episode) for task in train]
        outer, inner = accumulate_gradients(learner, drawn, learning)
        optimizer.step()
        run.log(episode, {"loss": outer, "teacher_error": inner})
        if (episode + 1) % learning.validate_every == 0 and not torch.isfinite(outer):
            raise RuntimeError(
                f"the loss is {float(outer):g} at episode {episode}: lower learning_rate ({learning.learning_rate:g}) "
                f"or step_size ({learning.step_size:g}), then start again with --restart"
            )
    run.restore_best(learner=learner)
    return validate(learner, valid, learning)
