"""Step `evaluate`: the found network beside random ones trained the same way, and what the ratings are worth."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, digest, to_dict
from common.experiment.files import write_text
from common.experiment.parallel import Job, map_resumable
from common.experiment.run import Run, open_run
from common.experiment.seeds import derive_seed
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.meta.ranking import kendall, spearman
from common.report.facts import RunFacts, commands_of, settings_of
from common.store.records import Record, RecordStore
from dna.archs import DnaArch, format_arch, parse_arch, path_index
from dna.candidates import RatedCell
from dna.costs import network_costs
from dna.images import step_folder
from dna.networks import NetworkJob, train_network
from dna.report import evaluate_page
from dna.report_inputs import EvaluateFacts, FoundFacts, Ranking, TrainedFacts
from dna.retrain import RECIPE, RetrainConfig, found_arch
from dna.search import random_network, read_ratings
from dna.space import BlockSpace

STORE = "records.sqlite"
_MOST_DRAWS = 50_000


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StepConfig):
    """Train the found network and random ones alike, and compare their accuracies with their ratings."""

    data: str = "imagenet"
    """The dataset that was searched on."""
    resolution: int = 224
    """Side of the images in pixels."""
    space: BlockSpace = field(default_factory=BlockSpace)
    """The space that was rated."""
    ratings: Path | None = None
    """Folder of ratings; None takes those of the dataset."""
    arch: str | None = None
    """The found network; None takes the best one of `search` on this dataset."""
    recipe: Recipe = RECIPE
    """How all of them are trained."""
    drop_rate: float = 0.2
    """Dropout before the classifier."""
    drop_path_rate: float = 0.2
    """Of the last layer's residual branch."""
    num_equal: int = 10
    """Random networks of the found one's MACs."""
    tolerance: float = 0.02
    """How far their MACs may be off, as a share."""
    num_spread: int = 10
    """Random networks of any cost, trained from the first seed alone."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Trainings of the found network, and of each of equal cost."""
    workers: Workers = field(default_factory=Workers)
    """Who trains them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        self.space.check_resolution(self.resolution)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")
        if self.num_equal < 1 or self.num_spread < 0 or not 0 < self.tolerance < 1:
            raise ValueError(
                f"num_equal is {self.num_equal}, num_spread {self.num_spread}, tolerance {self.tolerance}: at least 1, "
                "at least 0, in (0, 1)"
            )
        if self.arch is not None:
            parse_arch(self.arch)


def evaluate(cfg: EvaluateConfig) -> None:
    """Run the step.

    Raises:
        UsageError: there was no search on this dataset, or the ratings are of another space.
        ValueError: too few networks cost the same.
    """
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    ratings = cfg.ratings or step_folder("rate", task.id)
    folder = cfg.out or step_folder("evaluate", task.id)
    with open_run(folder, program="dna", step="evaluate", config=cfg, products=[f"{STORE}*"]) as run:
        if run.result is None:
            rated = read_ratings(ratings, cfg.space, resolution=cfg.resolution)
            networks = _networks(cfg, task, rated)
            print(
                f"evaluate: {len(networks)} networks on {task.description}, the found one and {cfg.num_equal} of its "
                f"cost from seeds {cfg.seeds} -> {folder}",
                flush=True,
            )
            _train_all(cfg, task, networks, folder)
            _finish(cfg, task, run, networks)
        else:
            print(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        _report(run.result, folder)


def rating_of(arch: DnaArch, rated: Sequence[Sequence[RatedCell]]) -> list[float]:
    """Ratings of a network's blocks.

    Raises:
        ValueError: it has a cell that was not rated.
    """
    found = []
    for stage, (ops, width, cells) in enumerate(zip(arch.ops, arch.widths, rated, strict=True)):
        losses = [e.losses for e in cells if (e.cell.num_layers, e.cell.width) == (len(ops), width)]
        if not losses:
            raise ValueError(f"stage {stage} of {format_arch(arch)} has a cell that was not rated: {len(ops)}x{width}")
        found.append(float(losses[0][path_index(ops)]))
    return found


def _networks(cfg: EvaluateConfig, task: Task, rated: Sequence[Sequence[RatedCell]]) -> dict[str, FoundFacts]:
    """The found network, those of its cost and those of any cost, by name."""
    asked = RetrainConfig(data=cfg.data, resolution=cfg.resolution, skeleton=cfg.space.skeleton, arch=cfg.arch)
    found = _facts(parse_arch(cfg.arch) if cfg.arch else found_arch(task.id, asked), cfg, task, rated)
    networks = {"found": found}

    def is_equal(network: FoundFacts) -> bool:
        return abs(network.macs - found.macs) <= cfg.tolerance * found.macs

    wanted: list[tuple[str, int, Callable[[FoundFacts], bool]]] = [
        ("equal", cfg.num_equal, is_equal),
        ("spread", cfg.num_spread, lambda network: True),
    ]
    for name, count, accepts in wanted:
        draws = np.random.default_rng(derive_seed(cfg.seed, name))
        drawn = 0
        for _ in range(_MOST_DRAWS):
            if drawn == count:
                break
            network = _facts(random_network(rated, draws)[0], cfg, task, rated)
            if accepts(network) and network.arch not in {known.arch for known in networks.values()}:
                drawn += 1
                networks[f"{name}{drawn}"] = network
        if drawn < count:
            raise ValueError(
                f"of {_MOST_DRAWS:,} random networks only {drawn} cost {found.macs:,} MACs within "
                f"{100 * cfg.tolerance:g} %: raise --tolerance, or ask for fewer with --num-equal"
            )
    return networks


def _facts(arch: DnaArch, cfg: EvaluateConfig, task: Task, rated: Sequence[Sequence[RatedCell]]) -> FoundFacts:
    costs = network_costs(arch, task.num_classes, task.resolution, cfg.space.skeleton)
    ratings = rating_of(arch, rated)
    return FoundFacts(
        arch=arch,
        rating=sum(ratings),
        ratings=ratings,
        macs=int(costs.macs),
        official_macs=int(costs.official_macs),
        num_params=int(costs.num_params),
    )


def _seeds(cfg: EvaluateConfig, name: str) -> tuple[int, ...]:
    return cfg.seeds[:1] if name.startswith("spread") else cfg.seeds


def _recipe_digest(cfg: EvaluateConfig) -> str:
    return digest({"recipe": to_dict(cfg.recipe), "drop": [cfg.drop_rate, cfg.drop_path_rate], "data": cfg.seed})


def _train_all(cfg: EvaluateConfig, task: Task, networks: Mapping[str, FoundFacts], folder: Path) -> None:
    """Train what the record store does not have."""
    recipe, space = _recipe_digest(cfg), cfg.space.name
    # one seed after the other, so that an unfinished evaluation has every network once
    wanted = sorted(
        [(cfg.seeds.index(seed), name, seed) for name in networks for seed in _seeds(cfg, name)],
        key=lambda entry: entry[0],
    )
    jobs = {f"{name}-seed{seed}": (networks[name], seed) for _, name, seed in wanted}

    def key_of(key: str) -> dict[str, Any]:
        network, seed = jobs[key]
        text = format_arch(network.arch)
        return {"task": task.id, "space": space, "architecture": text, "recipe": recipe, "seed": seed}

    with RecordStore(folder / STORE) as store:

        def keep(key: str, value: Mapping[str, Any]) -> None:
            network, _ = jobs[key]
            store.add(Record(**key_of(key), num_params=network.num_params, macs=network.macs, **value))

        map_resumable(
            _train_one,
            [Job(key=key, args=(_job(cfg, *jobs[key], folder / "checkpoint" / f"{key}.pt"),)) for key in jobs],
            done=lambda key: store.has(**key_of(key)),
            store=keep,
            backend=cfg.workers.backend,
            workers=cfg.workers.num,
            threads=cfg.workers.threads,
            description="networks",
        )


def _job(cfg: EvaluateConfig, network: FoundFacts, seed: int, state: Path) -> NetworkJob:
    return NetworkJob(
        data=cfg.data,
        data_root=cfg.data_root,
        data_seed=cfg.seed,
        resolution=cfg.resolution,
        arch=network.arch,
        skeleton=cfg.space.skeleton,
        recipe=cfg.recipe,
        seed=seed,
        drop_rate=cfg.drop_rate,
        drop_path_rate=cfg.drop_path_rate,
        gpu=cfg.gpu,
        state=state,
    )


def _train_one(job: NetworkJob) -> dict[str, float]:
    outcome = train_network(job)
    names = ("best_accuracy", "final_accuracy", "initial_accuracy", "final_loss", "seconds")
    return {name: float(getattr(outcome, name)) for name in names}


def _finish(cfg: EvaluateConfig, task: Task, run: Run, networks: Mapping[str, FoundFacts]) -> None:
    trained = _trained(cfg, task, networks, run.folder)
    found, equal = trained[0], [entry for entry in trained if entry.name.startswith("equal")]
    spread = [entry for entry in trained if entry.name.startswith("spread")]
    rankings = rankings_of(trained, "all") + rankings_of([found, *equal], "equal cost")
    facts = EvaluateFacts(
        dataset=task.description,
        found=found,
        equal=equal,
        spread=spread,
        rankings=rankings,
        settings=settings_of(to_dict(cfg.recipe)),
        commands=commands_of("dna", "evaluate", run.folder),
    )
    write_text(run.folder / "report.html", evaluate_page(facts))
    means = [entry.accuracy for entry in equal]
    run.finish(
        {
            "task": task.id,
            "description": task.description,
            "seeds": list(cfg.seeds),
            "networks": [_described(entry) for entry in trained],
            "found": _spread([one.final_accuracy for one in found.runs]),
            "equal": _spread(means),
            "best_equal": max(means),
            "place": 1 + sum(value > found.accuracy for value in means),
            "num_trained": len(trained),
            "rankings": {entry.name: {"kendall": entry.kendall, "spearman": entry.spearman} for entry in rankings},
        }
    )


def _trained(cfg: EvaluateConfig, task: Task, networks: Mapping[str, FoundFacts], folder: Path) -> list[TrainedFacts]:
    """What the record store has of the networks, in their order."""
    recipe, space, trained = _recipe_digest(cfg), cfg.space.name, []
    with RecordStore(folder / STORE) as store:
        for name, network in networks.items():
            runs = []
            for seed in _seeds(cfg, name):
                text = format_arch(network.arch)
                record = store.get(task=task.id, space=space, architecture=text, recipe=recipe, seed=seed)
                assert record is not None
                runs.append(
                    RunFacts(
                        seed=seed,
                        best_accuracy=record.best_accuracy,
                        final_accuracy=record.final_accuracy,
                        initial_accuracy=record.initial_accuracy,
                        seconds=record.seconds,
                    )
                )
            trained.append(TrainedFacts(name=name, network=network, runs=runs))
    return trained


def rankings_of(trained: Sequence[TrainedFacts], which: str) -> list[Ranking]:
    """How well the rating, MACs and parameters order networks by accuracy: larger is taken to be better for the two."""
    accuracies = torch.tensor([entry.accuracy for entry in trained], dtype=torch.float64)
    scores = {
        "rating": [-entry.network.rating for entry in trained],
        "MACs": [float(entry.network.macs) for entry in trained],
        "parameters": [float(entry.network.num_params) for entry in trained],
    }
    rankings = []
    for name, values in scores.items():
        predicted = torch.tensor(values, dtype=torch.float64)
        title = f"{name}, {which} ({len(trained)})"
        rankings.append(Ranking(title, kendall(predicted, accuracies), spearman(predicted, accuracies)))
    return rankings


def _described(entry: TrainedFacts) -> dict[str, Any]:
    network = entry.network
    return {
        "name": entry.name,
        "arch": format_arch(network.arch),
        "rating": network.rating,
        "macs": network.macs,
        "num_params": network.num_params,
        "accuracy": entry.accuracy,
        "seeds": {str(run.seed): run.final_accuracy for run in entry.runs},
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "std": statistics.stdev(values) if len(values) > 1 else 0.0}


def _report(result: Mapping[str, Any], folder: Path) -> None:
    found, equal = result["found"], result["equal"]
    print(
        f"{result['description']}: found {100 * found['mean']:.2f} +- {100 * found['std']:.2f} % over seeds "
        f"{result['seeds']}; random networks of its cost {100 * equal['mean']:.2f} +- {100 * equal['std']:.2f} %, best "
        f"{100 * result['best_equal']:.2f} %; place {result['place']}"
    )
    for name, ranking in result["rankings"].items():
        print(f"  by {name}: Kendall {ranking['kendall']:.2f}, Spearman {ranking['spearman']:.2f}")
    print(f"report: {folder / 'report.html'}")
