"""Seconds and memory of DNA's traversal: python -m bench.dna_search.

Ratings are synthetic, in the released code's size: a loss that falls with the size of the ops, interactions of
neighbours, noise. One row for each budget, the least of five; beside it the released nested loops, as the specification
describes them (losses in half precision, loop ends that carry over from prefix to prefix), stopped after --limit
seconds. Memory is the peak of this process, which imports NumPy and the search: the package's own `__init__`, which
registers networks with timm and so imports torch, is not run.
"""

import argparse
import importlib
import resource
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_PACKAGE = types.ModuleType("dna")
_PACKAGE.__path__ = [str(Path(__file__).resolve().parents[1] / "dna")]
OFFICIAL = {
    (1296, 600): "< 0.001",
    (1296, 460): "0.8, not the optimum",
    (1296, 430): "3.7, not the optimum",
    (1296, 399): "36, not the optimum",
    (1296, 330): "stopped at 87",
    (46656, 600): "stopped at 2,565",
}
"""(paths of a stage, budget in millions) -> CPU seconds in the specification, on its own synthetic files."""


def parts() -> tuple[Any, Any, Any, Any]:
    """Modules of the search, imported without the package around them."""
    known = sys.modules.get("dna")
    if known is None:
        sys.modules["dna"] = _PACKAGE
    names = ("archs", "candidates", "costs", "traverse")
    archs, candidates, costs, traverse = (importlib.import_module(f"dna.{name}") for name in names)
    return archs, candidates, costs, traverse


def synthetic_losses(num_layers: int, seed: int) -> np.ndarray[Any, Any]:
    """(6**L,) losses of a stage."""
    draws = np.random.default_rng(seed)
    size = np.array([0.0, 0.15, 0.3, 0.6, 0.75, 0.9])  # smaller for larger ops, which the cost model orders alike
    of_op = 0.45 / num_layers * (size + 0.15 * draws.random(6))
    losses = np.zeros(1)
    for _ in range(num_layers):
        losses = (losses[:, None] + of_op + 0.02 * draws.random(6)).reshape(-1)
    losses = 0.35 + losses + 0.02 * draws.random(len(losses))
    return losses.astype(np.float16).astype(np.float64)  # as the released loops round them


def released_loops(
    losses: Sequence[np.ndarray[Any, Any]], costs: Sequence[np.ndarray[Any, Any]], budget: int, limit: float
) -> tuple[float, bool]:
    """Best sum that the released loops find within a budget, and whether they came to their end.

    Args:
        losses: of each stage's paths, rounded to half precision.
        costs: theirs, likewise.
        budget: what the sum of costs must stay below.
        limit: seconds after which to stop.
    """
    order = [np.argsort(stage, kind="stable") for stage in losses]
    sorted_losses = [stage[rows].tolist() for stage, rows in zip(losses, order, strict=True)]
    sorted_costs = [stage[rows].tolist() for stage, rows in zip(costs, order, strict=True)]
    least = np.cumsum([0, *[int(stage.min()) for stage in reversed(costs)]])[::-1].tolist()
    ends, last = [len(stage) for stage in sorted_losses], len(losses) - 1
    best, stop = float("inf"), time.process_time() + limit

    def walk(stage: int, loss: float, cost: int) -> bool:
        nonlocal best
        place = 0
        while place < ends[stage]:
            if stage < last and time.process_time() > stop:
                return False
            total = cost + sorted_costs[stage][place]
            if total + least[stage + 1] < budget:
                value = loss + sorted_losses[stage][place]
                if stage == last:
                    best = min(best, value)
                    ends[stage] = place  # stays so for other prefixes: nothing later is looked at again
                    if place == 0:
                        ends[stage] = len(sorted_losses[stage])
                        return True
                    return False
                if walk(stage + 1, value, total) and stage:
                    ends[stage] = place
                    if place == 0:
                        ends[stage] = len(sorted_losses[stage])
                        return True
            place += 1
        return False

    walk(0, 0.0, 0)
    return best, time.process_time() <= stop


def rows(layers: Sequence[int], budgets: Sequence[int], *, with_loops: bool, limit: float) -> None:
    """Print the rows of one size."""
    archs, candidates, costs, traverse = parts()
    cells = [archs.Cell(num, width) for num, width in zip(layers, archs.WIDTHS, strict=True)]
    rated = [[candidates.RatedCell(cell, synthetic_losses(cell.num_layers, stage))] for stage, cell in enumerate(cells)]
    begin = time.process_time()
    groups = candidates.groups_of(rated, costs.counted("official_macs"), 224)
    counting = time.process_time() - begin
    fixed = int(costs.fixed_costs(320, 1000, 224).official_macs)
    paths = max(cell.num_paths for cell in cells)
    print(f"costs of all paths, stages of {paths:,}: {counting:.4f} s")
    for budget in budgets:
        spent, found = [], None
        for _ in range(5):
            begin = time.process_time()
            (found,) = traverse.traverse(groups, budget * 10**6, fixed=fixed)
            spent.append(time.process_time() - begin)
        assert found is not None
        loops = ""
        if with_loops:
            begin = time.process_time()
            best, ended = released_loops(
                [stage[0].losses for stage in groups], [stage[0].costs for stage in groups],
                budget * 10**6 - fixed, limit,
            )  # fmt: skip
            loops = f"{best:.4f} in {time.process_time() - begin:.2f}" + ("" if ended else ", stopped")
        official = OFFICIAL.get((paths, budget), "")
        print(f"{paths:>7,} {budget:>6} M {min(spent):>9.4f} {found.loss:>9.4f}  {loops:<26} {official}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds after which the loops are stopped")
    parser.add_argument("--layers", type=int, default=6, help="layers of every stage of the large size")
    args = parser.parse_args()
    columns = f"{'paths':>7} {'budget':>8} {'CPU s':>9} {'optimum':>9}  {'released loops':<26} official, CPU s"
    print(columns)
    rows((2, 4, 4, 4, 4, 1), (600, 460, 430, 399, 330), with_loops=True, limit=args.limit)
    rows((args.layers,) * 6, (900, 700, 600), with_loops=False, limit=args.limit)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB; torch imported: {'torch' in sys.modules}")


if __name__ == "__main__":
    main()
