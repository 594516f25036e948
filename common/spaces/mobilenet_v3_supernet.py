"""The elastic supernet of the MobileNetV3 space: every architecture runs on a part of its weights.

Source: Cai et al., ICLR 2020, released code. The state dict has the released names and shapes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Self, cast

import torch
from torch import Tensor, nn

from common.spaces.mobilenet_v3_arch import DEPTHS, EXPANSIONS, KERNELS, MAX_DEPTH, MobileNetV3Arch
from common.spaces.mobilenet_v3_elastic import ElasticBlock, ElasticDepthwise
from common.spaces.mobilenet_v3_network import MobileNetV3, ResidualBlock, ends, initialise
from common.spaces.mobilenet_v3_plan import MobileNetV3Plan, hidden_width


class MobileNetV3Supernet(nn.Module):
    """All networks of a space in one; the largest one runs until another is activated.

    A narrower block uses the leading channels of its weights, a shallower stage its first blocks, a smaller kernel a
    linear map of the middle of a larger one.

    Args:
        plan: widths and strides.
        num_classes: outputs.

    Raises:
        ValueError: no classes.
    """

    def __init__(self, plan: MobileNetV3Plan, num_classes: int) -> None:
        super().__init__()
        stem, last, mix, classifier = ends(plan, num_classes)
        self.first_conv = stem
        self.blocks = nn.ModuleList([ResidualBlock(plan.first_block()), *map(ElasticBlock, plan.widest_blocks())])
        self.final_expand_layer, self.feature_mix_layer, self.classifier = last, mix, classifier
        self.plan, self.num_classes = plan, num_classes
        self.activate(MobileNetV3Arch.uniform(KERNELS[-1], EXPANSIONS[-1], DEPTHS[-1]))
        initialise(self)

    def activate(self, arch: MobileNetV3Arch) -> Self:
        """Choose what `forward` and `embed` run from now on."""
        self.active, self._used = arch, self._blocks_of(arch)
        return self

    def _blocks_of(self, arch: MobileNetV3Arch) -> list[tuple[int, int, int]]:
        """Place among `blocks`, kernel and inner channels of what an architecture uses beyond the first block."""
        return [
            (1 + MAX_DEPTH * stage + position, kernel, hidden_width(self.plan.stage_inputs(stage, position), expansion))
            for stage, blocks in enumerate(arch.stages)
            for position, (kernel, expansion) in enumerate(blocks)
        ]

    def embed(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, mix)
        """What the classifier sees in the active network."""
        x = self.blocks[0](self.first_conv(images))
        for index, kernel, hidden in self._used:
            x = self.blocks[index](x, kernel, hidden)
        pooled = self.final_expand_layer(x).mean((2, 3), keepdim=True)
        vector: Tensor = self.feature_mix_layer(pooled).flatten(1)
        return vector

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, num_classes)
        """Logits of the active network."""
        logits: Tensor = self.classifier(self.embed(images))
        return logits

    @torch.no_grad()
    def cut(self, arch: MobileNetV3Arch) -> MobileNetV3:
        """A network of its own, in the same mode and with copies of its part of the weights: the outputs are equal.

        Statistics of batch normalisation are copied as they are; those of a trained supernet fit none of its parts, see
        `estimate_norms`.
        """
        network = MobileNetV3(self.plan.blocks(arch), self.plan, self.num_classes, partial(self._fill, arch))
        return network.train(self.training)

    def _fill(self, arch: MobileNetV3Arch, network: nn.Module) -> None:
        """Copy weights and statistics into a network of its own."""
        used, sources = self._blocks_of(arch), self.state_dict(keep_vars=True)
        places = [0, *(place for place, _, _ in used)]
        filters = {}
        for number, (place, kernel, hidden) in enumerate(used, 1):
            depthwise = cast(ElasticDepthwise, self.get_submodule(f"blocks.{place}.conv.depth_conv.conv"))
            filters[f"blocks.{number}.conv.depth_conv.conv.weight"] = depthwise.filters(hidden, kernel)
        like, made = next(self.parameters()), next(network.parameters())
        if (made.device, made.dtype) != (like.device, like.dtype):
            network.to(like.device, like.dtype)
        for name, target in network.state_dict(keep_vars=True).items():
            source = filters[name] if name in filters else sources[_source_name(name, places)]
            target.copy_(source[tuple(map(slice, target.shape))])


def _source_name(name: str, places: Sequence[int]) -> str:
    """Where the supernet has a weight of a network whose blocks come from these places."""
    if not name.startswith("blocks."):
        return name
    _, number, rest = name.split(".", 2)
    if number != "0":
        rest = rest.replace(".conv.weight", ".conv.conv.weight").replace(".bn.", ".bn.bn.")
    return f"blocks.{places[int(number)]}.{rest}"
