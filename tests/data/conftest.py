"""Small image folders and packed files for the data tests."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pictures import picture


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., Path]:
    """Writes images: fill({"train/cat": 3}) makes train/cat/0.png ... and returns the folder."""

    def write(counts: dict[str, int], name: str = "pets_of_mine") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for index, (place, count) in enumerate(counts.items()):
            (root / place).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                picture(100 * index + i).save(root / place / f"{i}.png")
        return root

    return write


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    """Writes a packed file from encoded images; further arrays replace the usual ones."""

    def write(
        blobs: Sequence[bytes], labels: Sequence[int], split: Sequence[int], /, name: str = "packed", **other: object
    ) -> Path:
        names = [f"class{i}" for i in range(max(labels, default=-1) + 1)]
        arrays: dict[str, object] = {
            "data": np.frombuffer(b"".join(blobs), np.uint8),
            "offsets": np.cumsum([0, *map(len, blobs)]).astype(np.int64),
            "labels": np.array(labels, np.int64),
            "split": np.array(split, np.uint8),
            "class_names": np.array(names),
            "shape": np.array([10, 12, 3]),
        }
        path = tmp_path / f"{name}.npz"
        kept = {key: value for key, value in (arrays | other).items() if value is not None}
        np.savez(path, **kept)  # type: ignore[arg-type]
        return path

    return write
