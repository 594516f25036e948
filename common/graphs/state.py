"""The one rule by which vertices of a graph get their states, in the encoder and in the decoder.

Source: Zhang et al., "D-VAE: A Variational Autoencoder for Directed Acyclic Graphs", NeurIPS 2019, section 3.1.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.graphs.batch import DagBatch

START, END = 0, 1
"""Types of the first and of the last vertex of every graph."""


@dataclass(frozen=True, kw_only=True)
class GraphSizes:
    """Sizes of graphs and of the states that their vertices get.

    Attributes:
        num_types: vertex types, `START` and `END` among them; released name nvt.
        max_nodes: N, to which all graphs are padded.
        hidden_dim: width of a vertex's state; released name hs.

    Raises:
        ValueError: there are fewer than three types or two vertices, or the width is not positive.
    """

    num_types: int
    max_nodes: int
    hidden_dim: int

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name, least in (("num_types", 3), ("max_nodes", 2), ("hidden_dim", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"graph {name} is {getattr(self, name)}; it must be at least {least}")

    def check(self, graphs: DagBatch) -> None:
        """Refuse graphs that are padded to another length; see `DagBatch.check` for their contents.

        Raises:
            ValueError: as said.
        """
        if graphs.max_nodes != self.max_nodes:
            raise ValueError(
                f"graphs are padded to {graphs.max_nodes} vertices and the model is built for {self.max_nodes}: "
                "they belong to different search spaces"
            )


class VertexUpdate(nn.Module):
    """A gated sum over the predecessors, then a gated recurrent unit.

    m(u) = sigmoid(W_g [h_u ; id_u] + b_g) * (W_m [h_u ; id_u]) and h_v = GRU(type_v, sum of m(u) over edges u -> v),
    with id_u one-hot in the position of u. A message depends on its vertex alone: it is made once for all successors.
    """

    def __init__(self, sizes: GraphSizes) -> None:
        super().__init__()
        width = sizes.hidden_dim + sizes.max_nodes
        self.hidden_dim = sizes.hidden_dim
        self.cell = nn.GRUCell(sizes.num_types, sizes.hidden_dim)
        self.message = nn.Linear(width, 2 * sizes.hidden_dim, bias=False)  # the gate's rows, then the mapper's
        self.gate_bias = nn.Parameter(torch.empty(sizes.hidden_dim).uniform_(-1, 1) / math.sqrt(width))

    def of_types(self, types: Tensor) -> Tensor:
        """What their types add to the three gates of vertices: (...) int64 -> (..., 3h)."""
        return functional.embedding(types, (self.cell.weight_ih.T + self.cell.bias_ih).contiguous())

    def gates(self, hidden: Tensor) -> Tensor:
        """What hidden inputs add to the three gates: (..., h) -> (..., 3h)."""
        return functional.linear(hidden, self.cell.weight_hh, self.cell.bias_hh)

    def state(self, of_types: Tensor, gates: Tensor, hidden: Tensor) -> Tensor:
        """States by the gated recurrent unit, from both parts of its gates (..., 3h) and its input (..., h)."""
        both = 2 * self.hidden_dim
        reset, update = (of_types[..., :both] + gates[..., :both]).sigmoid().chunk(2, -1)
        new = torch.addcmul(of_types[..., both:], reset, gates[..., both:]).tanh()
        return torch.lerp(new, hidden.to(new.dtype), update)  # of two types under autocast

    def positions(self) -> Tensor:
        """What its position adds to a vertex's gate and mapper: (N, 2h)."""
        return self.message.weight[:, self.hidden_dim :].T + functional.pad(self.gate_bias, (0, self.hidden_dim))

    def messages(self, states: Tensor, position: Tensor) -> Tensor:
        """Messages (..., h) of vertices: their states (..., h), and what their position adds (2h,)."""
        gate, mapped = functional.linear(states, self.message.weight[:, : self.hidden_dim], position).chunk(2, -1)
        return gate.sigmoid() * mapped

    def along(
        self, types: Tensor, adjacency: Tensor, first: Tensor | None = None, *, reverse: bool = False
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Go through the vertices of all graphs together, in topological order.

        Args:
            types: (B, N) int64.
            adjacency: (B, N, N) bool, [b, u, v] an edge u -> v with u < v.
            first: (B, h) hidden input of the first vertex; None stands for zeros.
            reverse: go from the last vertex to the first, with successors in the place of predecessors.

        Returns:
            In the order of going, (B, h) states of all vertices, and (B, h) messages of all but the last one.
        """
        order = list(range(types.shape[1]))[:: -1 if reverse else 1]
        of_types, positions = self.of_types(types), self.positions()
        edges = (adjacency.mT if reverse else adjacency).to(of_types.dtype)
        hidden = of_types.new_zeros(len(types), self.hidden_dim) if first is None else first
        gates = self.cell.bias_hh.expand(len(types), -1) if first is None else self.gates(first)
        states = [self.state(of_types[:, order[0]], gates, hidden)]
        messages: list[Tensor] = []
        for step, vertex in enumerate(order[1:], 1):
            messages.append(self.messages(states[-1], positions[order[step - 1]]))
            incoming = edges[:, None, order[:step], vertex]  # (B, 1, step)
            hidden = torch.bmm(incoming, torch.stack(messages, 1))[:, 0]
            states.append(self.state(of_types[:, vertex], self.gates(hidden), hidden))
        return states, messages
