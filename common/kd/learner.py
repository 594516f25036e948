"""One network in training: its optimiser, its average, its measurements."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.data.tasks import Task
from common.kd.ema import WeightAverage
from common.kd.evaluate import check_outputs, eval_mode, predict
from common.kd.guide import autocast
from common.kd.losses import distillation_loss
from common.kd.objectives import Outputs, build_regressor, needs_maps, objective, run_network
from common.kd.optimizers import build_optimizer
from common.kd.recipe import Recipe
from common.kd.views import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What training one network gave; accuracies in [0, 1] on the evaluation images."""

    best_accuracy: float
    """Largest over the validations during training, the published protocol (optimistic: a maximum)."""
    final_accuracy: float
    """After the last step."""
    initial_accuracy: float
    """Before the first step."""
    final_loss: float
    """Evaluation loss after the last step: the distillation loss for kd, else the cross-entropy."""
    curve: list[dict[str, float]]
    """For each validation: epoch, step, accuracy, top5, cross_entropy, loss."""
    seconds: float
    """Wall time of the joint run divided by its number of networks, validation included."""
    best_state: dict[str, Tensor]
    """Weights of the best validation, on the CPU."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examination:
    """The evaluation images on which networks are compared."""

    task: Task
    images: Tensor
    """All images of the task, uint8, near the device."""
    indices: Tensor
    """(M,) those that count."""
    labels: Tensor
    """(M,) on the device."""
    teacher_logits: Tensor | None
    """(M, K) for the loss kd."""


class Learner:
    """State of one network in training.

    Args:
        network: on `device`, trained in place.
        recipe: how.
        device: where.
        steps: training steps of an epoch.
        example: two training images, by which the shapes of outputs are known.
        teacher: the teacher's outputs for them.
        name: how errors call this network.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        device: torch.device,
        *,
        steps: int,
        example: Tensor,
        teacher: Outputs | None,
        name: str,
    ) -> None:
        self.network, self.recipe, self.device, self.name = network, recipe, device, name
        if recipe.channels_last:
            network.to(memory_format=torch.channels_last)
        with eval_mode(network), torch.no_grad():
            outputs = self._run(example)
        if teacher is not None and len(outputs.maps) != len(teacher.maps):
            raise ValueError(f"{name} gives {len(outputs.maps)} feature maps and the teacher {len(teacher.maps)}")
        regressor = build_regressor(recipe, outputs, teacher)
        self.regressor = regressor if regressor is None else regressor.to(device)
        self.run = torch.compile(self._run) if recipe.compile else self._run
        self.parameters = [*network.parameters(), *(self.regressor.parameters() if self.regressor else ())]
        self.optimizer = build_optimizer(self.parameters, recipe)
        self.scaler = torch.amp.GradScaler(device.type, enabled=recipe.amp == "fp16")
        self.average = None if recipe.ema_decay is None else WeightAverage(network, recipe.ema_decay)
        self.losses = torch.zeros(steps, device=device)  # of this epoch; read only when it ends or is saved
        self.initial_accuracy = -1.0
        self.best_accuracy = -1.0
        self.best_state: dict[str, Tensor] = {}
        self.curve: list[dict[str, float]] = []

    def step(self, step: int, batch: Batch, teacher: Outputs | None, rate: float) -> None:
        """One optimiser step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.accumulate(step, batch, teacher)
        if self.recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(step)
        self.losses[step % len(self.losses)] = loss

    def accumulate(self, step: int, batch: Batch, teacher: Outputs | None) -> Tensor:
        """Add the gradients of one step to those of the parameters; returns the loss, without its graph."""
        with autocast(self.recipe, self.device):
            student = self.run(batch.images)
        loss = objective(self.recipe, student, teacher, batch.labels, self.regressor)
        self.backward(loss)
        return loss.detach()

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, on the scale of the recipe's precision."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def identity(self) -> dict[str, Any]:
        """What training depends on beyond recipe, task and network, as plain values."""
        return {}

    @property
    def measured(self) -> nn.Module:
        """What is evaluated: the network, or its average where one is kept."""
        return self.network if self.average is None else self.average.network

    def examine(self, examination: Examination) -> dict[str, float]:
        """Accuracy, top5, cross_entropy and loss on the evaluation images."""
        return self.measure(self.measured, examination)

    def measure(self, network: nn.Module, examination: Examination) -> dict[str, float]:
        """The same of any network of these classes."""
        logits = predict(network, examination.images, examination.indices, device=self.device)
        check_outputs(logits, examination.task.num_classes, self.name)
        labels, num_top = examination.labels, min(5, logits.shape[1])
        cross_entropy = loss = F.cross_entropy(logits, labels)
        if examination.teacher_logits is not None:
            loss = distillation_loss(
                logits,
                examination.teacher_logits,
                labels,
                temperature=self.recipe.temperature,
                alpha=self.recipe.alpha,
            )
        hits = logits.topk(num_top).indices == labels[:, None]  # (M, num_top), best first
        top1, top5 = hits[:, 0].double().mean(), hits.any(dim=1).double().mean()
        values = torch.stack([top1, top5, cross_entropy.double(), loss.double()]).tolist()
        return dict(zip(("accuracy", "top5", "cross_entropy", "loss"), values, strict=True))

    def validate(self, examination: Examination, *, epoch: int, step: int) -> dict[str, float]:
        """Measure after `epoch` epochs, and keep the weights if they are the best so far."""
        values = self.examine(examination)
        self.curve.append({"epoch": float(epoch), "step": float(step), **values})
        if values["accuracy"] > self.best_accuracy:
            self.best_accuracy = values["accuracy"]
            weights = self.measured.state_dict().items()
            self.best_state = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in weights}
        return values

    def first_bad_step(self, num_steps: int) -> int | None:
        """First of this epoch's `num_steps` steps whose loss is not finite."""
        bad = (~self.losses[:num_steps].isfinite()).nonzero()
        return int(bad[0]) if len(bad) else None

    def finish(self, seconds: float) -> Outcome:
        """The outcome; the network gets its averaged weights where they are kept, so that it is what was measured."""
        if self.average is not None:
            self.network.load_state_dict(self.average.network.state_dict())
        if self.recipe.channels_last:
            self.network.to(memory_format=torch.contiguous_format)
        return Outcome(
            best_accuracy=self.best_accuracy,
            final_accuracy=self.curve[-1]["accuracy"],
            initial_accuracy=self.initial_accuracy,
            final_loss=self.curve[-1]["loss"],
            curve=self.curve,
            seconds=seconds,
            best_state=self.best_state,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of training depends on."""
        return {
            "network": self.network.state_dict(),
            "regressor": None if self.regressor is None else self.regressor.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.network.state_dict(),
            "losses": self.losses,
            "initial_accuracy": self.initial_accuracy,
            "best_accuracy": self.best_accuracy,
            "best_state": self.best_state,
            "curve": self.curve,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.network.load_state_dict(state["network"])
        if self.regressor is not None:
            self.regressor.load_state_dict(state["regressor"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.network.load_state_dict(state["average"])
        self.losses.copy_(state["losses"])
        self.initial_accuracy, self.best_accuracy = state["initial_accuracy"], state["best_accuracy"]
        self.best_state, self.curve = state["best_state"], state["curve"]

    def _run(self, images: Tensor) -> Outputs:
        return run_network(self.network, images, with_maps=needs_maps(self.recipe), who=self.name)
