"""The bidirectional graph encoder.

Source: Zhang et al., "D-VAE: A Variational Autoencoder for Directed Acyclic Graphs", NeurIPS 2019, section 3.1; Lee et
al., "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets", ICLR 2021, released code.
"""

import torch
from torch import Tensor, nn

from common.graphs.batch import DagBatch
from common.graphs.state import START, GraphSizes, VertexUpdate


class GraphEncoder(nn.Module):
    """One vector of a graph: its last vertex's state going forward, and its first one's going backward, mixed linearly.

    Args:
        sizes: of the graphs and of the states.
    """

    def __init__(self, sizes: GraphSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.ahead = VertexUpdate(sizes)
        self.back = VertexUpdate(sizes)
        self.unify = nn.Linear(2 * sizes.hidden_dim, sizes.hidden_dim)

    def forward(self, graphs: DagBatch) -> Tensor:
        """Encode graphs, a row depending on no other: B graphs -> (B, hidden_dim).

        Raises:
            ValueError: the graphs are padded to another length than `sizes.max_nodes`.
        """
        self.sizes.check(graphs)
        types = graphs.types.where(graphs.is_node(), START)  # padding has edges to nowhere, so its states are not read
        ahead, _ = self.ahead.along(types, graphs.adjacency)
        back, _ = self.back.along(types, graphs.adjacency, reverse=True)
        last = (graphs.num_nodes - 1)[:, None, None].expand(-1, 1, self.sizes.hidden_dim)
        ends = torch.stack(ahead, 1).gather(1, last)[:, 0]
        vector: Tensor = self.unify(torch.cat([ends, back[-1]], 1))
        return vector
