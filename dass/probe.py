"""Functional embeddings: what a remapped, untrained student answers to one fixed input.

A student that took the teacher's weights is a sub-network of the teacher, so it runs from views of the teacher's
tensors; no module is built or initialised.

Source: Lee et al., ICLR 2023, distillation-aware encoding (stage-4 map of a fixed noise image).
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from common.experiment.progress import track
from common.experiment.seeds import generator
from common.kd.remap import RemapKind, remapped_state
from common.spaces.resnet import ResNetArch
from common.spaces.resnet_network import STAGE_STRIDES, match_shortcut

PROBE_SEED = 0
_BN_EPSILON = 1e-5


def make_probe(resolution: int, seed: int = PROBE_SEED) -> Tensor:
    """The probe image, N(0, 1) noise, the same for all networks and tasks: (1, 3, resolution, resolution)."""
    return torch.randn(1, 3, resolution, resolution, generator=generator(seed, "probe"))


@torch.inference_mode()
def embed(
    teacher_state: Mapping[str, Tensor],
    teacher: ResNetArch,
    archs: Sequence[ResNetArch],
    probe: Tensor,
    kind: RemapKind,
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
    maps = [
        _stage4(remapped_state(teacher_state, teacher, arch, kind), arch, probe)
        for arch in track(archs, description=description)
    ]
    return torch.cat(maps) if maps else probe.new_zeros(0, teacher.widths[-1][-1], *(s // 8 for s in probe.shape[-2:]))


def _stage4(state: Mapping[str, Tensor], arch: ResNetArch, x: Tensor) -> Tensor:  # (1, 3, R, R) -> (1, C, R/8, R/8)
    x = F.relu(_normalised(state, "bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
    for stage, (widths, stride) in enumerate(zip(arch.widths, STAGE_STRIDES, strict=True), start=1):
        for block in range(len(widths)):
            name, step = f"layer{stage}.{block}", stride if block == 0 else 1
            y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=step, padding=1)
            y = F.relu(_normalised(state, f"{name}.bn1", y))
            y = _normalised(state, f"{name}.bn2", F.conv2d(y, state[f"{name}.conv2.weight"], padding=1))
            x = F.relu(y + match_shortcut(x, y.shape[1], step))
    return x


def _normalised(state: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Batch normalisation with running statistics."""
    mean, variance, weight, bias = (state[f"{name}.{e}"] for e in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=_BN_EPSILON)
