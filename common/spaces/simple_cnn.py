"""The space of plain convolutional networks of MFKD's example: 233,280 points.

Source: MFKD in Vega 1.8.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from torch import nn

from common.experiment.config import digest
from common.spaces.base import Cost
from common.spaces.configuration import complete
from common.spaces.grid import Grid, Level, Options, grid_of
from common.spaces.grid_space import GridSpace
from common.spaces.simple_cnn_network import NUM_LAYERS, TAPS, CnnLayer, SimpleCnn, check_layers, final_side

_LAYER = re.compile(r"([0-9]{1,6})k([0-9]{1,3})(b?)(r?)")
_UNIT = re.compile(r"[0-9]{1,6}")
_OUTPUT_UNIT = "fully_connect.output_unit"
_KEYS = ("bn", "filters", "kernel_size", "relu")


@dataclass(frozen=True)
class CnnArch:
    """Three convolutions and the width of the hidden linear layer."""

    layers: tuple[CnnLayer, ...]
    output_unit: int


@dataclass(frozen=True, kw_only=True)
class CnnLayerOptions:
    """Options of one convolution: a tuple is searched, a value fixed."""

    bn: Options = (False, True)
    filters: Options = (8, 16, 32)
    kernel_size: Options = (1, 3, 5)
    relu: Options = (False, True)


@dataclass(frozen=True, kw_only=True)
class SimpleCnnSpace(GridSpace[CnnArch]):
    """Grid of kernel sizes, filters, batch norms and ReLUs of three convolutions, and of a linear layer's width.

    Raises:
        ValueError: not three layers, options that repeat, an even kernel size, a number below 1.
    """

    layers: tuple[CnnLayerOptions, ...] = (CnnLayerOptions(),) * NUM_LAYERS
    output_unit: Options = (16, 20, 24, 28, 32)
    """Width of the hidden linear layer: a tuple is searched, a number fixed."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if len(self.layers) != NUM_LAYERS:
            raise ValueError(f"{len(self.layers)} layers; three are needed")
        options = [(axis.key, level) for axis in self.grid.axes for level in axis.levels]
        for key, level in (*options, *self.grid.constants):
            _checked(key, level)

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> "SimpleCnnSpace":
        """The space of nested options as in published files: `{"conv_layer_0": {"filters": [8, 16], ...}, ...}`.

        A list is searched, a value fixed; all keys are needed.

        Raises:
            ValueError: an unknown or missing key, or an option that the network does not have.
        """
        values = {key: cast(Options, value) for key, value in complete(options, cls().grid.keys).items()}
        layers = ({key: values[f"conv_layer_{i}.{key}"] for key in _KEYS} for i in range(NUM_LAYERS))
        return cls(layers=tuple(CnnLayerOptions(**layer) for layer in layers), output_unit=values[_OUTPUT_UNIT])

    @property
    def name(self) -> str:
        """Such as `simple_cnn-233280-<digest of the fields>`: the same name, the same networks and indices."""
        return f"simple_cnn-{self.size()}-{digest(self)}"

    @cached_property
    def grid(self) -> Grid:
        """Axes `conv_layer_0.bn`, `.filters`, `.kernel_size`, `.relu`, ..., `fully_connect.output_unit`."""
        options: dict[str, object] = {f"conv_layer_{i}": vars(layer) for i, layer in enumerate(self.layers)}
        return grid_of(options | {"fully_connect": {"output_unit": self.output_unit}})

    @property
    def taps(self) -> tuple[str, ...]:
        """Names of the maps of `features_and_logits`."""
        return TAPS

    def values_of(self, arch: CnnArch) -> dict[str, Level]:
        """Flat configuration of any three layers, in the space or not.

        Raises:
            ValueError: not three layers.
        """
        if len(arch.layers) != NUM_LAYERS:
            raise ValueError(f"{len(arch.layers)} layers; three are needed")
        layers = {f"conv_layer_{i}.{key}": getattr(one, key) for i, one in enumerate(arch.layers) for key in _KEYS}
        return layers | {_OUTPUT_UNIT: arch.output_unit}

    def arch_of(self, values: Mapping[str, Level]) -> CnnArch:
        """The inverse of `values_of`.

        Raises:
            ValueError: a value that the network cannot have.
        """
        values = {key: _checked(key, value) for key, value in values.items()}
        layers = (
            CnnLayer(
                filters=int(values[f"conv_layer_{i}.filters"]),
                kernel_size=int(values[f"conv_layer_{i}.kernel_size"]),
                bn=bool(values[f"conv_layer_{i}.bn"]),
                relu=bool(values[f"conv_layer_{i}.relu"]),
            )
            for i in range(NUM_LAYERS)
        )
        return CnnArch(tuple(layers), int(values[_OUTPUT_UNIT]))

    def parse(self, text: str) -> CnnArch:
        """Read `16k3br_8k1_32k5b_24`: filters, kernel size, b for batch norm, r for ReLU; then the linear width.

        Raises:
            ValueError: the text is malformed or lies outside the space.
        """
        *layers, unit = text.strip().split("_")
        found = [_LAYER.fullmatch(layer) for layer in layers]
        matches = [match for match in found if match]
        if not matches or len(matches) < len(found) or not _UNIT.fullmatch(unit):
            raise ValueError(
                f"architecture {text!r} is malformed: filters k kernel size, b for batch norm, r for ReLU, then the "
                "width of the linear layer, like '16k3br_8k1_32k5b_24'"
            )
        read = (CnnLayer(int(match[1]), int(match[2]), match[3] != "", match[4] != "") for match in matches)
        return self.validate(CnnArch(tuple(read), int(unit)))

    def format(self, arch: CnnArch) -> str:
        """The text form; `parse` inverts it."""
        layers = (f"{one.filters}k{one.kernel_size}{'b' * one.bn}{'r' * one.relu}" for one in arch.layers)
        return "_".join([*layers, str(arch.output_unit)])

    def build(self, arch: CnnArch, num_classes: int, resolution: int) -> nn.Module:
        """Any network of three layers, freshly initialised from torch's global generator.

        Raises:
            ValueError: no such network, or a resolution that is no positive multiple of 8.
        """
        return SimpleCnn(arch.layers, arch.output_unit, num_classes, resolution)

    def cost(self, arch: CnnArch, num_classes: int, resolution: int) -> Cost:
        """Exact parameters, and MACs of convolutions and linear layers, in closed form.

        Raises:
            ValueError: no such network, or a resolution that is no positive multiple of 8.
        """
        check_layers(arch.layers)
        inputs, params, macs = 3, 0, 0
        for place, layer in enumerate(arch.layers):
            kernels = inputs * layer.filters * layer.kernel_size**2
            params += kernels + (3 if layer.bn else 1) * layer.filters
            macs += kernels * (resolution >> place) ** 2
            inputs = layer.filters
        hidden = inputs * final_side(resolution) ** 2 * arch.output_unit
        params += hidden + arch.output_unit + (arch.output_unit + 1) * num_classes
        return Cost(num_params=params, macs=macs + hidden + arch.output_unit * num_classes)


def _checked(key: str, level: Level) -> Level:
    """Return the value if a layer can have it; batch norm and ReLU are truths, the others numbers."""
    if key.endswith((".bn", ".relu")):
        if level not in (False, True):
            raise ValueError(f"{key} has the option {level!r}; true or false is needed")
    elif isinstance(level, bool) or not isinstance(level, int) or level < 1:
        raise ValueError(f"{key} has the option {level!r}; positive integers are needed")
    elif key.endswith(".kernel_size") and level % 2 == 0:
        raise ValueError(f"{key} has the option {level!r}; odd kernel sizes are needed")
    return level
