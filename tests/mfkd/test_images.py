from typing import Any

import pytest
import torch

from common.data.dataset import ImageDataset
from common.experiment.config import UsageError
from mfkd.fields import Fields
from mfkd.images import Images, check_classes, final_task, open_images, read_dataset, search_task


def dataset(labels: list[int], *, num_valid: int = 0, num_test: int = 4) -> ImageDataset:
    """Images that are sorted as given: training, validation, test."""
    total = len(labels)
    rows = torch.arange(total)
    first = total - num_valid - num_test
    return ImageDataset(
        name="made",
        images=torch.zeros(total, 3, 2, 2, dtype=torch.uint8),
        labels=torch.tensor(labels),
        class_names=("a", "b"),
        train=rows[:first],
        valid=rows[first : total - num_test],
        test=rows[total - num_test :],
        description="made",
        flip=True,
    )


MIXED = dataset([0, 1] * 52)


def read(**section: Any) -> tuple[Images, dict[str, Any]]:
    return read_dataset(Fields({"type": "made", **section}, "step.dataset", []))


def test_a_search_holds_the_last_fifth_of_the_training_images_out() -> None:
    task = search_task(Images(dataset="made", train_portion=0.29), MIXED)
    assert task.train.tolist() == list(range(29)), "the portion is of all training images"
    assert task.evaluation.tolist() == list(range(80, 100))


def test_a_small_part_is_filled_up_to_the_fewest_images_and_not_with_held_out_ones() -> None:
    for fewest, expected in ((0, 5), (30, 30), (200, 80)):
        task = search_task(Images(dataset="made", train_portion=0.05, min_images=fewest), MIXED)
        assert task.train.tolist() == list(range(expected))
        assert task.evaluation.tolist() == list(range(80, 100))


def test_a_search_on_all_images_leaves_the_held_out_ones() -> None:
    task = search_task(Images(dataset="made"), MIXED)
    assert task.train.tolist() == list(range(80))
    assert not set(task.train.tolist()) & set(task.evaluation.tolist())


def test_images_of_a_validation_part_count_as_the_last_training_images() -> None:
    task = search_task(Images(dataset="made"), dataset([0, 1] * 52, num_valid=50))
    assert task.train.tolist() == list(range(80))


def test_a_portion_for_both_leaves_the_rest_for_validation() -> None:
    images, _ = read(common={"train_portion": 0.7})
    task = search_task(images, MIXED)
    assert (len(task.train), len(task.evaluation)) == (70, 30)


def test_a_search_takes_test_images_only_when_it_is_told_to() -> None:
    images, _ = read(compat_val="test")
    task = search_task(images, MIXED)
    assert task.evaluation.tolist() == MIXED.test.tolist()
    assert len(task.train) == 100
    default, _ = read()
    assert not set(search_task(default, MIXED).evaluation.tolist()) & set(MIXED.test.tolist())
    with pytest.raises(ValueError, match="no test images"):
        search_task(images, dataset([0, 1] * 50, num_test=0))


def test_a_final_training_is_measured_on_test_images() -> None:
    task = final_task(Images(dataset="made"), MIXED)
    assert task.train.tolist() == list(range(100))
    assert task.evaluation.tolist() == MIXED.test.tolist()
    without = final_task(Images(dataset="made"), dataset([0, 1] * 50, num_test=0))
    assert (len(without.train), len(without.evaluation)) == (80, 20)


def test_a_stratified_subset_of_sorted_images_has_all_classes_in_proportion() -> None:
    ordered = dataset([0] * 60 + [1] * 40 + [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"leave nothing for b: raise train_portion .*, or take subset: stratified"):
        search_task(Images(dataset="made", train_portion=0.2), ordered)
    for num in (2, 20, 60):
        task = search_task(Images(dataset="made", train_portion=num / 100, subset="stratified"), ordered)
        assert abs(int((ordered.labels[task.train] == 0).sum()) - 0.6 * num) <= 1
        assert ordered.labels[task.evaluation].bincount().tolist() == [12, 8]
    assert ordered.train[task.train].unique().numel() == 60


def test_a_stratified_subset_of_equal_classes_takes_them_in_turn() -> None:
    ordered = dataset([0] * 50 + [1] * 50 + [0, 1, 0, 1])
    task = search_task(Images(dataset="made", train_portion=0.05, subset="stratified"), ordered)
    assert task.train.tolist() == [0, 50, 1, 51, 2]


def test_tasks_of_other_images_have_other_ids() -> None:
    parts = [
        search_task(Images(dataset="made", train_portion=0.3), MIXED),
        search_task(Images(dataset="made", train_portion=0.3, subset="stratified"), MIXED),
        search_task(Images(dataset="made", train_portion=0.3, valid_from=0.5), MIXED),
        search_task(Images(dataset="made"), MIXED),
        final_task(Images(dataset="made"), MIXED),
    ]
    assert len({task.id for task in parts}) == len(parts)


def test_transforms_become_padding_and_flip() -> None:
    assert read()[1] == {"batch_size": 256}, "without a list the trainer's own augmentation"
    assert read(train={"batch_size": "64", "transforms": []})[1] == {"batch_size": 64, "padding": 0, "flip": "no"}
    given = [{"type": "RandomCrop", "size": 32, "padding": 4}, {"type": "RandomHorizontalFlip"}]
    assert read(train={"transforms": given})[1] == {"batch_size": 256, "padding": 4, "flip": "yes"}


def test_numbers_of_classes_must_be_those_of_the_dataset() -> None:
    check_classes({"here": 100, "there": None}, 100, "cifar100")
    with pytest.raises(UsageError, match=r"low\.num_classes is 10, but cifar100 has 100 classes: give 100"):
        check_classes({"low.num_classes": 10}, 100, "cifar100")


def test_some_classes_of_a_set_are_a_dataset() -> None:
    part = open_images(Images(dataset="digits/2-4", resolution=8), data_root=None, seed=0)
    assert (part.name, part.num_classes, len(part.valid)) == ("digits/2-4", 3, 0)
    task = search_task(Images(dataset="digits/2-4", subset="stratified"), part)
    assert not {*task.train.tolist(), *task.evaluation.tolist()} & {*part.test.tolist()}
    assert len(task.train) + len(task.evaluation) == len(part.train)
    assert part.labels[task.evaluation].bincount().min() > 0.15 * len(part.train) / 3
