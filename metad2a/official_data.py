"""Read data files of the released MetaD2A code: features by class, tasks, and the meta-training database.

Source: released code of Lee et al., ICLR 2021, and of An et al., "DiffusionNAG", ICLR 2024, where its authors published
the predictor's database again (formats only).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.graphs import DagBatch
from common.spaces.nasbench201 import NUM_VERTICES, Cell, NasBench201Space
from common.spaces.nasbench201_classes import canonical_edges
from common.store.released import read_released
from metad2a.database import MetaDatabase, MetaTask
from metad2a.spaces import VIEWS

NUM_VALID = 400
"""Rows that only select, the first ones of the stored permutation."""
_KEYS_OF_GRAPHS = ("graph", "g")
_USED = ("acc", "task")


def read_features(path: Path | str) -> tuple[Tensor, ...]:
    """Features of each class, from a released `<name>bylabel.pt`.

    Returns:
        (n, D) float32 for each class, n images of it.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or holds other types than tensors and plain values.
        ValueError: it has another form; the message names the class.
    """
    content = read_released(path)
    if isinstance(content, Mapping):
        if set(content) != set(range(len(content))):
            raise ValueError(
                f"{path}: classes are numbered {', '.join(map(str, list(content)[:5]))} ..., not from 0 on"
            )
        content = [content[label] for label in range(len(content))]
    if not isinstance(content, Sequence) or not content:
        raise ValueError(f"{path} holds a {type(content).__name__}; features of each class, in order, are needed")
    found = []
    for label, held in enumerate(content):
        values = held[0] if isinstance(held, list | tuple) and len(held) == 1 else held
        if not isinstance(values, Tensor) or values.dim() != 2 or not values.is_floating_point():
            raise ValueError(f"{path}: class {label} holds no matrix of features: one row for each image is needed")
        found.append(values.float())
    widths = sorted({values.shape[1] for values in found})
    if len(widths) > 1:
        raise ValueError(f"{path}: the features of its classes are {' and '.join(map(str, widths))} wide")
    return tuple(found)


def read_tasks(path: Path | str) -> Tensor:
    """Classes of each meta-training task, from a released `meta_train_task_lst.pt`.

    Returns:
        (T, C) int64 numbers of classes from 0 on: the file counts from 1.

    Raises:
        FileNotFoundError, RuntimeError: see `read_features`.
        ValueError: it has another form, or a class is numbered 0 or twice in a task.
    """
    content = read_released(path)
    try:
        tasks = torch.stack([torch.as_tensor(task) for task in content])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is no list of tasks with as many classes each: {error}") from error
    if tasks.dim() != 2 or tasks.is_floating_point() or not tasks.numel():
        raise ValueError(f"{path} is no list of tasks: numbers of the classes of each are needed")
    repeats = (tasks.sort(1).values.diff(dim=1) == 0).any(1)
    wrong = (repeats | (tasks < 1).any(1)).nonzero()
    if len(wrong):
        raise ValueError(f"{path}: task {int(wrong[0])} has a class twice or one below 1, from which classes count")
    return tasks.long() - 1


def read_database(path: Path | str, tasks: Tensor, order: Path | str, *, source: str) -> MetaDatabase:
    """Read a released meta-training database of cells, of the predictor or of the generator.

    Cells are taken from the texts `str` where the file has them, else from its graphs, of which only vertices and edges
    are read, never code.

    Args:
        path: `meta_train_tasks_predictor.pt`, as first released or as published again, or `..._generator.pt`.
        tasks: (T, C) of `read_tasks`.
        order: the file `..._idx.pt` beside it; the first 400 rows that it names select.
        source: what the set of the tasks' classes is called.

    Raises:
        FileNotFoundError, RuntimeError: see `read_features`.
        ValueError: an entry is missing, of another length or form, or the graphs are not those of cells as MetaD2A
            orders their vertices; the message says which.
    """
    content = read_released(path, [(IgraphGraph, "igraph.Graph")])
    if not isinstance(content, Mapping) or not {*_USED} <= content.keys():
        raise ValueError(f"{path} is no meta-training database: a dictionary with {' and '.join(_USED)} is needed")
    cells, used = _cells(content, str(path))
    percent, task_index = _numbers(content["acc"], path, "acc"), _numbers(content["task"], path, "task").long()
    if not len(percent) == len(task_index) == len(cells):
        raise ValueError(f"{path} has {len(percent)} accuracies, {len(task_index)} tasks and {len(cells)} cells")
    is_valid = torch.zeros(len(cells), dtype=torch.bool)
    is_valid[_read_order(order, len(cells))[:NUM_VALID]] = True
    return MetaDatabase(
        tasks=tuple(MetaTask(source, tuple(sorted(classes))) for classes in tasks.tolist()),
        task_index=task_index,
        codes=VIEWS["nasbench201"].codes(cells),
        accuracy=(percent / 100).float(),
        is_valid=is_valid,
        space_name=NasBench201Space().name,
        meta={"labels": "train", "origin": "official", "unused": sorted(map(str, content.keys() - {*_USED, *used}))},
    )


class IgraphGraph:
    """Vertices and edges of a pickled igraph graph, made in its place from what its pickle says.

    Args:
        num_vertices: how many it has.
        edges: (source, target) each.
        is_directed: whether edges have a direction.
        attributes: of the graph, of its vertices and of its edges, by name; only the vertices' types are kept.
    """

    def __init__(
        self,
        num_vertices: int,
        edges: Sequence[tuple[int, int]],
        is_directed: bool = True,
        *attributes: Mapping[str, Any],
    ) -> None:
        of_vertices = attributes[1] if len(attributes) > 1 else {}
        self.types = [int(kind) for kind in of_vertices.get("type", ())]
        self.edges = [(int(source), int(target)) for source, target in edges]
        inside = all(0 <= end < NUM_VERTICES for edge in self.edges for end in edge)
        self.is_complete = is_directed and inside and len(self.types) == num_vertices == NUM_VERTICES

    def __setstate__(self, state: object) -> None:
        """Drop what else hangs on a graph."""


def _cells(content: Mapping[str, Any], where: str) -> tuple[list[Cell], tuple[str, ...]]:
    """Cells of the rows, and from which entries they are."""
    space = NasBench201Space()
    key = next((name for name in ("str", *_KEYS_OF_GRAPHS, "x") if name in content), None)
    if key == "str":
        return [space.parse(str(text)) for text in content["str"]], (key,)
    if key is None or (key == "x" and "adj" not in content):
        raise ValueError(
            f"{where} has no cells: neither texts str nor graphs {' or '.join(_KEYS_OF_GRAPHS)} nor x, adj"
        )
    graphs = _of_arrays(content["x"], content["adj"], where) if key == "x" else _of_igraphs(content[key], where)
    wrong = (~canonical_edges(graphs)).nonzero()
    if len(wrong):
        raise ValueError(
            f"{where}: the graph of row {int(wrong[0])} has other edges than MetaD2A's: its vertices may stand in "
            "another order, in which cells cannot be told; give the database with texts (str)"
        )
    cells = space.from_graphs(graphs)
    known = [cell for cell in cells if cell is not None]
    if len(known) < len(cells):
        raise ValueError(f"{where}: the graph of row {cells.index(None)} is that of no cell")
    return known, ("x", "adj") if key == "x" else (key,)


def _of_igraphs(held: Any, where: str) -> DagBatch:
    graphs = list(held)
    types = torch.zeros(len(graphs), NUM_VERTICES, dtype=torch.int64)
    adjacency = torch.zeros(len(graphs), NUM_VERTICES, NUM_VERTICES, dtype=torch.bool)
    for row, graph in enumerate(graphs):
        if not isinstance(graph, IgraphGraph) or not graph.is_complete:
            raise ValueError(f"{where}: row {row} holds no directed graph of {NUM_VERTICES} vertices with types")
        types[row] = torch.tensor(graph.types)
        sources, targets = torch.tensor(graph.edges, dtype=torch.int64).view(-1, 2).T
        adjacency[row, sources, targets] = True
    return DagBatch(types, adjacency, torch.full((len(graphs),), NUM_VERTICES))


def _of_arrays(onehot: Any, adjacency: Any, where: str) -> DagBatch:
    """Graphs of vertex types in one-hot form (R, 8, 7) and of edges (R, 8, 8)."""
    try:
        kinds = torch.stack([torch.as_tensor(row) for row in onehot])
        edges = torch.stack([torch.as_tensor(row) for row in adjacency])
        return DagBatch(kinds.argmax(-1), edges != 0, torch.full((len(kinds),), NUM_VERTICES))
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"{where}: x and adj are no vertices and edges of cells: {error}") from error


def _numbers(values: Any, path: Path | str, name: str) -> Tensor:
    """(R,) float64 of a tensor, an array or a list."""
    try:
        numbers = torch.as_tensor([float(value) for value in values], dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {name} is no list of numbers: {error}") from error
    return numbers


def _read_order(path: Path | str, num_rows: int) -> Tensor:
    """The stored permutation of the rows."""
    order = _numbers(read_released(path), path, "the order of rows").long()
    if not torch.equal(order.sort().values, torch.arange(num_rows)):
        raise ValueError(f"{path} is no order of the {num_rows} rows of the database")
    return order
