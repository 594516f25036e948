"""Step `import-official`: turn checkpoints, features and databases of the released code into ours, once.

Source: released code of Lee et al., ICLR 2021 (formats only); see `metad2a.official` and `metad2a.official_data`.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from common.experiment.config import StepConfig
from common.experiment.files import write_json
from common.spaces import MobileNetV3Space, NasBench201Space
from common.supernet import StoredSupernet, fold_normalisation, read_official_supernet, save_supernet
from metad2a.artifacts import Artifact, save_artifact
from metad2a.database import save_database
from metad2a.feature_files import features_path, save_features
from metad2a.generator import Generator
from metad2a.official import read_checkpoint
from metad2a.official_data import read_database, read_features, read_tasks
from metad2a.predictor import Normaliser
from metad2a.spaces import VIEWS

_LOG = logging.getLogger(__name__)

EXTRACTOR, SOURCE, NUM_SAMPLE = "resnet18-imagenet", "imagenet32", 20
"""What the released models were trained on: features of ResNet-18, classes of ImageNet at 32 pixels, draws of 20."""
ACCURACY_MEAN, ACCURACY_DEVIATION = 0.715715, 0.066932
"""Of the 4,230 training rows of the published database; the checkpoint does not hold them."""
_FEATURES = "bylabel.pt"
_NAMES = {"imgnet32": SOURCE}
_TASKS = "meta_train_task_lst.pt"
_DATABASE, _ORDER = "meta_train_tasks_", "_idx.pt"
_SUPERNET = "ofa_mbv3_"
_CELL_SIDE, _NETWORK_SIDE = 32, 224
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What released supernets take off pixels in [0, 1], and divide them by."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig(StepConfig):
    """Turn files of the released MetaD2A code, and released once-for-all supernets, into ours."""

    source: Path
    """One released file, or a folder with some at any depth."""
    kind: Literal["auto", "checkpoint", "features", "database", "supernet"] = "auto"
    """What to import; auto takes all that it knows."""
    mean: float | None = None
    """Mean accuracy, a fraction, of the rows that a predictor learned from; none takes the published one of cells. That
    of networks was not published: without it their scores rank only."""
    deviation: float | None = None
    """Their standard deviation."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if (self.mean is None) != (self.deviation is None):
            raise ValueError(f"mean {self.mean}, deviation {self.deviation}: give both or none")


def import_official(cfg: ImportConfig) -> None:
    """Import, and write `import.json` with what became of every file.

    Raises:
        FileNotFoundError: the source, or a file that a database needs beside it, is not there.
        ValueError: nothing there is of the kind, or a file does not map onto ours; the message names it.
        RuntimeError: a file is damaged.
    """
    folder = cfg.out or Path("exp/metad2a/import-official")
    print(f"import-official: {cfg.source} -> {folder}")
    report: dict[str, dict[str, Any]] = {}
    for path in _released_files(cfg.source):
        kind = _kind_of(path)
        if kind is None or cfg.kind not in ("auto", kind):
            _LOG.warning("%s: not imported%s", path, "" if kind is None else f" ({kind})")
            continue
        found = _IMPORTERS[kind](path, cfg, folder)
        if found is None:
            continue
        target, notes = found
        report[str(path)] = {"kind": kind, "target": str(target), **notes}
        unused = f"; not used: {', '.join(notes['unused'])}" if notes.get("unused") else ""
        print(f"  {kind} {path} -> {target}{unused}")
    if not report:
        raise ValueError(f"{cfg.source} holds nothing of kind {cfg.kind} that the released code writes")
    write_json(folder / "import.json", report)
    print(f"result: {len(report)} file{'s' if len(report) > 1 else ''} imported")
    print(f"next: python -m metad2a search --pair {folder} --features.imported {folder / 'features'} --data cifar10")


