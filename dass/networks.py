"""Files of trained teachers and students: weights with all that is needed to use them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.experiment.config import digest
from common.spaces.resnet import ResNetArch, ResNetSpace
from common.store.weights import load_weights, save_weights

_KIND = "dass-network"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetwork:
    """A network of the residual space, trained on one task.

    Attributes:
        network: on the CPU when loaded.
        role: teacher or student.
        space: where its architecture comes from.
        arch: its architecture.
        task: id of the task.
        description: which part of the set the task is.
        class_names: names of its outputs, in order.
        resolution: side of the images, in pixels; images are scaled to [-1, 1].
        best_accuracy: largest of the validations.
        final_accuracy: after the last epoch.
        initial_accuracy: before training.
        notes: how it was trained, as plain JSON values.
    """

    network: nn.Module
    role: Literal["teacher", "student"]
    space: ResNetSpace
    arch: ResNetArch
    task: str
    description: str
    class_names: tuple[str, ...]
    resolution: int
    best_accuracy: float
    final_accuracy: float
    initial_accuracy: float
    notes: dict[str, Any]

    @property
    def num_classes(self) -> int:
        """Outputs."""
        return len(self.class_names)

    @property
    def digest(self) -> str:
        """Twelve hex digits of what it is and how it was trained; not of the weights themselves."""
        return digest(_described(self))


def save_network(path: Path, trained: TrainedNetwork) -> None:
    """Write weights and description into one safetensors file."""
    text = json.dumps(_described(trained), sort_keys=True, allow_nan=False)
    save_weights(path, trained.network.state_dict(), {"kind": _KIND, "network": text})


def load_network(path: Path) -> TrainedNetwork:
    """Read what `save_network` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged, or is no trained network of this space, or its weights are not finite.
    """
    weights, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, no trained network: train a teacher with "
            "`python -m dass train-teacher`, or bring an official one in with `python -m dass import-official`"
        )
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise RuntimeError(f"{path}: {name} is not finite: its training went wrong, train it again")
    try:
        return _restored(json.loads(metadata["network"]), weights)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise RuntimeError(f"{path} does not fit its own description ({reason}): write or download it anew") from error


def _restored(described: dict[str, Any], weights: Mapping[str, Tensor]) -> TrainedNetwork:
    fields = described.pop("space")
    space = ResNetSpace(**{**fields, "teacher_widths": tuple(fields["teacher_widths"])})
    arch = space.parse(described.pop("arch"))
    described["class_names"] = tuple(described["class_names"])
    network = space.build(arch, len(described["class_names"]), described["resolution"])
    network.load_state_dict(weights)
    return TrainedNetwork(network=network, space=space, arch=arch, **described)


def _described(trained: TrainedNetwork) -> dict[str, Any]:
    names = [
        "role",
        "task",
        "description",
        "resolution",
        "notes",
        *(f"{n}_accuracy" for n in ("best", "final", "initial")),
    ]
    return {
        **{name: getattr(trained, name) for name in names},
        "class_names": list(trained.class_names),
        "space": {name: getattr(trained.space, name) for name in ("teacher_widths", "max_depth", "pin")},
        "arch": trained.space.format(trained.arch),
    }
