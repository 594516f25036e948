"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small tensors; workers x threads must not exceed the cores


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the packed image sets; a test that asks for it fails loudly where the folder is missing."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "images"
    root = Path(os.environ.get("NAS_DATA", beside)).resolve()  # tests change their folder
    for folder in (root, root / "images"):
        if (folder / "tiny_imagenet_a.npz").is_file():
            return folder
    pytest.fail(f"the packed image sets are not in {root}: set NAS_DATA to the folder that holds cub100.npz ...")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the caller's data root by accident."""
    monkeypatch.delenv("NAS_DATA", raising=False)
