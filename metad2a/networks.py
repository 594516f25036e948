"""Files of trained networks: weights with all that is needed to use them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.store.weights import load_weights, save_weights
from metad2a.spaces import Arch, space_of

_KIND = "metad2a-network"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedNetwork:
    """The network of an architecture, trained on one task.

    Attributes:
        network: on the CPU when loaded, with the weights of the last epoch.
        space_name: the space that it was built in.
        arch: its architecture.
        task: id of the task.
        class_names: names of its outputs, in order.
        resolution: side of the images, in pixels; images are scaled to [-1, 1].
        final_accuracy: after the last epoch.
        best_accuracy: largest of the validations.
        initial_accuracy: before training.
        notes: how it was trained, as plain JSON values.
    """

    network: nn.Module
    space_name: str
    arch: Arch
    task: str
    class_names: tuple[str, ...]
    resolution: int
    final_accuracy: float
    best_accuracy: float
    initial_accuracy: float
    notes: dict[str, Any]


_DESCRIBED = (
    "space_name",
    "task",
    "class_names",
    "resolution",
    "final_accuracy",
    "best_accuracy",
    "initial_accuracy",
    "notes",
)


def save_network(path: Path, trained: TrainedNetwork) -> None:
    """Write weights and description into one safetensors file."""
    described = {name: getattr(trained, name) for name in _DESCRIBED}
    described["arch"] = space_of(trained.space_name).format(trained.arch)
    text = json.dumps(described, sort_keys=True, allow_nan=False)
    save_weights(path, trained.network.state_dict(), {"kind": _KIND, "network": text})


def load_network(path: Path) -> TrainedNetwork:
    """Read what `save_network` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or is no trained network, or its weights are not finite.
    """
    weights, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, no trained network: make one with "
            "`python -m metad2a train`"
        )
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise RuntimeError(f"{path}: {name} is not finite: its training went wrong, train it again")
    try:
        described = json.loads(metadata["network"])
        space = space_of(described["space_name"])
        arch = space.parse(described.pop("arch"))
        described["class_names"] = tuple(described["class_names"])
        network = space.build(arch, len(described["class_names"]), described["resolution"])
        network.load_state_dict(weights)
        return TrainedNetwork(network=network, arch=arch, **described)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise RuntimeError(f"{path} does not fit its own description ({reason}): train it again") from error
