"""Batched encoder, loss and sampling against code that takes one graph and one edge at a time."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from common.graphs import END, START, DagBatch, GraphDecoder, GraphEncoder, GraphSizes
from common.graphs.state import VertexUpdate

SIZES = [
    GraphSizes(num_types=7, max_nodes=8, hidden_dim=12),
    GraphSizes(num_types=5, max_nodes=6, hidden_dim=7),
    GraphSizes(num_types=3, max_nodes=2, hidden_dim=4),
]


def stirred(module: nn.Module, scale: float = 1.5) -> nn.Module:
    """Weights large enough that every decision depends on what came before it."""
    random = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(scale * torch.randn(weight.shape, generator=random) / max(1, weight.shape[-1]) ** 0.5)
    return module.double()


def random_graphs(sizes: GraphSizes, num: int, seed: int = 0) -> DagBatch:
    """Arbitrary edges between vertices in order, and of the later graphs fewer vertices than N."""
    random = torch.Generator().manual_seed(seed)
    types = torch.randint(0, sizes.num_types, (num, sizes.max_nodes), generator=random)
    types[:, 0] = START
    num_nodes = torch.randint(1, sizes.max_nodes + 1, (num,), generator=random)
    num_nodes[: num // 2] = sizes.max_nodes
    edges = torch.rand(num, sizes.max_nodes, sizes.max_nodes, generator=random) < 0.5
    inside = torch.arange(sizes.max_nodes) < num_nodes[:, None]
    return DagBatch(types, edges.triu(1) & inside[:, None] & inside[:, :, None], num_nodes).check(sizes.num_types)


class PlainUpdate:
    """The state update as written in the papers, for one vertex, over the weights of one of ours."""

    def __init__(self, ours: VertexUpdate) -> None:
        self.cell, self.width = ours.cell, ours.hidden_dim
        self.gate, self.mapper = ours.message.weight.chunk(2)
        self.gate_bias = ours.gate_bias

    def message(self, state: Tensor, position: int) -> Tensor:
        onehot = torch.zeros(self.gate.shape[1] - self.width, dtype=state.dtype)
        onehot[position] = 1
        known = torch.cat([state, onehot])
        return torch.sigmoid(self.gate @ known + self.gate_bias) * (self.mapper @ known)

    def state(self, kind: int, hidden: Tensor) -> Tensor:
        onehot = torch.zeros(self.cell.input_size, dtype=hidden.dtype)
        onehot[kind] = 1
        r_in, z_in, n_in = (self.cell.weight_ih @ onehot + self.cell.bias_ih).chunk(3)
        r_hid, z_hid, n_hid = (self.cell.weight_hh @ hidden + self.cell.bias_hh).chunk(3)
        r, z = torch.sigmoid(r_in + r_hid), torch.sigmoid(z_in + z_hid)
        return (1 - z) * torch.tanh(n_in + r * n_hid) + z * hidden

    def joined(self, kind: int, states: Sequence[Tensor], positions: Sequence[int]) -> Tensor:
        """State of a vertex with these predecessors."""
        hidden = torch.zeros(self.width, dtype=self.gate.dtype)
        for state, position in zip(states, positions, strict=True):
            hidden = hidden + self.message(state, position)
        return self.state(kind, hidden)


def plain_vector(encoder: GraphEncoder, types: list[int], edges: list[list[bool]]) -> Tensor:
    num = len(types)
    ahead, back = PlainUpdate(encoder.ahead), PlainUpdate(encoder.back)
    forward: dict[int, Tensor] = {}
    for v in range(num):
        before = [u for u in range(v) if edges[u][v]]
        forward[v] = ahead.joined(types[v], [forward[u] for u in before], before)
    backward: dict[int, Tensor] = {}
    for v in reversed(range(num)):
        after = [w for w in range(v + 1, num) if edges[v][w]]
        backward[v] = back.joined(types[v], [backward[w] for w in after], after)
    return encoder.unify(torch.cat([forward[num - 1], backward[0]]))  # type: ignore[no-any-return]


def edge_probability(decoder: GraphDecoder, source: Tensor, new: Tensor) -> Tensor:
    return torch.sigmoid(decoder.edge_output(decoder.edge_hidden(torch.cat([source, new])).relu()))[0]


def plain_loss(
    decoder: GraphDecoder, latent: Tensor, types: list[int], edges: list[list[bool]]
) -> tuple[Tensor, Tensor]:
    """Nats of all types and of all edges of one graph."""
    update, length = PlainUpdate(decoder.update), decoder.sizes.max_nodes
    nothing = torch.zeros(decoder.sizes.hidden_dim, dtype=latent.dtype)
    states = [update.state(START, torch.tanh(decoder.start(latent)))]
    of_types, of_edges = latent.new_zeros(()), latent.new_zeros(())
    for v in range(1, length):
        kind = types[v] if v < len(types) else START
        of_types = of_types - torch.log_softmax(decoder.type_head(states[-1]), 0)[kind]
        chosen: list[int] = []
        for u in reversed(range(v)):
            is_there = v < len(types)
            new = update.joined(kind, [states[w] for w in chosen], chosen) if is_there else nothing
            p = edge_probability(decoder, states[u] if u < len(types) else nothing, new)
            if is_there and edges[u][v]:
                chosen.append(u)
                of_edges = of_edges - p.log()
            else:
                of_edges = of_edges - (1 - p).log()
        if v < len(types):
            states.append(update.joined(kind, [states[w] for w in chosen], chosen))
    return of_types, of_edges


def plain_growth(
    decoder: GraphDecoder, latent: Tensor, uniforms: Tensor | None
) -> tuple[list[int], set[tuple[int, int]]]:
    """Types and edges of one graph; numbers are taken in the order types, then edges by (v, u)."""
    update, length = PlainUpdate(decoder.update), decoder.sizes.max_nodes
    types, edges = [START], set[tuple[int, int]]()
    states = [update.state(START, torch.tanh(decoder.start(latent)))]
    for v in range(1, length):
        probabilities = torch.softmax(decoder.type_head(states[-1]), 0)
        if v == length - 1:
            kind = END
        elif uniforms is None:
            kind = int(probabilities.argmax())
        else:
            kind = next(k for k in range(len(probabilities)) if probabilities[: k + 1].sum() > uniforms[v - 1])
        types.append(kind)
        if kind == END:
            return types, edges | {(u, v) for u in range(v) if all(source != u for source, _ in edges)}
        chosen: list[int] = []
        for u in reversed(range(v)):
            p = edge_probability(decoder, states[u], update.joined(kind, [states[w] for w in chosen], chosen))
            if p > (0.5 if uniforms is None else uniforms[length - 2 + v * (v - 1) // 2 + u]):
                chosen.append(u)
        edges |= {(u, v) for u in chosen}
        states.append(update.joined(kind, [states[w] for w in chosen], chosen))
    raise AssertionError("the last vertex is END")


def one(graphs: DagBatch, row: int) -> tuple[list[int], list[list[bool]]]:
    num = int(graphs.num_nodes[row])
    return graphs.types[row, :num].tolist(), graphs.adjacency[row, :num, :num].tolist()


@pytest.mark.parametrize("sizes", SIZES)
def test_a_graph_s_vector_is_that_of_plain_code(sizes: GraphSizes) -> None:
    encoder, graphs = stirred(GraphEncoder(sizes)), random_graphs(sizes, 12)
    with torch.no_grad():
        expected = torch.stack([plain_vector(encoder, *one(graphs, row)) for row in range(len(graphs))])  # type: ignore[arg-type]
        torch.testing.assert_close(encoder(graphs), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_both_parts_of_the_loss_are_those_of_plain_code(sizes: GraphSizes) -> None:
    decoder = stirred(GraphDecoder(sizes, 5))
    assert isinstance(decoder, GraphDecoder)
    graphs = random_graphs(sizes, 12)
    latent = torch.randn(len(graphs), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        of_types, of_edges = decoder.loss_parts(latent, graphs)
        for row in range(len(graphs)):
            expected_types, expected_edges = plain_loss(decoder, latent[row], *one(graphs, row))
            torch.testing.assert_close(of_types[row].sum(), expected_types, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(of_edges[row].sum(), expected_edges, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(decoder.loss(latent, graphs), of_types.sum(1) + of_edges.sum(1))


def test_the_loss_has_the_gradients_of_plain_code() -> None:
    decoder = stirred(GraphDecoder(SIZES[1], 5))
    assert isinstance(decoder, GraphDecoder)
    graphs, weights = random_graphs(SIZES[1], 4), list(decoder.parameters())
    latent = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = [sum(plain_loss(decoder, latent[row], *one(graphs, row))) for row in range(4)]
    expected = torch.autograd.grad(torch.stack(plain).sum(), weights)  # type: ignore[arg-type]
    found = torch.autograd.grad(decoder.loss(latent, graphs).sum(), weights)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("is_drawn", [True, False])
def test_the_same_graphs_grow_from_the_same_numbers_as_by_plain_code(sizes: GraphSizes, is_drawn: bool) -> None:
    decoder = stirred(GraphDecoder(sizes, 5))
    assert isinstance(decoder, GraphDecoder)
    latent = 2 * torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    decided = sizes.max_nodes - 2
    uniforms = torch.rand(24, decided + decided * (decided + 1) // 2, generator=torch.Generator().manual_seed(3))
    found = decoder.sample(latent, torch.Generator().manual_seed(3)) if is_drawn else decoder.decode(latent)
    found.check(sizes.num_types)
    with torch.no_grad():
        for row in range(len(latent)):
            types, edges = plain_growth(decoder, latent[row], uniforms[row] if is_drawn else None)
            assert int(found.num_nodes[row]) == len(types)
            assert found.types[row].tolist() == types + [START] * (sizes.max_nodes - len(types))
            assert {(int(u), int(v)) for u, v in found.adjacency[row].nonzero()} == edges
    lengths = found.num_nodes.unique()
    assert sizes.max_nodes == 2 or len(lengths) > 1, "graphs that end early must be among them"
