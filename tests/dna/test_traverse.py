"""The search against brute force."""

import ast
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dna
from dna.dominance import survivors
from dna.traverse import Found, Group, trade_off, traverse

Stages = list[list[Group]]
Answer = tuple[float, tuple[int, ...], tuple[tuple[int, int], ...]]


def brute_force(stages: Stages, budget: Sequence[int] | None = None, fixed: int = 0) -> list[Answer]:
    """All networks within the budget as (loss, costs, choices), best first."""
    found = []
    for groups in itertools.product(*stages):
        if any(left.out_width != right.in_width for left, right in itertools.pairwise(groups)):
            continue
        for paths in itertools.product(*(range(len(group.losses)) for group in groups)):
            loss = 0.0
            for group, path in zip(groups, paths, strict=True):
                loss += float(group.losses[path])
            costs = sum(np.atleast_1d(group.costs[path]) for group, path in zip(groups, paths, strict=True)) + fixed
            if budget is None or np.all(costs <= np.array(budget)):
                choices = tuple((group.cell, path) for group, path in zip(groups, paths, strict=True))
                found.append((loss, tuple(np.asarray(costs).tolist()), choices))
    return sorted(found)


def draw(seed: int, *, dim: int = 1, ties: bool = False, separable: bool = False) -> Stages:
    """A random instance: two to four stages, one or two cells in each, whose costs depend on the width before."""
    draws = np.random.default_rng(seed)
    widths = [[0], *(list(range(1 if separable else int(draws.integers(1, 3)))) for _ in range(draws.integers(2, 5)))]
    stages = []
    for before, after in itertools.pairwise(widths):
        stage = []
        for cell, width in enumerate(after):
            num_paths = int(draws.integers(1, 6))
            losses = draws.integers(0, 4, num_paths) / 1 if ties else draws.random(num_paths)
            for in_width in before:
                costs = draws.integers(0, 7, (num_paths, dim))
                costs = costs[:, 0] if dim == 1 else costs
                stage.append(Group(losses=losses, costs=costs, cell=cell, in_width=in_width, out_width=width))
        stages.append(stage)
    return stages


