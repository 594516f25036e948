"""Which NAS-Bench-201 cells compute something, which compute the same, and which graphs are those of cells.

Source: Dong and Yang, ICLR 2020, released code (canonical text).
"""

from functools import cache

from torch import Tensor

from common.graphs import DagBatch
from common.spaces.nasbench201 import NUM_VERTICES, Cell, graph_adjacency

_ZERO = "#"


def is_connected(cell: Cell) -> bool:
    """Whether a path without `none` leads from the input to the output: true for 15,284 of the 15,625 cells."""
    reached = {0}
    for source, target, operation in cell.edges:  # ordered by target, so a source is settled before it is asked for
        if source in reached and operation != "none":
            reached.add(target)
    return cell.edges[-1][1] in reached


@cache
def canonical_text(cell: Cell, *, zeros: bool = True) -> str:
    """An expression of the output; cells with equal ones compute the same function.

    An operation writes `(source)@operation`, `skip_connect` writes its source, and the sorted terms of a node are
    joined by `+`.

    Args:
        cell: the cell.
        zeros: write `#` for `none` and for every operation on a source that is `#` alone, which gives 6,466 classes;
            False takes `none` for an operation like any other, which gives 12,751. Neither finds all equal cells:
            `#+#` is not simplified.

    Source: Dong and Yang, ICLR 2020, released code.
    """
    terms: dict[int, list[str]] = {0: ["0"]}
    for source, target, operation in cell.edges:
        inner = "+".join(sorted(terms[source]))
        if zeros and (operation == "none" or inner == _ZERO):
            text = _ZERO
        else:
            text = inner if operation == "skip_connect" else f"({inner})@{operation}"
        terms.setdefault(target, []).append(text)
    return "+".join(sorted(terms[target]))


def canonical_edges(graphs: DagBatch) -> Tensor:
    """(B,) bool: whether a graph has eight vertices and exactly the edges that the graph of every cell has."""
    expected = graphs.adjacency.new_zeros(graphs.max_nodes, graphs.max_nodes)
    if graphs.max_nodes < NUM_VERTICES:
        return graphs.adjacency.new_zeros(len(graphs))
    expected[:NUM_VERTICES, :NUM_VERTICES] = graph_adjacency().to(expected.device)
    return (graphs.num_nodes == NUM_VERTICES) & (graphs.adjacency == expected).flatten(1).all(1)
