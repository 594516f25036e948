"""Labelled directed acyclic graphs as tensors."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DagBatch:
    """Graphs whose vertices stand in topological order, padded to one length.

    Attributes:
        types: (B, N) int64, type of each vertex; what stands beyond a graph's last vertex has no meaning.
        adjacency: (B, N, N) bool, strictly upper triangular: [b, u, v] is an edge u -> v.
        num_nodes: (B,) int64, vertices of each graph, 1 to N.

    Raises:
        ValueError: shapes or dtypes do not fit together.
    """

    types: Tensor
    adjacency: Tensor
    num_nodes: Tensor

    def __post_init__(self) -> None:
        """Check the shapes, which costs nothing; contents are checked by `check`."""
        batch, length = self.types.shape if self.types.ndim == 2 else (-1, -1)
        if self.adjacency.shape != (batch, length, length) or self.num_nodes.shape != (batch,):
            raise ValueError(
                f"types {tuple(self.types.shape)}, adjacency {tuple(self.adjacency.shape)} and num_nodes "
                f"{tuple(self.num_nodes.shape)} are needed as (B, N), (B, N, N) and (B,)"
            )
        if self.types.dtype != torch.int64 or self.adjacency.dtype != torch.bool or self.num_nodes.dtype != torch.int64:
            raise ValueError("types and num_nodes are needed as int64, adjacency as bool")

    def __len__(self) -> int:
        return len(self.types)

    def __getitem__(self, rows: Tensor | slice) -> Self:
        """The graphs at these rows: indices, a mask or a slice."""
        return type(self)(self.types[rows], self.adjacency[rows], self.num_nodes[rows])

    @property
    def max_nodes(self) -> int:
        """N, the padded length."""
        return self.types.shape[1]

    def to(self, device: torch.device) -> Self:
        """The same graphs on a device."""
        return type(self)(self.types.to(device), self.adjacency.to(device), self.num_nodes.to(device))

    def is_node(self) -> Tensor:
        """(B, N) bool: where a vertex is and not padding."""
        return torch.arange(self.max_nodes, device=self.types.device) < self.num_nodes[:, None]

    def check(self, num_types: int) -> Self:
        """Return the batch if its contents make sense.

        Raises:
            ValueError: a type outside [0, num_types), an edge that does not point forward or touches padding, or a
                number of vertices outside 1 to N; the message names the first such graph.
        """
        nodes = self.is_node()
        pairs = nodes[:, :, None] & nodes[:, None, :]
        wrong = {
            f"has a type outside 0 to {num_types - 1}": ((self.types < 0) | (self.types >= num_types)) & nodes,
            "has an edge that does not point forward": self.adjacency.tril(),
            "has an edge at a vertex that it lacks": self.adjacency & ~pairs,
            f"has not 1 to {self.max_nodes} vertices": (self.num_nodes < 1) | (self.num_nodes > self.max_nodes),
        }
        for what, where in wrong.items():
            rows = where.flatten(1).any(1) if where.ndim > 1 else where
            if bool(rows.any()):
                raise ValueError(f"graph {int(rows.nonzero()[0])} {what}")
        return self
