"""The published evaluations of the first paper: 12,611 trainings of the networks of two random pools.

A table holds one dataset and pool. A setting is how its networks were trained: with which distillation, on which part
of the images. Any search can run on a table instead of training.

Source: Trofimov et al., arXiv 2006.08341, released data.
"""

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.spaces.pool import Pool, read_mobilenet_pool, read_shufflenet_pool
from mfkd.domain import PoolDomain
from mfkd.evaluations import Evaluate, Evaluation, Fidelity
from mfkd.gaussian_process import Array

FOLDER = Path("mfkd")
"""Where the files lie in the data root, or beside it."""
_BENCHMARK, _ARCHS = "mfkd_benchmark.csv.gz", "mfkd_archs.csv"
_COLUMNS = ["dataset", "space", "arch", "method", "part", "valid_acc", "test_acc", "wall_time_s"]
_READERS: dict[str, Callable[[Path], Pool[Any]]] = {
    "mobilenet": read_mobilenet_pool,
    "shufflenet": read_shufflenet_pool,
}
_COUNTS = 30_000  # accuracies of CIFAR-100 are counts of 10,000 images, or means of three such counts
_HALF_DIGIT = 5.1e-7  # the file has six digits


class Setting(NamedTuple):
    """How networks were trained: distillation ("nokd" for none), on one `part`-th of the images."""

    method: str
    part: int


FULL = Setting("nokd", 1)
"""High fidelity."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """Evaluations of all N networks of a pool in one setting, NaN where a network was not trained.

    Attributes:
        valid: (N,) accuracies in [0, 1] on validation images.
        test: (N,) accuracies in [0, 1] on test images.
        seconds: (N,) of the authors' GPU.
    """

    valid: Array
    test: Array
    seconds: Array


@dataclass(frozen=True, eq=False)
class EvaluationTable:
    """Published evaluations of one pool on one dataset.

    Attributes:
        dataset: "cifar100" or "imagenet".
        space: "mobilenet" (100 networks) or "shufflenet" (300).
        domain: the pool's features, scaled over it: channels and repetitions as published.
        measurements: by setting.
    """

    dataset: str
    space: str
    domain: PoolDomain
    measurements: Mapping[Setting, Measurements]

    def at(self, setting: Setting) -> Measurements:
        """Evaluations in a setting.

        Raises:
            ValueError: there are none; the message lists the settings that there are.
        """
        if setting not in self.measurements:
            known = ", ".join(f"{method} 1/{part}" for method, part in sorted(self.measurements))
            raise ValueError(
                f"{self.dataset} {self.space} has no evaluations of {setting.method} 1/{setting.part}; it has {known}"
            )
        return self.measurements[setting]

    def evaluate(self, low: Setting, high: Setting = FULL) -> Evaluate:
        """What a search calls in place of training: looks validation accuracies up.

        Raises:
            ValueError: a setting has no evaluations; when called, of a network that was not trained in it.
        """
        settings: dict[Fidelity, Setting] = {"low": low, "high": high}
        accuracies = {fidelity: self.at(setting).valid for fidelity, setting in settings.items()}

        def look_up(points: Sequence[int], fidelity: Fidelity) -> list[float]:
            found = accuracies[fidelity][list(points)]
            if np.isnan(found).any():
                missing = points[int(np.isnan(found).argmax())]
                raise ValueError(f"network {missing} was not trained with {settings[fidelity]} on {self.dataset}")
            return [float(accuracy) for accuracy in found]

        return look_up

    def seconds(self, evaluations: Iterable[Evaluation], low: Setting, high: Setting = FULL) -> float:
        """GPU seconds that some evaluations took."""
        settings: dict[Fidelity, Setting] = {"low": low, "high": high}
        return float(sum(self.at(settings[one.fidelity]).seconds[one.point] for one in evaluations))


def load_tables(data_root: Path) -> dict[tuple[str, str], EvaluationTable]:
    """All tables, by dataset and space.

    Args:
        data_root: folder with `mfkd/` in it or beside it.

    Raises:
        FileNotFoundError: the files are not there; the message says where they should be.
        ValueError: a file is damaged or holds something else; the message names it.
    """
    folder = _folder(data_root)
    read = _read(folder / _BENCHMARK)
    tables = {}
    for dataset, space in sorted({key[:2] for key in read}):
        if space not in _READERS:
            raise ValueError(f"{folder / _BENCHMARK} has the space {space!r}; known are {', '.join(_READERS)}")
        features = _READERS[space](folder / _ARCHS).features.numpy()
        measured = {
            Setting(*key[2:]): _measurements(rows, len(features), folder / _BENCHMARK)
            for key, rows in read.items()
            if key[:2] == (dataset, space)
        }
        tables[dataset, space] = EvaluationTable(dataset, space, PoolDomain(features), measured)
    return tables


def _folder(data_root: Path) -> Path:
    places = [data_root / FOLDER, data_root / ".." / FOLDER]
    for place in places:
        if (place / _BENCHMARK).is_file():
            return place
    raise FileNotFoundError(
        f"the published evaluations ({_BENCHMARK}, {_ARCHS}) are neither in {places[0]} nor in {places[1]}: put them "
        "there, or point NAS_DATA or --data-root to the folder that has them"
    )


_Row = tuple[int, float, float, float]


def _read(file: Path) -> dict[tuple[str, str, str, int], list[_Row]]:
    """Rows of (network, accuracies, seconds) by dataset, space, method and part."""
    found: dict[tuple[str, str, str, int], list[_Row]] = {}
    try:
        with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
            reader = csv.reader(lines)
            if next(reader, None) != _COLUMNS:
                raise ValueError(f"the columns are not {', '.join(_COLUMNS)}")
            for dataset, space, arch, method, part, *numbers in reader:
                valid, test, seconds = map(float, numbers)
                found.setdefault((dataset, space, method, int(part)), []).append((int(arch), valid, test, seconds))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{file} is damaged or no table of evaluations ({error}): fetch it again") from error
    return found


def _measurements(rows: list[_Row], size: int, file: Path) -> Measurements:
    table = np.full((size, 3), np.nan)
    numbers = np.array([row[0] for row in rows])
    values = np.array([row[1:] for row in rows])
    if len(np.unique(numbers)) < len(numbers) or numbers.min() < 0 or numbers.max() >= size:
        raise ValueError(f"{file} has a network twice in one setting, or one that is not among the {size} of its pool")
    if not ((values >= 0).all() and (values[:, :2] <= 1).all()):
        raise ValueError(f"{file} has an accuracy outside [0, 1] or a negative time: fetch it again")
    table[numbers] = values
    return Measurements(_unrounded(table[:, 0]), _unrounded(table[:, 1]), table[:, 2])


def _unrounded(accuracies: Array) -> Array:
    """Thirds of 1/10,000 as they were before six digits were written; one published choice hangs on them."""
    exact = np.round(accuracies * _COUNTS) / _COUNTS
    return np.where(np.abs(exact - accuracies) <= _HALF_DIGIT, exact, accuracies)
