"""Spaces, networks and weights by the names of pipeline files.

Source: Trofimov et al., arXiv 2006.08341, released code for Vega.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.experiment.config import UsageError
from common.experiment.presets import nearest
from common.spaces.base import Cost
from common.spaces.configuration import flatten
from common.spaces.mobilenet_v2 import MobileNetV2Space
from common.spaces.simple_cnn import SimpleCnnSpace
from common.store.released import read_released
from common.store.weights import load_weights, save_weights
from mfkd.fields import Fields, as_number

Space = MobileNetV2Space | SimpleCnnSpace
_SPACES: Mapping[str, type[MobileNetV2Space] | type[SimpleCnnSpace]] = {
    "MobileNetV2": MobileNetV2Space,
    "SimpleCnnMFKD": SimpleCnnSpace,
}
_WHOLE = ("first_stride", "last_channel")
_PARALLEL = "module."
"""In front of every name in files that were saved from a network on several GPUs."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One network of a space.

    Attributes:
        space: what builds it; the network need not lie in it.
        text: its text form.
        values: its nested configuration.
        num_classes: outputs; None for those of the dataset.
    """

    space: Space
    text: str
    values: Mapping[str, Any]
    num_classes: int | None

    @property
    def description(self) -> dict[str, Any]:
        """What `read_model` reads."""
        kind = next(name for name, cls in _SPACES.items() if isinstance(self.space, cls))
        custom: dict[str, Any] = {"type": kind, **_network_fields(self.space), **self.values}
        if self.num_classes is not None:
            custom["num_classes"] = self.num_classes
        return {"modules": ["custom"], "custom": custom}

    def build(self, num_classes: int, resolution: int, seed: int) -> nn.Module:
        """The network on the CPU, initialised from a seed."""
        space: Any = self.space
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: nn.Module = space.build(space.from_configuration(self.values), num_classes, resolution)
        return network

    def cost(self, num_classes: int, resolution: int) -> Cost:
        """Exact cost."""
        space: Any = self.space
        cost: Cost = space.cost(space.from_configuration(self.values), num_classes, resolution)
        return cost


def read_space(fields: Fields) -> tuple[Space, int | None]:
    """The section `search_space` of a step: lists are searched, values fixed.

    Returns:
        The space, and the number of classes if the section has one.

    Raises:
        UsageError: an unknown type or key, or options that the networks do not have.
    """
    fields.choice("type", {"SearchSpace": None}, "SearchSpace")
    custom = _custom(fields)
    cls, options, num_classes, changes = _split(custom)
    try:
        space = cls.from_options(options)
        return replace(space, **changes), num_classes
    except ValueError as error:
        raise UsageError(f"{custom.path}: {error}") from error


def read_model(fields: Fields) -> Model:
    """A description of one network: `modules` and `custom`, whose values are all fixed.

    Raises:
        UsageError: an unknown type or key, or a value that the network cannot have.
    """
    custom = _custom(fields)
    cls, options, num_classes, changes = _split(custom)
    try:
        space = replace(cls(), **changes)
        return model_of(space, space.from_configuration(options), num_classes)
    except ValueError as error:
        raise UsageError(f"{custom.path}: {error}") from error


def model_at(space: Space, index: int, num_classes: int | None = None) -> Model:
    """The network of an index of a space."""
    return model_of(space, space.arch(index), num_classes)


def model_of(space: Space, arch: Any, num_classes: int | None = None) -> Model:
    """Describe an architecture of a space, or one like those."""
    return Model(space=space, text=space.format(arch), values=space.configuration(arch), num_classes=num_classes)


def teacher_of(space: Space) -> Model:
    """The default network of a space, which is the published teacher.

    Raises:
        UsageError: the space has none.
    """
    if space.default is None:
        raise UsageError(f"{space.name} has no teacher: search it with Trainer, or take MobileNetV2")
    return model_of(space, space.default)


def save_model(file: Path, network: nn.Module, model: Model, notes: Mapping[str, Any]) -> None:
    """Write weights with the description of the network and notes, as plain JSON values."""
    metadata = {"kind": "mfkd-network", "model": json.dumps(model.description), "notes": json.dumps(dict(notes))}
    save_weights(file, network.state_dict(), metadata)


def load_into(network: nn.Module, file: Path, what: str) -> nn.Module:
    """Load a file of ours (`.safetensors`) or a bare state dict of the released code into a network.

    Args:
        network: takes the weights.
        file: where they are.
        what: what the network is, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or does not hold the weights of this network.
    """
    weights = load_weights(file)[0] if file.suffix == ".safetensors" else _bare(file)
    expected = network.state_dict()
    wrong = sorted(weights.keys() ^ expected.keys()) or [
        key for key, tensor in expected.items() if tensor.shape != weights[key].shape
    ]
    if wrong:
        here, there = (
            tuple(state[wrong[0]].shape) if wrong[0] in state else "nothing" for state in (expected, weights)
        )
        raise RuntimeError(
            f"{file} does not hold the weights of {what}: {wrong[0]} and {len(wrong) - 1} more differ "
            f"({there} in the file, {here} in the network); train a teacher for this space and number of classes with "
            "`python -m mfkd train-teacher`"
        )
    network.load_state_dict(weights)
    return network


def _bare(file: Path) -> dict[str, Tensor]:
    state = read_released(file)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RuntimeError(f"{file} holds no bare state dict: save `network.state_dict()`")
    return {str(key).removeprefix(_PARALLEL): value for key, value in state.items()}


def _custom(fields: Fields) -> Fields:
    """The one module of a description."""
    modules = fields.get("modules")
    if modules not in (None, ["custom"]):
        raise UsageError(f"{fields.at('modules')} is {modules!r}: ['custom'] is needed")
    custom = fields.inner("custom")
    fields.finish()
    return custom


def _split(custom: Fields) -> tuple[Any, dict[str, Any], int | None, dict[str, Any]]:
    """Class of the space, options of the layers, number of classes, other fields of the space."""
    cls = custom.choice(custom.one_of("type", "name"), _SPACES)
    num_classes = custom.integer("num_classes") if "num_classes" in custom else None
    readers: dict[str, Callable[[str], Any]] = {}
    if cls is MobileNetV2Space:
        readers = {**dict.fromkeys(_WHOLE, custom.integer), "width_mult": custom.number}
    changes = {key: read(key) for key, read in readers.items() if key in custom}
    own = {"type", "name", "num_classes", *readers}
    options = {key: _numbers(value) for key, value in custom.values.items() if key not in own}
    known = cls().grid.keys
    for key in flatten(options):
        if key not in known:
            hint = nearest(f"{custom.path}.{key}", [custom.at(one) for one in (*sorted(own), *known)])
            raise UsageError(f"unknown key {custom.at(key)!r}: {hint}")
    return cls, options, num_classes, changes


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers(one) for key, one in value.items()}
    return [as_number(one) for one in value] if isinstance(value, list) else as_number(value)


def _network_fields(space: Space) -> dict[str, Any]:
    """Fields of a space that change its networks and are not the default."""
    if not isinstance(space, MobileNetV2Space):
        return {}
    usual = MobileNetV2Space()
    values = {name: getattr(space, name) for name in (*_WHOLE, "width_mult")}
    return {name: value for name, value in values.items() if value != getattr(usual, name)}