def _released_files(source: Path) -> list[Path]:
    """The source, or the files in it; tasks and orders are read with the databases that they belong to."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"there is no file or folder {source}")
    found = [*source.rglob("*.pt"), *source.rglob(f"{_SUPERNET}*")]
    return sorted(path for path in found if path.name != _TASKS and not path.name.endswith(_ORDER))


def _kind_of(path: Path) -> str | None:
    if path.name.startswith(_SUPERNET):
        return "supernet"
    if path.name.endswith(_FEATURES):
        return "features"
    if path.name.startswith(_DATABASE):
        return "database"
    return None if path.name == "nasbench201.pt" else "checkpoint"  # that one is the table


def _import_checkpoint(path: Path, cfg: ImportConfig, folder: Path) -> tuple[Path, dict[str, Any]] | None:
    found = read_checkpoint(path)
    sizes, is_generator = found.model.sizes, isinstance(found.model, Generator)
    views = [
        view for view in VIEWS.values() if (view.num_types, view.num_vertices) == (sizes.num_types, sizes.max_nodes)
    ]
    if not views:
        _LOG.warning("%s: not imported (graphs of %d vertices, of no space here)", path, sizes.max_nodes)
        return None
    is_cells = views[0].name == "nasbench201"
    artifact: Artifact[Any] = Artifact(
        model=found.model,
        space_name=NasBench201Space().name if is_cells else MobileNetV3Space().name,
        extractor=EXTRACTOR,
        sources=(SOURCE,),
        num_sample=NUM_SAMPLE,
        training_cells=torch.zeros(0, dtype=torch.int64),
        normaliser=None if is_generator else _normaliser(cfg, is_cells=is_cells),
        origin="official",
        notes={
            "file": path.name,
            "labels": "train" if is_cells else "supernet",
            "resolution": _CELL_SIDE if is_cells else _NETWORK_SIDE,
            "unused": list(found.unused),
        },
    )
    target = (folder if is_cells else folder / "mobilenetv3") / f"{artifact.kind}.safetensors"
    save_artifact(target, artifact)
    return target, {"model": artifact.kind, "hidden_dim": sizes.hidden_dim, "unused": list(found.unused)}


def _normaliser(cfg: ImportConfig, *, is_cells: bool) -> Normaliser | None:
    if cfg.mean is not None and cfg.deviation is not None:
        return Normaliser(cfg.mean, cfg.deviation)
    return Normaliser(ACCURACY_MEAN, ACCURACY_DEVIATION) if is_cells else None


def _import_supernet(path: Path, cfg: ImportConfig, folder: Path) -> tuple[Path, dict[str, Any]]:
    supernet = read_official_supernet(path)
    fold_normalisation(supernet, _IMAGENET_MEAN, _IMAGENET_STD)
    num_classes, plan = supernet.num_classes, supernet.plan
    stored = StoredSupernet(
        supernet=supernet,
        class_names=tuple(map(str, range(num_classes))),
        resolution=_NETWORK_SIDE,
        sources=("imagenet",),
        notes={"origin": "official", "file": path.name},
    )
    target = folder / f"supernet-w{plan.width_mult}.safetensors"
    save_supernet(target, stored)
    return target, {"width_mult": plan.width_mult, "num_classes": num_classes}


def _import_features(path: Path, cfg: ImportConfig, folder: Path) -> tuple[Path, dict[str, Any]]:
    name = path.name.removesuffix(_FEATURES)
    source, by_class = _NAMES.get(name, name), read_features(path)
    target = features_path(folder / "features", source)
    save_features(target, by_class, extractor=EXTRACTOR, source=source)
    return target, {"num_classes": len(by_class), "num_images": sum(map(len, by_class))}


def _import_database(path: Path, cfg: ImportConfig, folder: Path) -> tuple[Path, dict[str, Any]]:
    tasks, order = path.with_name(_TASKS), path.with_name(path.stem + _ORDER)
    for beside in (tasks, order):
        if not beside.is_file():
            raise FileNotFoundError(f"{path} is no use without {beside}, which is not there")
    database = read_database(path, read_tasks(tasks), order, source=SOURCE)
    target = folder / f"{path.stem.removeprefix(_DATABASE)}_database.safetensors"
    save_database(target, database)
    return target, {"num_rows": database.num_rows, "unused": database.meta["unused"]}


_IMPORTERS: dict[str, Callable[[Path, ImportConfig, Path], tuple[Path, dict[str, Any]] | None]] = {
    "checkpoint": _import_checkpoint,
    "features": _import_features,
    "database": _import_database,
    "supernet": _import_supernet,
}
