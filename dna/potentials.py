"""Files of ratings: one for each cell of each stage, as the released code writes them (YAML) and as we do (NumPy).

Source: released code of Li et al., CVPR 2020, CheckpointSaver (formats only).
"""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from common.experiment.files import write_bytes, write_text
from dna.archs import OPS, path_index, path_ops

Floats = NDArray[np.float64]

METRICS = ("cl_loss", "gr_loss", "loss", "prec1", "rela_loss", "sq_loss")
"""What is measured of each path: relative L1 (the rating), L1 over the mean magnitude, mean squared error (the training
loss), accuracy where labels are trained with, mean squared error over the variance, and its root over the variance."""
RATING = "cl_loss"
FORMAT = 1

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, kw_only=True, eq=False)
class Potential:
    """The ratings of all paths of one cell.

    Attributes:
        metrics: (6**L,) for each name of METRICS, in path order.
        top_index: path indices by rising `loss`.
        stage: 0 to 5, or None where the file does not say.
        width: of the cell in a retrained network, likewise.
    """

    metrics: Mapping[str, Floats]
    top_index: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    stage: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        """Check that every path has every metric, and that the order is one of them."""
        if {*self.metrics} != {*METRICS}:
            missing, unknown = sorted({*METRICS} - {*self.metrics}), sorted({*self.metrics} - {*METRICS})
            raise ValueError(f"ratings without {missing or 'nothing'} and with {unknown or 'nothing'} that is unknown")
        shapes = {name: values.shape for name, values in self.metrics.items()}
        num_paths = len(self.metrics[RATING])
        if {*shapes.values()} != {(num_paths,)} or num_paths != len(OPS) ** self.num_layers or num_paths < len(OPS):
            raise ValueError(f"ratings of shapes {shapes}: all must be of one length, a power of {len(OPS)}")
        index = self.top_index
        if len(np.unique(index)) != len(index) or not np.isin(index, np.arange(num_paths)).all():
            raise ValueError(f"top_index does not hold different paths of the {num_paths}")

    @property
    def num_layers(self) -> int:
        """Layers of the cell."""
        return round(math.log(max(len(self.metrics[RATING]), 1), len(OPS)))

    def rating(self, metric: str = RATING) -> Floats:
        """Ratings by which paths are searched, smaller is better.

        Raises:
            ValueError: the metric is unknown, a value is not finite, or all are zero, as the released code writes all
                but `loss` when it runs in one process.
        """
        if metric not in METRICS:
            raise ValueError(f"metric is {metric!r}: known are {', '.join(METRICS)}")
        values = self.metrics[metric]
        if not np.isfinite(values).all():
            raise ValueError(f"{metric} of path {np.flatnonzero(~np.isfinite(values))[0]} is not finite: rate it anew")
        if not values.any():
            raise ValueError(
                f"{metric} is zero for all paths, as the released code writes it when run in one process: rate the "
                "stage anew, or search by loss"
            )
        return values


def read_official(path: Path) -> Potential:
    """A `potential-*.yaml` of the released code.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is no YAML file, or not of this form.
    """
    content = _read_yaml(path)
    if not isinstance(content, dict):
        raise RuntimeError(f"{path} holds a {type(content).__name__}: a mapping of {', '.join(METRICS)} is needed")
    order = content.pop("top_index", [])
    try:
        metrics = {name: np.array(values, np.float64) for name, values in content.items()}
        return Potential(metrics=metrics, top_index=np.array(order, np.int64))
    except (ValueError, TypeError, OverflowError) as error:
        raise RuntimeError(f"{path} is no file of ratings: {error}") from error


def write_official(path: Path, potential: Potential) -> None:
    """Write what `read_official` and the released search read; stage and width are not kept."""
    content = {name: potential.metrics[name].tolist() for name in METRICS}
    _write_yaml(path, {**content, "top_index": potential.top_index.tolist()})


def save(path: Path, potential: Potential) -> None:
    """Write the compact form: a `.npz` file; equal ratings give equal bytes."""
    about = {"format": FORMAT, "stage": potential.stage, "width": potential.width}
    arrays: dict[str, Any] = {name: np.int64(-1 if value is None else value) for name, value in about.items()}
    buffer = io.BytesIO()
    metrics: dict[str, Any] = {name: potential.metrics[name] for name in METRICS}
    np.savez(buffer, ops=np.array(OPS), top_index=potential.top_index, **arrays, **metrics)
    write_bytes(path, buffer.getbuffer())


def load(path: Path) -> Potential:
    """Read what `save` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, of another format or of other ops.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of ratings {path}")
    try:
        with path.open("rb") as data, np.load(data) as file:  # NumPy leaves a damaged file open
            arrays = {name: file[name] for name in file.files}
        if (int(arrays["format"]), tuple(arrays["ops"].tolist())) != (FORMAT, OPS):
            raise ValueError(
                f"format {arrays['format']}, ops {arrays['ops'].tolist()}; this program reads {FORMAT}, {OPS}"
            )
        stage, width = (None if arrays[name] < 0 else int(arrays[name]) for name in ("stage", "width"))
        metrics = {name: arrays[name] for name in METRICS}
        return Potential(metrics=metrics, top_index=arrays["top_index"], stage=stage, width=width)
    except (ValueError, TypeError, KeyError, EOFError, OSError, AttributeError, zipfile.BadZipFile) as error:
        raise RuntimeError(f"{path} is damaged or no file of ratings ({error}): write it anew") from error


def read_pool(path: Path, num_layers: int) -> list[int]:
    """Path indices in a `modelpool-*.yaml` of the released code: its best encodings, by `loss`.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is not a list of encodings of so many layers.
    """
    content = _read_yaml(path)
    valid = isinstance(content, list) and all(
        isinstance(ops, list) and len(ops) == num_layers and all(type(op) is int and 0 <= op < len(OPS) for op in ops)
        for ops in content
    )
    if not valid:
        raise RuntimeError(f"{path} is no list of encodings of {num_layers} layers, each 0 to {len(OPS) - 1}")
    return [path_index(ops) for ops in content]


def write_pool(path: Path, paths: Sequence[int], num_layers: int) -> None:
    """Write what `read_pool` reads."""
    _write_yaml(path, [list(path_ops(index, num_layers)) for index in paths])


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RuntimeError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _write_yaml(path: Path, content: Any) -> None:
    write_text(path, yaml.dump(content, Dumper=_Dumper, default_flow_style=False))
