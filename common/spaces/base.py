"""What every search space offers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

Arch = TypeVar("Arch")


@dataclass(frozen=True)
class Cost:
    """What one network costs.

    Attributes:
        num_params: learnable parameters.
        macs: multiply-accumulates of one image's forward pass (convolutions and linear layers).
    """

    num_params: int
    macs: int


class SearchSpace(Protocol[Arch]):
    """A set of architectures with one text form, one code and one network each."""

    @property
    def name(self) -> str:
        """Stable identifier, recorded with every artifact."""
        ...

    def sample(self, num: int, generator: torch.Generator) -> list[Arch]:
        """Draw architectures."""
        ...

    def parse(self, text: str) -> Arch:
        """Read the text form; ValueError names what is wrong."""
        ...

    def format(self, arch: Arch) -> str:
        """Write the text form; `parse` inverts it."""
        ...

    def encode(self, archs: Sequence[Arch]) -> Tensor:
        """Codes for a predictor, (len(archs), D)."""
        ...

    def build(self, arch: Arch, num_classes: int, resolution: int) -> nn.Module:
        """The network of an architecture, freshly initialised."""
        ...

    def cost(self, arch: Arch, num_classes: int, resolution: int) -> Cost:
        """Exact cost, without building the network."""
        ...
