"""A generator and a predictor in training: their batches, losses and validations on a meta-database.

Source: Lee et al., ICLR 2021, section 3; released code.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from common.experiment.seeds import generator
from common.graphs import DagBatch
from common.meta.ranking import is_undefined, pearson, spearman
from metad2a.database import MetaDatabase
from metad2a.draws import TaskDraws
from metad2a.generator import Generator
from metad2a.meta_training import Learning
from metad2a.predictor import Predictor
from metad2a.spaces import space_of
from metad2a.targets import Target, targets_of

KL_WEIGHT = 0.005
"""Of the divergence in the generator's loss."""
GOOD_FRACTION = 0.1
"""The best part of a task's cells that `good_share` speaks of."""
RESOLUTION, _COSTED_CLASSES = 32, 10
"""Images and classes that architectures are compared at by cost; the order hardly depends on them."""
_VALIDATION_DRAWS = 4
_VALIDATION_BATCH = 32  # tasks whose features are held at once
_VALIDATION_GRAPHS = 200


@dataclass(frozen=True, kw_only=True)
class GeneratorLearning(Learning):
    """Size of a generator, and how it learns. The defaults are the published ones."""

    hidden_dim: int = 56
    """Width of a vertex's state, equal to latent_dim; released name hs."""
    num_targets: int = 1
    """How many of a task's best architectures it learns to make."""
    cost_bins: int = 1
    """The best are taken in each of so many equal parts of a task's architectures, by MACs: a bounded search needs good
    ones of every size. 1, the published way, takes the best of all."""

    def __post_init__(self) -> None:
        """Check the values; raises ValueError."""
        super().__post_init__()
        for name in ("num_targets", "cost_bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class PredictorLearning(Learning):
    """Size of a predictor, and how it learns. The defaults are the published ones."""

    hidden_dim: int = 512
    """Width of a vertex's state; released name hs."""
    cells_per_task: int = 1
    """Cells that one draw of a task is compared with: that of the row, and others of its task. The set encoder is most
    of the work, and a draw serves them all."""
    good_share: float = 0.0
    """Share of these other cells that is drawn from a task's best tenth."""
    target: Target = "accuracy"
    """accuracy, standardised over all rows, is published. source_rank and task_rank are normal quantiles of a cell's
    rank among those of its source or task, which spreads the best cells out; such scores only rank."""

    def __post_init__(self) -> None:
        """Check the values; raises ValueError."""
        super().__post_init__()
        if self.cells_per_task < 1:
            raise ValueError(f"cells_per_task is {self.cells_per_task}; it must be at least 1")
        if not 0 <= self.good_share <= 1:
            raise ValueError(f"good_share is {self.good_share}; it must lie in [0, 1]")


class ArchTable:
    """The distinct architectures of a database, with their graphs.

    Attributes:
        view: of their space.
        keys: (U,) int64 rising, see `View.keys`.
        of_row: (R,) int64, place of each row's architecture among them.
    """

    def __init__(self, database: MetaDatabase, device: torch.device) -> None:
        self.view = database.view
        archs = database.archs(torch.arange(database.num_rows))
        self.keys, self.of_row = torch.unique(self.view.keys(archs), return_inverse=True)
        one = torch.zeros_like(self.keys)
        one[self.of_row] = torch.arange(len(archs))  # any row of each: they hold the same architecture
        self._graphs = self.view.space.graphs([archs[row] for row in one.tolist()]).to(device)

    def keys_of(self, rows: Tensor) -> Tensor:
        """Keys, rising and each once, of the architectures of some rows."""
        found: Tensor = self.keys[torch.unique(self.of_row[rows])]
        return found

    def __getitem__(self, where: Tensor) -> DagBatch:
        """Graphs of the architectures at (n,) places."""
        found: DagBatch = self._graphs[where.to(self._graphs.types.device)]
        return found


class GeneratorLearner:
    """Learns to make the best architectures of each task.

    Args:
        model: on `device`, trained in place.
        database: tasks and labelled cells.
        draws: images of the tasks.
        learning: how.
        seed: of the draws of validations.
        device: where.
    """

    def __init__(
        self,
        model: Generator,
        database: MetaDatabase,
        draws: TaskDraws,
        *,
        learning: GeneratorLearning,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.draws, self.seed = model, draws, seed
        self.graphs = ArchTable(database, device)
        self.database = database
        self.train, self.valid = (_targets(database, learning, valid=valid) for valid in (False, True))

    @property
    def num_rows(self) -> int:
        """Pairs of a task and a good architecture."""
        return len(self.train)

    def training_cells(self) -> Tensor:
        """Keys of the architectures that it learned to make."""
        return self.graphs.keys_of(self.train)

    def losses(self, rows: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Sums over the batch: the loss and its two terms, in nats."""
        reconstruction, divergence = self._terms(self.train[rows], random)
        return {
            "loss": (reconstruction + KL_WEIGHT * divergence).sum(),
            "reconstruction": reconstruction.sum(),
            "divergence": divergence.sum(),
        }

    def validate(self) -> dict[str, float]:
        """Loss on held-out tasks, and how many graphs drawn for them are cells; there is no score to select by."""
        if not len(self.valid):
            return {}
        random = generator(self.seed, "validation")
        terms = [torch.stack(self._terms(rows, random)) for rows in torch.split(self.valid, _VALIDATION_BATCH)]
        reconstruction, divergence = torch.cat(terms, 1).mean(1).tolist()
        tasks = torch.unique(self.database.task_index[self.valid])
        repeats = -(-_VALIDATION_GRAPHS // len(tasks))
        graphs = [self.model.sample(*self.draws.draw(part, random), random) for part in _parts(tasks, repeats)]
        cells = [cell for part in graphs for cell in self.graphs.view.space.from_graphs(part)]
        valid = [cell for cell in cells if cell is not None]
        canonical = torch.cat([self.graphs.view.canonical(part) for part in graphs]).float().mean()
        return {
            "loss": reconstruction + KL_WEIGHT * divergence,
            "reconstruction": reconstruction,
            "divergence": divergence,
            "validity": len(valid) / len(cells),
            "canonical": float(canonical),
            "uniqueness": len(set(valid)) / max(1, len(valid)),
        }

    def _terms(self, rows: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        features, num_classes = self.draws.draw(self.database.task_index[rows], random)
        return self.model.loss(features, num_classes, self.graphs[self.graphs.of_row[rows]], random)


class PredictorLearner:
    """Learns the accuracies of cells on tasks; arguments as `GeneratorLearner`."""

    def __init__(
        self,
        model: Predictor,
        database: MetaDatabase,
        draws: TaskDraws,
        *,
        learning: PredictorLearning,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.draws, self.learning, self.seed = model, draws, learning, seed
        self.device = device
        self.graphs = ArchTable(database, device)
        self.database = database
        # task by task, and in each task the best first
        self.train = database.best_rows(database.num_rows, valid=False)
        self.valid = database.best_rows(database.num_rows, valid=True)
        targets, self.normaliser = targets_of(database, self.train, learning.target)
        self.targets = targets.to(device)
        tasks = database.task_index[self.train]
        self.first = torch.searchsorted(tasks, tasks)  # where the task of each row begins
        self.count = torch.searchsorted(tasks, tasks, right=True) - self.first

    @property
    def num_rows(self) -> int:
        """Triples of a task, a cell and its accuracy."""
        return len(self.train)

    def training_cells(self) -> Tensor:
        """Keys of the architectures whose accuracies it learned."""
        return self.graphs.keys_of(self.train)

    def losses(self, rows: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Squared errors of a batch, summed over rows and averaged over the cells of each."""
        together = self._with_others(rows, random)  # (B, K)
        features, num_classes = self.draws.draw(self.database.task_index[self.train[rows]], random)
        sets = self.model.encode_sets(features, num_classes)
        graphs = self.model.encode_graphs(self.graphs[self.graphs.of_row[self.train[together.flatten()]]])
        scores = self.model.score(sets[:, None], graphs.view(*together.shape, -1))
        errors = (scores - self.targets[together.to(self.device)]).square()
        return {"loss": errors.mean(1).sum()}

    def validate(self) -> dict[str, float]:
        """Mean Spearman correlation inside the held-out tasks, which is the score, and Pearson's over all of them.

        The released code selects by the latter, which rewards knowing how hard a task is. It is the score only where
        no held-out task has two cells.
        """
        if not len(self.valid):
            return {}
        tasks, place = torch.unique(self.database.task_index[self.valid], return_inverse=True)
        sets = self._encode_tasks(tasks)  # (draws, tasks, Z)
        cells, which = torch.unique(self.graphs.of_row[self.valid], return_inverse=True)
        graphs = self.model.encode_graphs(self.graphs[cells])
        scores = self.model.score(sets[:, place], graphs[which]).mean(0).cpu()
        accuracy = self.database.accuracy[self.valid]
        inside = [
            spearman(scores[place == task], accuracy[place == task])
            for task in range(len(tasks))
            if int((place == task).sum()) > 1 and not is_undefined(accuracy[place == task], accuracy[place == task])
        ]
        found = {"pearson": pearson(scores, accuracy) if len(scores) > 1 else 0.0}
        if inside:
            found["spearman"] = sum(inside) / len(inside)
        return found | {"score": found.get("spearman", found["pearson"])}

    def _with_others(self, rows: Tensor, random: torch.Generator) -> Tensor:
        """(B, K) places in `train`: each row, and cells of the same task drawn with replacement."""
        shape = (len(rows), self.learning.cells_per_task - 1)
        uniform, is_good = torch.rand(shape, generator=random), torch.rand(shape, generator=random)
        counts = self.count[rows][:, None]
        best = (counts * GOOD_FRACTION).long().clamp(min=1)
        pool = torch.where(is_good < self.learning.good_share, best, counts)
        others = self.first[rows][:, None] + (uniform * pool).long().clamp(max=pool - 1)
        return torch.cat([rows[:, None], others], 1)

    def _encode_tasks(self, tasks: Tensor) -> Tensor:
        random = generator(self.seed, "validation")
        parts = [self.model.encode_sets(*self.draws.draw(part, random)) for part in _parts(tasks, _VALIDATION_DRAWS)]
        return torch.cat(parts).view(_VALIDATION_DRAWS, len(tasks), -1)


def _targets(database: MetaDatabase, learning: GeneratorLearning, *, valid: bool) -> Tensor:
    """Rows of the architectures to make: the best of each task, or of each of its parts by cost; task by task."""
    if learning.cost_bins == 1:
        return database.best_rows(learning.num_targets, valid=valid)
    rows = database.rows(valid=valid)
    space = space_of(database.space_name)
    macs = torch.tensor([space.cost(arch, _COSTED_CLASSES, RESOLUTION).macs for arch in database.archs(rows)])
    rows = rows[macs.argsort(stable=True)]
    rows = rows[database.task_index[rows].argsort(stable=True)]
    tasks = database.task_index[rows]
    first, last = torch.searchsorted(tasks, tasks), torch.searchsorted(tasks, tasks, right=True)
    part = (torch.arange(len(rows)) - first) * learning.cost_bins // (last - first)
    best = [
        database.best_rows(learning.num_targets, valid=valid, among=rows[part == number])
        for number in range(learning.cost_bins)
    ]
    found = torch.cat(best)
    return found[database.task_index[found].argsort(stable=True)]


def _parts(tasks: Tensor, repeats: int) -> Iterator[Tensor]:
    """Tasks, all of them `repeats` times, a few at a time."""
    yield from torch.split(tasks.repeat(repeats), _VALIDATION_BATCH)
