"""Architectures of the MobileNetV3 space: their settings, their text and their index.

Source: Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020, released
code (the space and the settings); the text and the index are ours.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

KERNELS = (3, 5, 7)
"""Sides of a block's depthwise kernel."""
EXPANSIONS = (3, 4, 6)
"""Channels inside a block, as multiples of those that enter it."""
DEPTHS = (2, 3, 4)
"""Blocks that a stage uses."""
NUM_STAGES = 5
MAX_DEPTH = max(DEPTHS)
NUM_BLOCKS = NUM_STAGES * MAX_DEPTH

Block = tuple[int, int]
"""Kernel and expansion."""
_OPTIONS = tuple((kernel, expansion) for kernel in KERNELS for expansion in EXPANSIONS)
_PER_STAGE: int = sum(len(_OPTIONS) ** depth for depth in DEPTHS)
SIZE = int(_PER_STAGE**NUM_STAGES)
"""Number of distinct networks."""
_BLOCK = re.compile(r"k(\d+)e(\d+)")
_EXAMPLE = "k3e3-k5e4_k7e6-k3e3-k3e3_k3e3-k3e3_k5e6-k5e6_k3e4-k7e3-k3e3-k3e3"


@dataclass(frozen=True, eq=False)
class MobileNetV3Arch:
    """One architecture, with the settings of all twenty blocks; position 4 s + l is block l of stage s.

    A stage of depth d uses its first d blocks. What is set for the others changes nothing, so it is kept (released
    files hold it) and left out of comparisons: architectures are equal if their networks are.

    Attributes:
        kernels: twenty of 3, 5, 7.
        expansions: twenty of 3, 4, 6.
        depths: five of 2, 3, 4.
        resolution: side of the images it is meant for; None where that is not part of the search.

    Raises:
        ValueError: another number of settings, or a value that is not in the space.
    """

    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    depths: tuple[int, ...]
    resolution: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        _check("kernels", self.kernels, NUM_BLOCKS, KERNELS)
        _check("expansions", self.expansions, NUM_BLOCKS, EXPANSIONS)
        _check("depths", self.depths, NUM_STAGES, DEPTHS)
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"resolution {self.resolution} is not positive; use for example 224")

    @cached_property
    def stages(self) -> tuple[tuple[Block, ...], ...]:
        """(kernel, expansion) of the blocks in use, stage by stage."""
        blocks = tuple(zip(self.kernels, self.expansions, strict=True))
        return tuple(blocks[MAX_DEPTH * s : MAX_DEPTH * s + depth] for s, depth in enumerate(self.depths))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MobileNetV3Arch):
            return NotImplemented
        return self.stages == other.stages and self.resolution == other.resolution

    def __hash__(self) -> int:
        return hash((self.stages, self.resolution))

    @classmethod
    def uniform(cls, kernel: int, expansion: int, depth: int, resolution: int | None = None) -> Self:
        """The architecture with equal blocks and equal stages."""
        return cls((kernel,) * NUM_BLOCKS, (expansion,) * NUM_BLOCKS, (depth,) * NUM_STAGES, resolution)

    @classmethod
    def of_stages(cls, stages: Sequence[Sequence[Block]], resolution: int | None = None) -> Self:
        """The architecture with these blocks, (kernel, expansion) each; those not in use get the smallest settings.

        Raises:
            ValueError: not five stages of two to four blocks, or a setting that is not in the space.
        """
        blocks: list[Block] = []
        for stage in stages:
            blocks += [*stage, *[(KERNELS[0], EXPANSIONS[0])] * (MAX_DEPTH - len(stage))]
        depths = tuple(map(len, stages))
        _check("depths", depths, NUM_STAGES, DEPTHS)
        return cls(tuple(k for k, _ in blocks), tuple(e for _, e in blocks), depths, resolution)

    @classmethod
    def of_settings(cls, settings: Mapping[str, object]) -> Self:
        """Read `{"ks": [20], "e": [20], "d": [5]}`, with `image_size` where the resolution is searched.

        Zeros, which released code writes for blocks not in use, become the smallest settings.

        Raises:
            ValueError: a key is missing, or its value is not a list of settings of the space.
        """
        lists: dict[str, list[int]] = {}
        for key in ("ks", "e", "d"):
            value = settings.get(key)
            if not isinstance(value, list | tuple) or not all(type(one) is int for one in value):
                raise ValueError(f"settings {settings} have no list of whole numbers {key!r}; ks, e and d are needed")
            lists[key] = list(value)
        size = settings.get("image_size")
        if size is not None and not isinstance(size, int):
            raise ValueError(f"image_size {size!r} of settings is no whole number")
        return cls.of_lists(lists["ks"], lists["e"], lists["d"], size)

    @classmethod
    def of_lists(
        cls, kernels: Sequence[int], expansions: Sequence[int], depths: Sequence[int], resolution: int | None = None
    ) -> Self:
        """Like the constructor, but zeros are allowed in blocks not in use and become the smallest settings."""
        _check("depths", tuple(depths), NUM_STAGES, DEPTHS)
        used = {MAX_DEPTH * stage + position for stage, depth in enumerate(depths) for position in range(depth)}
        return cls(
            tuple(value if value or place in used else KERNELS[0] for place, value in enumerate(kernels)),
            tuple(value if value or place in used else EXPANSIONS[0] for place, value in enumerate(expansions)),
            tuple(depths),
            resolution,
        )

    def settings(self) -> dict[str, list[int] | int]:
        """The settings of all blocks by the released names; `of_settings` inverts it."""
        lists: dict[str, list[int] | int] = {
            "ks": list(self.kernels),
            "e": list(self.expansions),
            "d": list(self.depths),
        }
        return lists if self.resolution is None else lists | {"image_size": self.resolution}


