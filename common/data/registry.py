"""Known image sets: what each is called, where its files lie and how large the full set is."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from common.data.digits import open_digits
from common.data.official import open_official
from common.data.packed import open_packed
from common.data.source import TEST, TRAIN, Source
from common.data.torchvision_sets import open_torchvision

Opener = Callable[[str, Path], Source | None]
"""(name, data root) -> the full set, or None where it is not there."""


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """One line of the registry."""

    openers: tuple[Opener, ...] = ()
    """Layouts the full set may have, in order of preference."""
    packed: tuple[str, ...] = ()
    """Stems of the packed files that together hold a copy, mostly a reduced one."""
    num_classes: int | None = None
    """Classes of the full set."""
    num_train: int | None = None
    """Training and validation images of the full set, official test part aside."""
    per_class: int | None = None
    """The same for each class, where it is the better figure to quote."""
    flip: bool = True
    """Whether a mirrored image keeps its label."""


FULL: tuple[Opener, ...] = (open_official, open_torchvision)

SETS: dict[str, KnownSet] = {
    "aircraft": KnownSet(openers=(open_torchvision,), num_classes=100, num_train=6667),
    "caltech101": KnownSet(packed=("caltech101",), num_classes=101),
    "cifar10": KnownSet(openers=(open_torchvision,), packed=("cifar10",), num_classes=10, num_train=50_000),
    "cifar100": KnownSet(openers=(open_torchvision,), packed=("cifar100",), num_classes=100, num_train=50_000),
    "cub": KnownSet(openers=(open_official,), packed=("cub100",), num_classes=200, num_train=5994),
    "dtd": KnownSet(openers=FULL, packed=("dtd10",), num_classes=47, num_train=3760),
    "gtsrb": KnownSet(packed=("gtsrb",), num_classes=43, num_train=39_209, flip=False),
    "mnist": KnownSet(openers=(open_torchvision,), packed=("mnist",), num_classes=10, num_train=60_000, flip=False),
    "omniglot_small": KnownSet(packed=("omniglot_small",), flip=False),
    "pets": KnownSet(openers=(open_torchvision,), num_classes=37, num_train=3680),
    "quickdraw": KnownSet(openers=(open_official,), packed=("quickdraw345",), num_classes=345),
    "sign_digits": KnownSet(packed=("sign_digits",), flip=False),
    "stanford_cars": KnownSet(openers=FULL, packed=("stanford_cars",), num_classes=196, num_train=8144),
    "svhn": KnownSet(openers=(open_torchvision,), num_classes=10, num_train=73_257, flip=False),
    "tiny_imagenet": KnownSet(
        openers=(open_official,), packed=("tiny_imagenet_a", "tiny_imagenet_b"), num_classes=200, per_class=500
    ),
    "ants_bees": KnownSet(packed=("ants_bees",)),
    "blood_cells": KnownSet(packed=("blood_cells",)),
    "brain_mri": KnownSet(packed=("brain_mri",)),
    "cats_dogs": KnownSet(packed=("cats_dogs",)),
    "clothing10": KnownSet(packed=("clothing10",)),
    "flowers5": KnownSet(packed=("flowers5",)),
    "fruit_shapes": KnownSet(packed=("fruit_shapes",)),
    "imagenet1k_samples": KnownSet(packed=("imagenet1k_samples",)),
    "quickdraw6": KnownSet(packed=("quickdraw6",)),
    "rsscn7": KnownSet(packed=("rsscn7",)),
    "trashnet": KnownSet(packed=("trashnet",)),
}

ALIASES = {"cars": "stanford_cars"}

BUILT_IN = "digits"

PACKED_FOLDERS = ("", "images")
"""Where packed files lie, relative to the data root, in order of preference."""


def known_names(data_root: Path) -> list[str]:
    """Names that `open_known` takes: the registry and the packed files of the data root."""
    packed = (path.stem for folder in PACKED_FOLDERS for path in (data_root / folder).glob("*.npz"))
    return sorted({BUILT_IN, *SETS, *packed})


def canonical(name: str) -> str:
    """The one spelling of a name."""
    name = name.lower()
    return ALIASES.get(name, name)


def open_known(name: str, *, data_root: Path, seed: int) -> Source:
    """Open a set by name: the full one where it is there, else its packed copy.

    Args:
        name: a canonical name, or the stem of a packed file in the data root or in its folder `images`.
        data_root: folder of the sets.
        seed: of parts that have to be drawn.

    Raises:
        FileNotFoundError: the set is known but not there.
        ValueError: the name is unknown, or files are damaged.
    """
    if name == BUILT_IN:
        return open_digits(seed=seed)
    known = SETS.get(name, KnownSet(packed=(name,)))
    for opener in known.openers:
        source = opener(name, data_root)
        if source is not None:
            return replace(source, flip=known.flip)
    present = _packed_files(known, data_root)
    if present:
        return open_packed_set(name, present, name, known)
    if name in SETS:
        raise FileNotFoundError(_missing(name, known, data_root))
    raise ValueError(unknown_name(name, data_root))


def _packed_files(known: KnownSet, data_root: Path) -> list[Path]:
    """The packed files of a set that are there, all of them from one folder."""
    for folder in PACKED_FOLDERS:
        files = [data_root / folder / f"{stem}.npz" for stem in known.packed]
        present = [file for file in files if file.is_file()]
        if present:
            return present
    return []


def open_packed_set(id: str, files: list[Path], name: str, known: KnownSet) -> Source:
    """Open packed files and say what part of the full set they are."""
    source = open_packed(files, name=name, id=id, description=name, flip=known.flip)
    return replace(source, description=describe_packed(known, source))


def describe_packed(known: KnownSet, source: Source) -> str:
    """What part of the full set a packed copy is."""
    classes = len(source.class_names)
    num_train = int((source.split != TEST).sum())
    if known.num_classes and classes < known.num_classes:
        return f"{source.name}, reduced: {classes} of {known.num_classes} classes"
    if known.per_class:
        return f"{source.name}, reduced: {num_train // classes} of {known.per_class} training images a class"
    if known.num_train and num_train < known.num_train:
        return f"{source.name}, reduced: {num_train} training images of {known.num_train}"
    word = "reduced" if known.openers else "packed"
    return f"{source.name}, {word}: {classes} classes, {np.count_nonzero(source.split == TRAIN)} training images"


def unknown_name(name: str, data_root: Path) -> str:
    """Error text for a name that means nothing: the nearest names, then all."""
    names = known_names(data_root)
    near = difflib.get_close_matches(name, [*names, *ALIASES], n=3)
    guess = f" did you mean {' or '.join(near)}?" if near else ""
    return f"unknown dataset {name!r}:{guess} known are {', '.join(names)}, or give a folder of class folders"


def _missing(name: str, known: KnownSet, data_root: Path) -> str:
    files = " and ".join(f"{stem}.npz" for stem in known.packed)
    ways = [f"run `python -m download.dataset --name {name}`"] if known.openers else []
    ways += [f"put {files} there or in its folder images"] if files else []
    return f"{name} is not in {data_root}: {', or '.join(ways)}, or point NAS_DATA or --data-root to where it is"
