"""The search spaces of MetaD2A, and what it needs of their architectures beyond what every space offers.

Source: Lee et al., ICLR 2021, released code (graphs of both spaces; novelty and distinct functions are counted here).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from common.graphs import DagBatch
from common.spaces import mobilenet_v3_codes as codes
from common.spaces import nasbench201
from common.spaces.mobilenet_v3 import MobileNetV3Space
from common.spaces.mobilenet_v3_arch import DEPTHS, EXPANSIONS, KERNELS, NUM_BLOCKS, NUM_STAGES, MobileNetV3Arch
from common.spaces.nasbench201 import EDGES, OPERATIONS, Cell, NasBench201Space
from common.spaces.nasbench201_classes import canonical_edges, canonical_text
from common.spaces.sampling import within_bounds

Arch = Cell | MobileNetV3Arch
Space = NasBench201Space | MobileNetV3Space
SpaceName = Literal["nasbench201", "mobilenetv3"]
"""What `--space` takes."""
_KEY_MODULUS = (1 << 61) - 1  # a prime, so that neighbouring indices of a space of 2e19 stay apart


@dataclass(frozen=True, kw_only=True)
class View:
    """Architectures of a space as MetaD2A's models and files see them.

    Attributes:
        space: the space, with networks of any size: architectures do not depend on it.
        name: what `--space` calls it.
        word: what its architectures are called, in the plural.
        num_types: vertex types of its graphs, START and END among them.
        num_vertices: vertices of every graph.
        limits: (least, largest) of each number of a code.
        codes: architectures as whole numbers, (len, L) int64, for files.
        archs: the inverse.
        keys: (len,) int64, one number for each architecture, by which they are told apart.
        canonical: (B,) bool, graphs with exactly the edges that the graph of every architecture has.
        num_functions: how many different functions there are among architectures.
        smallest: the architecture that costs least.
    """

    space: Any
    name: SpaceName
    word: str
    num_types: int
    num_vertices: int
    limits: tuple[tuple[int, int], ...]
    codes: Callable[[Sequence[Any]], Tensor]
    archs: Callable[[Tensor], list[Any]]
    keys: Callable[[Sequence[Any]], Tensor]
    canonical: Callable[[DagBatch], Tensor]
    num_functions: Callable[[Sequence[Any]], int]
    smallest: Any


def view_of(space_name: str) -> View:
    """The view of the space that has this name.

    Raises:
        ValueError: it is the name of another space.
    """
    return VIEWS["mobilenetv3" if isinstance(space_of(space_name), MobileNetV3Space) else "nasbench201"]


def space_of(name: str) -> Any:
    """The space of a name such as `nasbench201-16x5` or `mobilenet_v3-w0.35-stride1`.

    Raises:
        ValueError: it is the name of another space.
    """
    cells = re.fullmatch(r"nasbench201-(\d+)x(\d+)", name)
    if cells is not None:
        return NasBench201Space(channels=int(cells[1]), cells_per_stage=int(cells[2]))
    blocks = re.fullmatch(r"mobilenet_v3-w(\d+(?:\.\d+)?)(-stride1)?", name)
    if blocks is not None:
        return MobileNetV3Space(width_mult=float(blocks[1]), first_stride=1 if blocks[2] else 2)
    raise ValueError(f"{name!r} is no space of NAS-Bench-201 cells or of MobileNetV3 networks")


def bounded(
    space: Any, num_classes: int, resolution: int, *, max_params: int | None, max_macs: int | None
) -> Callable[[Any], bool]:
    """The condition of a bounded search; see `common.spaces.within_bounds`.

    Raises:
        ValueError: a bound that is not positive, or that even the smallest network is beyond; the message names it.
    """
    accept = within_bounds(space, num_classes, resolution, max_params=max_params, max_macs=max_macs)
    smallest = view_of(space.name).smallest
    if not accept(smallest):
        cost = space.cost(smallest, num_classes, resolution)
        asked = ", ".join(
            f"{name} {bound:,}" for name, bound in (("max_params", max_params), ("max_macs", max_macs)) if bound
        )
        raise ValueError(
            f"no network of {space.name} is within {asked}: the smallest has {cost.num_params:,} parameters and "
            f"{cost.macs:,} MACs at {resolution} pixels; give a larger bound"
        )
    return accept


def _cell_codes(cells: Sequence[Cell]) -> Tensor:
    return torch.tensor([cell.operations for cell in cells], dtype=torch.int64).view(-1, len(EDGES))


def _cells_of(numbers: Tensor) -> list[Cell]:
    return [Cell(tuple(operations)) for operations in numbers.tolist()]


def _path_edges(graphs: DagBatch) -> Tensor:
    """(B,) bool: 22 vertices and exactly the edges of a path."""
    if graphs.max_nodes < codes.NUM_VERTICES:
        return graphs.adjacency.new_zeros(len(graphs))
    path = torch.zeros_like(graphs.adjacency[0]) if len(graphs) else graphs.adjacency.new_zeros(graphs.max_nodes)
    steps = torch.arange(codes.NUM_VERTICES - 1, device=graphs.adjacency.device)
    path[steps, steps + 1] = True
    return (graphs.num_nodes == codes.NUM_VERTICES) & (graphs.adjacency == path).flatten(1).all(1)


def _keys_of_blocks(archs: Sequence[MobileNetV3Arch]) -> Tensor:
    space = MobileNetV3Space()
    return torch.tensor([space.index(arch) % _KEY_MODULUS for arch in archs], dtype=torch.int64)


def _masked_topologies(archs: Sequence[MobileNetV3Arch]) -> Tensor:
    return codes.topologies_of(archs, is_masked=True)


VIEWS: dict[SpaceName, View] = {
    "nasbench201": View(
        space=NasBench201Space(),
        name="nasbench201",
        word="cells",
        num_types=nasbench201.NUM_TYPES,
        num_vertices=nasbench201.NUM_VERTICES,
        limits=((0, len(OPERATIONS) - 1),) * len(EDGES),
        codes=_cell_codes,
        archs=_cells_of,
        keys=nasbench201.positions,
        canonical=canonical_edges,
        num_functions=lambda cells: len({canonical_text(cell) for cell in cells}),
        smallest=Cell((0,) * len(EDGES)),
    ),
    "mobilenetv3": View(
        space=MobileNetV3Space(),
        name="mobilenetv3",
        word="networks",
        num_types=codes.NUM_TYPES,
        num_vertices=codes.NUM_VERTICES,
        limits=(
            ((0, KERNELS[-1]),) * NUM_BLOCKS
            + ((0, EXPANSIONS[-1]),) * NUM_BLOCKS
            + ((DEPTHS[0], DEPTHS[-1]),) * NUM_STAGES
        ),
        codes=_masked_topologies,
        archs=codes.archs_of_topologies,
        keys=_keys_of_blocks,
        canonical=_path_edges,
        num_functions=lambda archs: len({*archs}),
        smallest=MobileNetV3Space().smallest,
    ),
}
"""By what `--space` takes."""
