"""Steps `zoo import` and `zoo export`: files of the released code into a zoo, and a zoo into such a file.

Source: Jeong et al., NeurIPS 2021, released code (formats only); see `tans.official`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from common.experiment.config import StepConfig, UsageError
from common.experiment.files import save_state
from common.store.weights import save_weights
from common.supernet import StoredSupernet, save_supernet
from tans.build_zoo import ZOO
from tans.networks import load_network
from tans.official import EXTRACTOR, read_meta_test, read_meta_train, read_model_zoo, read_space, read_supernet
from tans.shipped import default_zoo
from tans.zoo import Zoo, create_zoo, open_zoo
from tans.zoo_spaces import store_space
from tans.zoo_tables import (
    SUPERNET_FAMILY,
    UNKNOWN_PROBE,
    DatasetRow,
    NetworkRow,
    QueryRow,
    SupernetRow,
    ZooSettings,
    canonical_key,
    file_stem,
)
from tans.zoo_verify import file_sha256

_LOG = logging.getLogger(__name__)
_TEST = "meta_test_"
Kind = Literal["zoo", "train-features", "test-features", "space", "supernet"]
_ORDER: tuple[Kind, ...] = ("zoo", "train-features", "test-features", "space", "supernet")


@dataclass(frozen=True, kw_only=True)
class ImportConfig(StepConfig):
    """Bring files of the released TANS code into a zoo."""

    source: Path
    """One file, or a folder with some at any depth: p_mod_zoo.pt, p_m_train.pt (or meta_train.pt), meta_test_NAME.pt,
    saved_model*.pt, and supernets DATASET.pt."""
    zoo: Path = ZOO
    """Folder of the zoo; a new one is made from p_mod_zoo.pt."""
    kind: Literal["auto", "zoo", "train-features", "test-features", "space", "supernet"] = "auto"
    """What the file is; auto goes by its name."""
    resolution: int = 224
    """Side of the images that MACs are counted for; the files do not say it."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(StepConfig):
    """Write a zoo as the released code reads it, or one network's weights."""

    file: Path
    """What to write: a .pt file for a zoo, a .safetensors file for a network."""
    zoo: Path | None = None
    """Folder of the zoo; none takes the one that was built here, else the shipped one."""
    network: int | None = None
    """Id of the network; none writes the figures of all networks that have a topology."""


def import_zoo(cfg: ImportConfig) -> None:
    """Run `zoo import`.

    Raises:
        FileNotFoundError: the source is not there, or a file needs a zoo and there is none.
        ValueError: nothing there is of a known kind, or a file does not map onto ours; the message names it.
        RuntimeError: a file is damaged.
    """
    files = _files(cfg)
    print(f"zoo import: {len(files)} file{'s' if len(files) > 1 else ''} of {cfg.source} -> {cfg.zoo}", flush=True)
    for kind, path in files:
        print(f"  {kind} {path}: {_IMPORTERS[kind](path, cfg)}", flush=True)
    print(f"result: {len(files)} imported\nnext: python -m tans meta-train --zoo {cfg.zoo}")


def _files(cfg: ImportConfig) -> list[tuple[Kind, Path]]:
    """Files with their kinds, in the order in which they need one another."""
    if cfg.source.is_file():
        paths = [cfg.source]
    elif cfg.source.is_dir():
        paths = sorted(cfg.source.rglob("*.pt"))
    else:
        raise FileNotFoundError(f"there is no file or folder {cfg.source}")
    found = [(_kind(path) if cfg.kind == "auto" else cfg.kind, path) for path in paths]
    if not found:
        raise ValueError(f"{cfg.source} holds no .pt file of the released code")
    return sorted(found, key=lambda item: (_ORDER.index(item[0]), item[1]))


def _kind(path: Path) -> Kind:
    name = path.name
    if "mod_zoo" in name or "model_zoo" in name:
        return "zoo"
    if name in ("p_m_train.pt", "meta_train.pt"):
        return "train-features"
    if name.startswith(_TEST):
        return "test-features"
    return "space" if name.startswith("saved_model") else "supernet"


def _import_zoo(path: Path, cfg: ImportConfig) -> str:
    official = read_model_zoo(path)
    settings = ZooSettings(
        resolution=cfg.resolution,
        functional_dim=official.functional.shape[1],
        extractor=EXTRACTOR,
        probe=UNKNOWN_PROBE,
    )
    space = settings.space
    archs = space.from_topologies(official.topologies)
    seen: Counter[tuple[str, str]] = Counter()
    rows = []
    for place, key in enumerate(canonical_key(official.topologies)):
        dataset = official.dataset[place]
        seen[dataset, key] += 1  # released vectors that differ only beyond the depths are one network, but two rows
        number = seen[dataset, key]
        cost = space.cost(archs[place], 1, cfg.resolution)
        rows.append(
            NetworkRow(
                dataset=dataset,
                topology=tuple(official.topologies[place].tolist()),
                key=key if number == 1 else f"{key}#{number}",
                num_params=official.num_params[place],
                macs=cost.macs - space.plan.mix,
                feature_dim=space.plan.mix,
                accuracy=official.accuracies[place],
                details={"origin": "official"},
            )
        )
    with create_zoo(cfg.zoo, settings) as zoo:
        for name in sorted({*official.dataset}):
            zoo.put_dataset(_dataset(name, "meta-train", cfg.resolution))
        new = zoo.add(rows, official.functional)
    return f"{len(rows):,} networks of {len({*official.dataset})} datasets, {new:,} of them new"


