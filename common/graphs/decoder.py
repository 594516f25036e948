"""The autoregressive graph decoder: the likelihood of given graphs, and graphs grown vertex by vertex.

Source: Zhang et al., "D-VAE: A Variational Autoencoder for Directed Acyclic Graphs", NeurIPS 2019, section 3.2; Lee et
al., "Rapid Neural Architecture Search by Learning to Generate Graphs from Datasets", ICLR 2021, released code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.graphs.batch import DagBatch
from common.graphs.state import END, START, GraphSizes, VertexUpdate


class GraphDecoder(nn.Module):
    """Turns latent vectors into labelled directed acyclic graphs.

    A vertex gets its type from the state of the vertex before it, then its incoming edges, from the nearest vertex back
    to the first one; each edge changes the state of the vertex, and the next edge is decided from that.

    Args:
        sizes: of the graphs and of the states.
        latent_dim: width of the latent vectors.
    """

    sources: Tensor
    targets: Tensor
    nearer: Tensor

    def __init__(self, sizes: GraphSizes, latent_dim: int) -> None:
        super().__init__()
        self.sizes = sizes
        hidden = sizes.hidden_dim
        self.start = nn.Linear(latent_dim, hidden)
        self.update = VertexUpdate(sizes)
        self.type_head = nn.Sequential(nn.Linear(hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, sizes.num_types))
        self.edge_hidden = nn.Linear(2 * hidden, 4 * hidden)  # of [source ; new vertex]
        self.edge_output = nn.Linear(4 * hidden, 1)
        targets, sources = torch.tril_indices(sizes.max_nodes, sizes.max_nodes, -1)
        self.register_buffer("sources", sources, persistent=False)  # (P,) of all pairs u < v, in the order of v, then u
        self.register_buffer("targets", targets, persistent=False)
        nearer = torch.arange(sizes.max_nodes - 1) > sources[:, None]
        self.register_buffer("nearer", nearer, persistent=False)  # (P, N - 1): vertices between u and v, and beyond

    def loss(self, latent: Tensor, graphs: DagBatch) -> Tensor:
        """Negative log-likelihood of graphs, the sum of both parts of `loss_parts`: (B,) in nats."""
        of_types, of_edges = self.loss_parts(latent, graphs)
        return of_types.sum(1) + of_edges.sum(1)

    def loss_parts(self, latent: Tensor, graphs: DagBatch) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood of every decision about graphs, each given the true decisions before it.

        A vertex that a graph lacks counts as one of type `START` without edges, whose state is zero and which leaves
        the type to be told from the last vertex that is there. Edges into `END` count, though `sample` has a
        rule for them.

        Args:
            latent: (B, latent_dim).
            graphs: B graphs whose first vertex is `START`.

        Returns:
            (B, N - 1) of the types of vertices 1 to N - 1, and (B, P) of the edges u -> v of all pairs u < v, in the
            order of v, then u; in nats.

        Raises:
            ValueError: the graphs are padded to another length than `sizes.max_nodes`, or as many latent vectors as
                graphs are not given.
        """
        self.sizes.check(graphs)
        if len(latent) != len(graphs):
            raise ValueError(
                f"{len(latent)} latent vectors and {len(graphs)} graphs: one vector for each graph is needed"
            )
        nodes = graphs.is_node()
        types = graphs.types.where(nodes, START)
        states, messages = self.update.along(types, graphs.adjacency, self.start(latent).tanh())
        known = torch.stack(states[:-1], 1) * nodes[:, :-1, None]  # (B, N - 1, h)
        of_types = self._type_loss(known, types, graphs.num_nodes)

        # all partial states of all vertices at once: what differs is the sum of messages over the edges decided so far
        decided = graphs.adjacency[:, :-1].mT[:, self.targets] & self.nearer  # (B, P, N - 1)
        hidden = torch.bmm(decided.to(known.dtype), torch.stack(messages, 1))
        partial = self.update.state(self.update.of_types(types[:, self.targets]), self.update.gates(hidden), hidden)
        of_sources = self._edge_hidden_of_sources(known).index_select(1, self.sources)
        logits = self._edge_logits(of_sources, partial * nodes[:, self.targets, None])
        edges = graphs.adjacency[:, self.sources, self.targets].to(logits.dtype)
        return of_types, functional.binary_cross_entropy_with_logits(logits, edges, reduction="none")

    def _type_loss(self, states: Tensor, types: Tensor, num_nodes: Tensor) -> Tensor:
        """(B, N - 1) of the vertices after each of N - 1 states, or after the last one that is there."""
        logits = self.type_head(states)
        last = torch.minimum(torch.arange(logits.shape[1], device=types.device), num_nodes[:, None] - 1)
        logits = logits.gather(1, last[..., None].expand_as(logits))
        return functional.cross_entropy(logits.transpose(1, 2), types[:, 1:], reduction="none")

    def _edge_hidden_of_sources(self, states: Tensor) -> Tensor:
        """What source vertices add to the hidden layer of edges, the same for all their edges."""
        hidden = self.sizes.hidden_dim
        return functional.linear(states, self.edge_hidden.weight[:, :hidden], self.edge_hidden.bias)

    def _edge_logits(self, of_sources: Tensor, states: Tensor) -> Tensor:
        of_targets = functional.linear(states, self.edge_hidden.weight[:, self.sizes.hidden_dim :])
        logits: Tensor = self.edge_output((of_sources + of_targets).relu())[..., 0]
        return logits

    def sample(self, latent: Tensor, generator: torch.Generator) -> DagBatch:
        """Draw one graph from each latent vector.

        Each graph takes its own row of the numbers drawn: the graphs of a batch are those of its parts drawn one after
        the other, on any device, up to rounding.

        Args:
            latent: (B, latent_dim).
            generator: on the CPU, for reproducible draws whatever the device.
        """
        decided = self.sizes.max_nodes - 2  # START is given and the last vertex is END
        uniforms = torch.rand(len(latent), decided + decided * (decided + 1) // 2, generator=generator)
        return self._grow(latent, uniforms.to(latent.device))

    def decode(self, latent: Tensor) -> DagBatch:
        """The graph of every latent vector that takes the likeliest type and each edge likelier than not."""
        return self._grow(latent, None)

    @torch.no_grad()
    def _grow(self, latent: Tensor, uniforms: Tensor | None) -> DagBatch:
        size, length, device = len(latent), self.sizes.max_nodes, latent.device
        types = torch.full((size, length), START, device=device)
        adjacency = torch.zeros(size, length, length, dtype=torch.bool, device=device)
        num_nodes = torch.full((size,), length, device=device)
        is_growing = torch.ones(size, dtype=torch.bool, device=device)
        hidden, positions = self.start(latent).tanh(), self.update.positions()
        state = self.update.state(self.update.of_types(types[:, 0]), self.update.gates(hidden), hidden)
        before: list[tuple[Tensor, Tensor]] = []
        for vertex in range(1, length):
            is_last = vertex == length - 1
            kind = torch.full_like(num_nodes, END) if is_last else self._pick_types(state, vertex, uniforms)
            is_end = is_growing & (kind == END)
            is_growing = is_growing & ~is_end
            types[:, vertex] = kind.where(is_growing | is_end, START)
            num_nodes = num_nodes.where(~is_end, vertex + 1)
            adjacency[:, :vertex, vertex] = is_end[:, None] & ~adjacency[:, :vertex].any(2)
            if not is_last:
                before.append(self._as_source(state, positions[vertex - 1]))
                state, edges = self._pick_edges(kind, before, uniforms)
                adjacency[:, :vertex, vertex] |= edges & is_growing[:, None]
        return DagBatch(types, adjacency, num_nodes)

    def _pick_types(self, states: Tensor, vertex: int, uniforms: Tensor | None) -> Tensor:
        logits = self.type_head(states)
        if uniforms is None:
            best: Tensor = logits.argmax(1)
            return best
        passed = logits.softmax(1).cumsum(1) <= uniforms[:, vertex - 1, None]
        kinds: Tensor = passed.sum(1).clamp(max=self.sizes.num_types - 1)  # rounding can leave the sum below 1
        return kinds

    def _as_source(self, state: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """What an edge from a vertex adds to gates and hidden input (B, 4h), and its share of edges' hidden layers."""
        message = self.update.messages(state, position)
        gates = functional.linear(message, self.update.cell.weight_hh)
        return torch.cat([gates, message], 1), self._edge_hidden_of_sources(state)

    def _pick_edges(
        self, kind: Tensor, before: list[tuple[Tensor, Tensor]], uniforms: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """States (B, h) of new vertices of types (B,) with their edges, and from which vertices these come, (B, v)."""
        vertex, hidden = len(before), self.sizes.hidden_dim
        first = self.sizes.max_nodes - 2 + vertex * (vertex - 1) // 2  # the vertex's place among the draws
        of_types = self.update.of_types(kind)
        incoming = functional.pad(self.update.cell.bias_hh, (0, hidden)).expand(len(kind), -1)
        state = self.update.state(of_types, incoming[:, : 3 * hidden], incoming[:, 3 * hidden :])
        edges = torch.empty(len(kind), vertex, dtype=torch.bool, device=kind.device)
        for source in reversed(range(vertex)):
            adds, of_source = before[source]
            logits = self._edge_logits(of_source, state)
            edges[:, source] = logits > 0 if uniforms is None else logits.sigmoid() > uniforms[:, first + source]
            incoming = torch.addcmul(incoming, adds, edges[:, source, None].to(adds.dtype))
            state = self.update.state(of_types, incoming[:, : 3 * hidden], incoming[:, 3 * hidden :])
        return state, edges
