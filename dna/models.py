"""The retrained networks, built from timm's blocks and registered with timm as `dna_a` ... `dna_d`.

Parameters, their names and the outputs are those of the released networks; their checkpoints load unchanged. New
weights are drawn as timm draws them, which for depthwise convolutions is wider than the released code's timm did.

Source: Li et al., CVPR 2020; released code, retraining part.
"""

from typing import Any, cast

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import nn

from dna.archs import PAPER, PUBLISHED, DnaArch, Skeleton, timm_definition

__all__ = ["build"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RESOLUTION = 224
CROP_PCT = 0.875
"""Side of the centre crop over the shorter side of the resized image: 224 out of 256 pixels."""
_TIMM_DIVISOR = 8

_CONFIGS: dict[str, Any] = {
    name.lower(): {
        "num_classes": 1000,
        "input_size": (3, RESOLUTION, RESOLUTION),
        "pool_size": (7, 7),
        "crop_pct": CROP_PCT,
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "first_conv": "conv_stem",
        "classifier": "classifier",
        "paper_ids": "arXiv:1911.13053",
    }
    for name in PUBLISHED
} | {
    "dna_teacher": {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": (4, 4),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "conv_stem",
        "classifier": "classifier",
    }
}
default_cfgs = generate_default_cfgs(_CONFIGS)
TEACHER_WIDTHS, TEACHER_LAYERS, TEACHER_STRIDES = (16, 32, 48, 64, 96, 128), (2, 2, 2, 2, 2, 1), (1, 2, 1, 1, 2, 1)
"""Of the six stages of `dna_teacher`: for images of 32 pixels, twice as wide as the students of the `cpu` preset."""


def build(
    arch: DnaArch,
    num_classes: int = 1000,
    *,
    skeleton: Skeleton = PAPER,
    drop_rate: float = 0.2,
    drop_path_rate: float = 0.2,
) -> nn.Module:
    """The network of an architecture, with new weights.

    Args:
        arch: its widths must be multiples of 8, as timm rounds others.
        num_classes: outputs.
        skeleton: what surrounds the stages; its widths must be multiples of 8, too.
        drop_rate: of the dropout before the classifier.
        drop_path_rate: of the last layer; layer i of N drops its residual branch with i / N of it.

    Returns:
        A network that maps (B, 3, H, W) to (B, num_classes).

    Raises:
        ValueError: a width is no multiple of 8, or there is no class.

    Source: Li et al., CVPR 2020; released code (SiLU, squeeze-and-excitation in every layer, symmetric padding).
    """
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: give 1 or more")
    network: Any = EfficientNet(
        **_blocks(arch, skeleton), num_classes=num_classes, drop_rate=drop_rate, drop_path_rate=drop_path_rate
    )
    network.conv_stem.stride = (skeleton.stem_stride, skeleton.stem_stride)  # timm has no option for it
    return cast(nn.Module, network)


def _blocks(arch: DnaArch, skeleton: Skeleton = PAPER) -> dict[str, Any]:
    widths = (*arch.widths, skeleton.stem_width, skeleton.first_width)
    odd = [width for width in widths if width % _TIMM_DIVISOR]
    if odd:
        raise ValueError(f"widths {odd} are no multiples of {_TIMM_DIVISOR}: timm would round them, so choose others")
    return {
        "block_args": decode_arch_def(timm_definition(arch, skeleton)),  # type: ignore[no-untyped-call]
        "num_features": skeleton.head_width,
        "stem_size": skeleton.stem_width,
        "act_layer": nn.SiLU,
        "norm_layer": nn.BatchNorm2d,
    }


@register_model
def dna_teacher(pretrained: bool = False, **options: Any) -> nn.Module:
    """A small teacher for images of 32 pixels, to be trained by `python -m dna train-teacher`."""
    if pretrained:
        raise ValueError("there are no weights of dna_teacher: train it with `python -m dna train-teacher`")
    stages = zip(TEACHER_WIDTHS, TEACHER_LAYERS, TEACHER_STRIDES, strict=True)
    definition = [["ds_r1_k3_s1_c16_se0.25"]]
    definition += [[f"ir_r{layers}_k3_s{stride}_e4_c{width}_se0.25"] for width, layers, stride in stages]
    network: nn.Module = build_model_with_cfg(
        EfficientNet,
        "dna_teacher",
        False,
        feature_cfg={"feature_cls": "getter"},
        block_args=decode_arch_def(definition),  # type: ignore[no-untyped-call]
        num_features=256,
        stem_size=16,
        act_layer=nn.SiLU,
        norm_layer=nn.BatchNorm2d,
        **options,
    )
    return network


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    """A registered network, with timm's options.

    Raises:
        ValueError: pretrained weights were asked for, which no site hands out by a fixed address.
    """
    if pretrained:
        raise ValueError(
            f"there is no fixed address for weights of {name}: leave pretrained off, and give the file of the released "
            "checkpoint as checkpoint_path"
        )
    defaults = {"drop_rate": 0.2, "drop_path_rate": 0.2}
    network: nn.Module = build_model_with_cfg(
        EfficientNet,
        name,
        False,
        feature_cfg={"feature_cls": "getter"},
        **_blocks(PUBLISHED[f"DNA_{name[-1]}"]),
        **(defaults | options),
    )
    return network


@register_model
def dna_a(pretrained: bool = False, **options: Any) -> nn.Module:
    """DNA-a: 4.2 million parameters, 348 million multiply-accumulates as its authors count."""
    return _create("dna_a", pretrained, options)


@register_model
def dna_b(pretrained: bool = False, **options: Any) -> nn.Module:
    """DNA-b: 4.9 million parameters, 406 million multiply-accumulates (the released README prints 394)."""
    return _create("dna_b", pretrained, options)


@register_model
def dna_c(pretrained: bool = False, **options: Any) -> nn.Module:
    """DNA-c: 5.3 million parameters, 466 million multiply-accumulates."""
    return _create("dna_c", pretrained, options)


@register_model
def dna_d(pretrained: bool = False, **options: Any) -> nn.Module:
    """DNA-d: 6.4 million parameters, 611 million multiply-accumulates."""
    return _create("dna_d", pretrained, options)
