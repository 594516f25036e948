"""Measured times of layers, for a search under a latency budget on one device.

Layers are timed one by one, so the sum leaves out what neighbours share (caches, launches that overlap): it orders
networks well, and a chosen network should be timed as a whole.

Source: the search under constraints of Li et al., CVPR 2020; measuring is ours.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
from torch import Tensor, nn

from common.experiment.files import read_json, write_json
from dna.archs import EXPANSIONS, KERNELS, NUM_STAGES, OPS, PAPER, DnaArch, Skeleton
from dna.costs import LayerShape, side_of_stage
from dna.models import build

_WARM_UP = 3
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class LatencyTable:
    """Seconds of the parts of networks, each the median of some forward passes.

    Attributes:
        layers: of each layer and op, as `dna.costs.timed` takes it.
        fixed: of the stem and the head together.
        about: how it was measured, plain text by name.
    """

    layers: Mapping[tuple[LayerShape, int], float]
    fixed: float
    about: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How times are taken."""

    batch_size: int = 1
    """Images at once; times are of the whole batch."""
    repeats: int = 30
    """Forward passes of which the median is taken, after three that are not counted."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.batch_size < 1 or self.repeats < 1:
            raise ValueError(f"batch_size is {self.batch_size}, repeats {self.repeats}: both must be 1 or more")


def measure(
    layers: Sequence[LayerShape],
    *,
    num_classes: int,
    resolution: int,
    device: torch.device,
    timing: Timing,
    skeleton: Skeleton = PAPER,
) -> LatencyTable:
    """Time every op of every layer, and the fixed parts, in float32 and eval mode.

    Args:
        layers: as `dna.candidates.layers_of` lists them; the last one's width is that of the last stage.
        num_classes: outputs.
        resolution: height and width of the image in pixels.
        device: where to compute.
        timing: how often, and on how many images.
        skeleton: of the networks.
    """
    times: dict[tuple[LayerShape, int], float] = {}
    for layer in layers:
        images = torch.randn(timing.batch_size, layer.in_width, layer.side, layer.side, device=device)
        for op in range(len(OPS)):
            times[layer, op] = _seconds(op_module(layer, op).to(device).eval(), images, timing)
    stem, head = _fixed_parts(layers[-1].out_width, num_classes, skeleton)
    end = side_of_stage(NUM_STAGES, resolution, skeleton)
    image = torch.randn(timing.batch_size, 3, resolution, resolution, device=device)
    last = torch.randn(timing.batch_size, layers[-1].out_width, end, end, device=device)
    fixed = _seconds(stem.to(device).eval(), image, timing) + _seconds(head.to(device).eval(), last, timing)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    about = {"device": name, "threads": str(torch.get_num_threads()), "torch": torch.__version__}
    return LatencyTable(times, fixed, about | {"batch_size": str(timing.batch_size), "repeats": str(timing.repeats)})


def op_module(layer: LayerShape, op: int) -> nn.Module:
    """One candidate layer, with new weights; widths that are no multiples of 8 are rounded inside, by timm."""
    expansion = EXPANSIONS[op]
    module: nn.Module = InvertedResidual(
        layer.in_width,
        layer.out_width,
        dw_kernel_size=KERNELS[op],
        stride=layer.stride,
        exp_ratio=expansion,
        act_layer=nn.SiLU,
        se_layer=partial(SqueezeExcite, rd_ratio=0.25 / expansion, rd_round_fn=round),  # type: ignore[arg-type]
    )
    return module


def save_table(path: Path, table: LatencyTable) -> None:
    """Write a table as JSON."""
    rows = [
        [layer.in_width, layer.out_width, layer.stride, layer.side, OPS[op], seconds]
        for (layer, op), seconds in table.layers.items()
    ]
    columns = ["in_width", "out_width", "stride", "side", "op", "seconds"]
    content = {"format": _FORMAT, "about": dict(table.about), "fixed": table.fixed, "columns": columns, "layers": rows}
    write_json(path, content)


def load_table(path: Path) -> LatencyTable:
    """Read what `save_table` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or no table of times.
    """
    content: Any = read_json(path)
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}; this program reads {_FORMAT}")
        layers = {
            (LayerShape(int(before), int(after), int(stride), int(side)), OPS.index(op)): float(seconds)
            for before, after, stride, side, op, seconds in content["layers"]
        }
        return LatencyTable(layers, float(content["fixed"]), dict(content["about"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeError(f"{path} is no table of times ({error}): measure anew") from error


def _fixed_parts(last_width: int, num_classes: int, skeleton: Skeleton) -> tuple[nn.Module, nn.Module]:
    """What comes before the stages, and what comes after."""
    network: Any = build(DnaArch(((0,),) * 6, (8, 8, 8, 8, 8, last_width)), num_classes, skeleton=skeleton)
    stem = nn.Sequential(network.conv_stem, network.bn1, network.blocks[0])
    return stem, nn.Sequential(network.conv_head, network.bn2, network.global_pool, network.classifier)


def _seconds(module: nn.Module, images: Tensor, timing: Timing) -> float:
    """Median time of a forward pass."""
    taken = []
    wait: Callable[[], None] = torch.cuda.synchronize if images.is_cuda else _nothing
    with torch.inference_mode():
        for _ in range(_WARM_UP + timing.repeats):
            wait()
            start = time.perf_counter()
            module(images)
            wait()
            taken.append(time.perf_counter() - start)
    return sorted(taken[_WARM_UP:])[timing.repeats // 2]


def _nothing() -> None:
    """The CPU is done when a call returns."""
