"""The graph decoder: its loss is a likelihood, its samples follow it, and no graph depends on its neighbours."""

from collections import Counter

import pytest
import torch
from torch import Tensor

from common.graphs import END, START, DagBatch, GraphDecoder, GraphSizes, is_valid

SIZES = GraphSizes(num_types=7, max_nodes=8, hidden_dim=56)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def path_graphs(sizes: GraphSizes, num: int) -> DagBatch:
    """Vertices in a row, random types between START and END."""
    types = torch.randint(2, sizes.num_types, (num, sizes.max_nodes), generator=draws())
    types[:, 0], types[:, -1] = START, END
    adjacency = torch.zeros(num, sizes.max_nodes, sizes.max_nodes, dtype=torch.bool)
    adjacency[:, torch.arange(sizes.max_nodes - 1), torch.arange(1, sizes.max_nodes)] = True
    return DagBatch(types, adjacency, torch.full((num,), sizes.max_nodes))


@pytest.fixture
def decoder() -> GraphDecoder:
    torch.manual_seed(0)
    return GraphDecoder(SIZES, 56)


@pytest.fixture
def latent() -> Tensor:
    return torch.randn(12, 56, generator=draws())


@pytest.mark.parametrize(("num_types", "max_nodes", "nats"), [(7, 8, 33.03), (29, 22, 230.8)])
def test_an_untrained_decoder_finds_all_graphs_about_equally_likely(
    num_types: int, max_nodes: int, nats: float
) -> None:
    torch.manual_seed(0)
    sizes = GraphSizes(num_types=num_types, max_nodes=max_nodes, hidden_dim=56)
    with torch.no_grad():
        found = GraphDecoder(sizes, 56).loss(0.1 * torch.randn(16, 56, generator=draws()), path_graphs(sizes, 16))
    assert float(found.mean()) == pytest.approx(nats, rel=0.1)


def test_the_loss_of_a_batch_is_that_of_its_graphs(decoder: GraphDecoder, latent: Tensor) -> None:
    graphs = path_graphs(SIZES, 12)
    with torch.no_grad():
        together = decoder.loss(latent, graphs)
        alone = torch.cat([decoder.loss(latent[i : i + 1], graphs[slice(i, i + 1)]) for i in range(12)])
        of_types, of_edges = decoder.loss_parts(latent, graphs)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    assert (of_types.shape, of_edges.shape) == ((12, 7), (12, 28))
    assert bool((of_types > 0).all() and (of_edges > 0).all())


def test_what_stands_in_padding_does_not_change_the_loss(decoder: GraphDecoder, latent: Tensor) -> None:
    graphs = path_graphs(SIZES, 12)
    adjacency = graphs.adjacency.clone()
    adjacency[:, :, 6:] = False
    short = DagBatch(graphs.types, adjacency, torch.full((12,), 6))
    other = DagBatch(graphs.types.clone(), adjacency, short.num_nodes)
    other.types[:, 6:] = -99
    with torch.no_grad():
        assert torch.equal(decoder.loss(latent, short), decoder.loss(latent, other))


def test_gradients_reach_every_weight_and_the_latent_vectors(decoder: GraphDecoder, latent: Tensor) -> None:
    latent.requires_grad_()
    decoder.loss(latent, path_graphs(SIZES, 12)).sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in decoder.parameters())
    assert latent.grad is not None
    assert bool(latent.grad.any(1).all())


def test_samples_are_as_frequent_as_their_decisions_are_likely() -> None:
    """Over all graphs of up to four vertices; edges into END follow from a rule and are not decided."""
    torch.manual_seed(1)
    sizes = GraphSizes(num_types=3, max_nodes=4, hidden_dim=8)
    decoder, num = GraphDecoder(sizes, 3), 20_000
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(2)  # away from equal probabilities
    latent = torch.randn(1, 3)
    drawn = decoder.sample(latent.expand(num, -1), draws())
    rows = torch.cat([drawn.types, drawn.num_nodes[:, None], drawn.adjacency.flatten(1).long()], 1)
    _, inverse = torch.unique(rows, dim=0, return_inverse=True)
    first = torch.stack([(inverse == kind).nonzero()[0, 0] for kind in range(int(inverse.max()) + 1)])
    graphs = drawn[first]
    frequency = torch.bincount(inverse) / num
    with torch.no_grad():
        of_types, of_edges = decoder.loss_parts(latent.expand(len(first), -1), graphs)
    vertices = torch.arange(1, 4)
    is_drawn = (vertices < graphs.num_nodes[:, None]) & (vertices < 3)  # a type after END is none, the last one is END
    has_edges = (decoder.targets < graphs.num_nodes[:, None] - 1) & (decoder.targets < 3)
    likely = (-(of_types * is_drawn).sum(1) - (of_edges * has_edges).sum(1)).exp()
    assert float(likely.sum()) == pytest.approx(1, abs=0.01)  # hardly a graph was never drawn
    deviation = (likely * (1 - likely) / num).sqrt()
    assert float(((frequency - likely) / deviation).abs().max()) < 4.5
    assert len(first) > 20


