"""Read checkpoints of retrained networks: released ones, and those that we write.

Source: released code of Li et al., CVPR 2020, retraining part (formats only).
"""

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.store.released import read_released
from common.store.weights import load_weights, save_weights
from dna.archs import EXPANSIONS, KERNELS, NUM_STAGES, PAPER, DnaArch, Skeleton, format_arch, parse_arch, parse_skeleton
from dna.models import build

_LAYER = re.compile(r"blocks\.(\d+)\.(\d+)\.conv_pw\.weight")
_LONGEST_LIST = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrainedNetwork:
    """A checkpoint of a retrained network.

    Attributes:
        arch: the architecture, read off the shapes.
        num_classes: outputs.
        state: weights by name, as the networks of `dna.models` have them.
        notes: whatever else is known of it, plain text by name.
        skeleton: what surrounds its stages.
    """

    arch: DnaArch
    num_classes: int
    state: Mapping[str, Tensor]
    notes: Mapping[str, str]
    skeleton: Skeleton = PAPER

    def network(self) -> nn.Module:
        """The network with these weights, on the CPU, in eval mode."""
        network = build(self.arch, self.num_classes, skeleton=self.skeleton)
        network.load_state_dict(dict(self.state), strict=True)
        return network.eval()


def read_checkpoint(path: Path, *, ema: bool = False) -> RetrainedNetwork:
    """A checkpoint of the released retraining (`.pth.tar`, `.pth`), or one that `save_checkpoint` wrote.

    The released validation takes the weights themselves, not their moving average.

    Args:
        path: the file; its suffix `.safetensors` says that it is ours.
        ema: take the moving average of the weights, where the file has one.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or holds what could run code.
        ValueError: it does not map onto a network of DNA, name by name and shape by shape, or has no moving average.
    """
    if path.suffix == ".safetensors":
        if ema:
            raise ValueError(f"{path} holds one set of weights: choose the moving average when it is imported")
        state, notes = load_weights(path)
    else:
        content = read_released(path, [(argparse.Namespace, "argparse.Namespace")])
        state, notes = _weights_in(content, ema, path)
    arch, num_classes = _arch_of(state, path)
    skeleton = parse_skeleton(notes["skeleton"]) if "skeleton" in notes else PAPER
    _check_names(state, arch, num_classes, skeleton, path)
    return RetrainedNetwork(arch=arch, num_classes=num_classes, state=state, notes=notes, skeleton=skeleton)


def save_checkpoint(path: Path, network: RetrainedNetwork) -> None:
    """Write a safetensors file that `read_checkpoint`, and timm's `checkpoint_path`, read."""
    described = {"arch": format_arch(network.arch), "skeleton": network.skeleton.format()}
    save_weights(path, network.state, {**network.notes, **described})


def check_model(network: RetrainedNetwork, model: str, where: Path) -> None:
    """Raise ValueError unless a checkpoint is of the network that the user names."""
    asked = parse_arch(model)
    if asked != network.arch:
        raise ValueError(
            f"{where} is of the network {format_arch(network.arch)}, not of {model}, which is {format_arch(asked)}: "
            "leave --model out, or give the other file"
        )


def _weights_in(content: Any, ema: bool, where: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by name in a released file, and notes on it."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds a {type(content).__name__}: a checkpoint is a dictionary")
    bare = bool(content) and all(isinstance(value, Tensor) for value in content.values())
    if bare and ema:
        raise ValueError(f"{where} holds one set of weights: leave --ema out")
    key = "state_dict_ema" if ema else "state_dict"
    weights = content if bare else content.get(key)
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        known = ", ".join(map(str, content))
        raise ValueError(f"{where} has no {key} of tensors; it has {known[:200] or 'nothing'}")
    state = {str(name).removeprefix("module."): value for name, value in weights.items()}
    notes = {"origin": "official", "weights": "moving average" if ema else "as trained"}
    if not bare:
        notes |= {name: str(content[name]) for name in ("epoch", "metric") if name in content}
        notes["unused"] = ", ".join(sorted(str(name) for name in content.keys() - {key, "epoch", "metric"}))
    return state, notes


def _arch_of(state: Mapping[str, Tensor], where: Path) -> tuple[DnaArch, int]:
    """Architecture and number of classes, read off names and shapes."""
    layers = {(int(match[1]), int(match[2])) for name in state if (match := _LAYER.fullmatch(name))}
    depths = [sum(stage == block for block, _ in layers) for stage in range(1, NUM_STAGES + 1)]
    named = [(stage, layer) for stage, depth in enumerate(depths, 1) for layer in range(depth)]
    classes = state.get("classifier.weight")
    if 0 in depths or not {*named} <= layers or classes is None or classes.ndim != 2:
        raise ValueError(
            f"{where} is no retrained network of DNA: it needs six stages blocks.1 to blocks.6 and a classifier, and "
            f"has {len(state)} entries from {next(iter(state), 'none')!r} on"
        )
    ops: list[list[int]] = [[] for _ in depths]
    widths = [0] * NUM_STAGES
    for stage, layer in named:
        ops[stage - 1].append(_op_of(state, f"blocks.{stage}.{layer}", where))
        widths[stage - 1] = len(state[f"blocks.{stage}.{layer}.conv_pwl.weight"])
    return DnaArch(ops=tuple(map(tuple, ops)), widths=tuple(widths)), len(classes)


def _op_of(state: Mapping[str, Tensor], layer: str, where: Path) -> int:
    names = [f"{layer}.{part}.weight" for part in ("conv_pw", "conv_dw", "conv_pwl")]
    missing = [name for name in names if name not in state or state[name].ndim != 4]
    if missing:
        raise ValueError(f"{where} has no convolution {', '.join(missing)}")
    inner, in_width = state[names[0]].shape[:2]
    kernel = state[names[1]].shape[-1]
    for op, known in enumerate(zip(EXPANSIONS, KERNELS, strict=True)):
        if known == (inner / in_width, kernel):
            return op
    raise ValueError(
        f"{where}: {layer} expands {in_width} channels to {inner} with a kernel of {kernel}; DNA expands 3 or 6 times, "
        "with kernels of 3, 5 or 7"
    )


def _check_names(state: Mapping[str, Tensor], arch: DnaArch, num_classes: int, skeleton: Skeleton, where: Path) -> None:
    with torch.device("meta"):
        expected = build(arch, num_classes, skeleton=skeleton).state_dict()
    found = {
        "missing": expected.keys() - state.keys(),
        "unknown": state.keys() - expected.keys(),
        "of another shape": {n for n in expected.keys() & state.keys() if state[n].shape != expected[n].shape},
    }
    wrong = [f"{what}: {_listed(sorted(names))}" for what, names in found.items() if names]
    if wrong:
        raise ValueError(f"{where} does not map onto {format_arch(arch)}: {'; '.join(wrong)}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LONGEST_LIST} more" if len(names) > _LONGEST_LIST else ""
    return ", ".join(names[:_LONGEST_LIST]) + more
