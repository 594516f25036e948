"""Step `benchmark`: searches on the real table of NAS-Bench-201, with 12 epochs as low and 200 as high fidelity.

Source: Trofimov et al., arXiv 2006.08341, revised version (NAS-Bench-201 as the space); Dong and Yang, ICLR 2020.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from common.data.open import resolve_root
from common.experiment.config import StepConfig as CommandConfig
from common.experiment.files import read_json, write_json, write_text
from common.experiment.names import slug
from common.experiment.parallel import Job, map_resumable
from common.experiment.run import Run, open_run
from common.experiment.workers import Workers
from common.report.facts import commands_of
from common.spaces.nasbench201_table import load_table
from mfkd.cell_searches import SEARCHES, Budget, CellTable, Dataset, cell_table, course
from mfkd.gaussian_process import Array
from mfkd.report_comparisons import benchmark_page
from mfkd.report_inputs import BenchmarkFacts

_SHOWN = (1, 5, 10, 20, 30)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(CommandConfig):
    """Search NAS-Bench-201's table, many times, and report what is found after how many look-ups."""

    data: Dataset = "cifar10"
    """The table's dataset."""
    budget: Budget = field(default_factory=Budget)
    """Look-ups of one search."""
    num_seeds: int = 50
    """Searches of each kind."""
    workers: Workers = field(default_factory=Workers)
    """Who searches."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.num_seeds < 1:
            raise ValueError(f"num_seeds is {self.num_seeds}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class _SearchJob:
    """One search."""

    cfg: BenchmarkConfig
    name: str
    seed: int
    file: Path


def benchmark(cfg: BenchmarkConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError: there is no table in the data root; the message says how to get it.
        ValueError: it is damaged or lacks a column.
    """
    folder = cfg.out or Path("exp/mfkd/benchmark") / cfg.data
    with open_run(folder, program="mfkd", step="benchmark", config=cfg, products=["searches"]) as run:
        if run.result is None:
            table = cell_table(load_table(resolve_root(cfg.data_root)), cfg.data)
            print(f"benchmark: {len(SEARCHES)} x {cfg.num_seeds} searches on {cfg.data} -> {folder}", flush=True)
            (run.folder / "searches").mkdir(exist_ok=True)
            jobs = {
                f"{name}, seed {seed}": _SearchJob(
                    cfg=cfg, name=name, seed=seed, file=run.folder / "searches" / f"{slug(name)}-{seed}.json"
                )
                for name in SEARCHES
                for seed in range(cfg.num_seeds)
            }
            map_resumable(
                _search,
                [Job(key=key, args=(job,)) for key, job in jobs.items()],
                done=lambda key: jobs[key].file.exists(),
                store=lambda key, value: None,  # each job writes its own file
                backend=cfg.workers.backend,
                workers=cfg.workers.num,
                threads=cfg.workers.threads,
                description="searches",
            )
            _finish(cfg, run, table, list(jobs.values()))
        else:
            print(f"{folder} is finished; --restart searches anew")
        assert run.result is not None
        _report(run.result, folder)


def _search(job: _SearchJob) -> None:
    """Search once, and write what was looked up in which order."""
    table = _table(job.cfg.data_root, job.cfg.data)
    made = SEARCHES[job.name](table, job.cfg.budget, job.seed)
    write_json(job.file, {"looked_up": [[one.fidelity, one.point, one.accuracy] for one in made]})


@lru_cache(maxsize=1)
def _table(data_root: Path | None, dataset: Dataset) -> CellTable:
    return cell_table(load_table(resolve_root(data_root)), dataset)


def _finish(cfg: BenchmarkConfig, run: Run, table: CellTable, jobs: Sequence[_SearchJob]) -> None:
    found: dict[str, list[tuple[list[float], list[float]]]] = {name: [] for name in SEARCHES}
    for job in jobs:
        found[job.name].append(course(read_json(job.file)["looked_up"]))
    curves = {name: np.array([bests for bests, _ in seeds]) for name, seeds in found.items()}  # (seeds, look-ups)
    costs = {name: np.array([paid for _, paid in seeds]).mean(0) for name, seeds in found.items()}
    shown = [num for num in _SHOWN if num <= cfg.budget.num_high]
    rows = [_row(name, curves[name], costs[name], shown) for name in SEARCHES]
    columns = ["Way to search", *(f"after {num}" for num in shown), "Paid for 1", f"Paid for {cfg.budget.num_high}"]
    for number in range(cfg.budget.num_high):
        run.log(number, {slug(name): float(values[:, number].mean()) for name, values in curves.items()}, split="mean")
    facts = BenchmarkFacts(
        dataset=cfg.data,
        num_seeds=cfg.num_seeds,
        curves={name: values.mean(0).tolist() for name, values in curves.items()},
        costs={name: values.tolist() for name, values in costs.items()},
        table=rows,
        columns=columns,
        best=float(table.high.max()),
        commands=commands_of("mfkd", "benchmark", run.folder),
    )
    write_text(run.folder / "report.html", benchmark_page(facts))
    run.finish(
        {
            "data": cfg.data,
            "num_seeds": cfg.num_seeds,
            "best": facts.best,
            "columns": columns,
            "table": rows,
            "mean": dict(facts.curves),
            "std": {name: values.std(0).tolist() for name, values in curves.items()},
            "paid": dict(facts.costs),
        }
    )


def _row(name: str, curve: Array, paid: Array, shown: Sequence[int]) -> list[str]:
    """Mean and deviation of the best accuracy after some look-ups, in percent, and the first and the last cost."""
    cells = [f"{100 * curve[:, num - 1].mean():.2f} +- {100 * curve[:, num - 1].std():.2f}" for num in shown]
    return [name, *cells, f"{paid[0]:.1f}", f"{paid[-1]:.1f}"]


def _report(result: Mapping[str, Any], folder: Path) -> None:
    print(
        f"{result['data']}: best accuracy found (200 epochs, in percent) after high-fidelity look-ups, mean and "
        f"deviation over {result['num_seeds']} seeds; the best cell has {100 * result['best']:.2f}. Paid: trainings of "
        "200 epochs, low-fidelity look-ups of 12 epochs included"
    )
    for row in (result["columns"], *result["table"]):
        print(f"{row[0]:<36}" + "".join(f"{cell:>16}" for cell in row[1:]))
    print(f"report: {folder / 'report.html'}")
