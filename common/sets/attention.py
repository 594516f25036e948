"""Attention blocks on sets.

Source: Lee et al., "Set Transformer: A Framework for Attention-based Permutation-Invariant Neural Networks", ICML 2019,
section 3. As in its released code the residual is the projected query, scores are divided by the root of the full
width, and pooling has no feed-forward layer of its own before it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class MultiheadAttentionBlock(nn.Module):
    """MAB(Q, K): attention from queries to a set of keys, then a feed-forward layer, each with a residual.

    Args:
        query_dim: width of the queries.
        key_dim: width of the keys.
        width: of the result and of everything in between.
        num_heads: attention heads.
        layer_norm: normalise after either residual.

    Raises:
        ValueError: the width is no multiple of the number of heads.
    """

    def __init__(
        self, query_dim: int, key_dim: int, width: int, *, num_heads: int = 4, layer_norm: bool = False
    ) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise ValueError(
                f"an attention block of width {width} cannot be split into {num_heads} heads of equal width"
            )
        self.num_heads = num_heads
        self.query = nn.Linear(query_dim, width)
        self.key_value = nn.Linear(key_dim, 2 * width)  # the key's rows, then the value's
        self.output = nn.Linear(width, width)
        self.after_attention = nn.LayerNorm(width) if layer_norm else nn.Identity()
        self.after_output = nn.LayerNorm(width) if layer_norm else nn.Identity()

    def forward(self, queries: Tensor, keys: Tensor, is_member: Tensor | None = None) -> Tensor:
        """Attend; a result does not depend on the order of the keys.

        Args:
            queries: (B, n, query_dim), or (1, n, query_dim) of queries that all sets share.
            keys: (B, m, key_dim).
            is_member: (B, m) bool, which keys belong to their set, at least one of each; None means all.

        Returns:
            (B, n, width).
        """
        query, key, value = (self._heads(part) for part in self._project(queries, keys))  # (B, H, n or m, width / H)
        scores = (query * self.output.in_features**-0.5) @ key.mT  # (B, H, n, m)
        if is_member is not None:
            scores = scores.masked_fill(~is_member[:, None, None], -torch.inf)
        attended = query + scores.softmax(-1) @ value
        result = self.after_attention(attended.transpose(1, 2).flatten(2))
        normalised: Tensor = self.after_output(result + self.output(result).relu())
        return normalised

    def _project(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value. One product makes all three where a set attends to itself."""
        if queries is not keys:
            return (self.query(queries), *self.key_value(keys).chunk(2, -1))
        weight = torch.cat([self.query.weight, self.key_value.weight])
        bias = torch.cat([self.query.bias, self.key_value.bias])
        return functional.linear(keys, weight, bias).chunk(3, -1)

    def _heads(self, values: Tensor) -> Tensor:
        return values.reshape(*values.shape[:2], self.num_heads, -1).transpose(1, 2)


class SetAttentionBlock(nn.Module):
    """SAB(X) = MAB(X, X): every element attends to all others, which takes work quadratic in their number."""

    def __init__(self, input_dim: int, width: int, *, num_heads: int = 4, layer_norm: bool = False) -> None:
        super().__init__()
        self.attention = MultiheadAttentionBlock(
            input_dim, input_dim, width, num_heads=num_heads, layer_norm=layer_norm
        )

    def forward(self, elements: Tensor, is_member: Tensor | None = None) -> Tensor:
        """(B, n, input_dim) -> (B, n, width): permuting the elements permutes the result."""
        result: Tensor = self.attention(elements, elements, is_member)
        return result


class InducedSetAttentionBlock(nn.Module):
    """ISAB(X) = MAB(X, MAB(I, X)): attention through a few learned points I, in work linear in the elements."""

    def __init__(
        self, input_dim: int, width: int, num_inducing: int, *, num_heads: int = 4, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.points = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, num_inducing, width)))
        self.gather = MultiheadAttentionBlock(width, input_dim, width, num_heads=num_heads, layer_norm=layer_norm)
        self.spread = MultiheadAttentionBlock(input_dim, width, width, num_heads=num_heads, layer_norm=layer_norm)

    def forward(self, elements: Tensor, is_member: Tensor | None = None) -> Tensor:
        """(B, n, input_dim) -> (B, n, width): permuting the elements permutes the result."""
        result: Tensor = self.spread(elements, self.gather(self.points, elements, is_member))
        return result


class PoolingByAttention(nn.Module):
    """PMA(X) = MAB(S, X) with learned seeds S: a set becomes as many vectors as there are seeds."""

    def __init__(self, width: int, num_seeds: int = 1, *, num_heads: int = 4, layer_norm: bool = False) -> None:
        super().__init__()
        self.seeds = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, num_seeds, width)))
        self.attention = MultiheadAttentionBlock(width, width, width, num_heads=num_heads, layer_norm=layer_norm)

    def forward(self, elements: Tensor, is_member: Tensor | None = None) -> Tensor:
        """(B, n, width) -> (B, num_seeds, width): the order of the elements is forgotten."""
        result: Tensor = self.attention(self.seeds, elements, is_member)
        return result
