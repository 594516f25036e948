from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import encode, picture

from common.data.open import open_dataset
from common.data.tasks import open_task, task_id

Pack = Callable[..., Path]

BLOBS = [encode(picture(i)) for i in range(6)]
LABELS = [0, 1, 0, 1, 0, 1]
SPLIT = [0, 0, 0, 0, 2, 2]


def test_a_packed_file_opens_by_path(pack: Pack) -> None:
    dataset = open_dataset(str(pack(BLOBS, LABELS, SPLIT)), resolution=10)
    assert dataset.labels.tolist() == LABELS
    assert [part.tolist() for part in (dataset.train, dataset.valid, dataset.test)] == [[0, 1, 2, 3], [], [4, 5]]
    expected = np.asarray(picture(3).resize((10, 10), 2))
    assert np.array_equal(dataset.images[3].permute(1, 2, 0).numpy(), expected)
    assert dataset.description == "packed, packed: 2 classes, 4 training images"


def test_a_task_from_a_packed_file_bears_its_name(pack: Pack) -> None:
    task = open_task(pack(BLOBS, LABELS, SPLIT, name="mine"), resolution=4)
    assert task.id == "file:mine"
    assert (task.train.tolist(), task.evaluation.tolist()) == ([0, 1, 2, 3], [4, 5])


def test_a_packed_file_in_the_data_root_opens_by_its_stem(pack: Pack, tmp_path: Path) -> None:
    pack(BLOBS, LABELS, SPLIT, name="mine")
    assert open_task("mine", resolution=4, data_root=tmp_path).id == "mine"


def test_a_rewritten_file_is_read_again(pack: Pack) -> None:
    before = open_dataset(pack(BLOBS, LABELS, SPLIT), resolution=4)
    after = open_dataset(pack(BLOBS[:4], LABELS[:4], SPLIT[:4]), resolution=4)
    assert (len(before.images), len(after.images)) == (6, 4)


def test_a_damaged_image_inside_is_named(pack: Pack) -> None:
    dataset = open_dataset(pack([*BLOBS[:5], b"not an image"], LABELS, SPLIT), resolution=4)
    assert len(dataset.images) == 5
    assert dataset.test.tolist() == [4]
    assert dataset.skipped[0].startswith("packed.npz, image 5: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None, "split": None}, r"it lacks labels, split \(it holds class_names, data, offsets, shape\)"),
        ({"class_names": np.array(["a"])}, "labels must lie in 0..0"),
        ({"labels": np.array([-1, 1, 0, 1, 0, 1])}, "labels must lie in 0..1"),
        ({"labels": np.array([0.0] * 6)}, "not a packed image set"),
        ({"offsets": np.arange(3)}, "6 labels, 6 split values and 3 offsets"),
        ({"offsets": np.array([0, 5, 4, 6, 7, 8, 9])}, "the offsets do not lie in order within the data"),
        ({"offsets": np.array([0, 1, 2, 3, 4, 5, 10**9])}, "the offsets do not lie in order within the data"),
        ({"split": np.array([0, 0, 0, 0, 2, 3], np.uint8)}, "split values must be 0"),
        ({"labels": np.zeros((6, 1), np.int64)}, "must have one axis"),
        ({"class_names": np.array([{"a": 1}, 2], dtype=object)}, "cannot be read as a packed image set"),
    ],
)
def test_a_foreign_file_is_refused_with_the_reason(pack: Pack, changes: dict[str, object], message: str) -> None:
    path = pack(BLOBS, LABELS, SPLIT, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        open_dataset(path, resolution=4)
    assert str(path) in str(caught.value)


def test_an_empty_pack_is_refused(pack: Pack) -> None:
    with pytest.raises(ValueError, match="it holds no image"):
        open_dataset(pack([], [], []), resolution=4)


@pytest.mark.parametrize("keep", [0, 10, 200, 700, -30])
def test_a_truncated_file_is_refused_by_name(pack: Pack, keep: int) -> None:
    path = pack(BLOBS, LABELS, SPLIT)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"packed\.npz cannot be read as a packed image set"):
        open_dataset(path, resolution=4)


def test_a_single_array_under_the_wrong_suffix_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="it holds a single array"):
        open_dataset(tmp_path / "array.npz", resolution=4)


def test_one_class_or_an_empty_class_is_refused(pack: Pack) -> None:
    with pytest.raises(ValueError, match="one class only"):
        open_dataset(pack(BLOBS, [0] * 6, SPLIT), resolution=4)
    with pytest.raises(ValueError, match="no image that can be read in class class1"):
        open_dataset(pack(BLOBS, [0, 2] * 3, SPLIT), resolution=4)


def test_a_class_seen_only_in_the_test_part_is_refused_by_a_task(pack: Pack) -> None:
    with pytest.raises(ValueError, match="no image that can be read in class class2"):
        open_task(pack(BLOBS, [0, 1, 0, 1, 0, 2], SPLIT), resolution=4)


def test_parts_with_other_classes_are_not_joined(pack: Pack, tmp_path: Path) -> None:
    pack(BLOBS, LABELS, SPLIT, name="tiny_imagenet_a")
    pack(BLOBS, LABELS, SPLIT, name="tiny_imagenet_b", class_names=np.array(["x", "y"]))
    with pytest.raises(
        ValueError, match=r"tiny_imagenet_b\.npz: its classes differ from those of tiny_imagenet_a\.npz"
    ):
        open_dataset("tiny_imagenet", resolution=4, data_root=tmp_path)


def test_two_parts_are_joined_in_order(pack: Pack, tmp_path: Path) -> None:
    pack(BLOBS, LABELS, SPLIT, name="tiny_imagenet_a")
    pack(BLOBS[::-1], LABELS, SPLIT, name="tiny_imagenet_b")
    both = open_dataset("tiny_imagenet", resolution=6, data_root=tmp_path)
    assert torch.equal(both.images[6:], both.images[:6].flip(0))
    assert both.labels.tolist() == LABELS * 2


def test_packed_files_lie_in_the_data_root_or_in_its_folder_images(pack: Pack, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    pack(BLOBS, LABELS, SPLIT, name="cub100").rename(root / "images" / "cub100.npz")
    pack(BLOBS, LABELS, SPLIT, name="mine").rename(root / "images" / "mine.npz")
    assert open_task("cub", resolution=4, data_root=root).id == "cub"
    assert open_task("mine", resolution=4, data_root=root).id == "mine"
    pack(BLOBS[:4], LABELS[:4], [0, 0, 2, 2], name="mine").rename(root / "mine.npz")
    assert len(open_dataset("mine", resolution=4, data_root=root).images) == 4, "the root itself comes first"
    with pytest.raises(FileNotFoundError, match=r"put dtd10\.npz there or in its folder images"):
        open_dataset("dtd", resolution=4, data_root=root)


def test_parts_of_a_set_are_not_taken_from_two_folders(pack: Pack, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pack(BLOBS, LABELS, SPLIT, name="tiny_imagenet_a")
    pack(BLOBS, LABELS, SPLIT, name="tiny_imagenet_b").rename(tmp_path / "images" / "tiny_imagenet_b.npz")
    assert len(open_dataset("tiny_imagenet", resolution=4, data_root=tmp_path).images) == 6


@pytest.mark.data
def test_the_folder_above_the_packed_sets_is_a_data_root_too(data_root: Path) -> None:
    above = data_root.resolve().parent
    assert data_root.name != "images" or task_id("cub", data_root=above) == "cub"
