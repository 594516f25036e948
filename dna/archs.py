"""Architectures of DNA: six stages of inverted residual layers with chosen kernels and expansions.

Source: Li et al., "Blockwisely Supervised Neural Architecture Search with Knowledge Distillation", CVPR 2020.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NUM_STAGES = 6
OPS = ("MB6_3", "MB6_5", "MB6_7", "MB3_3", "MB3_5", "MB3_7")
"""Candidate layers: expansion, then kernel of the depthwise convolution. An op is its position here, in files too."""
KERNELS = (3, 5, 7, 3, 5, 7)
"""Of each op, in pixels."""
EXPANSIONS = (6, 6, 6, 3, 3, 3)
"""Width inside each op over that of its input."""
STRIDES = (2, 2, 2, 1, 2, 1)
"""Of the first layer of each stage of a published network; the other layers keep the resolution."""
STEM_WIDTH, FIRST_WIDTH, HEAD_WIDTH = 32, 16, 1280
"""Channels of its first convolution, of the fixed layer after it, and of the last convolution."""
WIDTHS = (24, 40, 80, 112, 192, 320)
"""Channels of each stage of a retrained network, where no other cell is chosen."""
LAYERS = (2, 4, 4, 4, 4, 1)
"""Layers of each stage, likewise."""

_SKELETON = re.compile(r"(\d+)/(\d+)-(\d+)-([\d,]+)-(\d+)", re.ASCII)
_STAGE = re.compile(r"(\d+):([0-5]+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """What all networks of a search have in common. The defaults are the published networks'."""

    stem_width: int = STEM_WIDTH
    """Channels of the first convolution."""
    stem_stride: int = 2
    """Of the first convolution."""
    first_width: int = FIRST_WIDTH
    """Channels of the fixed layer after it."""
    strides: tuple[int, ...] = STRIDES
    """Of the first layer of each of the six stages, 1 or 2."""
    head_width: int = HEAD_WIDTH
    """Channels of the last convolution, before the pooling."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if min(self.stem_width, self.first_width, self.head_width) < 1:
            raise ValueError(
                f"stem_width is {self.stem_width}, first_width {self.first_width}, head_width {self.head_width}: each "
                "must be 1 or more"
            )
        strides = (self.stem_stride, *self.strides)
        if len(self.strides) != NUM_STAGES or not {*strides} <= {1, 2}:
            raise ValueError(f"stem_stride is {self.stem_stride}, strides {self.strides}: give 1 or 2 for each stage")

    @property
    def total_stride(self) -> int:
        """Side of an image over that of the last feature map."""
        return math.prod((self.stem_stride, *self.strides))

    def format(self) -> str:
        """Text form `32/2-16-2,2,2,1,2,1-1280`; `parse_skeleton` inverts it."""
        strides = ",".join(map(str, self.strides))
        return f"{self.stem_width}/{self.stem_stride}-{self.first_width}-{strides}-{self.head_width}"


PAPER = Skeleton()
"""The published networks'."""


@dataclass(frozen=True)
class DnaArch:
    """One network.

    Attributes:
        ops: of each stage, the ops of its layers, first layer first.
        widths: output channels of each stage.
    """

    ops: tuple[tuple[int, ...], ...]
    widths: tuple[int, ...] = WIDTHS

    def __post_init__(self) -> None:
        """Check that there are six stages of known layers."""
        if len(self.ops) != NUM_STAGES or len(self.widths) != NUM_STAGES:
            raise ValueError(
                f"ops of {len(self.ops)} and widths of {len(self.widths)} stages: a network has {NUM_STAGES} stages"
            )
        if not all(self.ops) or any(op not in range(len(OPS)) for stage in self.ops for op in stage):
            raise ValueError(f"ops are {self.ops}: every stage needs at least one layer, each of 0 to {len(OPS) - 1}")
        if min(self.widths) < 1:
            raise ValueError(f"widths are {self.widths}: each must be 1 or more")


@dataclass(frozen=True)
class Cell:
    """Depth and width of a stage; a stage may have several, trained and rated one by one.

    Attributes:
        num_layers: layers, 1 or more.
        width: output channels of each of them in the retrained network.
    """

    num_layers: int
    width: int

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.num_layers < 1 or self.width < 1:
            raise ValueError(f"a cell of {self.num_layers} layers and width {self.width}: both must be 1 or more")

    @property
    def num_paths(self) -> int:
        """Choices of one op for every layer."""
        return int(len(OPS) ** self.num_layers)


