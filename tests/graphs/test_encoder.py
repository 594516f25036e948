"""The graph encoder: a graph's vector depends on its own vertices and edges, on all of them, and on nothing else."""

import pytest
import torch

from common.graphs import DagBatch, GraphEncoder, GraphSizes

SIZES = GraphSizes(num_types=7, max_nodes=8, hidden_dim=24)


def random_graphs(num: int, seed: int = 0) -> DagBatch:
    random = torch.Generator().manual_seed(seed)
    types = torch.randint(2, 7, (num, 8), generator=random)
    types[:, 0], types[:, -1] = 0, 1
    adjacency = (torch.rand(num, 8, 8, generator=random) < 0.4).triu(1)
    adjacency[:, torch.arange(7), torch.arange(1, 8)] = True  # the path makes every vertex matter
    return DagBatch(types, adjacency, torch.full((num,), 8))


def shortened(graphs: DagBatch, num_nodes: int) -> DagBatch:
    """The same graphs without their last vertices."""
    adjacency = graphs.adjacency.clone()
    adjacency[:, :, num_nodes:] = False
    return DagBatch(graphs.types, adjacency, torch.full_like(graphs.num_nodes, num_nodes))


@pytest.fixture
def encoder() -> GraphEncoder:
    torch.manual_seed(0)
    return GraphEncoder(SIZES).requires_grad_(False)


def test_a_batch_gives_what_each_graph_gives_alone(encoder: GraphEncoder) -> None:
    graphs = random_graphs(9)
    together = encoder(graphs)
    alone = torch.cat([encoder(graphs[slice(row, row + 1)]) for row in range(9)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    assert encoder(graphs[slice(0, 0)]).shape == (0, 24)


def test_padding_has_no_say(encoder: GraphEncoder) -> None:
    graphs = shortened(random_graphs(6), 5)
    expected = encoder(graphs)
    relabelled = DagBatch(graphs.types.clone(), graphs.adjacency, graphs.num_nodes)
    relabelled.types[:, 5:] = -99  # what stands there has no meaning, not even that of a type
    torch.testing.assert_close(encoder(relabelled), expected, rtol=0, atol=0)
    small = GraphEncoder(GraphSizes(num_types=7, max_nodes=5, hidden_dim=24))
    weights = encoder.state_dict()
    small.load_state_dict({n: w[:, : 24 + 5] if n.endswith("message.weight") else w for n, w in weights.items()})
    cut = DagBatch(graphs.types[:, :5], graphs.adjacency[:, :5, :5], graphs.num_nodes)
    torch.testing.assert_close(small(cut).detach(), expected, rtol=0, atol=1e-6)


def test_every_vertex_and_every_edge_has_a_say(encoder: GraphEncoder) -> None:
    graphs = random_graphs(1)
    before = encoder(graphs)
    for vertex in range(1, 7):
        types = graphs.types.clone()
        types[0, vertex] = 2 + (types[0, vertex] - 1) % 5
        assert (encoder(DagBatch(types, graphs.adjacency, graphs.num_nodes)) - before).abs().max() > 1e-6
    for source, target in torch.triu_indices(8, 8, 1).T.tolist():
        adjacency = graphs.adjacency.clone()
        adjacency[0, source, target] ^= True
        assert (encoder(DagBatch(graphs.types, adjacency, graphs.num_nodes)) - before).abs().max() > 1e-6


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    encoder = GraphEncoder(SIZES)
    encoder(random_graphs(8)).square().sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in encoder.parameters())


def test_graphs_of_another_length_are_refused(encoder: GraphEncoder) -> None:
    graphs = random_graphs(2)
    cut = DagBatch(graphs.types[:, :5], graphs.adjacency[:, :5, :5], torch.full((2,), 5))
    with pytest.raises(ValueError, match="padded to 5 vertices and the model is built for 8"):
        encoder(cut)


@pytest.mark.parametrize(("name", "value"), [("num_types", 2), ("max_nodes", 1), ("hidden_dim", 0)])
def test_sizes_that_no_graph_has_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"graph {name} is {value}; it must be at least"):
        GraphSizes(**({"num_types": 7, "max_nodes": 8, "hidden_dim": 4} | {name: value}))
