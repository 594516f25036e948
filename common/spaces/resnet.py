"""The depth x width space of residual students under one teacher.

Source: Lee et al., ICLR 2023, released code (teacher "resnet42": widths 32, 64, 128, 256, depth 5).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from common.spaces.base import Cost
from common.spaces.resnet_network import STAGE_STRIDES, ResidualNetwork

NUM_STAGES = len(STAGE_STRIDES)
_COST_SCALE = 4.0  # cost says more than any single width: it weighs as much as all of them at the start of learning
MULTIPLIERS = tuple(sixteenths / 16 for sixteenths in range(8, 17))  # 0.5, 0.5625, ..., 1.0 of the teacher's width


@dataclass(frozen=True)
class ResNetArch:
    """Widths of the blocks of the four stages; a stage's depth is how many there are."""

    widths: tuple[tuple[int, ...], ...]

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks in each stage."""
        return tuple(len(stage) for stage in self.widths)


@dataclass(frozen=True, kw_only=True)
class ResNetSpace:
    """Students of depth 1 to `max_depth` and width 1/2 to 1 of the teacher, block by block.

    The last block keeps the teacher's width, since the teacher's classifier is copied whole onto it.

    Raises:
        ValueError: not four teacher widths, or widths that are not multiples of 16.
    """

    teacher_widths: tuple[int, ...] = (32, 64, 128, 256)
    max_depth: int = 5
    code: Literal["onehot", "compact"] = "onehot"
    """Codes of `encode`: the published one-hot over widths, or ours: a number for each block, and the cost."""
    pin: Literal["net", "stage"] = "net"
    """Which blocks must have the teacher's width: the last one of the network, or the last one of every stage."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if len(self.teacher_widths) != NUM_STAGES:
            raise ValueError(f"teacher_widths {self.teacher_widths}: four stages are needed")
        if any(width <= 0 or width % 16 for width in self.teacher_widths):
            raise ValueError(f"teacher_widths {self.teacher_widths}: multiples of 16 are needed (steps of a sixteenth)")
        if self.max_depth < 1:
            raise ValueError(f"max_depth {self.max_depth}: at least 1 is needed")
        if self.code not in ("onehot", "compact"):
            raise ValueError(f"code {self.code!r}: 'onehot' or 'compact'")
        if self.pin not in ("net", "stage"):
            raise ValueError(f"pin {self.pin!r}: 'net' or 'stage'")

    @property
    def name(self) -> str:
        """Such as `resnet-32-64-128-256x5`: the same name, the same networks."""
        return f"resnet-{'-'.join(map(str, self.teacher_widths))}x{self.max_depth}"

    @property
    def code_name(self) -> str:
        """Such as `resnet-32-64-128-256x5 (onehot codes)`: the same name, the same codes."""
        return f"{self.name} ({self.code} codes)"

    @property
    def teacher(self) -> ResNetArch:
        """The full network."""
        return ResNetArch(tuple((width,) * self.max_depth for width in self.teacher_widths))

    @property
    def smallest(self) -> ResNetArch:
        """One block a stage, of half the teacher's width where the width is free."""
        pinned = range(NUM_STAGES) if self.pin == "stage" else (NUM_STAGES - 1,)
        return ResNetArch(tuple((w if s in pinned else w // 2,) for s, w in enumerate(self.teacher_widths)))

    @property
    def code_length(self) -> int:
        """Numbers in one architecture's code: 181 for the published space."""
        num_slots = NUM_STAGES * self.max_depth
        return 1 + (num_slots * len(MULTIPLIERS) if self.code == "onehot" else num_slots + 2)

    def stage_widths(self, stage: int) -> tuple[int, ...]:
        """The nine allowed widths of a stage."""
        return tuple(self.teacher_widths[stage] * sixteenths // 16 for sixteenths in range(8, 17))

    def size(self) -> int:
        """Number of distinct architectures."""
        choices = len(MULTIPLIERS)
        free = sum(choices**depth for depth in range(1, self.max_depth + 1))
        pinned = sum(choices ** (depth - 1) for depth in range(1, self.max_depth + 1))
        return int(pinned**NUM_STAGES if self.pin == "stage" else free ** (NUM_STAGES - 1) * pinned)

    def sample(self, num: int, generator: torch.Generator) -> list[ResNetArch]:
        """Draw with replacement: depth uniform for each stage, multiplier uniform for each block.

        The number of draws from the generator does not depend on what is drawn, so a longer sample begins with the
        shorter one of the same seed.
        """
        draws = torch.randint(
            0, self.max_depth * len(MULTIPLIERS), (num, NUM_STAGES, self.max_depth + 1), generator=generator
        )
        depths = 1 + draws[..., 0] % self.max_depth  # (num, stages)
        multipliers = draws[..., 1:] % len(MULTIPLIERS)  # (num, stages, max_depth)
        pinned = range(NUM_STAGES) if self.pin == "stage" else (NUM_STAGES - 1,)
        for stage in pinned:
            multipliers[torch.arange(num), stage, depths[:, stage] - 1] = len(MULTIPLIERS) - 1
        return [
            ResNetArch(
                tuple(
                    tuple(self.stage_widths(stage)[index] for index in row[:depth])
                    for stage, (row, depth) in enumerate(zip(rows, row_depths, strict=True))
                )
            )
            for rows, row_depths in zip(multipliers.tolist(), depths.tolist(), strict=True)
        ]

    def validate(self, arch: ResNetArch) -> ResNetArch:
        """Return the architecture if it lies in the space.

        Raises:
            ValueError: it does not; the message says why and what is allowed.
        """
        if len(arch.widths) != NUM_STAGES:
            raise ValueError(f"architecture {_text(arch)!r} has {len(arch.widths)} stages; {NUM_STAGES} are needed")
        for stage, widths in enumerate(arch.widths):
            if not 1 <= len(widths) <= self.max_depth:
                raise ValueError(
                    f"architecture {_text(arch)!r}: stage {stage + 1} has {len(widths)} blocks; "
                    f"1 to {self.max_depth} are allowed"
                )
            allowed = self.stage_widths(stage)
            wrong = [width for width in widths if width not in allowed]
            if wrong:
                raise ValueError(
                    f"architecture {_text(arch)!r}: width {wrong[0]} in stage {stage + 1}; allowed are {allowed}"
                )
            if (self.pin == "stage" or stage == NUM_STAGES - 1) and widths[-1] != self.teacher_widths[stage]:
                raise ValueError(
                    f"architecture {_text(arch)!r}: the last block of stage {stage + 1} has width {widths[-1]}; "
                    f"it must keep the teacher's {self.teacher_widths[stage]}"
                )
        return arch

    def parse(self, text: str) -> ResNetArch:
        """Read `18-32_36_72-128-104_144-256`: blocks joined by `-`, stages by `_`.

        Raises:
            ValueError: the text is malformed or lies outside the space.
        """
        try:
            widths = tuple(tuple(int(width) for width in stage.split("-")) for stage in text.strip().split("_"))
        except ValueError:
            example = self.format(self.teacher)
            raise ValueError(
                f"architecture {text!r} is malformed: widths joined by - and _, like {example!r}"
            ) from None
        return self.validate(ResNetArch(widths))

    def format(self, arch: ResNetArch) -> str:
        """The text form; `parse` inverts it."""
        return _text(arch)

    def encode(self, archs: Sequence[ResNetArch]) -> Tensor:
        """Codes for a predictor.

        "onehot": one constant 1, then for each block slot (stage-major) a one-hot over the nine multipliers. An absent
        block is all zeros, so a code has 1 + (number of blocks) ones.

        "compact": one constant 1, then the multiplier of each block slot, 0 for an absent block, then 4 times the
        logarithms of parameters and of MACs as shares of the teacher's (without classifier). Of a few hundred students
        only a dozen set each one-hot entry; here what is learned of one width carries over to the next.

        Returns:
            (len(archs), code_length) float32; 181 numbers in the published space.

        Raises:
            ValueError: an architecture lies outside the space and has no code.
        """
        multipliers = torch.zeros(len(archs), NUM_STAGES, self.max_depth)
        for row, arch in enumerate(archs):
            for stage, widths in enumerate(self.validate(arch).widths):
                multipliers[row, stage, : len(widths)] = torch.tensor(widths) / self.teacher_widths[stage]
        ones, slots = torch.ones(len(archs), 1), multipliers.flatten(1)
        if self.code == "onehot":
            onehot = slots[..., None] == torch.tensor(MULTIPLIERS)
            return torch.cat([ones, onehot.float().flatten(1)], 1)
        return torch.cat([ones, slots, self._cost_shares(archs)], 1)

    def _cost_shares(self, archs: Sequence[ResNetArch]) -> Tensor:  # (len(archs), 2)
        full = self._body_cost(self.teacher)
        costs = [self._body_cost(arch) for arch in archs]
        shares = [[cost.num_params / full.num_params, cost.macs / full.macs] for cost in costs]
        return _COST_SCALE * torch.tensor(shares).reshape(-1, 2).log()

    def _body_cost(self, arch: ResNetArch) -> Cost:
        """Cost without a classifier; its ratios to the teacher's are the same at every resolution."""
        return self.cost(arch, 0, 8)

    def decode(self, codes: Tensor) -> list[ResNetArch]:
        """The inverse of `encode`.

        Args:
            codes: (N, code_length).

        Raises:
            ValueError: a code of another length or of no architecture of this space.
        """
        if codes.ndim != 2 or codes.shape[1] != self.code_length:
            raise ValueError(f"codes of shape {tuple(codes.shape)}; (N, {self.code_length}) is needed for {self.name}")
        num_slots = NUM_STAGES * self.max_depth
        if self.code == "onehot":
            onehot = codes[:, 1:].reshape(-1, num_slots, len(MULTIPLIERS)).float()
            slots = onehot @ torch.tensor(MULTIPLIERS, device=codes.device)
        else:
            slots = codes[:, 1 : 1 + num_slots]
        rows = slots.reshape(-1, NUM_STAGES, self.max_depth).tolist()
        try:
            archs = [self.validate(self._arch_of(row)) for row in rows]
            is_ours = torch.equal(self.encode(archs), codes.float().cpu())
        except ValueError:
            is_ours = False
        if not is_ours:
            raise ValueError(f"a code is not of this space ({self.code_name}): it does not encode back to itself")
        return archs

    def _arch_of(self, multipliers: list[list[float]]) -> ResNetArch:
        """Architecture of the multipliers of every block slot, 0 for an absent block."""
        stages = zip(multipliers, self.teacher_widths, strict=True)
        return ResNetArch(tuple(tuple(round(part * full) for part in stage if part) for stage, full in stages))

    def build(self, arch: ResNetArch, num_classes: int, resolution: int) -> nn.Module:
        """The network, freshly initialised from torch's global generator.

        Raises:
            ValueError: the architecture lies outside the space, or the resolution is not divisible by 8.
        """
        check_resolution(resolution)
        return ResidualNetwork(self.validate(arch).widths, num_classes)

    def cost(self, arch: ResNetArch, num_classes: int, resolution: int) -> Cost:
        """Exact parameters, and MACs of convolutions and classifier, in closed form."""
        check_resolution(resolution)
        previous = arch.widths[0][0]
        params = 27 * previous + 2 * previous
        macs = 27 * previous * resolution**2
        side = resolution
        for widths, stride in zip(arch.widths, STAGE_STRIDES, strict=True):
            side //= stride
            for width in widths:
                kernels = 9 * previous * width + 9 * width**2
                params += kernels + 4 * width
                macs += kernels * side**2
                previous = width
        return Cost(num_params=params + (previous + 1) * num_classes, macs=macs + previous * num_classes)


def check_resolution(resolution: int) -> None:
    """Refuse an image size that the three halvings would cut unevenly.

    Raises:
        ValueError: the resolution is not a positive multiple of 8.
    """
    if resolution <= 0 or resolution % 8:
        raise ValueError(f"resolution {resolution} is not a positive multiple of 8; use for example 32 or 64")


def _text(arch: ResNetArch) -> str:
    return "_".join("-".join(map(str, stage)) for stage in arch.widths)
