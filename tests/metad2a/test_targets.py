from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy import stats

from metad2a.database import MetaDatabase
from metad2a.targets import normal_ranks, targets_of

MakeDatabase = Callable[..., MetaDatabase]


def test_ranks_are_normal_quantiles_inside_each_group() -> None:
    values = torch.tensor([0.3, 0.1, 0.9, 0.5, 0.2, 0.8, 0.4])
    group = torch.tensor([0, 0, 1, 0, 1, 1, 0])
    found = normal_ranks(values, group)
    for name in (0, 1):
        members = (group == name).numpy()
        inside = values.numpy()[members]
        expected = stats.norm.ppf((stats.rankdata(inside) - 0.5) / len(inside))
        assert found.numpy()[members] == pytest.approx(expected, abs=1e-6)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    values = torch.tensor([0.2, 0.2, 0.2, 0.7])
    expected = stats.norm.ppf((stats.rankdata(values.numpy()) - 0.5) / 4)
    assert normal_ranks(values, torch.zeros(4, dtype=torch.int64)).numpy() == pytest.approx(expected, abs=1e-6)


def test_ranks_do_not_know_how_accuracies_are_spread(make_database: MakeDatabase) -> None:
    database = make_database()
    bent = replace(database, accuracy=database.accuracy**3)
    rows = database.rows(valid=False)
    for target in ("source_rank", "task_rank"):
        first, normaliser = targets_of(database, rows, target)  # type: ignore[arg-type]
        assert torch.equal(first, targets_of(bent, rows, target)[0])  # type: ignore[arg-type]
        assert normaliser is None


def test_ranks_of_a_source_and_of_a_task_are_taken_among_those(make_database: MakeDatabase) -> None:
    database = make_database()
    rows = database.rows(valid=False)
    of_source, of_task = (targets_of(database, rows, name)[0] for name in ("source_rank", "task_rank"))  # type: ignore[arg-type]
    for index in range(4):
        assert float(of_task[database.task_index[rows] == index].mean()) == pytest.approx(0, abs=1e-6)
    for index in range(2):
        members = database.source_index()[rows] == index
        assert float(of_source[members].mean()) == pytest.approx(0, abs=1e-6)
        accuracy = database.accuracy[rows][members]
        assert of_source[members][accuracy.argsort()].diff().min() > 0


def test_accuracies_are_standardised_over_all_rows_as_published(make_database: MakeDatabase) -> None:
    database = make_database()
    rows = database.rows(valid=False)
    found, normaliser = targets_of(database, rows, "accuracy")
    percent = 100 * database.accuracy[rows].double().numpy()
    assert 100 * found.numpy() == pytest.approx((percent - percent.mean()) / percent.std(ddof=1), abs=1e-5)
    assert normaliser is not None
    assert normaliser.accuracies(found).numpy() == pytest.approx(database.accuracy[rows].numpy(), abs=1e-6)
