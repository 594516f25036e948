"""Which sub-networks of a supernet train in a step: the sandwich rule, and options that open one after another.

Source: Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019 (sandwich rule,
in-place distillation); Cai et al., ICLR 2020, section 3.3 (progressive shrinking).
"""

from dataclasses import dataclass

import torch

from common.spaces.mobilenet_v3_arch import DEPTHS, EXPANSIONS, KERNELS, NUM_BLOCKS, NUM_STAGES, MobileNetV3Arch

_LARGEST = MobileNetV3Arch.uniform(KERNELS[-1], EXPANSIONS[-1], DEPTHS[-1])


@dataclass(frozen=True, kw_only=True)
class Shrinking:
    """Networks of a step. The largest learns the labels, and the others learn its softened outputs (and the labels)."""

    kernels: tuple[float, float] = (0.0, 0.0)
    """Shares of all steps after which kernels of 5, and then of 3, are drawn as well."""
    depths: tuple[float, float] = (0.0, 0.0)
    """The same for depths of 3 and 2."""
    expansions: tuple[float, float] = (0.0, 0.0)
    """The same for expansions of 4 and 3."""
    num_random: int = 2
    """Networks drawn uniformly from the options that are open; none while all settings have one option only."""
    has_largest: bool = True
    """Train the largest in every step. Without it the others have the labels alone to learn from."""
    has_smallest: bool = True
    """Train the smallest that is open in every step."""
    alpha: float = 0.0
    """Weight of the label term in the loss of the others; 1 - alpha is on the largest network's outputs."""
    temperature: float = 1.0
    """Softens both sides of in-place distillation."""

    def __post_init__(self) -> None:
        """Check every field; raises ValueError naming the field, its value and what is allowed."""
        for name in ("kernels", "depths", "expansions"):
            first, second = getattr(self, name)
            if not 0 <= first <= second <= 1:
                raise ValueError(f"{name} is {first} {second}: two shares of the steps, 0 <= first <= second <= 1")
        if self.num_random < 0:
            raise ValueError(f"num_random is {self.num_random}; it must be 0 or more")
        if not (self.num_random or self.has_largest or self.has_smallest):
            raise ValueError("num_random is 0, and neither the largest nor the smallest network is trained: nothing is")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must lie in [0, 1]")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be positive")


def networks_of_step(
    shrinking: Shrinking, step: int, num_steps: int, generator: torch.Generator
) -> list[MobileNetV3Arch]:
    """Architectures to train in one step, largest first, then random ones, then the smallest that is open.

    Args:
        shrinking: the rule.
        step: 0 .. num_steps - 1.
        num_steps: of the whole training.
        generator: of the random ones.

    Returns:
        One or more; only the largest while nothing else is open.
    """
    done = step / num_steps
    kernels, expansions, depths = (
        [options[-1], *(option for option, start in zip(options[-2::-1], starts, strict=True) if done >= start)]
        for options, starts in (
            (KERNELS, shrinking.kernels),
            (EXPANSIONS, shrinking.expansions),
            (DEPTHS, shrinking.depths),
        )
    )
    if len(kernels) == len(expansions) == len(depths) == 1:
        return [_LARGEST]
    networks = [_LARGEST] if shrinking.has_largest else []
    networks += [
        MobileNetV3Arch(
            _draw(kernels, NUM_BLOCKS, generator),
            _draw(expansions, NUM_BLOCKS, generator),
            _draw(depths, NUM_STAGES, generator),
        )
        for _ in range(shrinking.num_random)
    ]
    if shrinking.has_smallest:
        networks.append(MobileNetV3Arch.uniform(kernels[-1], expansions[-1], depths[-1]))
    return networks


def _draw(options: list[int], num: int, generator: torch.Generator) -> tuple[int, ...]:
    return tuple(options[place] for place in torch.randint(len(options), (num,), generator=generator).tolist())
