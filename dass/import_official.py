"""The step that turns files of the released DaSS code into ours, once.

Source: released code of Lee et al., ICLR 2023 (formats only); see `dass.official_files`.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.experiment.config import StepConfig
from common.experiment.files import write_json
from common.spaces.resnet import ResNetArch, ResNetSpace
from dass.candidates import save_candidates
from dass.database import save_table, table_path
from dass.networks import TrainedNetwork, save_network
from dass.official_files import (
    RESOLUTION,
    kind_of,
    read_official,
    to_candidates,
    to_network,
    to_predictor,
    to_table,
)
from dass.predictor import save_predictor

_LOG = logging.getLogger(__name__)
_TABLE_SUFFIX = "-logs_noise_actmap"


@dataclass(frozen=True, kw_only=True)
class ImportConfig(StepConfig):
    """Turn files of the released DaSS code into ours."""

    source: Path
    """One released file, or a folder (such as `preprocessed` or `checkpoint/teacher`) with some at any depth."""
    kind: Literal["auto", "teacher", "predictor", "database", "candidates"] = "auto"
    """What to import; auto takes all that it knows. Students' files are of kind teacher."""
    step_size: float | None = None
    """Step size of every weight of a predictor; None reads it from the `logs.pt` that lies beside it."""
    half: bool = True
    """Store the maps of a database as float16."""


def import_official(cfg: ImportConfig) -> None:
    """Import, and write `import.json` with what became of every file.

    Raises:
        FileNotFoundError: the source, the teacher of a task or the log of a predictor is not there.
        ValueError: nothing there is of the kind, or a file does not map onto ours; the message names it.
        RuntimeError: a file is damaged.
    """
    folder = cfg.out or Path("exp/dass/import-official")
    print(f"import-official: {cfg.source} -> {folder}")
    report: dict[str, dict[str, Any]] = {}
    for path in _released_files(cfg.source):
        content = read_official(path)
        kind = "teacher" if kind_of(content) == "network" else kind_of(content)
        if kind not in _IMPORTERS or cfg.kind not in ("auto", kind):
            _LOG.warning("%s: not imported (%s)", path, kind)
            continue
        target, notes = _IMPORTERS[kind](path, content, cfg, folder)
        report[str(path)] = {"kind": kind, "target": str(target), **notes}
        unused = f"; not used: {', '.join(notes['unused'])}" if notes.get("unused") else ""
        print(f"  {kind} {path} -> {target}{unused}")
    if not report:
        raise ValueError(f"{cfg.source} holds nothing of kind {cfg.kind} that the released code writes")
    write_json(folder / "import.json", report)
    print(f"result: {len(report)} file{'s' if len(report) > 1 else ''} imported")
    if any(entry["kind"] == "database" for entry in report.values()):
        print(f"next: python -m dass meta-train --database {folder / 'database'}")


def _released_files(source: Path) -> list[Path]:
    """The source, or the files in it; a database's teachers are read with their students, logs with predictors."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"there is no file or folder {source}")
    found = sorted([*source.rglob("*.pt"), *source.rglob("*.pth.tar")])
    return [p for p in found if p.name != "logs.pt" and not (p.parent.name == "teacher" and _is_table(p))]


def _is_table(path: Path) -> bool:
    return path.stem.endswith(_TABLE_SUFFIX)


def _import_network(
    path: Path, content: dict[str, Any], cfg: ImportConfig, folder: Path
) -> tuple[Path, dict[str, Any]]:
    found = to_network(content, str(path))
    if found.best_accuracy is None:
        raise ValueError(f"{path} has no best_acc: the accuracy of the teacher is needed to adapt the predictor to it")
    space, name = ResNetSpace(), _name_of(path)
    arch = space.validate(ResNetArch(found.widths))
    network = space.build(arch, found.num_classes, RESOLUTION)
    network.load_state_dict(found.state)
    target = folder / "teacher" / f"{name}.safetensors"
    trained = TrainedNetwork(
        network=network,
        role="teacher" if arch == space.teacher else "student",
        space=space,
        arch=arch,
        task=name.replace("-", "/"),
        description=f"{name}, from the released checkpoints",
        class_names=tuple(f"class {index}" for index in range(found.num_classes)),
        resolution=RESOLUTION,
        best_accuracy=found.best_accuracy,
        final_accuracy=found.best_accuracy,
        initial_accuracy=0.0,
        notes={
            "origin": "official",
            "unknown": "class names, final_accuracy (the best one stands there), initial_accuracy",
        },
    )
    save_network(target, trained)
    return target, {"best_accuracy": found.best_accuracy, "unused": list(found.unused)}


def _import_predictor(
    path: Path, content: dict[str, Any], cfg: ImportConfig, folder: Path
) -> tuple[Path, dict[str, Any]]:
    options = _options_beside(path)
    step_size = cfg.step_size if cfg.step_size is not None else getattr(options, "step_size", None)
    if step_size is None:
        raise FileNotFoundError(
            f"{path}: no logs.pt with the step size in {path.parent} or {path.parent.parent}: pass --step-size (the "
            "released script has 0.005)"
        )
    artifact = replace(
        to_predictor(content, float(step_size), str(path)),
        adapt=bool(getattr(options, "bilevel", True)),
        num_inner_updates=int(getattr(options, "num_inner_updates", 1)),
    )
    target = folder / "predictor" / f"{_name_of(path)}.safetensors"
    save_predictor(target, artifact)
    return target, {"step_size": float(step_size), "unused": artifact.notes["unused"]}


def _options_beside(path: Path) -> argparse.Namespace | None:
    for folder in (path.parent, path.parent.parent):
        if (folder / "logs.pt").is_file():
            options = read_official(folder / "logs.pt").get("args")
            return options if isinstance(options, argparse.Namespace) else None
    return None


def _import_table(path: Path, content: dict[str, Any], cfg: ImportConfig, folder: Path) -> tuple[Path, dict[str, Any]]:
    teacher = path.parent / "teacher" / path.name
    table = to_table(path.stem.removesuffix(_TABLE_SUFFIX), content, read_official(teacher), str(path))
    target = table_path(folder / "database", table.task)
    save_table(target, table, half=cfg.half)
    notes = {name: table.meta[name] for name in ("unused", "converted_from_percent")}
    return target, {"num_students": table.num_students, **notes}


def _import_candidates(
    path: Path, content: dict[str, Any], cfg: ImportConfig, folder: Path
) -> tuple[Path, dict[str, Any]]:
    candidates = to_candidates(path.stem, content, str(path))
    target = folder / "candidates" / f"{path.stem}.safetensors"
    save_candidates(target, candidates)
    return target, {"num_candidates": len(candidates.architectures)}


def _name_of(path: Path) -> str:
    """`cub` of `cub/model_best.pth.tar`, `dass` of `dass/checkpoint/model_best.pth.tar`, else the file's own name."""
    if not path.name.startswith("model_best"):
        return path.name.removesuffix(".pth.tar").removesuffix(".pt")
    folder = path.resolve().parent
    return folder.parent.name if folder.name == "checkpoint" else folder.name


_IMPORTERS: dict[str, Callable[[Path, dict[str, Any], ImportConfig, Path], tuple[Path, dict[str, Any]]]] = {
    "teacher": _import_network,
    "predictor": _import_predictor,
    "database": _import_table,
    "candidates": _import_candidates,
}
