"""Step `evaluate --space mobilenetv3`: what searches under bounds choose, beside random networks, fine-tuned alike.

Source: Lee et al., ICLR 2021, section 4.3 compares accuracies and MACs; the random networks are ours.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.meta.ranking import spearman
from common.report.facts import commands_of, dataset_facts, settings_of
from common.spaces import MobileNetV3Arch, MobileNetV3Space
from metad2a.artifacts import Pair
from metad2a.draws import Features, open_features
from metad2a.facts import pair_card
from metad2a.finetune import inherited_space, random_networks, warn_if_seen
from metad2a.generation import Generation
from metad2a.pairs import check_extractor, choose_pair
from metad2a.ranking import draw_to_score, rank
from metad2a.recipes import SUBNET_RECIPE
from metad2a.scoring import score_archs
from metad2a.shipped import SHIPPED_SUPERNET
from metad2a.spaces import bounded
from metad2a.subnet_report import BoundFacts, BoundsFacts, RatedNetwork, evaluate_page
from metad2a.training import InheritedWeights, Training, Wanted, runs_of, train_all


@dataclass(frozen=True, kw_only=True)
class EvaluateSubnetsConfig(StepConfig):
    """Search under several bounds on MACs, and fine-tune what is found beside random networks."""

    space: Literal["mobilenetv3"] = "mobilenetv3"
    """Architectures; nasbench201 is the step without this flag."""
    data: str = "cifar10"
    """A known name, a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    pair: Path | None = None
    """Folder of generator and predictor; none takes the first shipped pair that has not seen the dataset."""
    supernet: Path = SHIPPED_SUPERNET
    """File of the inherited weights."""
    resolution: int | None = None
    """Side of the images; none takes the supernet's."""
    features: Features = field(default_factory=Features)
    """What the dataset is seen through, as in the pair's meta-training."""
    generation: Generation = field(default_factory=lambda: Generation(num_generated=200))
    """How many networks are generated under each bound."""
    num_draws: int = 10
    """Draws of the dataset's images that every network is scored on."""
    max_macs: tuple[int, ...] = (250_000_000, 300_000_000, 350_000_000)
    """The bounds."""
    num_random: int = 10
    """Random networks under each bound."""
    recipe: Recipe = SUBNET_RECIPE
    """The fine-tuning."""
    seeds: tuple[int, ...] = (777, 888, 999)
    """One fine-tuning of every network each."""
    workers: Workers = field(default_factory=Workers)
    """Who fine-tunes."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")
        if not self.max_macs or len(set(self.max_macs)) != len(self.max_macs):
            raise ValueError(f"max_macs {self.max_macs}: give one or more bounds, each once")
        if self.num_random < 1 or self.num_draws < 1:
            raise ValueError(f"num_random {self.num_random}, num_draws {self.num_draws}: at least 1 of each")


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """Networks under one bound; the chosen one first."""

    max_macs: int
    archs: tuple[MobileNetV3Arch, ...]
    scores: tuple[float, ...]
    seconds: float

    def name(self, place: int) -> str:
        """What a network is called in the names of files."""
        return f"macs{self.max_macs}-{'chosen' if place == 0 else f'random{place}'}"


def evaluate_subnets(cfg: EvaluateSubnetsConfig) -> None:
    """Run the step.

    Raises:
        UsageError: a pair has seen the dataset, or fits neither it nor the features nor the supernet.
        FileNotFoundError: there is no dataset, pair, supernet or extractor.
        ValueError: a bound that no network is within.
    """
    space, side = inherited_space(cfg.supernet, cfg.resolution)
    task = open_task(cfg.data, resolution=side, data_root=cfg.data_root, seed=cfg.seed)
    warn_if_seen(cfg.supernet, task.id)
    pair = choose_pair(cfg.pair, task.id, "mobilenetv3")
    for max_macs in cfg.max_macs:  # an impossible one is refused before the folder is taken
        bounded(space, task.num_classes, side, max_params=None, max_macs=max_macs)
    folder = cfg.out or Path("exp/metad2a/evaluate") / slug(f"mobilenetv3-{task.id}")
    with open_run(folder, program="metad2a", step="evaluate", config=cfg, products=["cell-*.safetensors"]) as run:
        if run.result is None:
            num = len(cfg.max_macs) * (1 + cfg.num_random) * len(cfg.seeds)
            print(f"evaluate: {num} fine-tunings on {task.description} by {pair.folder} -> {folder}", flush=True)
            bounds = _search(cfg, pair, task, space)
            wanted = [
                Wanted(name=bound.name(place), arch=arch, seed=seed)
                for seed in cfg.seeds
                for bound in bounds
                for place, arch in enumerate(bound.archs)
            ]
            start = InheritedWeights(supernet=cfg.supernet, space_name=space.name)
            train_all(Training.of(cfg, cfg.data, side, start, cfg.recipe), wanted, cfg.workers, folder)
            _finish(cfg, pair, task, run, space=space, bounds=bounds)
        else:
            print(f"{folder} is finished; --restart evaluates anew")
        assert run.result is not None
        _report(run.result, folder)


def _search(cfg: EvaluateSubnetsConfig, pair: Pair, task: Task, space: MobileNetV3Space) -> list[_Bound]:
    """The search under each bound, and random networks with their scores on the same draws."""
    device = resolve_device(cfg.gpu)
    extractor = cfg.features.load()
    check_extractor(pair, extractor.id)
    features = open_features(cfg.data, cfg.features, extractor, cfg=cfg, device=device)
    found = []
    for max_macs in cfg.max_macs:
        accept = bounded(space, task.num_classes, task.resolution, max_params=None, max_macs=max_macs)
        ranking = rank(
            pair,
            features,
            generation=cfg.generation,
            num_draws=cfg.num_draws,
            seed=cfg.seed,
            device=device,
            accept=accept,
        )
        best = int(ranking.order[0])
        random = random_networks(space, cfg.num_random, cfg.seed, accept=accept, exclude=(ranking.archs[best],))
        sets = draw_to_score(pair, features, cfg.num_draws, cfg.seed)
        scores = score_archs(pair.predictor.model, sets, space, random)
        found.append(
            _Bound(
                max_macs=max_macs,
                archs=(ranking.archs[best], *random),
                scores=(float(ranking.scores[best]), *scores.tolist()),
                seconds=sum(ranking.seconds.values()),
            )
        )
    return found


def _finish(
    cfg: EvaluateSubnetsConfig, pair: Pair, task: Task, run: Run, *, space: MobileNetV3Space, bounds: Sequence[_Bound]
) -> None:
    rated = [
        BoundFacts(
            max_macs=bound.max_macs,
            networks=[
                RatedNetwork(
                    name="chosen" if place == 0 else f"random {place}",
                    text=space.format(arch),
                    macs=space.cost(arch, task.num_classes, task.resolution).macs,
                    score=score,
                    accuracies=[run.final_accuracy for run in runs_of(run.folder, bound.name(place), cfg.seeds)],
                )
                for place, (arch, score) in enumerate(zip(bound.archs, bound.scores, strict=True))
            ],
        )
        for bound in bounds
    ]
    facts = BoundsFacts(
        dataset=dataset_facts(task),
        bounds=rated,
        seeds=cfg.seeds,
        pair=pair_card(pair),
        settings=settings_of(to_dict(cfg.recipe)) | {"supernet": str(cfg.supernet)},
        commands=commands_of("metad2a", "evaluate --space mobilenetv3", run.folder),
    )
    write_text(run.folder / "report.html", evaluate_page(facts))
    run.finish(
        {
            "task": task.id,
            "description": task.description,
            "space": space.name,
            "pair": str(pair.folder),
            "seen": pair.has_seen(task.id),
            "seeds": list(cfg.seeds),
            "bounds": [
                summary_of(each) | {"seconds": bound.seconds} for each, bound in zip(rated, bounds, strict=True)
            ],
        }
    )


def summary_of(bound: BoundFacts) -> dict[str, Any]:
    """Accuracies, as fractions, of the chosen network and of ways to choose among the random ones."""
    chosen, *others = bound.networks
    means = [statistics.fmean(each.accuracies) for each in others]
    by_score = max(range(len(others)), key=lambda place: others[place].score)
    by_macs = max(range(len(others)), key=lambda place: others[place].macs)
    ours = statistics.fmean(chosen.accuracies)
    return {
        "max_macs": bound.max_macs,
        "arch": chosen.text,
        "macs": chosen.macs,
        "chosen": {"mean": ours, "std": _std(chosen.accuracies), "seeds": list(chosen.accuracies)},
        "random": {"mean": statistics.fmean(means), "std": _std(means), "best": max(means), "networks": means},
        "random_by_score": means[by_score],
        "random_by_macs": means[by_macs],
        "place": 1 + sum(value > ours for value in means),
        "spearman_score": _spearman([each.score for each in others], means),
        "spearman_macs": _spearman([float(each.macs) for each in others], means),
    }


def _spearman(values: Sequence[float], accuracies: Sequence[float]) -> float | None:
    return spearman(torch.tensor(values), torch.tensor(accuracies)) if len(values) > 1 else None


def _std(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _report(result: Mapping[str, Any], folder: Path) -> None:
    seen = "which the pair HAS seen" if result["seen"] else "which the pair has not seen"
    print(
        f"{result['description']}, {seen}: accuracy in percent after fine-tuning, mean and standard deviation over "
        f"seeds {' '.join(map(str, result['seeds']))} (chosen) and over networks' means (random)"
    )
    columns = ("bound", "MACs", "chosen", "random", "best", "by score", "by MACs", "place", "rho score", "rho MACs")
    print("".join(f"{title:>14}" for title in columns))
    for bound in result["bounds"]:
        chosen, random = bound["chosen"], bound["random"]
        cells = [
            f"{bound['max_macs'] / 1e6:.2f} M",
            f"{bound['macs'] / 1e6:.2f} M",
            f"{100 * chosen['mean']:.2f} +- {100 * chosen['std']:.2f}",
            f"{100 * random['mean']:.2f} +- {100 * random['std']:.2f}",
            f"{100 * random['best']:.2f}",
            f"{100 * bound['random_by_score']:.2f}",
            f"{100 * bound['random_by_macs']:.2f}",
            f"{bound['place']} of {len(random['networks']) + 1}",
            *("-" if bound[name] is None else f"{bound[name]:.2f}" for name in ("spearman_score", "spearman_macs")),
        ]
        print("".join(f"{cell:>14}" for cell in cells))
    print("best, by score, by MACs: the random network of the largest accuracy, score or MACs; rho: rank correlation")
    print(f"report: {folder / 'report.html'}")
