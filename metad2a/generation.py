"""Generate cells for a dataset: draws of its images, a latent vector each, and graphs grown from it.

Source: Lee et al., ICLR 2021, released code (solver.py); uniqueness by class, novelty and canonical edges are counted
here, not there.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from common.spaces.nasbench201 import Cell, NasBench201Space, positions
from common.spaces.nasbench201_classes import canonical_edges, canonical_text
from metad2a.generator import Generator

DrawSets = Callable[[int, torch.Generator], Tensor]
"""(number of draws, source of randomness) -> (draws, C, S, D) features of one dataset."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How many cells are generated, and in which batches."""

    num_generated: int = 500
    """Distinct cells; the first ones that come. Published: 500 for CIFAR-10 and CIFAR-100, 50 for other sets."""
    draws_per_batch: int = 100
    """Draws of the dataset's images that are encoded at once."""
    graphs_per_draw: int = 1
    """Graphs grown from one draw. Encoding a draw costs most; graphs of one draw differ by chance alone."""
    patience: int = 50
    """Graphs for each cell asked for, before the generator counts as out of new ones."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.num_generated <= NasBench201Space().size():
            raise ValueError(
                f"num_generated is {self.num_generated}; it must lie in 1 to {NasBench201Space().size()}, all cells"
            )
        for name in ("draws_per_batch", "graphs_per_draw", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """Distinct cells, and the counts of how they came about.

    Attributes:
        cells: in the order in which they first came.
        num_graphs: graphs that were grown until the last of them had come, whole batches.
        num_valid: of these, graphs of cells.
        num_canonical: of these, graphs with exactly the edges that every cell's graph has.
        num_distinct: distinct cells among the valid graphs; some of the last batch may not be in `cells`.
    """

    cells: list[Cell]
    num_graphs: int
    num_valid: int
    num_canonical: int
    num_distinct: int

    @property
    def validity(self) -> float:
        """Share of the graphs that are cells."""
        return self.num_valid / self.num_graphs

    @property
    def canonical(self) -> float:
        """Share of the graphs with the edges of a cell's graph; validity does not ask for them."""
        return self.num_canonical / self.num_graphs

    @property
    def uniqueness(self) -> float:
        """Distinct cells for each valid graph; it falls with the number of graphs."""
        return self.num_distinct / self.num_valid

    @property
    def num_classes(self) -> int:
        """Different functions among the cells, as the benchmark's canonical text tells them."""
        return len({canonical_text(cell) for cell in self.cells})

    def novelty(self, known: Tensor) -> float:
        """Share of the cells that are not among (M,) positions of known ones."""
        return float((~torch.isin(positions(self.cells), known)).float().mean())


@torch.no_grad()
def generate(model: Generator, draw: DrawSets, plan: Generation, random: torch.Generator) -> Generated:
    """Grow graphs until so many distinct cells have come.

    Args:
        model: in eval mode.
        draw: features of the dataset's images, on the model's device.
        plan: how many, in which batches.
        random: of draws and graphs, on the CPU.

    Raises:
        RuntimeError: the generator brings too few valid or new cells; the message says which.
    """
    space = NasBench201Space()
    found: dict[Cell, None] = {}
    num_graphs = num_valid = num_canonical = 0
    while len(found) < plan.num_generated:
        if num_graphs >= plan.patience * plan.num_generated:
            raise RuntimeError(
                f"only {len(found)} distinct cells came in {num_graphs:,} graphs, {num_valid / num_graphs:.0%} of them "
                f"valid, and {plan.num_generated} were asked for: ask for fewer (--generation.num-generated "
                f"{max(1, len(found))}) or meta-train the generator longer"
            )
        mean, _ = model.latent(draw(plan.draws_per_batch, random))
        graphs = model.decoder.sample(mean.repeat_interleave(plan.graphs_per_draw, 0), random)
        cells = [cell for cell in space.from_graphs(graphs) if cell is not None]
        num_graphs += len(graphs)
        num_valid += len(cells)
        num_canonical += int(canonical_edges(graphs).sum())
        found.update(dict.fromkeys(cells))
    return Generated(
        cells=list(found)[: plan.num_generated],
        num_graphs=num_graphs,
        num_valid=num_valid,
        num_canonical=num_canonical,
        num_distinct=len(found),
    )
