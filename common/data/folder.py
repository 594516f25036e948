"""A folder of class folders: the user's own images."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from common.data.source import TEST, TRAIN, VALID, Source, require_images, stratified_split

logger = logging.getLogger(__name__)

PARTS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALID,
    "valid": VALID,
    "validation": VALID,
    "test": TEST,
    "testing": TEST,
}
"""Folder names that stand for a part of the set rather than for a class."""

SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".pbm",
        ".pgm",
        ".ppm",
        ".pnm",
        ".tga",
        ".jp2",
        ".avif",
    }
)
"""Files taken for images; others are counted in the log and left alone."""


def open_folder(folder: Path, *, seed: int) -> Source:
    """Images in class folders, with or without train, valid (val) and test folders around them.

    Images are found at any depth below the class folder; hidden files and folders are ignored. Without a valid or test
    part, a fifth of every class is drawn for testing.

    Args:
        folder: an existing folder.
        seed: of the drawing.

    Raises:
        FileNotFoundError: the folder is not there, or holds no image.
        ValueError: there are no class folders, one class only, or a class without images.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    name = folder.resolve().name
    children = sorted(child for child in folder.iterdir() if child.is_dir() and not _hidden(child.name))
    files, labels, split, class_names = _find(folder, children)
    if len(files) == 1:
        raise ValueError(f"{folder} holds one image in all ({files[0].name}): add images, at least two in each class")
    require_images(str(folder), labels, class_names)
    if set(split) == {TRAIN}:
        split = stratified_split(labels, seed)
        single = [class_names[label] for label in np.flatnonzero(np.bincount(labels) == 1)]
        if single:
            logger.warning("%s: one image only, used for training, none to test on: %s", folder, ", ".join(single))
    return Source(
        name=name,
        id=f"folder:{name}",
        origin=folder,
        read=lambda row: Image.open(files[row]),
        locate=lambda row: str(files[row]),
        labels=labels,
        split=split,
        class_names=class_names,
        description=f"{name}: {len(class_names)} classes, {len(files)} images",
        flip=True,
    )


def _find(folder: Path, children: list[Path]) -> tuple[list[Path], np.ndarray, np.ndarray, tuple[str, ...]]:
    """Files, labels, parts and class names below a folder."""
    parts = _parts(children)
    found: list[tuple[int, str, Path]] = []
    names: set[str] = set()
    others: Counter[str] = Counter()
    for part, top in parts or [(TRAIN, folder)]:
        for child in sorted(top.iterdir()):
            if child.is_dir() and not _hidden(child.name):
                if part == TRAIN:
                    names.add(child.name)
                found += [(part, child.name, path) for path in _images(child, others)]
    loose = sum(_is_image(path) for top in [folder, *(top for _, top in parts)] for path in top.iterdir())
    if not found:
        _nothing_found(folder, loose, others)
    _report_ignored(folder, loose, others)
    class_names = tuple(sorted(names))
    extra = sorted({name for _, name, _ in found} - names)
    if extra:
        raise ValueError(f"{folder}: class {extra[0]} has images to test on but none in the train folder")
    index = {name: label for label, name in enumerate(class_names)}
    labels = np.array([index[name] for _, name, _ in found], np.int64)
    split = np.array([part for part, _, _ in found], np.uint8)
    return [path for _, _, path in found], labels, split, class_names


def _parts(children: list[Path]) -> list[tuple[int, Path]]:
    """Train, valid and test folders; none when these are classes that happen to bear such names."""
    parts = [(PARTS[child.name.lower()], child) for child in children if child.name.lower() in PARTS]
    rest = [child for child in children if child.name.lower() not in PARTS]
    if TRAIN not in {part for part, _ in parts} or any(any(_images(child, Counter())) for child in rest):
        return []
    return parts


def _images(folder: Path, others: Counter[str]) -> Iterator[Path]:
    """Image files at any depth, in a fixed order; counts the suffixes of other files."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(child for child in folders if not _hidden(child))
        for file in sorted(files):
            path = Path(top, file)
            if _is_image(path):
                yield path
            elif not _hidden(file):
                others[path.suffix.lower() or "no suffix"] += 1


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not _hidden(path.name) and path.is_file()


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # the latter: what macOS adds to zip archives


def _nothing_found(folder: Path, loose: int, others: Counter[str]) -> None:
    if loose:
        raise ValueError(f"{folder} holds images but no class folders: move them to {folder}/CLASS/, a folder a class")
    if others:
        suffix, count = others.most_common(1)[0]
        raise ValueError(
            f"{folder} holds no image that can be read ({count} files are {suffix}): save them as JPEG or PNG"
        )
    raise FileNotFoundError(f"{folder} is empty: it should hold a folder of images for each class")


def _report_ignored(folder: Path, loose: int, others: Counter[str]) -> None:
    if loose:
        logger.warning("%s: %d images outside the class folders are not used", folder, loose)
    if others:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        logger.warning("%s: files that are not images of a known type are not used: %s", folder, counts)
