from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from common.experiment.config import StepConfig
from common.experiment.run import Run, open_run
from common.features.sets import FeatureSet
from metad2a.database import MetaDatabase
from metad2a.draws import TaskDraws
from metad2a.generator import GeneratorSizes, new_generator
from metad2a.learners import GeneratorLearner, GeneratorLearning
from metad2a.meta_training import Learning, meta_train

LEARNING = Learning(epochs=6, batch_size=4, learning_rate=0.05)


class Stop(Exception):
    """Stands for a kill."""


@dataclass
class Line:
    """Fits a line; its scores are given, and it stops after so many validations."""

    model: nn.Module
    scores: list[float]
    stop_after: int = 1000
    bad: bool = False
    num_rows: int = 10
    seen: int = 0

    def losses(self, rows: Tensor, random: torch.Generator) -> Mapping[str, Tensor]:
        x = rows[:, None].float() / 10
        noise = torch.rand(x.shape, generator=random) * 0.1
        error = (self.model(x) - 3 * x - noise).square().sum()
        return {"loss": error * torch.nan if self.bad else error}

    def validate(self) -> dict[str, float]:
        if self.seen == self.stop_after:
            raise Stop
        self.seen += 1
        return {"score": self.scores[self.seen - 1]} if self.scores else {"measure": float(self.seen)}


def line(scores: list[float] = [], **options: object) -> Line:  # noqa: B006  (never changed)
    torch.manual_seed(0)
    return Line(nn.Linear(1, 1), scores, **options)  # type: ignore[arg-type]


def opened(folder: Path) -> Run:
    return open_run(folder, program="metad2a", step="meta-train", config=StepConfig())


def weights(learner: Line) -> list[float]:
    return [float(value.detach()) for value in learner.model.parameters()]


def test_it_learns_and_logs_every_step(tmp_path: Path) -> None:
    learner = line()
    with opened(tmp_path) as run:
        kept = meta_train(learner, replace(LEARNING, epochs=60), seed=0, run=run)
    assert weights(learner) == pytest.approx([3.0, 0.05], abs=0.3)
    assert kept == {"measure": 60.0, "epoch": 60}
    rows = [row.split(",") for row in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    losses = [float(value) for _, split, name, value in rows if (split, name) == ("train", "loss")]
    assert len(losses) == 60 * 3, "three batches of ten rows, the last one of two"
    assert sum(losses[-30:]) < 0.1 * sum(losses[:30])


def test_epoch_steps_bound_an_epoch(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        meta_train(line(), replace(LEARNING, epoch_steps=2), seed=0, run=run)
    assert (tmp_path / "metrics.csv").read_text().count(",train,loss,") == 12


def test_the_state_of_the_best_score_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path / "whole") as run:
        learner = line([0.1, 0.7, 0.3, 0.7, 0.2, 0.1])
        kept = meta_train(learner, LEARNING, seed=0, run=run)
    assert kept == {"score": 0.7, "epoch": 2}, "the first of equal ones"
    with opened(tmp_path / "two") as run:
        shorter = line([0.1, 0.7])
        meta_train(shorter, replace(LEARNING, epochs=2), seed=0, run=run)
    assert weights(learner) == weights(shorter)


def test_validations_are_as_rare_as_asked_for_and_the_last_epoch_is_always_validated(tmp_path: Path) -> None:
    learner = line([0.1, 0.2])
    with opened(tmp_path) as run:
        kept = meta_train(learner, replace(LEARNING, validate_every=4), seed=0, run=run)
    assert (learner.seen, kept["epoch"]) == (2, 6)


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
@pytest.mark.parametrize("scores", [[], [0.1, 0.7, 0.3, 0.4, 0.2, 0.1]], ids=["last", "best"])
def test_a_stopped_run_ends_as_the_whole_one(schedule: str, scores: list[float], tmp_path: Path) -> None:
    learning = replace(LEARNING, schedule=schedule)  # type: ignore[arg-type]
    whole = line(scores)
    with opened(tmp_path / "whole") as run:
        expected = meta_train(whole, learning, seed=0, run=run)
    with opened(tmp_path / "split") as run, pytest.raises(Stop):
        meta_train(line(scores, stop_after=3), learning, seed=0, run=run)
    with opened(tmp_path / "split") as run:
        again = line(scores[3:])
        again.seen = 0 if scores else 3
        found = meta_train(again, learning, seed=0, run=run)
    assert found == expected
    assert weights(again) == weights(whole)
    assert (tmp_path / "split/metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


def test_a_stopped_generator_ends_as_the_whole_one(
    make_database: Callable[..., MetaDatabase], sets: dict[str, FeatureSet], tmp_path: Path
) -> None:
    database, learning = make_database(), GeneratorLearning(epochs=4, batch_size=3, learning_rate=1e-2)

    def learner() -> GeneratorLearner:
        model = new_generator(GeneratorSizes(hidden_dim=8, latent_dim=8, feature_dim=12), 0)
        draws = TaskDraws(database.tasks, sets, 3)
        return GeneratorLearner(model, database, draws, learning=learning, seed=0, device=torch.device("cpu"))

    whole, again = learner(), learner()
    with opened(tmp_path / "whole") as run:
        meta_train(whole, learning, seed=7, run=run)
    with opened(tmp_path / "split") as run:
        meta_train(learner(), replace(learning, epochs=2), seed=7, run=run)
    with opened(tmp_path / "split") as run:
        meta_train(again, learning, seed=7, run=run)
    for ours, theirs in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_loss_that_is_not_finite_ends_the_run_in_a_line(tmp_path: Path) -> None:
    says = r"the loss is not finite in epoch 0: lower learning_rate \(0.05\)"
    with opened(tmp_path) as run, pytest.raises(RuntimeError, match=says):
        meta_train(line(bad=True), LEARNING, seed=0, run=run)
