"""Read files of the released DaSS code into our types: teachers, students, predictors, databases, candidates.

Source: released code of Lee et al., ICLR 2023 (formats only).
"""

import argparse
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from common.spaces.resnet import ResNetArch, ResNetSpace
from common.spaces.resnet_network import ResidualNetwork
from common.store.released import read_released
from dass.candidates import Candidates
from dass.database import TaskTable
from dass.predictor import InputType, Predictor, PredictorArtifact, PredictorConfig

_LOG = logging.getLogger(__name__)
RESOLUTION = 64
NUM_CLASSES = {"tiny_imagenet": 40, "cub": 200, "dtd": 47, "stanford_cars": 196, "quickdraw": 345}
MAPS = "noise_actmap_stage-4"
_USED_OF_TABLE = {
    MAPS,
    "net_index",
    "arch_enc",
    "depth_config",
    "channel_widths",
    "best_acc",
    "final_acc",
    "final_loss",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class OfficialNetwork:
    """A teacher or student file.

    Attributes:
        state: weights by name, as `ResidualNetwork` has them.
        widths: of the blocks, stage by stage.
        num_classes: outputs.
        best_accuracy: a fraction, or None where the file has none.
        unused: entries of the file that have no place here.
    """

    state: dict[str, Tensor]
    widths: tuple[tuple[int, ...], ...]
    num_classes: int
    best_accuracy: float | None
    unused: tuple[str, ...]


def read_official(path: Path) -> dict[str, Any]:
    """Unpickle a released file under a list of allowed types, with tensors on the CPU.

    Allowed are tensors, plain values, NumPy arrays and scalars, and the namespace of the command line.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, holds another type, or is no dictionary.
    """
    content = read_released(path, [(argparse.Namespace, "argparse.Namespace")])
    if not isinstance(content, dict):
        raise RuntimeError(f"{path} holds a {type(content).__name__}; a dictionary is needed")
    return content


def kind_of(content: Mapping[str, Any]) -> str:
    """What a released file is, by its entries: network, predictor, database or candidates; else "unknown"."""
    if "pred_inp" in content:
        return "candidates"
    if MAPS in content:
        return "database"
    names = content.get("state_dict", {})
    if "proj_layers.0.weight" in names:
        return "predictor"
    return "network" if any(name.endswith("fc.weight") for name in names) else "unknown"


def to_network(content: Mapping[str, Any], where: str) -> OfficialNetwork:
    """A teacher or student; the architecture is read off the shapes.

    Raises:
        ValueError: a weight is missing, unknown or of another shape than the architecture's; all are named.
    """
    state = {name.removeprefix("module."): value for name, value in content["state_dict"].items()}
    depths = [
        1 + max((int(m[1]) for n in state if (m := re.match(rf"layer{s}\.(\d+)\.", n))), default=-1)
        for s in range(1, 5)
    ]
    heads = [f"layer{s}.{b}.conv1.weight" for s, depth in enumerate(depths, 1) for b in range(depth)]
    missing = [name for name in (*heads, "fc.weight") if name not in state]
    if missing or 0 in depths:
        raise ValueError(f"{where} is no residual network of four stages: {', '.join(missing) or f'depths {depths}'}")
    widths = tuple(
        tuple(len(state[f"layer{s}.{b}.conv1.weight"]) for b in range(depth)) for s, depth in enumerate(depths, 1)
    )
    num_classes = len(state["fc.weight"])
    with torch.device("meta"):
        expected = ResidualNetwork(widths, num_classes).state_dict()
    _check_state(state, expected, where)
    best = content.get("best_acc")
    return OfficialNetwork(
        state=state,
        widths=widths,
        num_classes=num_classes,
        best_accuracy=None if best is None else float(best) / (100 if float(best) > 1 else 1),
        unused=tuple(sorted(content.keys() - {"state_dict", "best_acc"})),
    )


def to_predictor(content: Mapping[str, Any], step_size: float, where: str) -> PredictorArtifact:
    """A meta-trained predictor; its sizes are read off the shapes.

    Args:
        content: of a released `model_best.pth.tar`.
        step_size: for every weight: the released files hold no learned ones.
        where: names the file in errors.

    Raises:
        ValueError: a weight is missing, unknown or of another shape; all are named.
    """
    state = dict(content["state_dict"])
    slots = {"S": "func_encoder.conv1.weight", "T": "teacher_encoder.conv1.weight", "A": "arch_encoder.fc.weight"}
    used = "".join(letter for letter, name in slots.items() if name in state)
    if used not in get_args(InputType) or "proj_layers.0.weight" not in state:
        raise ValueError(f"{where} is no predictor: it has the weights {', '.join(state)}")
    config = PredictorConfig(input_type=used, hidden_dim=len(state["proj_layers.0.weight"]), **_sizes(state, slots))  # type: ignore[arg-type]
    predictor = Predictor(config)
    _check_state(state, predictor.state_dict(), where)
    predictor.load_state_dict(state)
    return PredictorArtifact(
        predictor=predictor,
        step_sizes={name: torch.full_like(value, step_size) for name, value in state.items()},
        space_name=ResNetSpace().name,
        resolution=RESOLUTION,
        pr_type="copy_paste_first",
        probe=None,
        origin="official",
        notes={"unused": sorted(map(str, content.keys() - {"state_dict"}))},
    )


def _sizes(state: Mapping[str, Tensor], slots: Mapping[str, str]) -> dict[str, int]:
    sizes = {}
    for letter in "ST":
        if slots[letter] in state:
            hidden, channels = state[slots[letter]].shape[:2]
            out = len(state[slots[letter].replace("conv1", "conv2")])
            sizes = {"map_channels": channels, "hidden_channels": hidden, "out_channels": out}
    if slots["A"] in state:
        sizes["arch_dim"] = state[slots["A"]].shape[1]
    return sizes


def to_table(key: str, students: Mapping[str, Any], teacher: Mapping[str, Any], where: str) -> TaskTable:
    """A task of the released database.

    Args:
        key: `cub` or `tiny_imagenet-3`.
        students: content of `{key}-logs_noise_actmap.pt`.
        teacher: content of the file of that name in the folder `teacher`.
        where: names the file in errors.

    Raises:
        ValueError: a list is missing or of another length, or values cannot be used; see `TaskTable`.
    """
    needed = _USED_OF_TABLE - {"net_index"}
    for content, whose in ((students, "students"), (teacher, "teacher")):
        missing = sorted(needed - content.keys())
        if missing:
            raise ValueError(f"{where}: the {whose}' file lacks {', '.join(missing)}")
    unused = sorted(map(str, students.keys() - _USED_OF_TABLE))
    if unused:
        _LOG.warning("%s: not used: %s", where, ", ".join(unused))
    best, percent = as_fractions(students["best_acc"])
    final, _ = as_fractions(students["final_acc"], percent)
    teacher_best, teacher_percent = as_fractions(teacher["best_acc"])
    teacher_final, _ = as_fractions(teacher["final_acc"], teacher_percent)
    texts = texts_of(students["depth_config"], students["channel_widths"])
    num_classes = NUM_CLASSES.get(key.split("-")[0], 0)
    params, macs = _costs(texts, num_classes)
    unknown = torch.full_like(best, math.nan)
    return TaskTable(
        task=key.replace("-", "/"),
        description=f"{key}, from the released database",
        space_name=ResNetSpace().name,
        resolution=RESOLUTION,
        num_classes=num_classes,
        actmap=stack_maps(students[MAPS]),
        arch_enc=stack_codes(students["arch_enc"]),
        architectures=texts,
        best_accuracy=best,
        final_accuracy=final,
        initial_accuracy=unknown,
        final_loss=_numbers(students["final_loss"]),
        num_params=params,
        macs=macs,
        seed_best_accuracy=best[:, None],
        teacher_actmap=stack_maps(teacher[MAPS])[:1],
        teacher_enc=stack_codes(teacher["arch_enc"])[:1],
        teacher_best_accuracy=float(teacher_best[0]),
        teacher_final_accuracy=float(teacher_final[0]),
        teacher_initial_accuracy=math.nan,
        probe=None,
        meta={
            "unit": "fraction",
            "origin": "official",
            "pr_type": "copy_paste_first",
            "converted_from_percent": percent,
            "unused": unused,
        },
    )


def to_candidates(key: str, content: Mapping[str, Any], where: str) -> Candidates:
    """Candidates of one unseen dataset, content of the released `preprocessed/search/{key}.pt`.

    Raises:
        ValueError: a list is missing or of another length.
    """
    try:
        maps, codes = content[MAPS], content["pred_inp"]["arch_enc"]
        info = content["arch_info"]
        texts = texts_of(info["depth_config"], info["channel_widths"])
    except KeyError as error:
        raise ValueError(f"{where} lacks {error}") from None
    return Candidates(
        task=key.replace("-", "/"),
        space_name=ResNetSpace().name,
        resolution=RESOLUTION,
        actmap=stack_maps(maps),
        arch_enc=stack_codes(codes),
        architectures=texts,
        origin="official",
    )


def as_fractions(values: Sequence[Any], percent: bool | None = None) -> tuple[Tensor, bool]:
    """Accuracies as float32 fractions, and whether they came in percent.

    Args:
        values: numbers or tensors of one number.
        percent: the unit where it is known; None takes values above 1 as percent.
    """
    numbers = _numbers(values)
    if percent is None:
        percent = bool((numbers > 1).any())
    return (numbers / 100 if percent else numbers), percent


def stack_maps(maps: Sequence[Tensor]) -> Tensor:
    """(N, C, h, w) of N tensors (1, C, h, w) or (C, h, w)."""
    return torch.stack([torch.as_tensor(one).float().reshape(one.shape[-3:]) for one in maps])


def stack_codes(codes: Sequence[Tensor]) -> Tensor:
    """(N, L) of N tensors with L numbers."""
    return torch.stack([torch.as_tensor(one).float().flatten() for one in codes])


def texts_of(depths: Sequence[Sequence[int]], widths: Sequence[Sequence[Sequence[int]]]) -> tuple[str, ...]:
    """Text forms of architectures; entries of a stage's widths beyond its depth are inactive."""
    archs = (
        ResNetArch(tuple(tuple(int(w) for w in stage[: int(d)]) for d, stage in zip(depth, width, strict=True)))
        for depth, width in zip(depths, widths, strict=True)
    )
    return tuple(ResNetSpace().format(arch) for arch in archs)


def _costs(texts: Sequence[str], num_classes: int) -> tuple[Tensor, Tensor]:
    """Parameters and MACs; 0 for unknown datasets."""
    if num_classes == 0:
        return torch.zeros(len(texts), dtype=torch.int64), torch.zeros(len(texts), dtype=torch.int64)
    archs = (ResNetArch(tuple(tuple(map(int, s.split("-"))) for s in text.split("_"))) for text in texts)
    costs = [ResNetSpace().cost(arch, num_classes, RESOLUTION) for arch in archs]
    return torch.tensor([cost.num_params for cost in costs]), torch.tensor([cost.macs for cost in costs])


def _numbers(values: Sequence[Any]) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float32)


def _check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    wrong = sorted(n for n in expected.keys() & state.keys() if state[n].shape != expected[n].shape)
    parts = {"missing": missing, "unknown": unknown, "of another shape": wrong}
    found = [f"{what}: {', '.join(names)}" for what, names in parts.items() if names]
    if found:
        raise ValueError(f"{where} does not map onto the network: {'; '.join(found)}")
