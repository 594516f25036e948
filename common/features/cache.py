"""Features of a task's images, computed once and kept in a file."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from common.data.source import Indices, Source, decode, require_images
from common.data.tasks import TaskPlan, plan_task
from common.experiment.names import slug
from common.experiment.progress import track
from common.experiment.seeds import generator
from common.features.extractors import RESOLUTION, Extractor, embed
from common.features.normalisation import Statistics, channel_statistics, published_statistics
from common.features.sets import FeatureSet
from common.store.weights import load_weights, save_weights

logger = logging.getLogger(__name__)

CACHE = Path("exp", "features")
"""Folder of the files."""

Part = Literal["train", "evaluation"]

_KIND = "features"
_CHUNK = 2048  # images decoded at once: 6 MB, however large the set is
_STATISTICS_IMAGES = 4096  # a sample: the mean of as many images is known to a hundredth of their deviation


def features_of(
    data: str | Path,
    *,
    extractor: Extractor,
    data_root: Path | None = None,
    device: torch.device,
    cache: Path | None = CACHE,
    max_per_class: int | None = None,
    seed: int = 0,
    part: Part = "train",
) -> FeatureSet:
    """Features of a task's images, from the cache where they are there.

    Args:
        data: whatever `open_task` takes.
        extractor: moved to `device`.
        data_root: folder of the known sets; None: $NAS_DATA, else ./dataset.
        device: where to compute.
        cache: folder of the files; None keeps nothing. A file is named after the task, the extractor and the settings;
            one that is damaged or of other images is replaced, with a warning.
        max_per_class: images of a class at most, drawn with the seed; None takes all.
        seed: of that drawing, of the sample that channel means are computed from, and of parts as in `open_task`.
        part: the training images, or those that accuracy is measured on.

    Returns:
        All images of the part, class after class, on the CPU. Images are normalised with the published
        constants of their set, where there are some, else with those of (at most 4,096 of) the training images.

    Raises:
        FileNotFoundError, ValueError: as `open_task`; or max_per_class is below 1.
        OSError: the cache cannot be written.
    """
    if max_per_class is not None and max_per_class < 1:
        raise ValueError(f"max_per_class is {max_per_class}: give 1 or more images, or none for all")
    source, plan = plan_task(data, data_root=data_root, seed=seed)
    rows = plan.train if part == "train" else plan.evaluation
    key = _key(source, plan, rows, extractor, max_per_class=max_per_class, seed=seed)
    file = None if cache is None else Path(cache) / _file_name(plan, extractor, max_per_class, seed, part)
    found = None if file is None else _read(file, key)
    if found is None:
        chosen = _choose(source, plan, rows, max_per_class, seed)
        found = _compute(source, plan, chosen, extractor.to(device), device=device, seed=seed)
        if part == "train":
            require_images(plan.id, found.labels.numpy(), found.class_names)
        if file is not None:
            _write(file, found, key)
    return found


def _compute(
    source: Source, plan: TaskPlan, rows: Indices, extractor: Extractor, *, device: torch.device, seed: int
) -> FeatureSet:
    """Decode and embed chunk by chunk; what is in memory does not grow with the images but with their features."""
    mean, std = _statistics(source, plan, seed)
    features, kept = [], []
    chunks = np.split(rows, range(_CHUNK, len(rows), _CHUNK))
    for chunk in track(chunks, description=f"features of {plan.id}"):
        decoded = decode(source, chunk, RESOLUTION)
        features.append(embed(extractor, decoded.images, mean, std, device=device))
        kept.append(decoded.rows)
    labels = plan.renumber(source.labels[np.concatenate(kept)])
    class_names = tuple(source.class_names[label] for label in plan.classes)
    return FeatureSet(
        extractor=extractor.id,
        source=plan.id,
        description=plan.description,
        features=torch.cat(features),
        labels=torch.from_numpy(labels),
        class_names=class_names,
    )


def _choose(source: Source, plan: TaskPlan, rows: Indices, max_per_class: int | None, seed: int) -> Indices:
    """Rows, class after class, at most so many of each, drawn by random keys."""
    labels = plan.renumber(source.labels[rows])
    keys = torch.rand(len(labels), dtype=torch.float64, generator=generator(seed, "features", plan.id)).numpy()
    order = np.lexsort((keys, labels))
    starts = np.searchsorted(labels[order], labels[order])  # where the class of each begins
    within = np.arange(len(order)) - starts
    chosen = order if max_per_class is None else order[within < max_per_class]
    chosen = chosen[np.lexsort((rows[chosen], labels[chosen]))]  # in a class in the order of the set
    return rows[chosen]


def _statistics(source: Source, plan: TaskPlan, seed: int) -> Statistics:
    known = published_statistics(source.name) if source.id == source.name else None  # not of a folder of that name
    if known is not None:
        return known
    rows = np.sort(plan.train)
    if len(rows) > _STATISTICS_IMAGES:
        drawn = torch.randperm(len(rows), generator=generator(seed, "statistics", plan.id))
        rows = np.sort(rows[drawn[:_STATISTICS_IMAGES].numpy()])
    return channel_statistics(decode(source, rows, RESOLUTION).images)


def _key(
    source: Source, plan: TaskPlan, chosen: Indices, extractor: Extractor, *, max_per_class: int | None, seed: int
) -> str:
    """What the features of a file depend on, found without decoding an image: files by their size and time."""
    images = hashlib.sha256()
    for part in (plan.classes, chosen, source.labels[chosen]):
        images.update(np.ascontiguousarray(part).data)
    rows = np.sort(chosen).tolist()
    are_files = bool(rows) and Path(source.locate(rows[0])).is_file()
    places = [Path(source.locate(row)) for row in rows] if are_files else [source.origin] if source.origin else []
    for place in places:
        status = place.stat()
        images.update(repr((place.name, status.st_size, status.st_mtime_ns)).encode())
    names = [source.class_names[label] for label in plan.classes]
    settings = [plan.id, names, images.hexdigest(), extractor.id, max_per_class, seed]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def _file_name(plan: TaskPlan, extractor: Extractor, max_per_class: int | None, seed: int, part: Part) -> str:
    number = "all" if max_per_class is None else max_per_class
    of_part = "" if part == "train" else f"-{part}"
    return f"{slug(plan.id)}-{extractor.id}-{number}-{seed}{of_part}.safetensors"


def _read(file: Path, key: str) -> FeatureSet | None:
    """The features in a file, or None where it is not there, is damaged or holds others."""
    if not file.is_file():
        return None
    try:
        tensors, about = load_weights(file)
    except RuntimeError as error:
        logger.warning("features are computed again: %s", error)
        return None
    if about.get("kind") != _KIND or about.get("key") != key:
        logger.warning("features are computed again: %s is of other images, another extractor or other settings", file)
        return None
    return FeatureSet(
        extractor=about["extractor"],
        source=about["source"],
        description=about["description"],
        features=tensors["features"],
        labels=tensors["labels"],
        class_names=tuple(json.loads(about["class_names"])),
    )


def _write(file: Path, found: FeatureSet, key: str) -> None:
    about = {
        "kind": _KIND,
        "key": key,
        "extractor": found.extractor,
        "source": found.source,
        "description": found.description,
        "class_names": json.dumps(found.class_names),
    }
    save_weights(file, {"features": found.features, "labels": found.labels}, about)
