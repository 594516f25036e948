"""Whether graphs could be architectures at all, whatever the search space.

Source: Lee et al., "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets", ICLR 2021, released
code.
"""

from torch import Tensor

from common.graphs.batch import DagBatch
from common.graphs.state import END, START


def is_valid(graphs: DagBatch) -> Tensor:
    """Which graphs are whole: (B,) bool.

    They have all N vertices, exactly one of type `START` and one of type `END`, a predecessor of every vertex but
    `START` and a successor of every one but `END`. In topological order these two are then the first and the last
    vertex. What types a vertex in between may have is for the search space to say.
    """
    types = graphs.types
    is_start, is_end = types == START, types == END
    reached = graphs.adjacency.any(1) | is_start
    left = graphs.adjacency.any(2) | is_end
    one_of_each = (is_start.sum(1) == 1) & (is_end.sum(1) == 1)
    return one_of_each & reached.all(1) & left.all(1) & (graphs.num_nodes == graphs.max_nodes)
