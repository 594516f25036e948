"""Step `search`: rate the blocks where that was not done, and find the best networks within a budget, exactly.

Source: Li et al., CVPR 2020, searching for the best student under constraint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.data.tasks import plan_task
from common.experiment.config import StepConfig, UsageError
from common.experiment.device import resolve_device
from common.experiment.files import read_json, write_text
from common.experiment.run import Run, open_run
from common.report.facts import commands_of
from dna.archs import Cell, DnaArch, format_arch, timm_definition
from dna.artifacts import space_of
from dna.budgets import Answer, Budget, Problem, find
from dna.candidates import RatedCell, arch_of, layers_of
from dna.images import step_folder
from dna.latency import LatencyTable, Timing, load_table, measure, save_table
from dna.potentials import METRICS, RATING, Potential, load, read_official
from dna.rate import RateConfig, file_name, rate
from dna.report import search_page
from dna.report_inputs import FoundFacts, SearchFacts
from dna.space import BlockSpace
from dna.traverse import Found

LATENCY_FILE = "latency.json"
_DRAWN = 2000
"""Random networks drawn beside the front on the page."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig(StepConfig):
    """Find the networks with the best sum of ratings within a budget; the optimum, not an estimate of it."""

    data: str = "imagenet"
    """The dataset that the supernet was trained on."""
    ratings: Path | None = None
    """Folder of ratings, ours or of the released code; None takes those of the dataset, and rates where there are
    none."""
    rating: str = RATING
    """Which of the measured losses is added up: cl_loss (relative L1), or another one of the files."""
    budget: Budget = field(default_factory=Budget)
    """What the networks may cost."""
    top_k: int = 3
    """Networks that are wanted, best first."""
    resolution: int = 224
    """Side of the images that costs are counted for."""
    space: BlockSpace = field(default_factory=BlockSpace)
    """The space that was rated."""
    num_classes: int | None = None
    """Outputs that costs are counted for; None takes the dataset's."""
    latency: Path | None = None
    """Table of measured times, for budget.seconds; None measures one."""
    timing: Timing = field(default_factory=Timing)
    """How times are measured."""

    def __post_init__(self) -> None:
        """Check the fields."""
        self.space.check_resolution(self.resolution)
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be 1 or more")
        if self.rating not in METRICS:
            raise ValueError(f"rating is {self.rating!r}; give one of {', '.join(METRICS)}")


def search(cfg: SearchConfig) -> None:
    """Run the step.

    Raises:
        UsageError: the ratings are of another space.
        FileNotFoundError: a stage has no ratings.
        ValueError: no network fits the budget; the message says what the cheapest one costs.
    """
    if cfg.ratings is None:
        plan = plan_task(cfg.data, data_root=cfg.data_root, seed=cfg.seed)[1]
        task, ratings, num_classes = plan.id, _ensure_ratings(cfg, plan.id), len(plan.classes)
    else:
        task, ratings, num_classes = cfg.ratings.resolve().name, cfg.ratings, _classes_of(cfg.ratings)
    problem = Problem(
        rated=read_ratings(ratings, cfg.space, cfg.rating, resolution=cfg.resolution),
        num_classes=cfg.num_classes or num_classes,
        resolution=cfg.resolution,
        skeleton=cfg.space.skeleton,
    )
    answer = None if cfg.budget.seconds is not None else find(problem, cfg.budget, cfg.top_k)
    folder = cfg.out or step_folder("search", task)
    with open_run(folder, program="dna", step="search", config=cfg, products=[LATENCY_FILE]) as run:
        if run.result is None:
            print(f"search: {ratings}, {cfg.budget.describe()} -> {folder}", flush=True)
            answer = answer or find(problem, cfg.budget, cfg.top_k, _latency_table(cfg, run, problem))
            _finish(cfg, run, problem, answer, ratings)
        else:
            print(f"{folder} is finished; --restart searches anew")
        assert run.result is not None
        _report(run.result, folder)


def _ensure_ratings(cfg: SearchConfig, task: str) -> Path:
    folder = step_folder("rate", task)
    if not (folder / "result.json").is_file():
        common = {name: getattr(cfg, name) for name in ("gpu", "data_root", "threads", "deterministic", "debug")}
        rate(RateConfig(data=cfg.data, **common))
    return folder


def _classes_of(ratings: Path) -> int:
    """Classes that the ratings were made for; those of ImageNet where their folder does not say it."""
    about = ratings / "result.json"
    return int(read_json(about)["num_classes"]) if about.is_file() else 1000


def read_ratings(
    folder: Path, space: BlockSpace, rating: str = RATING, *, resolution: int | None = None
) -> list[list[RatedCell]]:
    """Ratings of all cells of a space.

    Args:
        folder: with potential-STAGE.npz files of ours, or .yaml files of the released code.
        space: what was rated.
        rating: which of the losses.
        resolution: side of the images; checked where the folder says it.

    Raises:
        UsageError: the folder is of another space or resolution.
        FileNotFoundError: a stage has no file; the message names it.
        RuntimeError: a file is damaged.
        ValueError: a file has the ratings of another cell, or such that nothing can be searched by.
    """
    about = folder / "result.json"
    if about.is_file():
        found = read_json(about)
        theirs = space_of(found["space"])
        if theirs != space:
            raise UsageError(f"{folder} has ratings of {theirs.name}, and asked is {space.name}: give its space")
        if resolution is not None and found["resolution"] != resolution:
            raise UsageError(f"{folder} was rated at {found['resolution']} pixels, not {resolution}: give --resolution")
    return [
        [RatedCell(of_cell, _losses(folder, stage, cell, of_cell, rating)) for cell, of_cell in enumerate(cells)]
        for stage, cells in enumerate(space.stages())
    ]


