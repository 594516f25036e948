"""Sets to vectors: the set transformer, and the encoder of a data set from some images of each of its classes.

Source: Lee et al., "Set Transformer", ICML 2019, section 3.3; Lee et al., "Rapid Neural Architecture Search by Learning
to Generate Graphs from Datasets", ICLR 2021, section 3.2.
"""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from common.sets.attention import InducedSetAttentionBlock, PoolingByAttention, SetAttentionBlock

Attention = Literal["full", "induced"]
Head = Literal["none", "linear", "attention"]
NUM_INDUCING = 32


class SetPool(nn.Module):
    """Two attention blocks among the elements, pooling by attention, and a head.

    The released modes are `sab...` or else for full or induced attention, and `...PF`, `...P` or neither for a linear
    layer, nothing, or two attention blocks and a linear layer after the pooling. MetaD2A uses `sabPF`.

    Args:
        input_dim: width of the elements.
        output_dim: width of the result.
        width: in between; the released code calls it dim_hidden. None takes `output_dim`.
        num_outputs: vectors that a set becomes.
        num_heads: attention heads.
        attention: "full" among the elements, or "induced" through `NUM_INDUCING` learned points.
        head: what follows the pooling; "none" needs `width` to be `output_dim`.
        layer_norm: normalise inside the attention blocks.

    Raises:
        ValueError: an unknown attention or head, or widths that do not fit.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        *,
        width: int | None = None,
        num_outputs: int = 1,
        num_heads: int = 4,
        attention: Attention = "full",
        head: Head = "linear",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        for name, value, known in (("attention", attention, Attention), ("head", head, Head)):
            if value not in get_args(known):
                raise ValueError(f"{name} of a set pool is {value!r}; choose from {', '.join(get_args(known))}")
        width = output_dim if width is None else width
        if head == "none" and width != output_dim:
            raise ValueError(f"a set pool of width {width} has no head that makes {output_dim} of it: make them equal")

        def block(from_dim: int, kind: Attention) -> SetAttentionBlock | InducedSetAttentionBlock:
            if kind == "full":
                return SetAttentionBlock(from_dim, width, num_heads=num_heads, layer_norm=layer_norm)
            return InducedSetAttentionBlock(from_dim, width, NUM_INDUCING, num_heads=num_heads, layer_norm=layer_norm)

        self.encoder = nn.ModuleList([block(input_dim, attention), block(width, attention)])
        self.pooling = PoolingByAttention(width, num_outputs, num_heads=num_heads, layer_norm=layer_norm)
        among_outputs = [block(width, "full"), block(width, "full")] if head == "attention" else []
        linear = [] if head == "none" else [nn.Linear(width, output_dim)]
        self.head = nn.Sequential(*among_outputs, *linear)

    def forward(self, elements: Tensor, is_member: Tensor | None = None) -> Tensor:
        """Pool sets.

        Args:
            elements: (B, n, input_dim).
            is_member: (B, n) bool, which elements belong to their set, at least one of each; None means all.

        Returns:
            (B, num_outputs, output_dim); the order of the elements and all that is no member are forgotten.
        """
        for block in self.encoder:
            elements = block(elements, is_member)
        pooled: Tensor = self.head(self.pooling(elements, is_member))
        return pooled


class ClassSetEncoder(nn.Module):
    """A data set's vector from features of some images of each class: images to prototypes, prototypes to a vector.

    Which class is which plays no part, so data sets of any classes, and of any number of them, can be encoded.

    Args:
        feature_dim: width of the features.
        width: of the vector and of everything in between; released name nz.
    """

    def __init__(self, feature_dim: int = 512, width: int = 56) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.within = SetPool(feature_dim, width)
        self.across = SetPool(width, width)

    def forward(self, features: Tensor, num_classes: Tensor | None = None) -> Tensor:
        """Encode data sets.

        Args:
            features: (B, C, S, feature_dim) of S images of each of C classes.
            num_classes: (B,) int64, how many classes each data set has, 1 to C; later ones are padding, which changes
                nothing as long as it is finite. None means C each.

        Returns:
            (B, width).

        Raises:
            ValueError: the features have another shape, or the numbers of classes do.
        """
        if features.dim() != 4 or features.shape[3] != self.feature_dim or 0 in features.shape[1:3]:
            raise ValueError(
                f"features of shape {tuple(features.shape)}: (sets, classes, images, {self.feature_dim}) is needed"
            )
        is_class = None if num_classes is None else _is_class(num_classes, features)
        prototypes = self.within(features.flatten(0, 1))[:, 0]  # (B*C, width): the order of S is forgotten
        vector: Tensor = self.across(prototypes.unflatten(0, features.shape[:2]), is_class)[:, 0]  # that of C too
        return vector


def _is_class(num_classes: Tensor, features: Tensor) -> Tensor:
    """(B, C) bool: where a class is and not padding."""
    size, most = features.shape[:2]
    if num_classes.shape != (size,) or num_classes.dtype != torch.int64:
        raise ValueError(
            f"num_classes of shape {tuple(num_classes.shape)} and type {num_classes.dtype}: ({size},) int64 is needed"
        )
    # elsewhere looking at the values would wait for all that the device has to do
    if num_classes.device.type == "cpu" and bool(((num_classes < 1) | (num_classes > most)).any()):
        raise ValueError(f"num_classes holds {num_classes.tolist()}; each must be 1 to {most}, the classes given")
    return torch.arange(most, device=features.device) < num_classes.to(features.device)[:, None]
