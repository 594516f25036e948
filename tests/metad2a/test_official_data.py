"""Released data files: features by class, tasks, and the database in each form that it was published in."""

from pathlib import Path
from typing import Any

import igraph
import numpy as np
import pytest
import torch

from common.spaces.nasbench201 import GRAPH_EDGES, NasBench201Space
from metad2a.official_data import read_database, read_features, read_tasks

SPACE = NasBench201Space()
ROWS = 420


def saved(content: object, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("form", ["dictionary", "list", "bare"])
def test_features_come_class_by_class(tmp_path: Path, form: str) -> None:
    classes = [torch.rand(3, 512), torch.rand(1, 512), torch.rand(5, 512)]
    held: Any = {label: [values] for label, values in reversed([*enumerate(classes)])}
    if form != "dictionary":
        held = [[values] for values in classes] if form == "list" else classes
    found = read_features(saved(held, tmp_path / "mnistbylabel.pt"))
    assert len(found) == 3
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, classes, strict=True))


def test_features_of_files_before_zip_and_of_half_precision_are_read(tmp_path: Path) -> None:
    held = {0: [torch.ones(2, 4)], 1: [torch.ones(2, 4, dtype=torch.float16)]}
    found = read_features(saved(held, tmp_path / "old.pt", _use_new_zipfile_serialization=False))
    assert [values.dtype for values in found] == [torch.float32, torch.float32]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({1: [torch.ones(2, 4)], 2: [torch.ones(2, 4)]}, "numbered 1, 2 .*not from 0 on"),
        ([], "features of each class, in order, are needed"),
        (torch.ones(3, 4), "holds a Tensor"),
        ([[torch.ones(2, 4)], [torch.ones(4)]], "class 1 holds no matrix"),
        ([[torch.ones(2, 4)], [torch.ones(2, 4), torch.ones(2, 4)]], "class 1 holds no matrix"),
        ([[torch.ones(2, 4)], [torch.ones(2, 5)]], "4 and 5 wide"),
    ],
)
def test_features_of_another_form_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_features(saved(content, tmp_path / "bylabel.pt"))


@pytest.mark.parametrize("kind", [list, torch.tensor, np.array])
def test_tasks_count_their_classes_from_one(tmp_path: Path, kind: Any) -> None:
    tasks = [kind([1, 600, 20]), kind([7, 3, 5])]
    found = read_tasks(saved(tasks, tmp_path / "meta_train_task_lst.pt"))
    assert found.tolist() == [[0, 599, 19], [6, 2, 4]]
    assert found.dtype == torch.int64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([[1, 2], [3]], "no list of tasks with as many classes each"),
        ([[1.5, 2.0]], "numbers of the classes"),
        ([1, 2], "no list of tasks"),
        ([[1, 2], [3, 3]], "task 1 has a class twice"),
        ([[0, 2]], "task 0 has .* one below 1"),
        (5, "no list of tasks"),
    ],
)
def test_tasks_of_another_form_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tasks(saved(content, tmp_path / "tasks.pt"))


TASKS = torch.tensor([[5, 2, 9], [0, 1, 2]])


def database(form: str) -> dict[str, Any]:
    """A database of cells in one of its published forms."""
    cells = SPACE.sample(ROWS, torch.Generator().manual_seed(0))
    graphs = SPACE.graphs(cells)
    content: dict[str, Any] = {
        "acc": [np.float64(40 + row / 10) if row % 2 else torch.tensor(40 + row / 10) for row in range(ROWS)],
        "task": [row % 2 for row in range(ROWS)],
    }
    if form in ("graph", "g"):
        content[form] = [
            igraph.Graph(8, list(GRAPH_EDGES), directed=True, vertex_attrs={"type": types})
            for types in graphs.types.tolist()
        ]
    if form == "str":
        # published again: the vertices of x and adj stand in another order than in the graphs
        backwards = torch.eye(7)[graphs.types].flip(1)
        content |= {"str": [SPACE.format(cell) for cell in cells], "x": backwards, "adj": graphs.adjacency.mT}
        content |= {"flops": [1.0] * ROWS, "latency": [0.5] * ROWS}
    if form == "x":
        content |= {"x": [torch.eye(7)[row] for row in graphs.types], "adj": list(graphs.adjacency.float())}
    return content


@pytest.fixture
def order(tmp_path: Path) -> Path:
    permutation = torch.randperm(ROWS, generator=torch.Generator().manual_seed(2))
    return saved(permutation, tmp_path / "meta_train_tasks_predictor_idx.pt")


