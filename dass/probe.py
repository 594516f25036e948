"""Functional embeddings: what a remapped, untrained student answers to one fixed input.

A student that took the teacher's weights is a sub-network of the teacher, so it runs from views of the teacher's
tensors; no module is built or initialised. Students that begin with the same blocks share the computation of these.

Source: Lee et al., ICLR 2023, distillation-aware encoding (stage-4 map of a fixed noise image).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from common.experiment.progress import track
from common.experiment.seeds import generator
from common.kd.remap import RemapKind, block_offset, remapped_state
from common.spaces.resnet import ResNetArch
from common.spaces.resnet_network import STAGE_STRIDES, match_shortcut

PROBE_SEED = 0
_BN_EPSILON = 1e-5


def make_probe(resolution: int, seed: int = PROBE_SEED) -> Tensor:
    """The probe image, N(0, 1) noise, the same for all networks and tasks: (1, 3, resolution, resolution)."""
    return torch.randn(1, 3, resolution, resolution, generator=generator(seed, "probe"))


@torch.no_grad()  # not inference mode: the predictor adapts on the teacher's map, which records it for a gradient
def embed(
    teacher_state: Mapping[str, Tensor],
    teacher: ResNetArch,
    archs: Sequence[ResNetArch],
    probe: Tensor,
    kind: RemapKind,
    *,
    description: str = "",
) -> Tensor:
    """Stage-4 maps of students that took the teacher's weights, in evaluation mode.

    Args:
        teacher_state: the teacher's state dict, on the probe's device.
        teacher: its architecture.
        archs: the students; the teacher's own architecture gives the teacher's map.
        probe: (1, 3, R, R).
        kind: how weights are taken.
        description: in front of the progress bar.

    Returns:
        (len(archs), C, R / 8, R / 8), on the probe's device.

    Raises:
        ValueError: `random_init`, which leaves nothing to probe, or a student that does not fit the teacher.
    """
    if kind == "random_init":
        raise ValueError(
            "pr_type random_init takes no weights from the teacher, so there is no embedding to predict from"
        )
    if not archs:
        return probe.new_zeros(0, teacher.widths[-1][-1], *(side // 8 for side in probe.shape[-2:]))
    plans = [_blocks(arch, teacher, kind) for arch in archs]
    maps: dict[int, Tensor] = {}
    path: list[tuple[_Block, Tensor]] = []
    for index in track(sorted(range(len(archs)), key=plans.__getitem__), description=description):
        state = remapped_state(teacher_state, teacher, archs[index], kind)
        path = _extended(path, plans[index], state, probe)
        maps[index] = path[-1][1]
    return torch.cat([maps[index] for index in range(len(archs))])


class _Block(NamedTuple):
    """A block of a student; with the blocks before it, it tells which of the teacher's weights it holds."""

    stage: int
    position: int
    source: int
    width: int


def _blocks(arch: ResNetArch, teacher: ResNetArch, kind: RemapKind) -> list[_Block]:
    return [
        _Block(stage, position, position + block_offset(full, len(widths), kind), width)
        for stage, (widths, full) in enumerate(zip(arch.widths, teacher.depths, strict=True), start=1)
        for position, width in enumerate(widths)
    ]


def _extended(
    path: list[tuple[_Block, Tensor]], blocks: Sequence[_Block], state: Mapping[str, Tensor], probe: Tensor
) -> list[tuple[_Block, Tensor]]:
    """A student's blocks with their outputs, taken over from the last student's as far as both are the same.

    Students that begin alike hold the same weights there and answer alike, and sorted ones often begin alike.
    """
    shared = 0
    while shared < min(len(path), len(blocks)) and path[shared][0] == blocks[shared]:
        shared += 1
    path = path[:shared]
    x = path[-1][1] if path else _normalised(state, "bn1", F.conv2d(probe, state["conv1.weight"], padding=1)).relu_()
    for block in blocks[shared:]:
        x = _block_output(state, block, x)
        path.append((block, x))
    return path


def _block_output(state: Mapping[str, Tensor], block: _Block, x: Tensor) -> Tensor:
    name = f"layer{block.stage}.{block.position}"
    stride = STAGE_STRIDES[block.stage - 1] if block.position == 0 else 1
    y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
    y = _normalised(state, f"{name}.bn1", y).relu_()
    y = _normalised(state, f"{name}.bn2", F.conv2d(y, state[f"{name}.conv2.weight"], padding=1))
    return y.add_(match_shortcut(x, y.shape[1], stride)).relu_()


def _normalised(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Batch normalisation with running statistics."""
    mean, variance, weight, bias = (state[f"{name}.{e}"] for e in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=_BN_EPSILON)
