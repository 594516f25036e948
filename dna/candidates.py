"""From rated cells to the groups that are searched, and from what was found back to networks.

Source: Li et al., CVPR 2020, searching for the best student under constraint.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dna.archs import NUM_STAGES, PAPER, Cell, DnaArch, Skeleton, path_ops
from dna.costs import LayerCosts, LayerShape, path_costs, stage_layers
from dna.traverse import Found, Group


@dataclass(frozen=True, eq=False)
class RatedCell:
    """A cell of a stage with the ratings of its paths.

    Attributes:
        cell: depth and width.
        losses: (6**L,) in path order; smaller is better.
    """

    cell: Cell
    losses: NDArray[np.float64]


def groups_of(
    rated: Sequence[Sequence[RatedCell]], costs_of: LayerCosts, resolution: int, skeleton: Skeleton = PAPER
) -> list[list[Group]]:
    """Groups of all stages, each cell after each width that the stage before may have.

    Args:
        rated: the cells of each of the six stages.
        costs_of: costs of a layer's ops, such as `counted("macs")` or `timed(table)`.
        resolution: height and width of the image in pixels.
        skeleton: of the networks.

    Raises:
        ValueError: a stage has no cell, or a cell not one rating for each path.
    """
    if len(rated) != NUM_STAGES or not all(rated):
        raise ValueError(f"{len(rated)} stages of {[len(cells) for cells in rated]} cells: all {NUM_STAGES} need one")
    stages, in_widths = [], [skeleton.first_width]
    for stage, cells in enumerate(rated):
        for entry in cells:
            if entry.losses.shape != (entry.cell.num_paths,):
                raise ValueError(
                    f"stage {stage}: ratings of shape {entry.losses.shape} for a cell of {entry.cell.num_layers} "
                    f"layers, which has {entry.cell.num_paths} paths: the file is of another cell"
                )
        stages.append(
            [
                Group(
                    losses=entry.losses,
                    costs=path_costs(stage_layers(stage, entry.cell, in_width, resolution, skeleton), costs_of),
                    cell=position,
                    in_width=in_width,
                    out_width=entry.cell.width,
                )
                for position, entry in enumerate(cells)
                for in_width in in_widths
            ]
        )
        in_widths = sorted({entry.cell.width for entry in cells})
    return stages


def layers_of(cells: Sequence[Sequence[Cell]], resolution: int, skeleton: Skeleton = PAPER) -> list[LayerShape]:
    """Every layer that networks of some cells can have, once, in the order of the stages.

    Args:
        cells: of each stage.
        resolution: height and width of the image in pixels.
        skeleton: of the networks.
    """
    found: dict[LayerShape, None] = {}
    in_widths = [skeleton.first_width]
    for stage, of_stage in enumerate(cells):
        for cell in of_stage:
            for in_width in in_widths:
                found |= dict.fromkeys(stage_layers(stage, cell, in_width, resolution, skeleton))
        in_widths = sorted({cell.width for cell in of_stage})
    return list(found)


def arch_of(found: Found, rated: Sequence[Sequence[RatedCell]]) -> DnaArch:
    """The network of an answer of the search."""
    cells = [rated[stage][cell].cell for stage, (cell, _) in enumerate(found.choices)]
    return DnaArch(
        ops=tuple(path_ops(path, cell.num_layers) for cell, (_, path) in zip(cells, found.choices, strict=True)),
        widths=tuple(cell.width for cell in cells),
    )