@pytest.mark.parametrize("form", ["graph", "g", "str", "x"])
def test_a_database_is_read_in_each_of_its_forms(tmp_path: Path, order: Path, form: str) -> None:
    path = saved(database(form), tmp_path / "meta_train_tasks_predictor.pt")
    found = read_database(path, TASKS, order, source="imgnet32")
    cells = SPACE.sample(ROWS, torch.Generator().manual_seed(0))
    assert found.archs(torch.arange(ROWS)) == cells
    assert [task.classes for task in found.tasks] == [(2, 5, 9), (0, 1, 2)]
    assert {task.source for task in found.tasks} == {"imgnet32"}
    assert found.task_index.tolist() == [0, 1] * (ROWS // 2)
    torch.testing.assert_close(found.accuracy, (40 + torch.arange(ROWS) / 10) / 100)
    permutation = torch.load(order, weights_only=True)
    assert set(found.rows(valid=True).tolist()) == set(permutation[:400].tolist())
    assert found.meta["unused"] == (["adj", "flops", "latency", "x"] if form == "str" else [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acc": None}, "no meta-training database"),
        ({"graph": None}, "has no cells"),
        ({"acc": [50.0] * 3}, "3 accuracies, 420 tasks and 420 cells"),
        ({"acc": ["good"] * ROWS}, "acc is no list of numbers"),
        ({"acc": [500.0] * ROWS}, "row 0 has an accuracy that is no fraction"),
        ({"task": [2] * ROWS}, "row 0 has a task outside 0 to 1"),
        ({"graph": [5] * ROWS}, "row 0 holds no directed graph"),
        ({"graph": [igraph.Graph(8, list(GRAPH_EDGES), directed=True)] * ROWS}, "row 0 holds no directed graph"),
        (
            {
                "graph": [igraph.Graph(8, [(0, 7)], directed=True, vertex_attrs={"type": [0, 2, 2, 2, 2, 2, 2, 1]})]
                * ROWS
            },
            "row 0 has other edges than MetaD2A's.*give the database with texts",
        ),
        (
            {"graph": [igraph.Graph(8, list(GRAPH_EDGES), directed=True, vertex_attrs={"type": [0] * 8})] * ROWS},
            "row 0 is that of no cell",
        ),
        ({"str": ["|none~0|"] * ROWS}, "malformed"),
    ],
)
def test_a_database_of_another_form_is_refused(
    tmp_path: Path, order: Path, change: dict[str, Any], message: str
) -> None:
    content = database("graph") | change
    path = saved({name: value for name, value in content.items() if value is not None}, tmp_path / "database.pt")
    with pytest.raises(ValueError, match=message):
        read_database(path, TASKS, order, source="imgnet32")


def test_an_order_of_other_rows_is_refused(tmp_path: Path) -> None:
    path = saved(database("str"), tmp_path / "database.pt")
    order = saved([*range(ROWS - 1), 0], tmp_path / "idx.pt")
    with pytest.raises(ValueError, match=r"idx\.pt is no order of the 420 rows"):
        read_database(path, TASKS, order, source="imgnet32")


class Transform:
    """What databases of the other search space hold beside their rows."""


def test_objects_that_are_not_allowed_are_named_with_what_to_do(tmp_path: Path, order: Path) -> None:
    path = saved(database("str") | {"test_transform": Transform()}, tmp_path / "database.pt")
    with pytest.raises(RuntimeError, match=r"holds objects of \S*Transform, .*save tensors, numbers, texts"):
        read_database(path, TASKS, order, source="imgnet32")


def test_graphs_are_made_of_what_a_pickle_says_and_nothing_hangs_on_them(tmp_path: Path, order: Path) -> None:
    """Released graphs may carry hidden states as attributes; igraph itself is not asked."""
    content = database("graph")
    for graph in content["graph"]:
        graph.vs["H_forward"] = [torch.zeros(2)] * 8
        graph["name"] = "cell"
        graph.note = "kept in its dictionary"
    found = read_database(saved(content, tmp_path / "database.pt"), TASKS, order, source="imgnet32")
    assert found.archs(torch.arange(3)) == SPACE.sample(3, torch.Generator().manual_seed(0))
    with pytest.raises(RuntimeError, match=r"holds objects of igraph\.Graph"):
        read_features(tmp_path / "database.pt")