def _losses(folder: Path, stage: int, cell: int, of_cell: Cell, rating: str) -> np.ndarray[Any, Any]:
    ours, official = (folder / file_name(stage, cell, suffix) for suffix in (".npz", ".yaml"))
    if not (ours.is_file() or official.is_file()):
        raise FileNotFoundError(
            f"{folder} has no ratings of stage {stage}{f', cell {cell}' if cell else ''} ({ours.name} or "
            f"{official.name}): run `python -m dna rate`, or give another --ratings"
        )
    potential: Potential = load(ours) if ours.is_file() else read_official(official)
    if potential.num_layers != of_cell.num_layers or potential.width not in (None, of_cell.width):
        width = "" if potential.width is None else f" of width {potential.width}"
        raise ValueError(
            f"{ours if ours.is_file() else official} rates {potential.num_layers} layers{width}, and the cell is "
            f"{of_cell.num_layers}x{of_cell.width}: the file is of another space, give its --space.cells"
        )
    return potential.rating(rating)


def _finish(cfg: SearchConfig, run: Run, problem: Problem, answer: Answer, ratings: Path) -> None:
    front = problem.front()
    networks = [_facts(found, problem) for found in answer.networks]
    facts = SearchFacts(
        data=cfg.data,
        bounds=answer.bounds,
        networks=networks,
        front=[(found.costs[0], found.loss) for found in front],
        random=_random_networks(problem, cfg.seed),
        ratings=[[entry.losses for entry in stage] for stage in problem.rated],
        seconds=answer.seconds,
        commands=commands_of("dna", "search", run.folder, next_step=f"python -m dna retrain --data {cfg.data}"),
    )
    write_text(run.folder / "report.html", search_page(facts))
    run.finish(
        {
            "data": cfg.data,
            "ratings": str(ratings),
            "rating": cfg.rating,
            "num_classes": problem.num_classes,
            "resolution": cfg.resolution,
            "skeleton": cfg.space.skeleton.format(),
            "budget": dict(answer.bounds),
            "chosen": [
                _described(network, problem) | {"bounded": dict(zip(answer.names, found.costs, strict=True))}
                for network, found in zip(networks, answer.networks, strict=True)
            ],
            "front": [{"macs": found.costs[0], "rating": found.loss} for found in front],
            "search_seconds": answer.seconds,
        }
    )


def _latency_table(cfg: SearchConfig, run: Run, problem: Problem) -> LatencyTable:
    """The table that is given, or one that is measured now."""
    if cfg.latency is not None:
        return load_table(cfg.latency)
    cells = [[entry.cell for entry in stage] for stage in problem.rated]
    table = measure(
        layers_of(cells, cfg.resolution, cfg.space.skeleton),
        num_classes=problem.num_classes,
        resolution=cfg.resolution,
        device=resolve_device(cfg.gpu),
        timing=cfg.timing,
        skeleton=cfg.space.skeleton,
    )
    save_table(run.folder / LATENCY_FILE, table)
    return table


def _facts(found: Found, problem: Problem) -> FoundFacts:
    arch = arch_of(found, problem.rated)
    costs = problem.costs_of(arch)
    return FoundFacts(
        arch=arch,
        rating=found.loss,
        ratings=[float(problem.rated[stage][cell].losses[path]) for stage, (cell, path) in enumerate(found.choices)],
        macs=int(costs.macs),
        official_macs=int(costs.official_macs),
        num_params=int(costs.num_params),
    )


def _described(network: FoundFacts, problem: Problem) -> dict[str, Any]:
    return {
        "arch": format_arch(network.arch),
        "rating": network.rating,
        "ratings": list(network.ratings),
        "macs": network.macs,
        "official_macs": network.official_macs,
        "num_params": network.num_params,
        "timm": timm_definition(network.arch, problem.skeleton),
    }


def _random_networks(problem: Problem, seed: int) -> list[tuple[int, float]]:
    """MACs and rating of networks drawn at random."""
    draws = np.random.default_rng(seed)
    drawn = (random_network(problem.rated, draws) for _ in range(_DRAWN))
    return [(int(problem.costs_of(arch).macs), loss) for arch, loss in drawn]


def random_network(rated: Sequence[Sequence[RatedCell]], draws: np.random.Generator) -> tuple[DnaArch, float]:
    """A network drawn uniformly, cell by cell and path by path, and its rating."""
    cells = [int(draws.integers(len(stage))) for stage in rated]
    paths = [int(draws.integers(stage[cell].cell.num_paths)) for stage, cell in zip(rated, cells, strict=True)]
    loss = sum(float(stage[cell].losses[path]) for stage, cell, path in zip(rated, cells, paths, strict=True))
    return arch_of(Found(tuple(zip(cells, paths, strict=True)), loss, ()), rated), loss


def _report(result: Mapping[str, Any], folder: Path) -> None:
    for place, network in enumerate(result["chosen"], start=1):
        print(
            f"{place}. {network['arch']}: rating {network['rating']:.4f}, {network['macs']:,} MACs, "
            f"{network['num_params']:,} parameters"
        )
    print(f"found in {result['search_seconds']:.4f} s; report: {folder / 'report.html'}")
