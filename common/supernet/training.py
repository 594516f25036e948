"""Train a supernet: several of its networks in each step, in the one training loop.

Source: Yu and Huang, ICCV 2019; Cai et al., ICLR 2020. Gradients of a step's networks are summed, as published.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from common.data.tasks import Task
from common.experiment.seeds import generator
from common.kd.guide import autocast
from common.kd.learner import Examination, Learner, Outcome
from common.kd.losses import distillation_loss
from common.kd.objectives import Outputs, objective
from common.kd.recipe import FEATURE_LOSSES, Recipe
from common.kd.trainer import Log, train
from common.kd.views import Batch
from common.spaces.mobilenet_v3_arch import DEPTHS, EXPANSIONS, KERNELS, MobileNetV3Arch
from common.spaces.mobilenet_v3_supernet import MobileNetV3Supernet
from common.spaces.norms import estimate_norms
from common.supernet.shrinking import Shrinking, networks_of_step
from common.supernet.subnets import calibration_images, cut_subnet

LARGEST = MobileNetV3Arch.uniform(KERNELS[-1], EXPANSIONS[-1], DEPTHS[-1])
SMALLEST = MobileNetV3Arch.uniform(KERNELS[0], EXPANSIONS[0], DEPTHS[0])


def train_supernet(
    supernet: MobileNetV3Supernet,
    task: Task,
    recipe: Recipe,
    shrinking: Shrinking,
    *,
    device: torch.device,
    seed: int,
    teacher: nn.Module | None = None,
    checkpoint: Path | None = None,
    log: Log | None = None,
    description: str = "",
    checkpoint_every_seconds: float = 20.0,
    num_calibration: int = 512,
) -> Outcome:
    """Train a supernet in place; at the end the statistics of its largest network are estimated anew.

    Args:
        supernet: of the task's classes.
        task: images, labels, training and evaluation side.
        recipe: how; its loss, ce or kd, is that of networks that do not learn from the largest one.
        shrinking: which networks train when, and how they learn from the largest.
        device: where.
        seed: of shuffling, augmentation and the draws of networks.
        teacher: for the loss kd.
        checkpoint: file of the training state; an existing one is continued.
        log: called at the end of epochs; see `common.kd.trainer.train`.
        description: in front of the progress bar.
        checkpoint_every_seconds: least time between two saves.
        num_calibration: training images that statistics are estimated on before a network is measured.

    Returns:
        The outcome, whose accuracies are the largest network's; its curve has those of the smallest too, as
        `smallest_accuracy`.

    Raises:
        ValueError, RuntimeError: as `common.kd.trainer.train`; a feature loss or `compile`, which it cannot take.
    """
    if recipe.loss in FEATURE_LOSSES:
        raise ValueError(f"loss is {recipe.loss}; a supernet learns by ce or kd")
    if recipe.compile:
        raise ValueError("compile is on, and a supernet is another network in every step: turn it off")
    make = partial(SupernetLearner, shrinking=shrinking, seed=seed, num_calibration=num_calibration)
    outcome = train(
        [supernet.activate(LARGEST)],
        task,
        recipe,
        device=device,
        seed=seed,
        teacher=teacher,
        checkpoint=checkpoint,
        log=log,
        description=description,
        checkpoint_every_seconds=checkpoint_every_seconds,
        learner=make,
    )[0]
    estimate_norms(supernet.activate(LARGEST), calibration_images(task, num_calibration, seed=seed, device=device))
    return outcome


class SupernetLearner(Learner):
    """A supernet in training: see `Learner`, and `Shrinking` for what a step is."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, *args: Any, shrinking: Shrinking, seed: int, num_calibration: int,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(network, recipe, *args, **kwargs)
        self.shrinking, self.seed, self.num_calibration = shrinking, seed, num_calibration
        self.num_steps = recipe.epochs * len(self.losses)

    def accumulate(self, step: int, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Gradients of all networks of the step; the loss is that of the first, the largest one where it is trained."""
        draws = generator(self.seed, "subnets", step)
        supernet = cast(MobileNetV3Supernet, self.network)
        largest: Tensor | None = None
        first: Tensor | None = None
        for arch in networks_of_step(self.shrinking, step, self.num_steps, draws):
            supernet.activate(arch)
            with autocast(self.recipe, self.device):
                outputs = self.run(batch.images)
            if largest is None:
                loss = objective(self.recipe, outputs, teacher, batch.labels, None)
            else:
                loss = distillation_loss(
                    outputs.logits.float(),
                    largest,
                    batch.labels,
                    temperature=self.shrinking.temperature,
                    alpha=self.shrinking.alpha,
                )
            self.backward(loss)
            first = loss.detach() if first is None else first
            if largest is None and self.shrinking.has_largest:
                largest = outputs.logits.detach().float()
        supernet.activate(LARGEST)
        for parameter in self.parameters:
            if parameter.grad is None:  # not in these networks; fused optimisers want all gradients or none
                parameter.grad = torch.zeros_like(parameter)
        assert first is not None
        return first

    def identity(self) -> dict[str, Any]:
        """The rule of the steps."""
        return {f"shrinking.{name}": value for name, value in dataclasses.asdict(self.shrinking).items()}

    def examine(self, examination: Examination) -> dict[str, float]:
        """Measures of the largest network and the accuracy of the smallest, with statistics of their own."""
        supernet = cast(MobileNetV3Supernet, self.measured)
        images = calibration_images(examination.task, self.num_calibration, seed=self.seed, device=self.device)
        values = self.measure(cut_subnet(supernet, LARGEST, images), examination)
        smallest = self.measure(cut_subnet(supernet, SMALLEST, images), examination)
        return values | {"smallest_accuracy": smallest["accuracy"]}
