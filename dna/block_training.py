"""Training of the supernet's blocks, each from the teacher's feature before its stage to that after it.

Blocks do not depend on one another. So the stages can be trained one after the other, as published, or all at once with
one pass of the teacher for each batch: the same batches, paths and updates, and on a CPU the same bits, with a sixth of
the passes over the data.

With PyTorch's present `zero_grad`, ops that a step does not take stand still. In the released code they still moved by
momentum and weight decay, as did finished blocks; that is not repeated here.

Source: Li et al., CVPR 2020, section 3; released code, distill_train.py and train_pipeline.yaml.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.experiment.progress import track
from common.experiment.run import Run
from common.kd.ema import WeightAverage
from common.kd.views import TrainingSet
from dna.archs import NUM_STAGES, OPS
from dna.losses import guide_loss
from dna.paths import Sampler, sample_paths
from dna.supernet import Block, Supernet
from dna.teacher import Statistics, Teacher

SAVE_SECONDS = 30.0
"""Least time between two saves of the state inside an epoch."""
_NO_DECAY_DIMS = 1


@dataclass(frozen=True, kw_only=True)
class Distill:
    """How the blocks are trained. The defaults are those of the released code."""

    schedule: Literal["sequential", "joint"] = "sequential"
    """sequential: one stage after the other; joint: all at once from one pass of the teacher. The same result."""
    epochs: int = 20
    """Passes over the training images, for each stage."""
    epoch_images: int | None = None
    """Images of an epoch, drawn anew for each, where there are more. None takes all."""
    batch_size: int = 64
    """Images a step."""
    learning_rates: tuple[float, ...] = (0.002, 0.005, 0.005, 0.005, 0.005, 0.002)
    """Of Adam, one for each stage; an epoch, counted from 1, has gamma ** epoch of it."""
    gamma: float = 0.9
    """See learning_rates."""
    weight_decay: float = 1e-4
    """Added to the gradient of weights, not of vectors such as biases and those of normalisations."""
    sampler: Sampler = "uniform"
    """How paths are drawn: each op on its own, or in groups of six in which every op occurs once (fair)."""
    paths_per_step: int = 1
    """Paths whose gradients a step adds up; six or a multiple of it for fair."""
    teacher_statistics: Statistics = "batch"
    """What normalises inside the teacher: the batch, as published, or its own running statistics."""
    ema_decay: float | None = None
    """Rate a moving average of the weights with this decay instead of the weights; None keeps none."""
    amp: Literal["off", "bf16"] = "off"
    """Mixed precision; losses are in float32."""
    padding: int | None = None
    """Zero pixels around an image before the random crop; None takes resolution // 8."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Mirror images at random; auto asks the dataset whether a mirrored image keeps its label."""
    validate_every: int = 2
    """Epochs between measurements of random paths on held-out images; for watching only."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.epochs < 1 or self.validate_every < 1 or self.paths_per_step < 1:
            raise ValueError(
                f"epochs is {self.epochs}, validate_every {self.validate_every}, paths_per_step "
                f"{self.paths_per_step}: each must be 1 or more"
            )
        if self.batch_size < 2 or (self.epoch_images is not None and self.epoch_images < self.batch_size):
            raise ValueError(
                f"batch_size is {self.batch_size}, epoch_images {self.epoch_images}: a batch needs 2 images or more, "
                "and an epoch a batch"
            )
        if len(self.learning_rates) != NUM_STAGES or min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rates are {self.learning_rates}: give {NUM_STAGES} positive numbers")
        if not 0 < self.gamma <= 1 or self.weight_decay < 0:
            raise ValueError(
                f"gamma is {self.gamma}, weight_decay {self.weight_decay}: gamma in (0, 1], the other 0 or more"
            )
        if self.sampler == "fair" and self.paths_per_step % len(OPS):
            raise ValueError(f"paths_per_step is {self.paths_per_step}: a fair sampler needs a multiple of {len(OPS)}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: give a number in (0, 1), or none")


def learning_rate(cfg: Distill, stage: int, epoch: int) -> float:
    """Learning rate of a stage in an epoch, counted from 1."""
    return cfg.learning_rates[stage] * cfg.gamma**epoch


class BlockLearner:
    """One block in training: its optimiser, its average, the losses of its epoch.

    Args:
        block: on its device, trained in place.
        stage: 0 to 5.
        cell: its position among the stage's.
        cfg: how.
    """

    def __init__(self, block: Block, stage: int, cell: int, cfg: Distill) -> None:
        self.block, self.stage, self.cell, self.cfg = block, stage, cell, cfg
        matrices = [weight for weight in block.parameters() if weight.ndim > _NO_DECAY_DIMS]
        vectors = [weight for weight in block.parameters() if weight.ndim <= _NO_DECAY_DIMS]
        groups = [{"params": matrices, "weight_decay": cfg.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.Adam(groups, lr=cfg.learning_rates[stage], fused=True)
        self.average = None if cfg.ema_decay is None else WeightAverage(block, cfg.ema_decay)
        self.loss = next(block.parameters()).new_zeros(())  # sum over the steps of this epoch
        self.updates = 0

    @property
    def name(self) -> str:
        """How logs call it."""
        return f"stage{self.stage}" if self.cell == 0 else f"stage{self.stage}.{self.cell}"

    def step(self, before: Tensor, after: Tensor, paths: Sequence[tuple[int, ...]], rate: float) -> None:
        """One update.

        Args:
            before: (B, C, H, W), the teacher's feature before the stage, or the images.
            after: that after it.
            paths: their gradients are added up.
            rate: learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        for path in paths:
            with torch.autocast(before.device.type, dtype=torch.bfloat16, enabled=self.cfg.amp != "off"):
                output = self.block(before, path)
            loss = guide_loss(output, after)
            loss.backward()  # type: ignore[no-untyped-call]
            self.loss += loss.detach() / len(paths)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.updates)
        self.updates += 1

    def rated(self) -> nn.Module:
        """The block that is rated: the average where one is kept."""
        return self.block if self.average is None else self.average.network

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of training depends on."""
        return {
            "block": self.block.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.network.state_dict(),
            "loss": self.loss,
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.block.load_state_dict(state["block"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.network.load_state_dict(state["average"])
        self.loss.copy_(state["loss"])
        self.updates = int(state["updates"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What a training works with."""

    teacher: Teacher
    data: TrainingSet
    held_out: Sequence[Tensor]
    """Batches of normalised images, for watching."""
    seed: int


