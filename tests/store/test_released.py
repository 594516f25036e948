"""Files of released code: what may be in them, and what is said about the others."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.store.released import read_released


class Foreign:
    """Something that needs code to be made."""

    def __init__(self, *content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return (Foreign, (1, [2, 3]), {"hung": "on it"})


class StandIn:
    """What is made in its place."""

    def __init__(self, first: int, rest: list[int]) -> None:
        self.numbers = [first, *rest]

    def __setstate__(self, state: object) -> None:
        """Drop it."""


CONTENT = {"weights": torch.arange(4.0), "acc": np.float64(0.5), "array": np.arange(3), "texts": ["a", ("b", 1)]}


@pytest.mark.parametrize("is_zip", [True, False])
def test_tensors_plain_values_and_numpy_are_read(tmp_path: Path, is_zip: bool) -> None:
    torch.save(CONTENT, tmp_path / "file.pt", _use_new_zipfile_serialization=is_zip)
    found = read_released(tmp_path / "file.pt")
    assert torch.equal(found["weights"], CONTENT["weights"])
    assert (found["acc"], found["array"].tolist(), found["texts"]) == (0.5, [0, 1, 2], ["a", ("b", 1)])


def test_a_file_written_with_numpy_1_is_read_too(tmp_path: Path) -> None:
    torch.save(CONTENT, tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as source, zipfile.ZipFile(tmp_path / "old.pt", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_released(tmp_path / "old.pt")["array"].tolist() == [0, 1, 2]


def test_another_object_is_not_made_but_named_with_what_to_do(tmp_path: Path) -> None:
    torch.save({"object": Foreign()}, tmp_path / "file.pt")
    with pytest.raises(RuntimeError, match=r"file\.pt holds objects of \S*Foreign, .*that can run code: open it where"):
        read_released(tmp_path / "file.pt")


def test_a_stand_in_takes_the_place_of_an_object_for_one_reading(tmp_path: Path) -> None:
    torch.save({"object": Foreign()}, tmp_path / "file.pt")
    found = read_released(tmp_path / "file.pt", [(StandIn, f"{Foreign.__module__}.Foreign")])["object"]
    assert isinstance(found, StandIn)
    assert vars(found) == {"numbers": [1, 2, 3]}
    with pytest.raises(RuntimeError, match="Foreign"):
        read_released(tmp_path / "file.pt")


@pytest.mark.parametrize("kept", [0, 10, 200])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_damaged_file_is_named(tmp_path: Path, kept: int, is_zip: bool) -> None:
    path = tmp_path / "file.pt"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=is_zip)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RuntimeError, match=r"file\.pt is damaged or no file of PyTorch's: download it anew"):
        read_released(path)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*other\.pt"):
        read_released(tmp_path / "other.pt")
