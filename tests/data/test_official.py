from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import picture

from common.data.open import open_dataset
from common.data.tasks import open_task


def write_official(
    root: Path, name: str, num_train: int, num_test: int, classes: int, held_out: str = "test", gray: bool = False
) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for side, num in (("train", num_train), (held_out, num_test)):
        shape = (num, 9, 9) if gray else (num, 9, 9, 3)
        np.save(folder / f"{side}_images.npy", random.integers(0, 256, shape, dtype=np.uint8))
        np.save(folder / f"{side}_labels.npy", np.arange(num) * classes // num)
    return folder


def test_the_official_arrays_win_over_the_packed_copy(tmp_path: Path) -> None:
    folder = write_official(tmp_path, "cub", 12, 6, 3)
    (tmp_path / "cub100.npz").write_bytes(b"not read")
    dataset = open_dataset("cub", resolution=9, data_root=tmp_path)
    assert dataset.description == "cub: 3 classes, 12 training images"
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == (12, 0, 6)
    assert np.array_equal(dataset.images[14].permute(1, 2, 0).numpy(), np.load(folder / "test_images.npy")[2])
    assert dataset.labels[12:].tolist() == [0, 0, 1, 1, 2, 2]


def test_gray_arrays_become_three_equal_channels(tmp_path: Path) -> None:
    folder = write_official(tmp_path, "quickdraw", 4, 2, 2, gray=True)
    dataset = open_dataset("quickdraw", resolution=9, data_root=tmp_path)
    assert (dataset.images == dataset.images[:, :1]).all()
    assert np.array_equal(dataset.images[0, 0].numpy(), np.load(folder / "train_images.npy")[0])


def test_quickdraw_is_trained_on_the_first_twenty_images_of_each_class(tmp_path: Path) -> None:
    folder = write_official(tmp_path, "quickdraw", 70, 6, 2, gray=True)
    task = open_task("quickdraw", resolution=9, data_root=tmp_path)
    assert torch.bincount(task.labels[task.train]).tolist() == [20, 20]
    first = np.load(folder / "train_images.npy")[[0, 19, 35, 54]]
    assert np.array_equal(task.images[task.train][[0, 19, 20, 39], 0].numpy(), first)
    assert task.description.endswith("trained on the first 20 a class: 40 images")
    assert len(task.evaluation) == 6


@pytest.mark.parametrize("place", [".", "labels"])
def test_tiny_imagenet_labels_are_found_in_both_places(tmp_path: Path, place: str) -> None:
    folder = write_official(tmp_path, "tiny_imagenet", 400, 200, 200, "valid")
    (folder / "labels").mkdir()
    for side in ("train", "valid"):
        (folder / f"{side}_labels.npy").rename(folder / place / f"{side}_labels.npy")
    dataset = open_dataset("tiny_imagenet", resolution=4, data_root=tmp_path)
    assert (len(dataset.train), len(dataset.test), dataset.num_classes) == (400, 200, 200)


def test_a_stored_split_is_used_as_it_is(tmp_path: Path) -> None:
    folder = write_official(tmp_path, "tiny_imagenet", 400, 200, 200, "valid")
    (folder / "10_split").mkdir()
    stored = {"label_list": np.array([7, 3]), "idx_train": np.array([15, 6]), "idx_valid": np.array([7, 14])}
    np.savez(folder / "10_split" / "split_3.npz", **stored)
    task = open_task("tiny_imagenet/3", resolution=9, data_root=tmp_path)
    assert task.class_names == ("7", "3")
    assert task.labels.tolist() == [1, 0, 1, 0]  # rows 6, 15 to train on, then 7, 14
    assert (task.train.tolist(), task.evaluation.tolist()) == ([0, 1], [2, 3])
    raw = np.load(folder / "train_images.npy")
    assert np.array_equal(task.images.permute(0, 2, 3, 1).numpy(), raw[[6, 15, 7, 14]])
    assert "stored split" in task.description


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"idx_train": np.array([15, 9999])}, "does not fit the images"),
        ({"idx_train": np.array([15, 100])}, "does not fit the images"),
        ({"label_list": None}, "cannot be read as a stored split"),
    ],
)
def test_a_stored_split_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    folder = write_official(tmp_path, "tiny_imagenet", 400, 200, 200, "valid")
    (folder / "10_split").mkdir()
    arrays = {"label_list": np.array([7, 3]), "idx_train": np.array([15, 6]), "idx_valid": np.array([7, 14])} | changes
    np.savez(folder / "10_split" / "split_0.npz", **{k: v for k, v in arrays.items() if v is not None})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        open_task("tiny_imagenet/0", resolution=4, data_root=tmp_path)


def test_a_half_downloaded_set_names_the_missing_file_instead_of_the_packed_copy(tmp_path: Path) -> None:
    folder = write_official(tmp_path, "dtd", 6, 4, 2)
    (folder / "test_images.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"dtd/test_images\.npy is missing beside the other files"):
        open_dataset("dtd", resolution=4, data_root=tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"garbage" * 50])
def test_a_damaged_array_is_named(tmp_path: Path, content: bytes) -> None:
    folder = write_official(tmp_path, "dtd", 6, 4, 2)
    (folder / "train_images.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"train_images\.npy cannot be read as an array"):
        open_dataset("dtd", resolution=4, data_root=tmp_path)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = write_official(tmp_path, "dtd", 6, 4, 2)
    np.save(folder / "train_labels.npy", np.zeros(5, np.int64))
    with pytest.raises(ValueError, match="6 images and 5 labels do not fit"):
        open_dataset("dtd", resolution=4, data_root=tmp_path)
    np.save(folder / "train_images.npy", np.asarray(picture(0)).astype(float))
    with pytest.raises(ValueError, match="expected uint8 of N x H x W"):
        open_dataset("dtd", resolution=4, data_root=tmp_path)