def parse_arch(text: str) -> MobileNetV3Arch:
    """Read `k3e3-k5e4_k7e6-...@192`: blocks joined by `-`, stages by `_`, the resolution if it is searched.

    Raises:
        ValueError: the text is malformed or lies outside the space.
    """
    blocks, at, side = text.strip().partition("@")
    try:
        if at and not (side.isascii() and side.isdigit()):
            raise ValueError(f"resolution {side!r} is no number")
        stages = [[_read_block(block) for block in stage.split("-")] for stage in blocks.split("_")]
        return MobileNetV3Arch.of_stages(stages, int(side) if at else None)
    except ValueError as error:
        raise ValueError(f"architecture {text!r}: {error}; one is like {_EXAMPLE!r}") from None


def format_arch(arch: MobileNetV3Arch) -> str:
    """The text form, which names the blocks in use only; `parse_arch` inverts it."""
    text = "_".join("-".join(f"k{kernel}e{expansion}" for kernel, expansion in stage) for stage in arch.stages)
    return text if arch.resolution is None else f"{text}@{arch.resolution}"


def index_of(arch: MobileNetV3Arch) -> int:
    """Number of an architecture without its resolution, from 0 to `SIZE` - 1 (beyond 64 bits).

    Stages are digits of base 7371, the first one highest; in a stage shallow comes first, then the first block counts
    most, and a block is 3 times the place of its kernel plus the place of its expansion.
    """
    index = 0
    for stage in arch.stages:
        index = index * _PER_STAGE + _stage_number(stage)
    return index


def arch_of(index: int, resolution: int | None = None) -> MobileNetV3Arch:
    """The architecture of a number; inverts `index_of`.

    Raises:
        ValueError: the number is outside the space.
    """
    if not 0 <= index < SIZE:
        raise ValueError(f"index {index}: 0 to {SIZE - 1} are architectures of the space")
    stages = []
    for _ in range(NUM_STAGES):
        index, number = divmod(index, _PER_STAGE)
        stages.append(list(_stage_blocks(number)))
    return MobileNetV3Arch.of_stages(stages[::-1], resolution)


def _stage_number(stage: Sequence[Block]) -> int:
    number = 0
    for block in stage:
        number = number * len(_OPTIONS) + _OPTIONS.index(block)
    shallower: int = sum(len(_OPTIONS) ** depth for depth in DEPTHS if depth < len(stage))
    return number + shallower


def _stage_blocks(number: int) -> Iterator[Block]:
    depth = DEPTHS[0]
    while number >= len(_OPTIONS) ** depth:
        number -= len(_OPTIONS) ** depth
        depth += 1
    for place in reversed(range(depth)):
        yield _OPTIONS[number // len(_OPTIONS) ** place % len(_OPTIONS)]


def _read_block(text: str) -> Block:
    found = _BLOCK.fullmatch(text)
    if found is None or not text.isascii():
        raise ValueError(f"{text!r} is no block like 'k3e6'")
    return int(found[1]), int(found[2])


def _check(name: str, values: tuple[int, ...], length: int, options: tuple[int, ...]) -> None:
    if len(values) != length:
        raise ValueError(f"{len(values)} {name} are given; {length} are needed")
    wrong = [value for value in values if value not in options]
    if wrong:
        raise ValueError(f"{wrong[0]} is none of the {name} {', '.join(map(str, options))}")
