"""Files of fine-tuned networks: weights with all that is needed to use the network."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.spaces.mobilenet_v3 import MobileNetV3Space
from common.store.weights import load_weights, save_weights
from tans.foreign import Renormalised, create_foreign

_KIND = "tans-network"
_DESCRIBED = (
    *("family", "topology", "width_mult", "first_stride", "normalisation", "task", "class_names", "resolution"),
    *("final_accuracy", "best_accuracy", "initial_accuracy", "notes"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetunedNetwork:
    """A network, trained on one task.

    Attributes:
        network: on the CPU and in eval mode when loaded; it takes images in [-1, 1].
        family: of the zoo's row.
        topology: 45 numbers, or None for a network of another family.
        width_mult: of the zoo's supernets.
        first_stride: of their stems.
        normalisation: of a network of another family.
        task: id of the task.
        class_names: names of its outputs, in order.
        resolution: side of the images, in pixels.
        final_accuracy: after the last epoch.
        best_accuracy: largest of the validations.
        initial_accuracy: before training.
        notes: how it was trained, as plain JSON values.
    """

    network: nn.Module
    family: str
    topology: tuple[int, ...] | None
    width_mult: float
    first_stride: int
    normalisation: str
    task: str
    class_names: tuple[str, ...]
    resolution: int
    final_accuracy: float
    best_accuracy: float
    initial_accuracy: float
    notes: dict[str, Any]


def save_finetuned(path: Path, trained: FinetunedNetwork) -> None:
    """Write weights and description into one safetensors file."""
    text = json.dumps({name: getattr(trained, name) for name in _DESCRIBED}, sort_keys=True, allow_nan=False)
    save_weights(path, trained.network.state_dict(), {"kind": _KIND, "network": text})


def load_finetuned(path: Path) -> FinetunedNetwork:
    """Read what `save_finetuned` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or is no fine-tuned network.
    """
    weights, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(f"{path} holds {metadata.get('kind', 'plain weights')!r}, no network that TANS fine-tuned")
    try:
        described = json.loads(metadata["network"])
        described["class_names"] = tuple(described["class_names"])
        network = _build(described)
        network.load_state_dict(weights)
        return FinetunedNetwork(network=network.eval(), **{name: described[name] for name in _DESCRIBED})
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
        raise RuntimeError(f"{path} does not fit its own description ({reason}): train it again") from error


def _build(described: dict[str, Any]) -> nn.Module:
    num_classes = len(described["class_names"])
    if described["topology"] is None:
        return Renormalised(create_foreign(described["family"], num_classes), described["normalisation"])
    described["topology"] = tuple(described["topology"])
    space = MobileNetV3Space(width_mult=described["width_mult"], first_stride=described["first_stride"])
    arch = space.from_topologies(torch.tensor([described["topology"]]))[0]
    return space.build(arch, num_classes, described["resolution"])
