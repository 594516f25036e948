import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import encode, picture
from PIL import Image

from common.data.open import open_dataset
from common.data.tasks import open_task

Fill = Callable[..., Path]


def test_class_folders_become_classes_in_alphabetical_order(fill: Fill) -> None:
    folder = fill({"dog": 5, "cat": 10, "hen/white/small": 5})
    dataset = open_dataset(folder, resolution=8)
    assert dataset.class_names == ("cat", "dog", "hen")
    assert torch.bincount(dataset.labels).tolist() == [10, 5, 5]
    assert dataset.images.shape == (20, 3, 8, 8)
    assert dataset.description == "pets_of_mine: 3 classes, 20 images"
    first = Image.open(folder / "cat" / "0.png").resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(dataset.images[0].permute(1, 2, 0).numpy(), np.asarray(first))


def test_a_fifth_of_every_class_is_drawn_for_testing(fill: Fill) -> None:
    dataset = open_dataset(fill({"a": 10, "b": 25, "c": 2}), resolution=4)
    assert torch.bincount(dataset.labels[dataset.test]).tolist() == [2, 5, 1]
    assert len(dataset.valid) == 0
    assert sorted(torch.cat([dataset.train, dataset.test]).tolist()) == list(range(37))


def test_the_seed_decides_the_drawing(fill: Fill) -> None:
    folder = fill({"a": 20, "b": 20})
    zero, again, one = (open_dataset(folder, resolution=4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(zero.test, again.test)
    assert not torch.equal(zero.test, one.test)
    assert zero.digest == again.digest != one.digest


def test_given_parts_are_kept(fill: Fill) -> None:
    dataset = open_dataset(
        fill({"train/a": 4, "train/b": 3, "val/a": 2, "val/b": 1, "test/a": 1, "test/b": 5}), resolution=4
    )
    assert [len(part) for part in (dataset.train, dataset.valid, dataset.test)] == [7, 3, 6]
    assert torch.bincount(dataset.labels[dataset.test]).tolist() == [1, 5]


def test_a_task_trains_on_train_and_valid_and_evaluates_on_test(fill: Fill) -> None:
    folder = fill({"train/a": 4, "train/b": 3, "valid/a": 2, "valid/b": 1, "test/a": 1, "test/b": 5})
    task = open_task(str(folder), resolution=4)
    assert task.id == "folder:pets_of_mine"
    assert (len(task.train), len(task.evaluation)) == (10, 6)


def test_without_a_test_part_a_task_evaluates_on_valid(fill: Fill) -> None:
    task = open_task(fill({"train/a": 4, "train/b": 3, "valid/a": 2, "valid/b": 1}), resolution=4)
    assert (len(task.train), len(task.evaluation)) == (7, 3)


def test_classes_may_be_called_train_and_test(fill: Fill) -> None:
    dataset = open_dataset(fill({"train": 3, "test": 4, "bus": 3}), resolution=4)
    assert dataset.class_names == ("bus", "test", "train")


def test_folders_without_images_beside_the_parts_are_left_alone(fill: Fill) -> None:
    folder = fill({"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1, "annotations": 0})
    (folder / "annotations" / "list.txt").write_text("a/0.png")
    assert open_dataset(folder, resolution=4).class_names == ("a", "b")


def test_some_classes_of_a_folder_make_a_task(fill: Fill) -> None:
    task = open_task(f"{fill({'a': 5, 'b': 6, 'c': 7, 'd': 8})}/1-2", resolution=4)
    assert task.id == "folder:pets_of_mine/1-2"
    assert task.class_names == ("b", "c")
    assert torch.bincount(task.labels).tolist() == [6, 7]


def test_a_folder_called_like_a_split_wins_over_the_known_set(
    fill: Fill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill({"3/a": 3, "3/b": 3}, "tiny_imagenet")
    monkeypatch.chdir(tmp_path)
    assert open_task("tiny_imagenet/3", resolution=4).id == "folder:3"


def test_hidden_files_and_other_files_are_left_alone(fill: Fill, caplog: pytest.LogCaptureFixture) -> None:
    folder = fill({"a": 3, "b": 3, ".cache/c": 2, "a/.thumbs": 2, "__MACOSX/a": 1})
    (folder / "a" / "._0.png").write_bytes(b"resource fork")
    (folder / "a" / "phone.heic").write_bytes(b"photo")
    (folder / "a" / "notes.txt").write_text("text")
    picture(0).save(folder / "loose.png")
    dataset = open_dataset(folder, resolution=4)
    assert len(dataset.images) == 6
    assert dataset.skipped == ()
    assert "1 .heic" in caplog.text
    assert "1 images outside the class folders" in caplog.text


def test_damaged_images_are_named_counted_and_left_out(fill: Fill, caplog: pytest.LogCaptureFixture) -> None:
    folder = fill({"a": 5, "b": 5})
    whole = encode(picture(0, (64, 64)))
    (folder / "a" / "0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "b" / "1.png").write_bytes(b"")
    (folder / "b" / "2.png").write_text("not an image")
    dataset = open_dataset(folder, resolution=4)
    assert torch.bincount(dataset.labels).tolist() == [4, 3]
    assert [Path(reason.split(": ")[0]).name for reason in dataset.skipped] == ["0.png", "1.png", "2.png"]
    assert "3 of 10 images are damaged" in caplog.text
    assert sorted(torch.cat([dataset.train, dataset.test]).tolist()) == list(range(7))


def test_an_image_too_large_to_be_honest_is_left_out(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill({"a": 3, "b": 3})
    picture(0, (40, 40)).save(folder / "a" / "9.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)  # an error above twice this number
    dataset = open_dataset(folder, resolution=4)
    assert len(dataset.images) == 6
    assert "9.png" in dataset.skipped[0]


def test_several_threads_decode_the_same_pixels(fill: Fill) -> None:
    folder = fill({"a": 80, "b": 90})
    one = open_dataset(folder, resolution=8)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert open_dataset(folder, resolution=8).digest == one.digest
    finally:
        torch.set_num_threads(threads)


def test_a_class_of_one_image_is_trained_on_and_named(fill: Fill, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset(fill({"a": 5, "rare": 1}), resolution=4)
    assert torch.bincount(dataset.labels[dataset.train]).tolist() == [4, 1]
    assert "one image only, used for training, none to test on: rare" in caplog.text


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no /no/such/place: give a folder of class folders"):
        open_dataset("/no/such/place", resolution=4)


def test_a_file_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(encode(picture(0)))
    with pytest.raises(ValueError, match=r"cat\.png is a file: a dataset is a folder of class folders"):
        open_dataset(tmp_path / "cat.png", resolution=4)


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ({}, FileNotFoundError, "is empty: it should hold a folder of images for each class"),
        ({".": 3}, ValueError, "holds images but no class folders: move them to"),
        ({"train": 3, "test": 2}, ValueError, "holds images but no class folders"),
        ({"a": 3}, ValueError, r"has one class only \(a\): a classifier needs at least two"),
        ({"a": 1}, ValueError, r"holds one image in all \(0.png\)"),
        ({"a": 3, "b": 0, "c": 2}, ValueError, "no image that can be read in class b: add some or drop it"),
        ({"a": 3, "b": 0}, ValueError, "no image that can be read in class b"),
        ({"train/a": 2, "train/b": 2, "test/c": 1}, ValueError, "class c has images to test on but none in the train"),
        ({"train/a": 2, "train/b": 0, "test/b": 1}, ValueError, "no image .* in class b"),
    ],
)
def test_a_folder_no_classifier_can_be_trained_on_is_refused(
    fill: Fill, counts: dict[str, int], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        open_task(fill(counts), resolution=4)
    assert "\n" not in str(caught.value)
    assert "pets_of_mine" in str(caught.value)


def test_a_folder_of_unreadable_types_says_which(fill: Fill) -> None:
    folder = fill({"a": 0, "b": 0})
    for i in range(3):
        (folder / "a" / f"{i}.heic").write_bytes(b"photo")
    with pytest.raises(ValueError, match=r"no image that can be read \(3 files are \.heic\): save them as JPEG or PNG"):
        open_dataset(folder, resolution=4)


def test_a_class_whose_images_are_all_damaged_is_named(fill: Fill) -> None:
    folder = fill({"a": 3, "b": 2})
    for file in (folder / "b").iterdir():
        file.write_bytes(b"")
    for open_it in (open_dataset, open_task):
        with pytest.raises(ValueError, match="no image that can be read in class b"):
            open_it(folder, resolution=4)
