"""Set encoders: attention blocks, pooling by attention, and a data set's vector from its classes' images."""

from common.sets.attention import (
    InducedSetAttentionBlock,
    MultiheadAttentionBlock,
    PoolingByAttention,
    SetAttentionBlock,
)
from common.sets.pooling import ClassSetEncoder, SetPool

__all__ = [
    "ClassSetEncoder",
    "InducedSetAttentionBlock",
    "MultiheadAttentionBlock",
    "PoolingByAttention",
    "SetAttentionBlock",
    "SetPool",
]
