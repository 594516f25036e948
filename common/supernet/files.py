"""Files of supernets: ours, and the released ones.

Source: Cai et al., ICLR 2020, released code (names and shapes of the weights only).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from common.spaces.mobilenet_v3_plan import MobileNetV3Plan
from common.spaces.mobilenet_v3_supernet import MobileNetV3Supernet
from common.store.released import read_released
from common.store.weights import load_weights, save_weights

_KIND = "mobilenet_v3-supernet"
_DESCRIBED = ("class_names", "resolution", "sources", "notes")
_WIDTHS = [round(0.05 * step, 2) for step in range(1, 41)]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredSupernet:
    """A trained supernet.

    Attributes:
        supernet: on the CPU, in eval mode, the largest network active.
        class_names: names of its outputs, in order.
        resolution: side of the images that it was trained on, in pixels; images are scaled to [-1, 1].
        sources: sets that it was trained on.
        notes: how it was trained, as plain JSON values.
    """

    supernet: MobileNetV3Supernet
    class_names: tuple[str, ...]
    resolution: int
    sources: tuple[str, ...]
    notes: dict[str, Any] = field(default_factory=dict)

    def has_seen(self, task: str) -> bool:
        """Whether it was trained on the set that a task is a part of."""
        return task.partition("/")[0] in {source.partition("/")[0] for source in self.sources}


def save_supernet(path: Path, stored: StoredSupernet, *, is_half: bool = False) -> None:
    """Write weights and description into one safetensors file.

    Args:
        path: the file to replace.
        stored: what to write.
        is_half: write float16, half the bytes; the networks then differ by rounding.
    """
    plan = stored.supernet.plan
    described = {name: getattr(stored, name) for name in _DESCRIBED}
    described |= {"width_mult": plan.width_mult, "first_stride": plan.first_stride}
    weights = stored.supernet.state_dict()
    if is_half:
        weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    text = json.dumps(described, sort_keys=True, allow_nan=False)
    save_weights(path, weights, {"kind": _KIND, "supernet": text})


def load_supernet(path: Path, *, plan: MobileNetV3Plan | None = None) -> StoredSupernet:
    """Read what `save_supernet` wrote.

    Args:
        path: the file.
        plan: widths and strides that it must have; None takes any.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, holds something else, or its weights are not finite.
        ValueError: it is a supernet of another width or first stride; the message names both.
    """
    weights, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, no supernet of MobileNetV3 networks"
        )
    for name, value in weights.items():
        if not torch.isfinite(value).all():
            raise RuntimeError(f"{path}: {name} is not finite: its training went wrong, train it again")
    try:
        described = json.loads(metadata["supernet"])
        found = MobileNetV3Plan(width_mult=described.pop("width_mult"), first_stride=described.pop("first_stride"))
        described = {name: described[name] for name in _DESCRIBED}
        described |= {name: tuple(described[name]) for name in ("class_names", "sources")}
        supernet = MobileNetV3Supernet(found, len(described["class_names"]))
        supernet.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise RuntimeError(f"{path} does not fit its own description ({reason}): make or download it anew") from error
    if plan is not None and plan != found:
        raise ValueError(
            f"{path} is a supernet of width {found.width_mult} and first stride {found.first_stride}, and networks of "
            f"width {plan.width_mult} and first stride {plan.first_stride} are asked for: give another supernet, or "
            "leave the width to it"
        )
    return StoredSupernet(supernet=supernet.eval(), **described)


def read_official_supernet(path: Path) -> MobileNetV3Supernet:
    """Read a released supernet such as `ofa_mbv3_d234_e346_k357_w1.0`; its width and classes are read off the shapes.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or holds other types than tensors and plain values.
        ValueError: its weights are not those of a supernet of this space; the message names one.
    """
    content = read_released(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; a released supernet is a dictionary of weights")
    return official_supernet(content, str(path))


def official_supernet(state: Mapping[str, Any], where: str) -> MobileNetV3Supernet:
    """The supernet of a released state dict, of the present or of the older names; see `read_official_supernet`.

    Args:
        state: weights by released names.
        where: names the file in errors.
    """
    found: dict[str, Tensor] = {_plain(name): value for name, value in state.items() if isinstance(value, Tensor)}
    head = found.get("classifier.linear.weight", found.get("classifier.weight"))
    stem, last = found.get("first_conv.conv.weight"), found.get("final_expand_layer.conv.weight")
    if head is None or stem is None or last is None:
        shown = ", ".join(sorted(map(str, state))[:3]) or "nothing"
        raise ValueError(f"{where} is no supernet of MobileNetV3 networks (it holds {shown}, ...)")
    plans = [MobileNetV3Plan(width_mult=width) for width in _WIDTHS]
    widths = (len(stem), last.shape[1], len(last), head.shape[1])
    fitting = [plan for plan in plans if (plan.stem, plan.widths[-1], plan.head, plan.mix) == widths]
    if not fitting:
        raise ValueError(f"{where} has widths {widths}, which no width multiplier up to {_WIDTHS[-1]} gives")
    plan = min(fitting, key=lambda plan: abs(plan.width_mult * 10 - round(plan.width_mult * 10)))
    supernet = MobileNetV3Supernet(plan, len(head))
    wanted = {_plain(name): name for name in supernet.state_dict()}
    missing, unused = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unused:
        raise ValueError(
            f"{where} does not map onto our supernet of width {plan.width_mult}: {len(missing)} weights missing, "
            f"{len(unused)} unknown; {(missing or unused)[0]}"
        )
    try:
        supernet.load_state_dict({wanted[name]: value for name, value in found.items()})
    except RuntimeError as error:
        raise ValueError(f"{where} does not map onto our supernet: {' '.join(str(error).split())[:300]}") from error
    return supernet.eval()


@torch.no_grad()
def fold_normalisation(supernet: MobileNetV3Supernet, mean: Sequence[float], std: Sequence[float]) -> None:
    """Let a supernet that was trained on (x - mean) / std take what all networks here take: x scaled to [-1, 1].

    The first convolution and its statistics are changed. Outputs are the same but for the frame of one pixel, where the
    zeros around an image stand for another colour than before.

    Args:
        supernet: changed in place.
        mean: (3,) of pixels in [0, 1].
        std: (3,).
    """
    conv, norm = cast(nn.Conv2d, supernet.first_conv[0]), cast(nn.BatchNorm2d, supernet.first_conv[1])
    shift, scale = torch.tensor(mean), torch.tensor(std)
    assert norm.running_mean is not None
    # (x - mean) / std = (0.5 / std) u + (0.5 - mean) / std for u = 2 x - 1: the second part is constant
    norm.running_mean -= (conv.weight.sum((2, 3)) * ((0.5 - shift) / scale)).sum(1)
    conv.weight *= (0.5 / scale)[:, None, None]


def _plain(name: str) -> str:
    """A weight's name with the double levels of elastic layers, and those of older files, made one."""
    name = name.removeprefix("module.").replace("mobile_inverted_conv", "conv")
    for level in (".conv", ".bn", ".linear"):
        name = name.replace(f"{level}{level}.", f"{level}.")
    return name if ".linear." in name else name.replace("classifier.", "classifier.linear.")
