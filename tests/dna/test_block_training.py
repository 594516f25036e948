"""Training of the blocks: schedules, samplers, what moves and what does not, and going on after a kill."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from common.data.tasks import Task
from common.experiment.run import Run, open_run
from common.kd.guide import weights_digest
from dna.block_training import BlockLearner, Distill, Lesson, build_learners, learning_rate, train_blocks
from dna.images import batches_of, split_task, stratified, training_set
from dna.losses import guide_loss
from dna.paths import sample_paths
from dna.space import BlockSpace
from dna.supernet import Supernet
from dna.teacher import Teacher

CPU = torch.device("cpu")
SHORT = Distill(schedule="joint", epochs=2, batch_size=8, validate_every=2)


@dataclass(frozen=True)
class NoConfig:
    """Of a run that has no settings."""


@pytest.fixture
def task() -> Task:
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 3
    return Task(
        id="noise",
        description="noise",
        images=torch.randint(0, 256, (48, 3, 16, 16), generator=draws, dtype=torch.uint8),
        labels=labels,
        class_names=("a", "b", "c"),
        train=torch.arange(32),
        evaluation=torch.arange(32, 48),
        flip=True,
    )


@dataclass(frozen=True)
class Setting:
    """What trainings of these tests share."""

    space: BlockSpace
    widths: tuple[int, ...]
    teacher: Teacher
    task: Task

    def train(self, folder: Path, cfg: Distill, stop: int | None = None) -> dict[str, Tensor]:
        """Weights after a training; `stop` ends it before the step of this number, as a kill would."""
        learned, rows = split_task(self.task, 8, 0)
        data = training_set(learned, cfg, CPU, 0)
        lesson = Lesson(
            teacher=self.teacher,
            data=data,
            held_out=batches_of(self.task, rows, self.teacher, batch_size=8, device=CPU),
            seed=0,
        )
        supernet = Supernet(self.space, self.widths)
        learners = build_learners(supernet, cfg)
        with open_run(folder, program="dna", step="test", config=NoConfig()) as run:
            if stop is not None:
                stop_at(run, stop)
            train_blocks(learners, lesson, cfg, run)
        return {name: value.clone() for name, value in supernet.state_dict().items()}


class Killed(Exception):
    """Stands for the end of a process."""


def stop_at(run: Run, step: int) -> None:
    save = run.save

    def killed(now: int, **objects: Any) -> None:
        save(now, **objects)
        if now >= step:
            raise Killed

    run.save = killed  # type: ignore[method-assign]


@pytest.fixture
def setting(toy_space: BlockSpace, toy_widths: tuple[int, ...], toy_teacher: Teacher, task: Task) -> Setting:
    return Setting(toy_space, toy_widths, toy_teacher, task)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_all_stages_at_once_become_what_they_become_one_after_the_other(setting: Setting, tmp_path: Path) -> None:
    before = weights_digest(setting.teacher.network)
    joint = setting.train(tmp_path / "joint", SHORT)
    sequential = setting.train(tmp_path / "sequential", replace(SHORT, schedule="sequential"))
    assert equal(joint, sequential)
    assert not equal(joint, Supernet(setting.space, setting.widths).state_dict())
    assert weights_digest(setting.teacher.network) == before
    assert all(parameter.grad is None for parameter in setting.teacher.network.parameters())


@pytest.mark.parametrize("schedule", ["joint", "sequential"])
def test_a_killed_training_goes_on_bit_for_bit(
    schedule: Any, setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = replace(SHORT, schedule=schedule, ema_decay=0.9)
    whole = setting.train(tmp_path / "whole", cfg)
    monkeypatch.setattr("dna.block_training.SAVE_SECONDS", 0.0)  # after every step; an epoch has 3
    with pytest.raises(Killed):
        setting.train(tmp_path / "killed", cfg, 2)
    monkeypatch.undo()
    with pytest.raises(Killed):
        setting.train(tmp_path / "killed", cfg, 3)
    assert equal(setting.train(tmp_path / "killed", cfg), whole)
    assert (tmp_path / "killed/metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


def test_training_brings_blocks_nearer_to_the_teacher(setting: Setting, tmp_path: Path) -> None:
    cfg = replace(SHORT, epochs=12, teacher_statistics="running")
    _, rows = split_task(setting.task, 8, 0)
    trained, new = Supernet(setting.space, setting.widths), Supernet(setting.space, setting.widths)
    trained.load_state_dict(setting.train(tmp_path / "run", cfg))
    (images,) = batches_of(setting.task, rows, setting.teacher, batch_size=8, device=CPU)
    features = [images, *setting.teacher.features(images)]
    for stage in range(6):
        path = (0,) * len(trained.block(stage).layers)
        losses = [
            guide_loss(supernet.block(stage).train()(features[stage], path), features[stage + 1]).item()
            for supernet in (trained, new)
        ]
        assert losses[0] < losses[1], stage


def test_a_step_moves_the_ops_of_its_paths_alone(setting: Setting) -> None:
    supernet = Supernet(setting.space, setting.widths)
    learner = BlockLearner(supernet.block(2), 2, 0, SHORT)
    features = [torch.randn(8, 12, 4, 4), torch.randn(8, 16, 4, 4)]
    for path in ((0, 1), (2, 3)):
        before = {name: value.clone() for name, value in supernet.named_parameters()}
        learner.step(*features, [path], 0.01)
        moved = {name for name, value in supernet.named_parameters() if not torch.equal(value, before[name])}
        taken = tuple(f"blocks.2.0.layers.{layer}.{op}." for layer, op in enumerate(path))
        assert moved
        assert all(name.startswith(taken) for name in moved), "momentum and decay move nothing that is not taken"


def test_an_update_is_adam_with_decay_of_matrices_alone(setting: Setting) -> None:
    cfg = replace(SHORT, weight_decay=0.5)
    supernet, other = (Supernet(setting.space, setting.widths) for _ in range(2))
    learner = BlockLearner(supernet.block(5), 5, 0, cfg)
    features = torch.randn(8, 24, 2, 2), torch.randn(8, 24, 2, 2)
    learner.step(*features, [(4,), (4,)], 0.01)
    block = other.block(5)
    for _ in range(2):
        guide_loss(block(features[0], (4,)), features[1]).backward()  # the sum, not the mean
    named = dict(supernet.block(5).named_parameters())
    for name, value in block.named_parameters():
        if value.grad is None:
            continue
        gradient = value.grad + (0.5 * value if value.ndim > 1 else 0)
        expected = value - 0.01 * gradient / (gradient.abs() + 1e-8)  # Adam's first step
        torch.testing.assert_close(named[name], expected, rtol=1e-4, atol=2e-5)


def test_rates_are_those_of_the_release() -> None:
    cfg = Distill()
    assert [cfg.learning_rates, cfg.epochs, cfg.batch_size] == [(0.002, 0.005, 0.005, 0.005, 0.005, 0.002), 20, 64]
    for stage in range(6):
        for epoch in (1, 2, 20):
            assert learning_rate(cfg, stage, epoch) == cfg.learning_rates[stage] * 0.9**epoch
    assert learning_rate(cfg, 0, 20) == pytest.approx(0.002 * 0.1216, rel=1e-3)


def test_a_fair_group_has_every_op_of_every_layer_once() -> None:
    for step in range(20):
        paths = sample_paths("fair", 4, 12, 0, 1, 0, 3, step)
        for group in (paths[:6], paths[6:]):
            assert all(sorted(ops) == [*range(6)] for ops in zip(*group, strict=True))
    with pytest.raises(ValueError, match="a fair sampler needs a multiple of 6"):
        Distill(sampler="fair")


def test_uniform_paths_are_uniform_and_a_function_of_their_stream() -> None:
    paths = sample_paths("uniform", 2, 60_000, 0, 0)
    counts = Counter(paths)
    assert len(counts) == 36
    assert stats.chisquare([*counts.values()]).pvalue > 1e-3
    assert sample_paths("uniform", 3, 1, 5, 2, 1) == sample_paths("uniform", 3, 1, 5, 2, 1)
    drawn = {tuple(sample_paths("uniform", 6, 3, *stream)) for stream in ((5, 2, 1), (5, 1, 2), (6, 2, 1), (5, 2))}
    assert len(drawn) == 4


def test_held_out_images_are_of_all_classes_and_of_the_training_side(task: Task) -> None:
    learned, rows = split_task(task, 9, 0)
    assert Counter(task.labels[rows].tolist()) == {0: 3, 1: 3, 2: 3}
    assert sorted([*learned.train.tolist(), *rows.tolist()]) == task.train.tolist()
    assert all(len({*task.labels[rows][place : place + 3].tolist()}) == 3 for place in (0, 3, 6))
    assert split_task(task, 9, 0)[1].tolist() == rows.tolist()
    assert split_task(task, 9, 1)[1].tolist() != rows.tolist()
    with pytest.raises(ValueError, match="noise has 32 training images: hold out at least 1 and at most half"):
        split_task(task, 17, 0)
    uneven = torch.tensor([0] * 10 + [1] * 2)
    assert Counter(uneven[stratified(uneven, 6, 0)].tolist()) == {0: 4, 1: 2}


def test_a_loss_that_is_not_finite_ends_the_training(setting: Setting, tmp_path: Path) -> None:
    for parameter in setting.teacher.network.blocks[3].parameters():  # type: ignore[index,union-attr]
        parameter.data.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="the loss of stage 2 is not finite in epoch 1"):
        setting.train(tmp_path, SHORT)
