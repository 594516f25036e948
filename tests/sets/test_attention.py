"""Attention blocks: the published formulas, heads and masks, and what the order of a set may change."""

import pytest
import torch
from torch import Tensor, nn

from common.sets import InducedSetAttentionBlock, MultiheadAttentionBlock, PoolingByAttention, SetAttentionBlock


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(block: MultiheadAttentionBlock, queries: Tensor, keys: Tensor) -> Tensor:
    """MAB of one set, head by head and query by query: queries (n, D), keys (m, D')."""
    width = block.output.in_features
    key_weight, value_weight = block.key_value.weight.chunk(2)
    key_bias, value_bias = block.key_value.bias.chunk(2)
    q = queries @ block.query.weight.T + block.query.bias
    k, v = keys @ key_weight.T + key_bias, keys @ value_weight.T + value_bias
    rows = []
    for query in range(len(queries)):
        parts = []
        for head in torch.arange(width).chunk(block.num_heads):
            weights = torch.softmax(torch.stack([q[query, head] @ key[head] for key in k]) / width**0.5, 0)
            parts.append(q[query, head] + sum(w * value[head] for w, value in zip(weights, v, strict=True)))
        rows.append(torch.cat(parts))
    attended = block.after_attention(torch.stack(rows))
    return block.after_output(attended + torch.relu(attended @ block.output.weight.T + block.output.bias))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize(("query_dim", "key_dim", "width", "num_heads"), [(6, 5, 8, 4), (8, 8, 6, 1), (3, 7, 12, 3)])
def test_attention_is_the_published_formula(
    query_dim: int, key_dim: int, width: int, num_heads: int, layer_norm: bool
) -> None:
    block = MultiheadAttentionBlock(query_dim, key_dim, width, num_heads=num_heads, layer_norm=layer_norm).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    queries, keys = draws(3, 4, query_dim), draws(3, 5, key_dim, seed=1)
    expected = torch.stack([by_hand(block, *one) for one in zip(queries, keys, strict=True)])
    torch.testing.assert_close(block(queries, keys), expected)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_set_that_attends_to_itself_gives_the_same_by_one_product(layer_norm: bool) -> None:
    block = SetAttentionBlock(6, 8, layer_norm=layer_norm).double()
    elements = draws(3, 5, 6)
    expected = torch.stack([by_hand(block.attention, one, one) for one in elements])
    torch.testing.assert_close(block(elements), expected)
    torch.testing.assert_close(block.attention(elements, elements.clone()), expected)


def test_induced_attention_goes_through_the_learned_points() -> None:
    block = InducedSetAttentionBlock(6, 8, 3).double()
    elements = draws(2, 7, 6)
    hidden = [by_hand(block.gather, block.points[0], one) for one in elements]
    expected = torch.stack([by_hand(block.spread, one, h) for one, h in zip(elements, hidden, strict=True)])
    torch.testing.assert_close(block(elements), expected)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_pooling_attends_from_the_learned_seeds(num_seeds: int) -> None:
    block = PoolingByAttention(8, num_seeds).double()
    elements = draws(2, 7, 8)
    expected = torch.stack([by_hand(block.attention, block.seeds[0], one) for one in elements])
    torch.testing.assert_close(block(elements), expected)


BLOCKS = {
    "full": lambda: SetAttentionBlock(8, 8),
    "induced": lambda: InducedSetAttentionBlock(8, 8, 3),
    "pooling": lambda: PoolingByAttention(8, 2),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_permuted_set_gives_a_permuted_or_the_same_result(name: str) -> None:
    block = BLOCKS[name]().double()
    elements, order = draws(2, 6, 8), torch.tensor([3, 0, 5, 1, 4, 2])
    before, after = block(elements), block(elements[:, order])
    torch.testing.assert_close(after, before if name == "pooling" else before[:, order])


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_no_member_changes_nothing(name: str) -> None:
    block = BLOCKS[name]().double()
    elements, is_member = draws(2, 6, 8), torch.zeros(2, 6, dtype=torch.bool)
    is_member[0, :4], is_member[1, [0, 2, 5]] = True, True
    found = block(elements, is_member)
    for row in range(2):
        alone = block(elements[row : row + 1, is_member[row]])[0]
        kept = found[row] if name == "pooling" else found[row, is_member[row]]
        torch.testing.assert_close(kept, alone)
    spoilt = elements.masked_fill(~is_member[..., None], 1e6)
    after = block(spoilt, is_member)
    members = is_member if name != "pooling" else torch.ones(2, 2, dtype=torch.bool)
    assert torch.equal(after[members], found[members])


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_reach_every_weight_and_no_outsider(name: str) -> None:
    block = BLOCKS[name]().double()
    elements = draws(2, 6, 8).requires_grad_()
    is_member = torch.arange(6) < torch.tensor([[4], [6]])
    result = block(elements, is_member)
    (result if name == "pooling" else result[is_member]).square().sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in block.parameters())
    assert elements.grad is not None
    assert torch.equal(elements.grad.any(2), is_member)


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="width 54 cannot be split into 4 heads"):
        SetAttentionBlock(8, 54)
