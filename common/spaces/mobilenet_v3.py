"""The MobileNetV3 space of once-for-all networks: five stages of two to four blocks.

Source: Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.graphs import DagBatch
from common.spaces.base import Cost
from common.spaces.mobilenet_v2_network import check_resolution
from common.spaces.mobilenet_v3_arch import (
    DEPTHS,
    EXPANSIONS,
    KERNELS,
    NUM_BLOCKS,
    SIZE,
    MobileNetV3Arch,
    arch_of,
    format_arch,
    index_of,
    parse_arch,
)
from common.spaces.mobilenet_v3_codes import (
    NUM_SETTINGS,
    archs_of_graphs,
    archs_of_onehots,
    archs_of_topologies,
    graphs_of,
    onehots_of,
    topologies_of,
)
from common.spaces.mobilenet_v3_network import MobileNetV3
from common.spaces.mobilenet_v3_plan import MobileNetV3Plan


@dataclass(frozen=True, kw_only=True)
class MobileNetV3Space:
    """Kernels 3, 5, 7 and expansions 3, 4, 6 for each block, depths 2, 3, 4 for each stage.

    Raises:
        ValueError: a multiplier that is not positive, a stride other than 1 and 2, or equal or empty resolutions.
    """

    width_mult: float = 1.0
    """Factor on all widths; released supernets have 1.0 and 1.2."""
    first_stride: int = 2
    """Of the stem: 2 for ImageNet, 1 keeps the maps of small images from vanishing."""
    resolutions: tuple[int, ...] = ()
    """Sides of images that are part of the search; with none, architectures have no resolution of their own."""

    def __post_init__(self) -> None:
        """Check the fields."""
        MobileNetV3Plan(width_mult=self.width_mult, first_stride=self.first_stride)
        if len(set(self.resolutions)) < len(self.resolutions) or min(self.resolutions, default=1) < 1:
            raise ValueError(f"resolutions {self.resolutions}: different positive numbers are needed, for example 224")

    @property
    def plan(self) -> MobileNetV3Plan:
        """Widths and strides of the networks and of their supernet."""
        return MobileNetV3Plan(width_mult=self.width_mult, first_stride=self.first_stride)

    @property
    def name(self) -> str:
        """Such as `mobilenet_v3-w1.0`, or `mobilenet_v3-w0.5-stride1`: the same name, the same networks."""
        parts = [f"mobilenet_v3-w{self.width_mult}"] + ["stride1"] * (self.first_stride == 1)
        return "-".join([*parts, *([f"r{'_'.join(map(str, self.resolutions))}"] if self.resolutions else [])])

    def check_side(self, resolution: int) -> int:
        """Return a side of images that gives whole maps: a multiple of 32, or of 4 with a first stride of 1.

        Networks run on images of any size; at others their maps are cut at the border, and costs compare badly.

        Raises:
            ValueError: it is not.
        """
        step = 32 if self.first_stride == 2 else 4
        if resolution < 1 or resolution % step:
            raise ValueError(
                f"resolution {resolution}: networks with a first stride of {self.first_stride} take positive multiples "
                f"of {step}, for example {32 if step == 4 else 224}"
            )
        return resolution

    @property
    def largest(self) -> MobileNetV3Arch:
        """All settings at their largest: the supernet whole."""
        return MobileNetV3Arch.uniform(KERNELS[-1], EXPANSIONS[-1], DEPTHS[-1], max(self.resolutions, default=None))

    @property
    def smallest(self) -> MobileNetV3Arch:
        """All settings at their smallest."""
        return MobileNetV3Arch.uniform(KERNELS[0], EXPANSIONS[0], DEPTHS[0], min(self.resolutions, default=None))

    @property
    def code_length(self) -> int:
        """Numbers in one architecture's code."""
        return max(1, len(self.resolutions)) + NUM_BLOCKS * (len(KERNELS) + len(EXPANSIONS))

    def size(self) -> int:
        """Number of distinct architectures (of networks, times resolutions)."""
        return SIZE * max(1, len(self.resolutions))

    def sample(self, num: int, generator: torch.Generator) -> list[MobileNetV3Arch]:
        """Draw with replacement, every setting uniform, those of blocks not in use too.

        A longer sample begins with the shorter one of the same seed. Networks are not equally likely: depths are.
        """
        num_sides = max(1, len(self.resolutions))
        draws = torch.randint(len(KERNELS) * num_sides, (num, NUM_SETTINGS + 1), generator=generator)
        places = (draws[:, :NUM_SETTINGS] % len(KERNELS)).tolist()  # three options each
        sides = (draws[:, NUM_SETTINGS] % num_sides).tolist()
        return [
            MobileNetV3Arch(
                tuple(KERNELS[place] for place in row[:NUM_BLOCKS]),
                tuple(EXPANSIONS[place] for place in row[NUM_BLOCKS : 2 * NUM_BLOCKS]),
                tuple(DEPTHS[place] for place in row[2 * NUM_BLOCKS :]),
                self.resolutions[side] if self.resolutions else None,
            )
            for row, side in zip(places, sides, strict=True)
        ]

    def validate(self, arch: MobileNetV3Arch) -> MobileNetV3Arch:
        """Return the architecture if its resolution, where it has one, is of this space.

        Raises:
            ValueError: it is not.
        """
        if arch.resolution is not None and arch.resolution not in self.resolutions:
            allowed = ", ".join(map(str, self.resolutions)) or "none"
            raise ValueError(f"architecture {format_arch(arch)!r}: resolutions of the space are {allowed}")
        return arch

    def parse(self, text: str) -> MobileNetV3Arch:
        """Read `k3e3-k5e4_k7e6-...@192`: blocks joined by `-`, stages by `_`, the resolution if it is searched.

        Raises:
            ValueError: the text is malformed or lies outside the space.
        """
        return self.validate(parse_arch(text))

    def format(self, arch: MobileNetV3Arch) -> str:
        """The text form, which names the blocks in use only; `parse` inverts it."""
        return format_arch(arch)

    def index(self, arch: MobileNetV3Arch) -> int:
        """Number of an architecture, 0 to `size()` - 1; the resolution is its last digit.

        Raises:
            ValueError: the resolution is not of this space.
        """
        if not self.resolutions:
            return index_of(self.validate(arch))
        if arch.resolution not in self.resolutions:
            raise ValueError(f"resolution {arch.resolution} of an architecture is none of {self.resolutions}")
        return index_of(arch) * len(self.resolutions) + self.resolutions.index(arch.resolution)

    def at(self, index: int) -> MobileNetV3Arch:
        """The architecture of a number; inverts `index`.

        Raises:
            ValueError: the number is outside the space.
        """
        if not 0 <= index < self.size():
            raise ValueError(f"index {index}: 0 to {self.size() - 1} are architectures of the space")
        if not self.resolutions:
            return arch_of(index)
        index, side = divmod(index, len(self.resolutions))
        return arch_of(index, self.resolutions[side])

    def encode(self, archs: Sequence[MobileNetV3Arch]) -> Tensor:
        """Codes for a predictor: one-hots over resolutions, and over the kernels and expansions of blocks in use.

        Returns:
            (len(archs), code_length) float32; 121 numbers where resolutions are not searched.

        Raises:
            ValueError: an architecture has another resolution than those of the space.

        Source: Cai et al., ICLR 2020, released code (`MobileNetArchEncoder`).
        """
        return onehots_of(archs, self.resolutions)

    def decode(self, codes: Tensor) -> list[MobileNetV3Arch]:
        """The inverse of `encode`, for codes (N, code_length).

        Raises:
            ValueError: another shape, or a code of no architecture.
        """
        return archs_of_onehots(codes, self.resolutions)

    def topologies(self, archs: Sequence[MobileNetV3Arch], *, is_masked: bool = False) -> Tensor:
        """Kernels, expansions and depths as (len(archs), 45) int64; masked, blocks not in use are zeros.

        Source: Jeong et al., NeurIPS 2021, released code.
        """
        return topologies_of(archs, is_masked=is_masked)

    def from_topologies(self, topologies: Tensor) -> list[MobileNetV3Arch]:
        """The inverse of `topologies`, without resolutions.

        Raises:
            ValueError: not (N, 45), or a number that is not a setting of the space.
        """
        return archs_of_topologies(topologies)

    def graphs(self, archs: Sequence[MobileNetV3Arch]) -> DagBatch:
        """Paths START, twenty blocks, END; a block's type tells kernel, expansion and the depth of its stage.

        Source: Lee et al., ICLR 2021, released code.
        """
        return graphs_of(archs)

    def from_graphs(self, graphs: DagBatch) -> list[MobileNetV3Arch | None]:
        """For each graph its architecture, without a resolution, or None where the graph is not valid."""
        return archs_of_graphs(graphs)

    def build(self, arch: MobileNetV3Arch, num_classes: int, resolution: int) -> nn.Module:
        """The network, freshly initialised from torch's global generator; it takes images of any size.

        Raises:
            ValueError: no classes, the resolution is not positive, or the architecture's own is not of this space.
        """
        check_resolution(resolution)
        return MobileNetV3(self.plan.blocks(self.validate(arch)), self.plan, num_classes)

    def cost(self, arch: MobileNetV3Arch, num_classes: int, resolution: int) -> Cost:
        """Exact cost in closed form, at the architecture's own resolution where it has one.

        Raises:
            ValueError: the resolution is not positive.
        """
        return self.plan.cost(arch, num_classes, arch.resolution or resolution)
