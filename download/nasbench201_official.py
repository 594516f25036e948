"""The official file of NAS-Bench-201, read under a list of allowed types and turned into our table.

The file is a pickled dictionary of dictionaries, 4.7 GB of the accuracy and loss after every epoch of every training.

Source: Dong and Yang, ICLR 2020, package nas-bench-201 (`NASBench201API`, `ArchResults`, `ResultsCount`; format only).
"""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from common.spaces.nasbench201 import NasBench201Space
from common.spaces.nasbench201_table import COLUMNS, AccuracyTable, Column
from common.store.released import read_released

MEMORY_FACTOR = 7.1
"""Bytes of memory for each byte of the file while it is read, measured on a file that the package's classes wrote."""

_RUNS = {12: "less", 200: "full"}
_SETS = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16_120": "ImageNet16-120"}
_ENTRIES = ("meta_archs", "arch2infos")


def read_official(path: Path) -> dict[str, Any]:
    """Unpickle the official file, under the list of allowed types.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, holds another type or is another kind of file.
    """
    content = read_released(path)
    if not isinstance(content, dict) or not {*_ENTRIES} <= {*content}:
        raise RuntimeError(f"{path} is not the official file of NAS-Bench-201, which has {' and '.join(_ENTRIES)}")
    return content


def to_table(content: Mapping[str, Any]) -> AccuracyTable:
    """Mean over the trainings of each cell, of the accuracy after the last epoch.

    Args:
        content: of the official file; a column that some cell lacks is left out.

    Raises:
        ValueError: a cell is missing, malformed or has another form than in the file of version 1.1.
    """
    space = NasBench201Space()
    texts = content["meta_archs"]
    try:
        cells = tuple(space.parse(text) for text in texts)
        infos = [content["arch2infos"].get(index) for index in range(len(cells))]
        missing = [index for index, info in enumerate(infos) if info is None]
        if missing:
            raise ValueError(f"{len(missing)} of {len(cells)} cells have no results, the first is {missing[0]}")
        rows = [_accuracies(info, text) for info, text in zip(infos, texts, strict=True)]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"it has another form than NAS-Bench-201-v1_1-096897.pth ({type(error).__name__}: {error})"
        ) from error
    held = [column for column in COLUMNS if rows and all(column in row for row in rows)]
    return AccuracyTable(cells, {column: torch.tensor([row[column] for row in rows]) / 100 for column in held})


def _accuracies(info: Mapping[str, Any], text: str) -> dict[Column, float]:
    """Percentages of one cell, as far as they are there."""
    found = {}
    for column in COLUMNS:
        results = info[_RUNS[column.epochs]]
        if results["arch_str"] != text:
            raise ValueError(f"the results of {results['arch_str']!r} stand where those of {text!r} must")
        training, part = _training(column)
        trials = [results["all_results"][training, seed] for seed in results["dataset_seed"].get(training, [])]
        values = [trial["eval_acc1es"].get(f"{part}@{trial['epochs'] - 1}") for trial in trials]
        if values and None not in values:
            found[column] = fmean(map(float, values))
    return found


def _training(column: Column) -> tuple[str, str]:
    """Names of the training and of the images evaluated on.

    CIFAR-10 has a training of its own, on half of the images, for its validation accuracy; the others halve the
    official test images.
    """
    if column.dataset == "cifar10":
        return ("cifar10", "ori-test") if column.split == "test" else ("cifar10-valid", "x-valid")
    return _SETS[column.dataset], f"x-{column.split}"
