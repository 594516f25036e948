"""Generate architectures for a dataset: draws of its images, a latent vector each, and graphs grown from it.

Source: Lee et al., ICLR 2021, released code (solver.py); uniqueness by class, novelty and canonical edges are counted
here, not there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from common.spaces.sampling import sample_distinct
from metad2a.generator import Generator
from metad2a.spaces import View

DrawSets = Callable[[int, torch.Generator], Tensor]
"""(number of draws, source of randomness) -> (draws, C, S, D) features of one dataset."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How many architectures are generated, and in which batches."""

    num_generated: int = 500
    """Distinct ones; the first that come. Published: 500 cells for CIFAR-10 and CIFAR-100, 50 for other sets, and 200
    MobileNetV3 networks."""
    draws_per_batch: int = 100
    """Draws of the dataset's images that are encoded at once."""
    graphs_per_draw: int = 1
    """Graphs grown from one draw. Encoding a draw costs most; graphs of one draw differ by chance alone."""
    patience: int = 50
    """Graphs for each architecture asked for, before the generator counts as out of new ones."""
    candidates: Literal["generated", "random"] = "generated"
    """random draws them uniformly from the space instead: for comparison, and under narrow bounds."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("num_generated", "draws_per_batch", "graphs_per_draw", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """Distinct architectures, and the counts of how they came about.

    Attributes:
        archs: in the order in which they first came.
        view: of their space.
        num_graphs: graphs that were grown until the last of them had come, whole batches.
        num_valid: of these, graphs of architectures.
        num_canonical: of these, graphs with exactly the edges that the graph of every architecture has.
        num_distinct: distinct architectures among the valid graphs, those beyond a bound too.
    """

    archs: list[Any]
    view: View
    num_graphs: int
    num_valid: int
    num_canonical: int
    num_distinct: int

    @property
    def validity(self) -> float:
        """Share of the graphs that are architectures."""
        return self.num_valid / self.num_graphs

    @property
    def canonical(self) -> float:
        """Share of the graphs with the edges of an architecture's graph; validity does not ask for them."""
        return self.num_canonical / self.num_graphs

    @property
    def uniqueness(self) -> float:
        """Distinct architectures for each valid graph; it falls with the number of graphs."""
        return self.num_distinct / self.num_valid

    @property
    def num_classes(self) -> int:
        """Different functions among them; of cells, as the benchmark's canonical text tells them."""
        return self.view.num_functions(self.archs)

    def novelty(self, known: Tensor) -> float:
        """Share of them that are not among (M,) keys of known ones."""
        return float((~torch.isin(self.view.keys(self.archs), known)).float().mean())


@torch.no_grad()
def generate(
    model: Generator,
    draw: DrawSets,
    plan: Generation,
    random: torch.Generator,
    *,
    view: View,
    accept: Callable[[Any], bool] | None = None,
) -> Generated:
    """Grow graphs until so many distinct architectures have come.

    Args:
        model: in eval mode.
        draw: features of the dataset's images, on the model's device.
        plan: how many, in which batches.
        random: of draws and graphs, on the CPU.
        view: of the space.
        accept: condition that each must satisfy; None takes all.

    Raises:
        ValueError: more are asked for than the space has.
        RuntimeError: the generator brings too few valid, new or accepted ones; the message says which.
    """
    if plan.num_generated > view.space.size():
        raise ValueError(f"num_generated is {plan.num_generated}; there are {view.space.size():,} {view.word} in all")
    if plan.candidates == "random":
        return _drawn(plan, random, view=view, accept=accept)
    seen: dict[Any, None] = {}
    found: list[Any] = []
    num_graphs = num_valid = num_canonical = 0
    while len(found) < plan.num_generated:
        if num_graphs >= plan.patience * plan.num_generated:
            raise RuntimeError(_exhausted(plan, view, len(found), len(seen), num_graphs, num_valid / num_graphs))
        mean, _ = model.latent(draw(plan.draws_per_batch, random))
        graphs = model.decoder.sample(mean.repeat_interleave(plan.graphs_per_draw, 0), random)
        archs = [arch for arch in view.space.from_graphs(graphs) if arch is not None]
        num_graphs += len(graphs)
        num_valid += len(archs)
        num_canonical += int(view.canonical(graphs).sum())
        new = [arch for arch in dict.fromkeys(archs) if arch not in seen]
        seen.update(dict.fromkeys(new))
        found += new if accept is None else filter(accept, new)
    return Generated(
        archs=found[: plan.num_generated],
        view=view,
        num_graphs=num_graphs,
        num_valid=num_valid,
        num_canonical=num_canonical,
        num_distinct=len(seen),
    )


def _exhausted(plan: Generation, view: View, num_found: int, num_seen: int, num_graphs: int, validity: float) -> str:
    """Why the generator is given up."""
    if num_found < num_seen:
        return (
            f"only {num_found} of {num_seen} generated {view.word} are within the bounds, and {plan.num_generated} "
            f"were asked for: raise the bounds, ask for fewer (--generation.num-generated {max(1, num_found)}), or "
            "draw them at random (--generation.candidates random)"
        )
    return (
        f"only {num_found} distinct {view.word} came in {num_graphs:,} graphs, {validity:.0%} of them valid, and "
        f"{plan.num_generated} were asked for: ask for fewer (--generation.num-generated {max(1, num_found)}) or "
        "meta-train the generator longer"
    )


def _drawn(plan: Generation, random: torch.Generator, *, view: View, accept: Callable[[Any], bool] | None) -> Generated:
    """Uniformly random ones in their place."""
    found = sample_distinct(view.space, plan.num_generated, random, accept=accept or (lambda arch: True))
    if len(found) < plan.num_generated:
        raise RuntimeError(
            f"only {len(found)} random {view.word} within the bounds were found, and {plan.num_generated} were asked "
            f"for: raise the bounds or ask for fewer (--generation.num-generated {max(1, len(found))})"
        )
    num = len(found)
    return Generated(archs=found, view=view, num_graphs=num, num_valid=num, num_canonical=num, num_distinct=num)
