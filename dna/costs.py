"""What layers, paths and networks cost: parameters and multiply-accumulates in closed form.

Two counters of multiply-accumulates: `macs` takes convolutions and linear layers; `official_macs`, the released one,
which the published figures are made with, adds the biases of convolutions, two for each input of a batch normalisation
and one for each input of the pooling.

Costs are charged at the widths of the retrained network, not at those of the supernet, whose last layers are as wide as
the teacher's. The cost table in the released search script is not used: it mixes three sets of widths.

Source: Li et al., CVPR 2020; released code, flops_counter.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dna.archs import EXPANSIONS, KERNELS, NUM_STAGES, OPS, PAPER, Cell, DnaArch, Skeleton

Ints = NDArray[np.int64]
Measure = Literal["macs", "official_macs", "num_params"]


@dataclass(frozen=True, eq=False)
class Costs:
    """Costs of several things, int64 arrays of one shape."""

    num_params: Ints
    macs: Ints
    official_macs: Ints

    def __add__(self, other: "Costs") -> "Costs":
        """Sums, broadcast."""
        return Costs(
            self.num_params + other.num_params, self.macs + other.macs, self.official_macs + other.official_macs
        )

    def __getitem__(self, index: int) -> "Costs":
        """Costs of one of the things."""
        return Costs(*(np.asarray(values[index]) for values in (self.num_params, self.macs, self.official_macs)))


@dataclass(frozen=True)
class LayerShape:
    """Where a layer stands.

    Attributes:
        in_width: input channels.
        out_width: output channels.
        stride: 1 or 2.
        side: height and width of the input in pixels.
    """

    in_width: int
    out_width: int
    stride: int
    side: int

    @property
    def out_side(self) -> int:
        """Height and width of the output: odd kernels are padded by half of their size."""
        return -(-self.side // self.stride)


LayerCosts = Callable[[LayerShape], Ints]
"""Costs of the ops of a layer: (6,), or (6, D) for D costs at once."""


def op_costs(layer: LayerShape) -> Costs:
    """Costs of every candidate op of a layer, arrays of (6,).

    An op expands by a 1x1 convolution, filters each channel, squeezes to a quarter of the input's width and back, and
    projects by a 1x1 convolution; a batch normalisation follows each of the three convolutions.
    """
    in_width, out_width = layer.in_width, layer.out_width
    before, after = layer.side**2, layer.out_side**2
    inner = np.array(EXPANSIONS, np.int64) * in_width
    taps = np.array(KERNELS, np.int64) ** 2
    squeezed = max(1, in_width // 4)
    gate = 2 * inner * squeezed
    gate_biases = squeezed + inner
    weights = in_width * inner + taps * inner + inner * out_width + gate
    macs = (in_width * inner) * before + (taps * inner + inner * out_width) * after + gate
    normalised = inner * before + (inner + out_width) * after
    return Costs(weights + gate_biases + 2 * (2 * inner + out_width), macs, macs + gate_biases + 2 * normalised)


def fixed_costs(last_width: int, num_classes: int, resolution: int, skeleton: Skeleton = PAPER) -> Costs:
    """Costs of what is not searched: the stem with its fixed layer before the stages, the head after them.

    Args:
        last_width: output channels of the last stage.
        num_classes: outputs.
        resolution: height and width of the image in pixels.
        skeleton: of the network.

    Returns:
        Arrays without axes.
    """
    start = side_of_stage(0, resolution, skeleton) ** 2
    end = side_of_stage(NUM_STAGES, resolution, skeleton) ** 2
    stem_width, first_width, head_width = skeleton.stem_width, skeleton.first_width, skeleton.head_width
    squeezed = max(1, stem_width // 4)
    gate, gate_biases = 2 * stem_width * squeezed, squeezed + stem_width
    stem = 27 * stem_width + 9 * stem_width + stem_width * first_width
    head, classifier = last_width * head_width, head_width * num_classes
    norms = 2 * (2 * stem_width + first_width) + 2 * head_width
    params = stem + gate + gate_biases + head + classifier + num_classes + norms
    macs = stem * start + gate + head * end + classifier
    extra = gate_biases + 2 * (2 * stem_width + first_width) * start + 2 * head_width * end + head_width * end
    return Costs(*(np.array(value, np.int64) for value in (params, macs, macs + extra)))


def network_costs(arch: DnaArch, num_classes: int, resolution: int, skeleton: Skeleton = PAPER) -> Costs:
    """Costs of a whole network, arrays without axes."""
    total = fixed_costs(arch.widths[-1], num_classes, resolution, skeleton)
    in_widths = (skeleton.first_width, *arch.widths[:-1])
    for stage, (ops, width, in_width) in enumerate(zip(arch.ops, arch.widths, in_widths, strict=True)):
        layers = stage_layers(stage, Cell(len(ops), width), in_width, resolution, skeleton)
        for op, layer in zip(ops, layers, strict=True):
            total += op_costs(layer)[op]
    return total


def side_of_stage(stage: int, resolution: int, skeleton: Skeleton = PAPER) -> int:
    """Height and width of a stage's input in pixels; of the last stage's output for the stage after the last."""
    side = resolution
    for stride in (skeleton.stem_stride, *skeleton.strides[:stage]):
        side = -(-side // stride)
    return side


def stage_layers(
    stage: int, cell: Cell, in_width: int, resolution: int, skeleton: Skeleton = PAPER
) -> list[LayerShape]:
    """The layers of a stage, after a stage (or stem) of `in_width` channels."""
    first = LayerShape(in_width, cell.width, skeleton.strides[stage], side_of_stage(stage, resolution, skeleton))
    return [first, *[LayerShape(cell.width, cell.width, 1, first.out_side)] * (cell.num_layers - 1)]


def path_costs(layers: Sequence[LayerShape], costs_of: LayerCosts) -> Ints:
    """Costs of all paths through some layers, in path order.

    Returns:
        (6**L,), or (6**L, D) where `costs_of` counts D costs.
    """
    return reduce(_outer_sum, (costs_of(layer) for layer in layers))


def _outer_sum(first: Ints, second: Ints) -> Ints:
    sums: Ints = (first[:, None] + second[None]).reshape(-1, *second.shape[1:])
    return sums


def counted(*measures: Measure) -> LayerCosts:
    """Costs of layers by counting: (6,) for one measure, (6, D) for D of them."""
    names = measures[0] if len(measures) == 1 else measures

    def costs_of(layer: LayerShape) -> Ints:
        costs = op_costs(layer)
        if isinstance(names, str):
            values: Ints = getattr(costs, names)
            return values
        return np.stack([getattr(costs, name) for name in names], axis=-1)

    return costs_of


def timed(seconds: Mapping[tuple[LayerShape, int], float]) -> LayerCosts:
    """Costs of layers by a table of measured seconds, in whole nanoseconds, so that sums are exact.

    Args:
        seconds: of each layer and op that will be asked for.

    Returns:
        A function that raises ValueError for a layer that was not measured, or not to a positive finite time.
    """

    def costs_of(layer: LayerShape) -> Ints:
        found = [seconds.get((layer, op), float("nan")) for op in range(len(OPS))]
        wrong = [OPS[op] for op, value in enumerate(found) if not 0 < value < float("inf")]
        if wrong:
            raise ValueError(f"the table has no time of {', '.join(wrong)} at {layer}: measure it")
        return np.rint(np.array(found) * 1e9).astype(np.int64)

    return costs_of
