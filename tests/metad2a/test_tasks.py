from dataclasses import replace

import pytest
import torch

from common.data.tasks import Task, open_task
from common.spaces.nasbench201_classes import is_connected
from metad2a.tasks import Drawing, cells_of, class_subset, draw_cells, draw_tasks

DRAWING = Drawing(num_tasks=20, num_valid_tasks=5, min_classes=2, max_classes=4, num_cells=6, num_valid_cells=4)


def test_tasks_are_distinct_rising_classes_from_the_sources_in_turn() -> None:
    tasks = draw_tasks({"hills": 6, "lakes": 9}, 21, drawing=DRAWING, seed=0)
    assert len(set(tasks)) == 21
    assert [task.source for task in tasks[:4]] == ["hills", "lakes", "hills", "lakes"]
    for task in tasks:
        assert 2 <= len(task.classes) <= 4
        assert list(task.classes) == sorted({*task.classes})
        assert task.classes[-1] < {"hills": 6, "lakes": 9}[task.source]
    assert {len(task.classes) for task in tasks} == {2, 3, 4}


def test_tasks_depend_on_their_own_source_and_on_the_seed_alone() -> None:
    both = draw_tasks({"hills": 6, "lakes": 9}, 10, drawing=DRAWING, seed=0)
    alone = draw_tasks({"hills": 6}, 5, drawing=DRAWING, seed=0)
    assert [task for task in both if task.source == "hills"] == alone
    assert draw_tasks({"hills": 6}, 5, drawing=DRAWING, seed=1) != alone


def test_tasks_that_select_are_no_task_to_learn_from() -> None:
    learned = draw_tasks({"hills": 5}, 15, drawing=DRAWING, seed=0)
    selecting = draw_tasks({"hills": 5}, 8, drawing=DRAWING, seed=0, taken=learned)
    assert not {*learned} & {*selecting}


def test_a_source_with_few_classes_gives_what_it_has_until_it_is_used_up() -> None:
    drawing = replace(DRAWING, min_classes=10, max_classes=20)
    assert draw_tasks({"hills": 3}, 1, drawing=drawing, seed=0)[0].classes == (0, 1, 2)
    with pytest.raises(ValueError, match="hills has 3 classes, and 2 distinct tasks of 3 to 3 of them were not found"):
        draw_tasks({"hills": 3}, 2, drawing=drawing, seed=0)


@pytest.mark.parametrize(("connected", "num"), [(True, 15_284), (False, 15_625)])
def test_cells_to_learn_from_and_to_select_with_have_none_in_common(connected: bool, num: int) -> None:
    learned, selecting = draw_cells(replace(DRAWING, connected=connected, valid_share=0.1), seed=0)
    assert len(learned) + len(selecting) == len({*learned, *selecting}) == num
    assert len(selecting) == round(0.1 * num)
    assert all(map(is_connected, selecting)) == connected


def test_every_task_has_cells_of_its_own() -> None:
    pool, _ = draw_cells(DRAWING, seed=0)
    tasks = draw_tasks({"hills": 6}, 2, drawing=DRAWING, seed=0)
    first, second = (cells_of(task, pool, 30, 0) for task in tasks)
    assert len({*first}) == len({*second}) == 30
    assert first != second
    assert cells_of(tasks[0], pool, 10, 0) == first[:10]
    with pytest.raises(ValueError, match="31 cells a task are asked for, and there are 30"):
        cells_of(tasks[0], first, 31, 0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_tasks": 0}, "num_tasks is 0"),
        ({"num_valid_tasks": -1}, "num_valid_tasks is -1"),
        ({"min_classes": 1}, "2 <= min <= max"),
        ({"min_classes": 5, "max_classes": 4}, "2 <= min <= max"),
        ({"valid_share": 1.0}, "valid_share is 1.0"),
    ],
)
def test_numbers_that_make_no_tasks_are_refused(changes: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(DRAWING, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digits() -> Task:
    return open_task("digits", resolution=8)


def test_some_classes_of_a_task_keep_their_images_and_sides(digits: Task) -> None:
    found = class_subset(digits, (7, 2))
    assert found.class_names == ("7", "2")
    assert found.id == "digits/7+2"
    for side in ("train", "evaluation"):
        rows, whole = getattr(found, side), getattr(digits, side)
        for number, label in enumerate((7, 2)):
            expected = digits.images[whole[digits.labels[whole] == label]]
            assert torch.equal(found.images[rows[found.labels[rows] == number]], expected)
    assert len(found.images) == len(found.train) + len(found.evaluation)


def test_a_class_that_a_task_does_not_have_is_refused(digits: Task) -> None:
    with pytest.raises(ValueError, match="digits has no class 10; it has 0 to 9"):
        class_subset(digits, (3, 10))
