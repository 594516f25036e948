"""Step `search`: rate the blocks where that was not done, and find the best networks within a budget, exactly.

Source: Li et al., CVPR 2020, searching for the best student under constraint.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.data.tasks import plan_task
from common.experiment.config import StepConfig, UsageError
from common.experiment.device import resolve_device
from common.experiment.files import read_json, write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.report.facts import commands_of
from dna.archs import Cell, DnaArch, format_arch, timm_definition
from dna.artifacts import space_of
from dna.candidates import RatedCell, arch_of, groups_of, layers_of
from dna.costs import LayerCosts, Measure, counted, fixed_costs, network_costs, timed
from dna.images import step_folder
from dna.latency import LatencyTable, Timing, load_table, measure, save_table
from dna.potentials import METRICS, RATING, Potential, load, read_official
from dna.rate import RateConfig, file_name, rate
from dna.report import search_page
from dna.report_inputs import FoundFacts, SearchFacts
from dna.space import BlockSpace
from dna.traverse import Found, trade_off, traverse

LATENCY_FILE = "latency.json"
_DRAWN = 2000
"""Random networks drawn beside the front on the page."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds of the whole network, stem and head included; several may be given, and none."""

    macs: int | None = None
    """Largest multiply-accumulates of one image, of convolutions and linear layers."""
    official_macs: int | None = None
    """The same as the released code counts: with normalisations, biases and pooling."""
    num_params: int | None = None
    """Largest number of parameters."""
    seconds: float | None = None
    """Largest time of a forward pass on this device, as the sum of measured layers."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("macs", "official_macs", "num_params", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"budget.{name} is {value}; it must be positive, or none")


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
    plan = plan_task(cfg.data, data_root=cfg.data_root, seed=cfg.seed)[1] if cfg.ratings is None else None
    task = slug(cfg.ratings.resolve().name) if plan is None and cfg.ratings is not None else plan.id if plan else ""
    ratings = cfg.ratings or _ensure_ratings(cfg, task)
    num_classes = cfg.num_classes or _classes_of(ratings) or (len(plan.classes) if plan else 1000)
    rated = read_ratings(ratings, cfg.space, cfg.rating, resolution=cfg.resolution)
    folder = cfg.out or step_folder("search", task)
    with open_run(folder, program="dna", step="search", config=cfg, products=[LATENCY_FILE]) as run:
        if run.result is None:
            print(f"search: {ratings}, {_asked(cfg.budget)} -> {folder}", flush=True)
            _search(cfg, run, rated, ratings=ratings, num_classes=num_classes)
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


def _classes_of(ratings: Path) -> int | None:
    about = ratings / "result.json"
    return int(read_json(about)["num_classes"]) if about.is_file() else None


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


def _search(
    cfg: SearchConfig, run: Run, rated: Sequence[Sequence[RatedCell]], *, ratings: Path, num_classes: int
) -> None:
    start = time.monotonic()
    table = _latency_table(cfg, run, rated, num_classes)
    bounds, costs_of, fixed = _bounds(cfg, rated, num_classes, table)
    groups = groups_of(rated, costs_of, cfg.resolution, cfg.space.skeleton)
    names = [name for name, _ in bounds]
    budget = [bound for _, bound in bounds if bound is not None] or None  # one for each name, or none at all
    began = time.perf_counter()
    try:
        best = traverse(groups, budget, fixed=fixed, count=cfg.top_k)
    except ValueError as error:
        raise ValueError(f"{error} ({', '.join(names)}): raise --budget") from error
    seconds = time.perf_counter() - began
    by_macs = groups_of(rated, counted("macs"), cfg.resolution, cfg.space.skeleton)
    front = trade_off(by_macs, fixed=_fixed(cfg, rated, num_classes))
    networks = [_facts(found, rated, cfg, num_classes) for found in best]
    facts = SearchFacts(
        data=cfg.data,
        bounds={name: bound for name, bound in bounds if bound is not None},
        networks=networks,
        front=[(found.costs[0], found.loss) for found in front],
        random=_random_networks(rated, cfg, num_classes),
        ratings=[[entry.losses for entry in stage] for stage in rated],
        seconds=seconds,
        commands=commands_of("dna", "search", run.folder, next_step=f"python -m dna retrain --data {cfg.data}"),
    )
    write_text(run.folder / "report.html", search_page(facts))
    run.finish(
        {
            "data": cfg.data,
            "ratings": str(ratings),
            "rating": cfg.rating,
            "num_classes": num_classes,
            "resolution": cfg.resolution,
            "skeleton": cfg.space.skeleton.format(),
            "budget": {name: bound for name, bound in bounds if bound is not None},
            "chosen": [
                _described(network, cfg) | {"bounded": dict(zip(names, found.costs, strict=True))}
                for network, found in zip(networks, best, strict=True)
            ],
            "front": [{"macs": found.costs[0], "rating": found.loss} for found in front],
            "search_seconds": seconds,
            "seconds": time.monotonic() - start,
        }
    )


def _fixed(cfg: SearchConfig, rated: Sequence[Sequence[RatedCell]], num_classes: int) -> int:
    return int(fixed_costs(rated[-1][0].cell.width, num_classes, cfg.resolution, cfg.space.skeleton).macs)


def _bounds(
    cfg: SearchConfig, rated: Sequence[Sequence[RatedCell]], num_classes: int, table: LatencyTable | None
) -> tuple[list[tuple[str, int | None]], LayerCosts, list[int]]:
    """Named bounds in whole units, what counts costs of layers, and the costs of the fixed parts.

    Seconds become nanoseconds. MACs are counted even where nothing is bounded.
    """
    measures: list[Measure] = ["macs", "official_macs", "num_params"]
    names = [name for name in measures if getattr(cfg.budget, name) is not None]
    if not names and table is None:
        names = ["macs"]
    total = fixed_costs(rated[-1][0].cell.width, num_classes, cfg.resolution, cfg.space.skeleton)
    bounds: list[tuple[str, int | None]] = [(name, getattr(cfg.budget, name)) for name in names]
    fixed = [int(getattr(total, name)) for name in names]
    if table is None:
        return bounds, counted(*names), fixed
    assert cfg.budget.seconds is not None
    times = timed(table.layers)
    if not names:
        return [("nanoseconds", round(cfg.budget.seconds * 1e9))], times, [round(table.fixed * 1e9)]
    bounds.append(("nanoseconds", round(cfg.budget.seconds * 1e9)))
    fixed.append(round(table.fixed * 1e9))

    def costs_of(layer: Any) -> np.ndarray[Any, Any]:
        counts = counted(*names)(layer).reshape(len(times(layer)), -1)
        return np.concatenate([counts, times(layer)[:, None]], axis=1)

    return bounds, costs_of, fixed


def _latency_table(
    cfg: SearchConfig, run: Run, rated: Sequence[Sequence[RatedCell]], num_classes: int
) -> LatencyTable | None:
    """The table that is given, or one that is measured now, where time is bounded."""
    if cfg.budget.seconds is None:
        return None
    if cfg.latency is not None:
        return load_table(cfg.latency)
    cells = [[entry.cell for entry in stage] for stage in rated]
    table = measure(
        layers_of(cells, cfg.resolution, cfg.space.skeleton),
        num_classes=num_classes,
        resolution=cfg.resolution,
        device=resolve_device(cfg.gpu),
        timing=cfg.timing,
        skeleton=cfg.space.skeleton,
    )
    save_table(run.folder / LATENCY_FILE, table)
    return table


def _facts(found: Found, rated: Sequence[Sequence[RatedCell]], cfg: SearchConfig, num_classes: int) -> FoundFacts:
    arch = arch_of(found, rated)
    costs = network_costs(arch, num_classes, cfg.resolution, cfg.space.skeleton)
    return FoundFacts(
        arch=arch,
        rating=found.loss,
        ratings=[float(rated[stage][cell].losses[path]) for stage, (cell, path) in enumerate(found.choices)],
        macs=int(costs.macs),
        official_macs=int(costs.official_macs),
        num_params=int(costs.num_params),
    )


def _described(network: FoundFacts, cfg: SearchConfig) -> dict[str, Any]:
    return {
        "arch": format_arch(network.arch),
        "rating": network.rating,
        "ratings": list(network.ratings),
        "macs": network.macs,
        "official_macs": network.official_macs,
        "num_params": network.num_params,
        "timm": timm_definition(network.arch, cfg.space.skeleton),
    }


def _random_networks(
    rated: Sequence[Sequence[RatedCell]], cfg: SearchConfig, num_classes: int
) -> list[tuple[int, float]]:
    """MACs and rating of networks drawn at random."""
    draws = np.random.default_rng(cfg.seed)
    return [
        (int(network_costs(arch, num_classes, cfg.resolution, cfg.space.skeleton).macs), loss)
        for arch, loss in (random_network(rated, draws) for _ in range(_DRAWN))
    ]


def random_network(rated: Sequence[Sequence[RatedCell]], draws: np.random.Generator) -> tuple[DnaArch, float]:
    """A network drawn uniformly, cell by cell and path by path, and its rating."""
    cells = [int(draws.integers(len(stage))) for stage in rated]
    paths = [int(draws.integers(stage[cell].cell.num_paths)) for stage, cell in zip(rated, cells, strict=True)]
    loss = sum(float(stage[cell].losses[path]) for stage, cell, path in zip(rated, cells, paths, strict=True))
    return arch_of(Found(tuple(zip(cells, paths, strict=True)), loss, ()), rated), loss


def _asked(budget: Budget) -> str:
    named = {name: getattr(budget, name) for name in ("macs", "official_macs", "num_params", "seconds")}
    asked = [f"{name.replace('_', ' ')} <= {value:,}" for name, value in named.items() if value is not None]
    return ", ".join(asked) or "no bound"


def _report(result: Mapping[str, Any], folder: Path) -> None:
    for place, network in enumerate(result["chosen"], start=1):
        print(
            f"{place}. {network['arch']}: rating {network['rating']:.4f}, {network['macs']:,} MACs, "
            f"{network['num_params']:,} parameters"
        )
    print(f"found in {result['search_seconds']:.4f} s; report: {folder / 'report.html'}")