def answers(found: list[Found]) -> list[Answer]:
    return [(network.loss, network.costs, network.choices) for network in found]


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_best_networks_are_those_of_brute_force_at_every_budget(dim: int, ties: bool, count: int) -> None:
    for seed in range(40):
        stages = draw(seed, dim=dim, ties=ties)
        everything = brute_force(stages, fixed=2)
        total = 1 + max(costs[0] for _, costs, _ in everything)
        for budget in (-1, total // 4, total // 2, total):
            expected = [answer for answer in everything if max(answer[1]) <= budget][:count]
            if expected:
                assert answers(traverse(stages, budget, fixed=2, count=count)) == expected
            else:
                with pytest.raises(ValueError, match=f"no network fits the budget {budget}"):
                    traverse(stages, budget, fixed=2, count=count)


@pytest.mark.parametrize("ties", [False, True])
def test_without_a_budget_and_with_one_for_each_cost(ties: bool) -> None:
    for seed in range(20):
        stages = draw(100 + seed, dim=2, ties=ties)
        everything = brute_force(stages)
        assert answers(traverse(stages, None, count=10**6)) == everything
        budget = [int(np.median([costs[column] for _, costs, _ in everything])) for column in (0, 1)]
        expected = brute_force(stages, budget)
        if expected:
            assert answers(traverse(stages, budget)) == expected[:1]


@pytest.mark.parametrize("dim", [1, 2])
def test_the_trade_off_holds_what_nothing_else_beats(dim: int) -> None:
    for seed in range(30):
        stages = draw(200 + seed, dim=dim, ties=seed % 2 == 0)
        best: list[Answer] = []
        for answer in brute_force(stages):  # by rising loss, then cost, then choices
            if not any(all(m <= t for m, t in zip(mine[1], answer[1], strict=True)) for mine in best):
                best.append(answer)
        assert answers(trade_off(stages)) == sorted(best, key=lambda answer: (answer[1], answer[0]))


def test_the_error_says_what_the_cheapest_network_costs() -> None:
    for seed in range(30):
        stages = draw(300 + seed)
        cheapest = min(costs[0] for _, costs, _ in brute_force(stages, fixed=5))
        assert traverse(stages, cheapest, fixed=5)[0].costs == (cheapest,)
        with pytest.raises(ValueError, match=f"budget {cheapest - 1}: the cheapest costs {cheapest}$"):
            traverse(stages, cheapest - 1, fixed=5)


def test_more_budget_is_never_worse() -> None:
    for seed in range(20):
        stages = draw(400 + seed)
        costs = sorted({costs[0] for _, costs, _ in brute_force(stages)})
        losses = [traverse(stages, budget)[0].loss for budget in costs]
        assert losses == sorted(losses, reverse=True)


def test_a_dominated_path_changes_nothing_and_a_constant_only_the_loss() -> None:
    for seed in range(20):
        stages = draw(500 + seed, separable=True)
        budget = int(np.median([costs[0] for _, costs, _ in brute_force(stages)]))
        (before,) = traverse(stages, budget)
        group = stages[0][0]
        worse = replace(
            group,
            losses=np.append(group.losses, group.losses[0] + 0.5),
            costs=np.append(group.costs, group.costs[0] + 1),
        )
        assert traverse([[worse], *stages[1:]], budget) == [before]
        (after,) = traverse([[replace(group, losses=group.losses + 8)], *stages[1:]], budget)
        assert (after.choices, after.costs) == (before.choices, before.costs)
        assert after.loss == pytest.approx(before.loss + 8)


def test_permuted_paths_permute_the_answer() -> None:
    for seed in range(20):
        stages = draw(600 + seed)
        draws = np.random.default_rng(seed)
        orders = {(s, g.cell): draws.permutation(len(g.losses)) for s, stage in enumerate(stages) for g in stage}
        moved = [
            [replace(g, losses=g.losses[orders[s, g.cell]], costs=g.costs[orders[s, g.cell]]) for g in stage]
            for s, stage in enumerate(stages)
        ]
        (found,), (expected,) = traverse(moved, None), traverse(stages, None)
        back = tuple((cell, int(orders[s, cell][path])) for s, (cell, path) in enumerate(found.choices))
        assert (back, found.loss) == (expected.choices, expected.loss)


def test_large_stages_are_merged_in_parts_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = np.random.default_rng(0)
    costs = [draws.integers(0, 400, 80) for _ in range(3)]
    stages = [[Group(losses=3 - c / 400 + 0.1 * draws.random(80), costs=c)] for c in costs]
    whole = traverse(stages, 500, count=7)
    monkeypatch.setattr("dna.traverse._PAIRS_AT_ONCE", 500)
    assert traverse(stages, 500, count=7) == whole
    sums = sum(np.ix_(*(stage[0].losses for stage in stages)))  # in the order of the stages, as in the search
    fits = sum(np.ix_(*costs)) <= 500
    assert [network.loss for network in whole] == np.sort(sums[fits])[:7].tolist()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("dim", [1, 2])
def test_survivors_are_the_rows_that_few_others_dominate(dim: int, count: int) -> None:
    draws = np.random.default_rng(1)
    for num_rows in (1, 7, 60, 600):
        losses, costs = draws.integers(0, 12, num_rows) / 4, draws.integers(0, 12, (num_rows, dim))
        rows = np.column_stack([costs, losses])
        expected = []
        for row in range(num_rows):
            no_worse = (rows <= rows[row]).all(1)
            equal_and_later = (rows == rows[row]).all(1) & (np.arange(num_rows) >= row)
            if np.count_nonzero(no_worse & ~equal_and_later) < count:
                expected.append(row)
        assert survivors(losses, costs, count).tolist() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": np.array([0.1, np.nan])}, "stage 1, cell 0: the rating of path 1 is nan"),
        ({"losses": np.array([np.inf, -np.inf])}, "path 0 is inf .and 1 others"),
        ({"costs": np.array([1.0, 2.0])}, "costs are float64; give whole numbers"),
        ({"costs": np.array([1, 2, 3])}, r"losses of shape \(2,\) and costs of shape \(3,\)"),
        ({"losses": np.zeros(0), "costs": np.zeros(0, np.int64)}, "n at least 1"),
        ({"costs": np.ones((2, 2), np.int64)}, "all with the same number of costs"),
        ({"in_width": 3}, "no widths of the stages join"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes: dict[str, object], message: str) -> None:
    group = Group(losses=np.array([0.1, 0.2]), costs=np.array([2, 1]))
    with pytest.raises(ValueError, match=message):
        traverse([[group], [replace(group, **changes)]], 10)  # type: ignore[arg-type]


def test_other_wrong_calls_are_refused() -> None:
    group = Group(losses=np.array([0.1, 0.2]), costs=np.array([2, 1]))
    for stages in ([], [[group], []]):
        with pytest.raises(ValueError, match="give at least one group for each"):
            traverse(stages, 10)
    with pytest.raises(ValueError, match="count is 0"):
        traverse([[group]], 10, count=0)
    with pytest.raises(ValueError, match=r"budget is 1\.5: give 1 whole numbers"):
        traverse([[group]], 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"budget is \[1, 2\]: give 1 whole numbers"):
        traverse([[group]], [1, 2])
    with pytest.raises(ValueError, match=r"the first stage follows widths \[0, 1\]"):
        traverse([[group, replace(group, in_width=1)]], 10)


def test_the_search_needs_numpy_alone() -> None:
    folder = Path(dna.__file__).parent
    for name in ("archs", "candidates", "costs", "dominance", "traverse"):
        tree = ast.parse((folder / f"{name}.py").read_text())
        imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        others = {module.split(".")[0] for module in imported if module}
        assert others <= {"collections", "dataclasses", "dna", "functools", "math", "numpy", "re", "typing"}, name
