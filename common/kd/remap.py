"""Copy a residual teacher's weights into a narrower, shallower student.

Source: Lee et al., ICLR 2023, distillation-aware encoding ("parameter remapping"), released code.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from common.spaces.resnet import ResNetArch

RemapKind = Literal[
    "copy_paste_first", "copy_paste_last", "copy_paste_uniform", "copy_paste_uniform_last", "random_init"
]
REMAP_KINDS: tuple[str, ...] = get_args(RemapKind)
_BN_ENTRIES = ("weight", "bias", "running_mean", "running_var")


def slice_channels(num: int, out_of: int, kind: str) -> slice:
    """Which of the teacher's channels the student takes.

    Args:
        num: channels of the student.
        out_of: channels of the teacher.
        kind: one of `REMAP_KINDS` but `random_init`. first: the leading ones; last: the trailing ones; uniform: every
            k-th, k = floor(out_of / num), and of these the leading ones.

    Raises:
        ValueError: the student has more channels than the teacher.
    """
    if num > out_of:
        raise ValueError(f"{num} channels of the student do not fit in the teacher's {out_of}")
    if kind == "copy_paste_first":
        return slice(0, num)
    if kind == "copy_paste_last":
        return slice(out_of - num, out_of)
    step = out_of // num
    return slice(0, step * num, step)


def block_offset(teacher_depth: int, depth: int, kind: str | None) -> int:
    """Which of the teacher's blocks of a stage becomes the student's first one, of `depth`."""
    return teacher_depth - depth if kind is not None and kind.endswith("last") else 0


def remapped_state(
    teacher_state: Mapping[str, Tensor], teacher: ResNetArch, student: ResNetArch, kind: RemapKind | None
) -> dict[str, Tensor]:
    """The student's entries that come from the teacher, as views of the teacher's tensors.

    Stem and classifier are copied; block b of a stage comes from the teacher's block b, or from its last blocks where
    the kind ends in `last`. Channel slices of a kernel's two sides are taken independently.

    Args:
        teacher_state: state dict of the teacher's `ResidualNetwork`.
        teacher: its architecture.
        student: the student's architecture.
        kind: how; `random_init` takes nothing, None takes stem and classifier alone.

    Returns:
        Names of the student's state dict to tensors; the entries that are not named keep their initial values.

    Raises:
        ValueError: unknown kind, a student that is wider or deeper than the teacher, or whose last width differs.
    """
    if kind is not None and kind not in REMAP_KINDS:
        raise ValueError(f"pr_type {kind!r}: one of {', '.join(REMAP_KINDS)}")
    if kind == "random_init":
        return {}
    _check_fits(teacher, student)
    stem = slice(0, student.widths[0][0])
    state = {"conv1.weight": teacher_state["conv1.weight"][stem]}
    state |= {f"bn1.{entry}": teacher_state[f"bn1.{entry}"][stem] for entry in _BN_ENTRIES}
    state |= {f"fc.{entry}": teacher_state[f"fc.{entry}"] for entry in ("weight", "bias")}
    return state if kind is None else state | _remapped_stages(teacher_state, teacher, student, kind)


def _remapped_stages(
    teacher_state: Mapping[str, Tensor], teacher: ResNetArch, student: ResNetArch, kind: RemapKind
) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    in_channels = student.widths[0][0]
    for stage, widths in enumerate(student.widths, start=1):
        offset = block_offset(teacher.depths[stage - 1], len(widths), kind)
        tracked = teacher_state[f"layer{stage}.0.bn1.num_batches_tracked"]  # published: of the stage's first block
        for block, width in enumerate(widths):
            source, target = f"layer{stage}.{block + offset}", f"layer{stage}.{block}"
            for conv, num_in in (("conv1", in_channels), ("conv2", width)):
                kernel = teacher_state[f"{source}.{conv}.weight"]
                outputs = slice_channels(width, kernel.shape[0], kind)
                inputs = slice_channels(num_in, kernel.shape[1], kind)
                state[f"{target}.{conv}.weight"] = kernel[outputs, inputs]
                norm = f"bn{conv[-1]}"
                for entry in _BN_ENTRIES:
                    state[f"{target}.{norm}.{entry}"] = teacher_state[f"{source}.{norm}.{entry}"][outputs]
                state[f"{target}.{norm}.num_batches_tracked"] = tracked
            in_channels = width
    return state


def remap(
    teacher_state: Mapping[str, Tensor],
    teacher: ResNetArch,
    network: nn.Module,
    student: ResNetArch,
    kind: RemapKind | None,
) -> None:
    """Write the teacher's weights into a student network, in place; it shares no storage with the teacher.

    Args:
        teacher_state: state dict of the teacher.
        teacher: the teacher's architecture.
        network: the student's network.
        student: its architecture.
        kind: see `remapped_state`.

    Raises:
        ValueError: see `remapped_state`, or a shape differs (another number of classes); nothing is written then.
    """
    own = network.state_dict()
    taken = remapped_state(teacher_state, teacher, student, kind)
    for name, value in taken.items():
        if own[name].shape != value.shape:
            raise ValueError(
                f"{name}: the teacher gives shape {tuple(value.shape)}, the student has {tuple(own[name].shape)}"
            )
    with torch.no_grad():
        for name, value in taken.items():
            own[name].copy_(value)


def _check_fits(teacher: ResNetArch, student: ResNetArch) -> None:
    last, needed = student.widths[-1][-1], teacher.widths[-1][-1]
    if last != needed:
        raise ValueError(f"the student's last width is {last}; the teacher's classifier needs {needed}")
    for stage, (own, full) in enumerate(zip(student.widths, teacher.widths, strict=True), start=1):
        if len(own) > len(full) or max(own) > min(full):
            raise ValueError(f"stage {stage} of the student, {own}, does not fit in the teacher's {full}")