def path_ops(path: int, num_layers: int) -> tuple[int, ...]:
    """Ops of a path, first layer first: the digits of its index in base 6, so that the last layer changes fastest.

    Raises:
        ValueError: there are fewer paths.
    """
    if not 0 <= path < len(OPS) ** num_layers:
        raise ValueError(f"path {path} of {num_layers} layers: there are {len(OPS) ** num_layers}, counted from 0")
    return tuple(path // len(OPS) ** power % len(OPS) for power in reversed(range(num_layers)))


def path_index(ops: Sequence[int]) -> int:
    """Index of a path; `path_ops` inverts it."""
    index = 0
    for op in ops:
        index = index * len(OPS) + op
    return index


def format_arch(arch: DnaArch) -> str:
    """Text form `24:10|40:1101|80:1011|112:0114|192:1411|320:0`: width and ops of each stage."""
    return "|".join(f"{width}:{''.join(map(str, ops))}" for width, ops in zip(arch.widths, arch.ops, strict=True))


def parse_arch(text: str) -> DnaArch:
    """Architecture of a text form, or of a published name such as `DNA_c`, in either case.

    Raises:
        ValueError: the text is neither; the message says what is wrong with it.
    """
    name = text.strip().replace("-", "_").lower()
    for known, arch in PUBLISHED.items():
        if name == known.lower():
            return arch
    found = [_STAGE.fullmatch(stage) for stage in text.strip().split("|")]
    if not all(found):
        raise ValueError(
            f"{text!r} is no network of DNA: give {', '.join(PUBLISHED)}, or a text such as "
            f"{format_arch(PUBLISHED['DNA_c'])} (width and ops of each stage)"
        )
    stages = [match for match in found if match]
    return DnaArch(
        ops=tuple(tuple(map(int, match[2])) for match in stages), widths=tuple(int(match[1]) for match in stages)
    )


def parse_skeleton(text: str) -> Skeleton:
    """Skeleton of a text form.

    Raises:
        ValueError: it is none.
    """
    match = _SKELETON.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no skeleton of DNA: it looks like {PAPER.format()}")
    strides = tuple(int(stride) for stride in match[4].split(",") if stride)
    stem_width, stem_stride, first_width, head_width = (int(match[group]) for group in (1, 2, 3, 5))
    return Skeleton(
        stem_width=stem_width,
        stem_stride=stem_stride,
        first_width=first_width,
        strides=strides,
        head_width=head_width,
    )


def timm_definition(arch: DnaArch, skeleton: Skeleton = PAPER) -> list[list[str]]:
    """Block strings of timm, a list for each stage; the fixed layer after the stem is the first.

    Only the first layer of a stage has its stride, and each layer squeezes to a quarter of its input's width.
    """
    no_skip = "_noskip" if skeleton.first_width == skeleton.stem_width else ""
    stages = [[f"ds_r1_k3_s1_c{skeleton.first_width}_se0.25{no_skip}"]]
    for width, stride, ops in zip(arch.widths, skeleton.strides, arch.ops, strict=True):
        strides = (stride, *(1 for _ in ops[1:]))
        stages.append(
            [
                f"ir_r1_k{KERNELS[op]}_s{first}_e{EXPANSIONS[op]}_c{width}_se0.25"
                for op, first in zip(ops, strides, strict=True)
            ]
        )
    return stages


PUBLISHED: Mapping[str, DnaArch] = {
    "DNA_a": DnaArch(
        ((4, 3, 0), (3, 3, 4, 0), (2, 3, 4, 0), (1, 4, 4, 1), (1, 4, 4, 4, 1), (0,)), (24, 40, 80, 96, 160, 320)
    ),
    "DNA_b": DnaArch(
        ((3, 4, 2), (2, 4, 2), (1, 4, 4, 0), (1, 4, 4, 1), (2, 4, 4, 4, 2), (0,)), (24, 40, 80, 96, 192, 320)
    ),
    "DNA_c": DnaArch(((1, 0), (1, 1, 0, 1), (1, 0, 1, 1), (0, 1, 1, 4), (1, 4, 1, 1), (0,))),
    "DNA_d": DnaArch(((2, 1, 2), (2, 2, 2, 2), (2, 1, 1, 2), (2, 1, 2, 1), (2, 1, 1, 1, 2), (0,))),
}
"""The networks of the paper, as released."""