def test_equal_seeds_draw_equal_graphs_and_others_do_not(decoder: GraphDecoder, latent: Tensor) -> None:
    first, second, third = (decoder.sample(latent, draws(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.types, second.types)
    assert torch.equal(first.adjacency, second.adjacency)
    assert not torch.equal(first.adjacency, third.adjacency)


def test_a_batch_is_drawn_as_its_parts_are_one_after_the_other(decoder: GraphDecoder, latent: Tensor) -> None:
    whole, random = decoder.sample(latent, draws()), draws()
    parts = [
        decoder.sample(latent[:5], random),
        decoder.sample(latent[5:6], random),
        decoder.sample(latent[6:], random),
    ]
    assert torch.equal(whole.types, torch.cat([part.types for part in parts]))
    assert torch.equal(whole.adjacency, torch.cat([part.adjacency for part in parts]))


def test_drawing_leaves_the_global_generator_and_gradients_alone(decoder: GraphDecoder, latent: Tensor) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    decoder.sample(latent.requires_grad_(), draws())
    assert torch.equal(torch.rand(3), expected)


def test_the_likeliest_graph_is_the_same_in_every_company(decoder: GraphDecoder, latent: Tensor) -> None:
    together, again = decoder.decode(latent), decoder.decode(latent)
    assert torch.equal(together.types, again.types)
    assert torch.equal(together.adjacency, again.adjacency)
    for row in range(12):
        alone = decoder.decode(latent[row : row + 1])
        assert torch.equal(alone.types[0], together.types[row])
        assert torch.equal(alone.adjacency[0], together.adjacency[row])


def test_drawn_graphs_are_whole_up_to_end_and_empty_after_it(decoder: GraphDecoder) -> None:
    drawn = decoder.sample(torch.randn(300, 56, generator=draws()), draws()).check(7)
    assert Counter(drawn.num_nodes.tolist()).keys() == set(range(2, 9))
    last = drawn.num_nodes - 1
    rows = torch.arange(300)
    assert bool((drawn.types[rows, last] == END).all())
    assert int((drawn.types == END).sum()) == 300
    leads_on = drawn.adjacency.any(2)
    leads_on[rows, last] = True
    assert bool(leads_on[drawn.is_node()].all())  # whatever led nowhere was led to END
    into_end = drawn.adjacency[rows, :, last]
    assert bool((drawn.adjacency.sum(2)[into_end] == 1).all())  # and nothing else was
    assert not bool(leads_on[~drawn.is_node()].any())


def test_a_decoder_learns_one_graph_and_then_draws_it() -> None:
    torch.manual_seed(0)
    sizes = GraphSizes(num_types=5, max_nodes=5, hidden_dim=16)
    decoder, graphs = GraphDecoder(sizes, 4), path_graphs(sizes, 1)
    latent = torch.randn(1, 4, generator=draws())
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        decoder.loss(latent, graphs).sum().backward()
        optimizer.step()
    drawn = decoder.sample(latent.expand(50, -1), draws())
    same = (drawn.types == graphs.types).all(1) & (drawn.adjacency == graphs.adjacency).flatten(1).all(1)
    assert float(same.float().mean()) > 0.9
    assert torch.equal(decoder.decode(latent).adjacency, graphs.adjacency)
    assert bool(is_valid(graphs).all())


def test_no_graph_is_drawn_from_no_vector(decoder: GraphDecoder) -> None:
    nothing = decoder.sample(torch.zeros(0, 56), draws())
    assert len(nothing) == 0
    assert decoder.loss(torch.zeros(0, 56), nothing).shape == (0,)


def test_graphs_and_vectors_that_do_not_match_are_refused(decoder: GraphDecoder, latent: Tensor) -> None:
    with pytest.raises(ValueError, match="12 latent vectors and 3 graphs"):
        decoder.loss(latent, path_graphs(SIZES, 3))
    other = GraphSizes(num_types=7, max_nodes=6, hidden_dim=56)
    with pytest.raises(ValueError, match="padded to 6 vertices and the model is built for 8"):
        decoder.loss(latent, path_graphs(other, 12))