def build_learners(supernet: Supernet, cfg: Distill) -> list[BlockLearner]:
    """A learner for every block, stage by stage."""
    return [
        BlockLearner(supernet.block(stage, cell), stage, cell, cfg)
        for stage, blocks in enumerate(supernet.blocks)
        for cell in range(len(list(blocks.children())))
    ]


def train_blocks(learners: Sequence[BlockLearner], lesson: Lesson, cfg: Distill, run: Run) -> None:
    """Train the blocks; an interrupted run goes on bit for bit.

    Raises:
        RuntimeError: a loss is not finite; the message names stage and epoch.
    """
    for learner in learners:
        learner.block.train()
    objects = {learner.name: learner for learner in learners}
    start = run.restore(**objects)
    rounds = list(_rounds(learners, cfg))
    steps = lesson.data.steps
    bar = track(total=len(rounds) * steps, description="blocks")
    bar.update(start)
    saved = time.monotonic()
    for place, (group, epoch) in enumerate(rounds):
        for index in range(max(0, start - place * steps), steps):
            _step(group, lesson, cfg, epoch, index)
            bar.update()
            if index + 1 < steps and time.monotonic() - saved > SAVE_SECONDS:
                _check_finite(group, epoch)
                run.save(place * steps + index + 1, **objects)
                saved = time.monotonic()
        if (place + 1) * steps > start:
            _finish_epoch(group, lesson, cfg, epoch, run, step=(place + 1) * steps - 1)
            run.save((place + 1) * steps, **objects)
            saved = time.monotonic()
    bar.close()


def _rounds(learners: Sequence[BlockLearner], cfg: Distill) -> Iterator[tuple[Sequence[BlockLearner], int]]:
    """Which blocks are trained together, and in which of their epochs, counted from 1."""
    stages = [[learner for learner in learners if learner.stage == stage] for stage in range(NUM_STAGES)]
    groups = [learners] if cfg.schedule == "joint" else stages
    return ((group, epoch) for group in groups for epoch in range(1, cfg.epochs + 1))


def _step(group: Sequence[BlockLearner], lesson: Lesson, cfg: Distill, epoch: int, index: int) -> None:
    """One batch through the teacher, and one update of each block of the group."""
    pixels = lesson.data.batch((epoch - 1) * lesson.data.steps + index).images
    images = lesson.teacher.images(pixels).contiguous(memory_format=torch.channels_last)
    last = max(learner.stage for learner in group)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=cfg.amp != "off"):
        features = [images, *lesson.teacher.features(images, last, cfg.teacher_statistics)]
    for learner in group:
        stage, cell = learner.stage, learner.cell
        paths = sample_paths(
            cfg.sampler, len(learner.block.layers), cfg.paths_per_step, lesson.seed, stage, cell, epoch, index
        )
        learner.step(features[stage], features[stage + 1], paths, learning_rate(cfg, stage, epoch))


def _finish_epoch(
    group: Sequence[BlockLearner], lesson: Lesson, cfg: Distill, epoch: int, run: Run, *, step: int
) -> None:
    """Check the losses, measure random paths where it is time, and log."""
    _check_finite(group, epoch)
    for learner in group:
        run.log(step, {f"{learner.name}/loss": learner.loss / lesson.data.steps, f"{learner.name}/epoch": epoch})
        learner.loss = torch.zeros_like(learner.loss)  # the logged tensor is read later
    if epoch % cfg.validate_every == 0 or epoch == cfg.epochs:
        values = held_out_losses(group, lesson, cfg.teacher_statistics, epoch)
        run.log(step, {f"{name}/loss": value for name, value in values.items()}, split="valid")


def _check_finite(group: Sequence[BlockLearner], epoch: int) -> None:
    for learner in group:
        if not math.isfinite(float(learner.loss)):
            raise RuntimeError(
                f"the loss of stage {learner.stage} is not finite in epoch {epoch}; the last good state is kept: "
                "begin anew with --restart and lower --distill.learning-rates"
            )


def held_out_losses(
    group: Sequence[BlockLearner], lesson: Lesson, statistics: Statistics, epoch: int
) -> dict[str, Tensor]:
    """Mean squared error of a random path for each held-out batch, blocks in eval mode."""
    sums = {learner.name: learner.loss.new_zeros(()) for learner in group}
    last = max(learner.stage for learner in group)
    for learner in group:
        learner.block.eval()
    with torch.no_grad():
        for index, images in enumerate(lesson.held_out):
            features = [images, *lesson.teacher.features(images, last, statistics)]
            for learner in group:
                stream = (learner.stage, learner.cell, epoch, -1 - index)
                (path,) = sample_paths("uniform", len(learner.block.layers), 1, lesson.seed, *stream)
                output = learner.block(features[learner.stage], path)
                sums[learner.name] += guide_loss(output, features[learner.stage + 1]) * len(images)
    for learner in group:
        learner.block.train()
    total = sum(map(len, lesson.held_out))
    return {name: value / max(total, 1) for name, value in sums.items()}