def _dataset(name: str, split: str, resolution: int) -> DatasetRow:
    return DatasetRow(
        name=name,
        split=split,
        source=f"{name}, of the released files",
        class_names=(),
        num_train=0,
        num_evaluation=0,
        resolution=resolution,
        digest="official",
    )


def _query(zoo: Zoo, name: str, partition: str, features: Tensor) -> QueryRow:
    return QueryRow(
        dataset=name,
        partition=partition,
        extractor=zoo.settings.extractor,
        counts=torch.tensor([len(features)]),
        class_means=features.double().mean(0, keepdim=True).float(),
    )


def _import_train_features(path: Path, cfg: ImportConfig) -> str:
    found = read_meta_train(path)
    with open_zoo(cfg.zoo) as zoo:
        for name, parts in found.items():
            zoo.put_dataset(_dataset(name, "meta-train", zoo.settings.resolution))
            for partition, features in parts.items():
                zoo.put_query(_query(zoo, name, partition, features))
    return f"features of {len(found)} datasets"


def _import_test_features(path: Path, cfg: ImportConfig) -> str:
    name, features = path.stem.removeprefix(_TEST), read_meta_test(path)
    with open_zoo(cfg.zoo) as zoo:
        zoo.put_dataset(_dataset(name, "meta-test", zoo.settings.resolution))
        zoo.put_query(_query(zoo, name, "train", features))
    return f"{len(features)} features of {name}; its images are not taken over"


def _import_space(path: Path, cfg: ImportConfig) -> str:
    with open_zoo(cfg.zoo) as zoo:
        artifact = read_space(path, [*zoo.datasets()])
        artifact = replace(artifact, extractor=zoo.settings.extractor)
        store_space(zoo, artifact)
    return f"encoders {artifact.id}, {artifact.space.sizes.embedding_dim} wide"


def _import_supernet(path: Path, cfg: ImportConfig) -> str:
    with open_zoo(cfg.zoo) as zoo:
        name = path.stem
        if name not in zoo.datasets():
            raise ValueError(
                f"{path} has the name of no released file and of no dataset in {cfg.zoo}: say what it is with --kind"
            )
        supernet = read_supernet(path)
        if supernet.plan != zoo.settings.space.plan:
            raise UsageError(f"{path} is a supernet of width {supernet.plan.width_mult}, and {cfg.zoo} is of another")
        file = Path("supernets", f"{file_stem(name)}-official.safetensors")
        classes = tuple(map(str, range(supernet.num_classes)))
        save_supernet(
            zoo.folder / file,
            StoredSupernet(supernet=supernet, class_names=classes, resolution=zoo.settings.resolution, sources=(name,)),
        )
        row = SupernetRow(
            id=f"{file_stem(name)}-official",
            dataset=name,
            width_mult=supernet.plan.width_mult,
            num_classes=supernet.num_classes,
            file=str(file),
            sha256=file_sha256(zoo.folder / file),
            training={"origin": "official", "file": path.name},
        )
        zoo.put_supernet(row)
        condition = "dataset = ? AND supernet = '' AND family = ?"
        zoo.database.execute(f"UPDATE model SET supernet = ? WHERE {condition}", (row.id, name, SUPERNET_FAMILY))
    return f"supernet of {name}, {supernet.num_classes} classes"


_IMPORTERS: Mapping[Kind, Callable[[Path, ImportConfig], str]] = {
    "zoo": _import_zoo,
    "train-features": _import_train_features,
    "test-features": _import_test_features,
    "space": _import_space,
    "supernet": _import_supernet,
}


def export(cfg: ExportConfig) -> None:
    """Run `zoo export`.

    Raises:
        FileNotFoundError: there is no such zoo.
        UsageError: there is no such network, or nothing that the released code could read.
        OSError: the file cannot be written.
    """
    with open_zoo(cfg.zoo or default_zoo()) as zoo:
        if cfg.network is not None:
            row = zoo.network(cfg.network)
            about = {"kind": "tans-exported", "family": row.family, "dataset": row.dataset, "key": row.key}
            save_weights(cfg.file, load_network(zoo, row).state_dict(), about)
            print(f"result: weights of network {row.id} of {row.dataset} -> {cfg.file}")
            return
        rows = [row for row in zoo.networks() if row.topology is not None]
        if not rows:
            raise UsageError(f"{zoo.folder} has no network with a topology, which is all that the released code reads")
        functional = zoo.functional([row.id for row in rows])
        content = {
            "dataset": [row.dataset for row in rows],
            "topol": [list(row.topology or ()) for row in rows],
            "acc": [row.accuracy for row in rows],
            "f_emb": [vector.clone() for vector in functional],
            "n_params": [row.num_params for row in rows],
        }
        save_state(cfg.file, content)
        print(f"result: {len(rows):,} networks -> {cfg.file}")
