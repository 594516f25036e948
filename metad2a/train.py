"""Step `train`: train the cell that the search chose, from several seeds, and random cells beside it.

Source: Lee et al., ICLR 2021, released code (nas_bench_201): the accuracy of the last epoch, mean and 95 % interval.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from scipy import stats

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, UsageError, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import read_json, write_text
from common.experiment.names import slug
from common.experiment.parallel import Job, map_resumable
from common.experiment.run import Run, open_run
from common.experiment.seeds import generator
from common.experiment.workers import Workers
from common.kd.evaluate import predict
from common.kd.recipe import Recipe
from common.kd.trainer import train as fit
from common.report.facts import PredictionFacts, RunFacts, commands_of, dataset_facts, run_facts, settings_of
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_classes import is_connected
from common.spaces.sampling import sample_distinct
from metad2a.facts import arch_facts
from metad2a.networks import TrainedNetwork, load_network, save_network
from metad2a.recipes import CELL_RECIPE
from metad2a.report import train_page
from metad2a.report_inputs import TrainedCell, TrainFacts
from metad2a.search import search_folder

_SHOWN_PREDICTIONS = 200
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class TrainConfig(StepConfig):
    """Train the chosen cell, once for each seed, and report mean and 95 % interval."""

    data: str = "digits"
    """A known name (`mnist`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 32
    """Side of the images, divisible by 4."""
    space: NasBench201Space = field(default_factory=NasBench201Space)
    """The network around the cell."""
    arch: str | None = None
    """The cell, like `|nor_conv_3x3~0|+|skip_connect~0|none~1|+|...|`; none takes the best one of `search` on this
    dataset."""
    recipe: Recipe = CELL_RECIPE
    """The training."""
    seeds: tuple[int, ...] = (777, 888, 999)
    """One training each; published."""
    num_random: int = 0
    """Random cells that are trained the same way, from the first seed, for comparison."""
    workers: Workers = field(default_factory=Workers)
    """Who trains them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")
        if self.num_random < 0:
            raise ValueError(f"num_random is {self.num_random}; it must be 0 or more")
        if self.resolution <= 0 or self.resolution % 4:
            raise ValueError(f"resolution {self.resolution} is not a positive multiple of 4; use for example 32")
        if self.arch is not None:
            self.space.parse(self.arch)


@dataclass(frozen=True, kw_only=True)
class _CellJob:
    """One cell from one seed."""

    data: str
    data_root: Path | None
    data_seed: int
    resolution: int
    space: NasBench201Space
    cell: Cell
    recipe: Recipe
    seed: int
    gpu: str
    file: Path
    state: Path


def train(cfg: TrainConfig) -> None:
    """Run the step.

    Raises:
        UsageError: there was no search on this dataset and no cell is given.
        FileNotFoundError, ValueError: as `open_task`, or fewer training images than a batch.
    """
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    folder = cfg.out or Path("exp/metad2a/train") / slug(task.id)
    with open_run(folder, program="metad2a", step="train", config=cfg, products=["cell-*.safetensors"]) as run:
        if run.result is None:
            chosen = cfg.space.parse(cfg.arch or _found_cell(task.id, cfg))
            print(f"train: {cfg.space.format(chosen)} on {task.description}, {_counts(cfg)} -> {folder}", flush=True)
            random = _random_cells(cfg, chosen)
            _train_all(cfg, chosen, random, folder)
            _finish(cfg, task, run, chosen=chosen, random=random)
        else:
            print(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        _report(run.result, folder)


def _counts(cfg: TrainConfig) -> str:
    others = f", and {cfg.num_random} random cells" if cfg.num_random else ""
    return f"seeds {' '.join(map(str, cfg.seeds))}{others}"


def _found_cell(task: str, cfg: TrainConfig) -> str:
    """The best cell of the search on this task.

    Raises:
        UsageError: there was none.
    """
    file = search_folder(task) / "result.json"
    if not file.exists():
        raise UsageError(
            f"which cell? Run `python -m metad2a search --data {cfg.data}` first (no {file}), or give --arch"
        )
    return str(read_json(file)["chosen"][0]["arch"])


def _random_cells(cfg: TrainConfig, chosen: Cell) -> list[Cell]:
    """Other cells that compute something, drawn uniformly."""
    draws = generator(cfg.seed, "random cells")
    return sample_distinct(cfg.space, cfg.num_random, draws, accept=is_connected, exclude=(chosen,))


def _file(name: str, seed: int) -> str:
    return f"cell-{name}-seed{seed}.safetensors"


def _random_name(place: int) -> str:
    return f"random{place}"


def _train_all(cfg: TrainConfig, chosen: Cell, random: Sequence[Cell], folder: Path) -> None:
    wanted = [("chosen", chosen, seed) for seed in cfg.seeds]
    wanted += [(_random_name(place), cell, cfg.seeds[0]) for place, cell in enumerate(random, start=1)]
    jobs = {
        _file(name, seed): _CellJob(
            data=cfg.data,
            data_root=cfg.data_root,
            data_seed=cfg.seed,
            resolution=cfg.resolution,
            space=cfg.space,
            cell=cell,
            recipe=cfg.recipe,
            seed=seed,
            gpu=cfg.gpu,
            file=folder / _file(name, seed),
            state=folder / "checkpoint" / f"{name}-seed{seed}.pt",
        )
        for name, cell, seed in wanted
    }
    map_resumable(
        _train_one,
        [Job(key=key, args=(job,)) for key, job in jobs.items()],
        done=lambda key: jobs[key].file.exists(),
        store=lambda key, value: None,  # each job writes its own file
        backend=cfg.workers.backend,
        workers=cfg.workers.num,
        threads=cfg.workers.threads,
        description="cells",
    )


def _train_one(job: _CellJob) -> None:
    """Train one cell; an interrupted training goes on where it stopped."""
    task = open_task(job.data, resolution=job.resolution, data_root=job.data_root, seed=job.data_seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        network = job.space.build(job.cell, task.num_classes, task.resolution)
    outcome = fit(
        [network],
        task,
        job.recipe,
        device=resolve_device(job.gpu),
        seed=job.seed,
        checkpoint=job.state,
        description=f"{task.id}, seed {job.seed}",
    )[0]
    trained = TrainedNetwork(
        network=network.cpu(),
        space_name=job.space.name,
        cell=job.cell,
        task=task.id,
        class_names=task.class_names,
        resolution=task.resolution,
        final_accuracy=outcome.final_accuracy,
        best_accuracy=outcome.best_accuracy,
        initial_accuracy=outcome.initial_accuracy,
        notes={"recipe": to_dict(job.recipe), "seed": job.seed, "weights": "last", "curve": outcome.curve},
    )
    save_network(job.file, trained)
    job.state.unlink(missing_ok=True)


def _finish(cfg: TrainConfig, task: Task, run: Run, *, chosen: Cell, random: Sequence[Cell]) -> None:
    networks = {seed: load_network(run.folder / _file("chosen", seed)) for seed in cfg.seeds}
    for seed, network in networks.items():
        for point in network.notes["curve"]:
            run.log(int(point["step"]), {"valid_accuracy": point["accuracy"]}, split=f"seed{seed}")
    ours = TrainedCell(
        name="chosen",
        cell=arch_facts(chosen, cfg.space, task.num_classes, resolution=task.resolution),
        runs=[_run_of(seed, network) for seed, network in networks.items()],
    )
    others = [
        TrainedCell(
            name=f"random {place}",
            cell=arch_facts(cell, cfg.space, task.num_classes, resolution=task.resolution),
            runs=[_run_of(cfg.seeds[0], load_network(run.folder / _file(_random_name(place), cfg.seeds[0])))],
        )
        for place, cell in enumerate(random, start=1)
    ]
    result = _result(task, cfg, ours, others)
    facts = TrainFacts(
        dataset=dataset_facts(task),
        chosen=ours,
        random=others,
        interval=result["final_accuracy"]["interval"],
        predictions=_predictions(networks[cfg.seeds[0]], task),
        settings=settings_of(to_dict(cfg.recipe)) | {"network": cfg.space.name},
        commands=commands_of("metad2a", "train", run.folder),
    )
    write_text(run.folder / "report.html", train_page(facts))
    run.finish(result)


def _run_of(seed: int, trained: TrainedNetwork) -> RunFacts:
    accuracies = {name: getattr(trained, f"{name}_accuracy") for name in ("best", "final", "initial")}
    return run_facts(seed, accuracies, trained.notes["curve"])


def interval_of(values: Sequence[float]) -> float | None:
    """Half width of the 95 % interval of a mean, by Student's t; None for one value."""
    if len(values) < 2:
        return None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def _result(task: Task, cfg: TrainConfig, ours: TrainedCell, others: Sequence[TrainedCell]) -> dict[str, Any]:
    measured = {}
    for name in ("final", "best", "initial"):
        values = [getattr(run, f"{name}_accuracy") for run in ours.runs]
        measured[f"{name}_accuracy"] = {
            "seeds": {str(run.seed): value for run, value in zip(ours.runs, values, strict=True)},
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            "interval": interval_of(values),
        }
    random = [
        {"arch": other.cell.text, "num_params": other.cell.num_params, "final_accuracy": other.runs[0].final_accuracy}
        for other in others
    ]
    first = ours.runs[0].final_accuracy
    return {
        "task": task.id,
        "description": task.description,
        "space": cfg.space.name,
        "arch": ours.cell.text,
        "num_params": ours.cell.num_params,
        "macs": ours.cell.macs,
        "weights": [_file("chosen", run.seed) for run in ours.runs],
        **measured,
        "random": random,
        "place": 1 + sum(other.runs[0].final_accuracy > first for other in others) if others else None,
    }


def _predictions(trained: TrainedNetwork, task: Task) -> PredictionFacts:
    shown = task.evaluation[:_SHOWN_PREDICTIONS]
    logits = predict(trained.network, task.images, shown, device=torch.device("cpu"))
    return PredictionFacts(images=task.images[shown], labels=task.labels[shown], logits=logits)


def _report(result: Mapping[str, Any], folder: Path) -> None:
    final = result["final_accuracy"]
    within = "" if final["interval"] is None else f", 95 % interval +- {100 * final['interval']:.2f}"
    print(
        f"{result['description']}: {result['arch']}\nfinal accuracy {100 * final['mean']:.2f} %{within}; "
        f"{result['num_params']:,} parameters, {result['macs']:,} MACs"
    )
    if result["random"]:
        values = [other["final_accuracy"] for other in result["random"]]
        seed, ours = next(iter(final["seeds"].items()))
        print(
            f"seed {seed}: {100 * ours:.2f} %, place {result['place']} of {len(values) + 1}; random cells: mean "
            f"{100 * statistics.fmean(values):.2f} %, best {100 * max(values):.2f} %"
        )
    print(f"weights: {', '.join(str(folder / name) for name in result['weights'])}\nreport: {folder / 'report.html'}")
