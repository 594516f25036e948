"""Step `evaluate`: several searches on a dataset that the benchmark's table knows, beside simpler ways to choose.

Source: Lee et al., ICLR 2021, table 1; the baselines are ours.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.data.tasks import plan_task
from common.experiment.config import StepConfig, UsageError
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.progress import track
from common.experiment.run import Run, open_run
from common.experiment.seeds import generator
from common.features.sets import FeatureSet
from common.meta.ranking import spearman
from common.report.facts import commands_of
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_table import AccuracyTable
from metad2a.artifacts import Pair
from metad2a.benchmark import NUM_BEST, RankedAccuracies, accuracies_of, expected_of_random_order, judge
from metad2a.draws import Features, open_features
from metad2a.facts import RESOLUTION, pair_card
from metad2a.generation import Generation
from metad2a.labels import TABLE_COLUMNS, column_of, table_of
from metad2a.pairs import check_extractor, choose_pair
from metad2a.ranking import draw_to_score, rank
from metad2a.report import evaluate_page
from metad2a.report_inputs import EvaluateFacts, MethodFacts
from metad2a.scoring import score_archs

SHORT_EPOCHS = 12
METHOD = "MetaD2A"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StepConfig):
    """Search several times, and look up in the benchmark's table how good the cells are that come out."""

    data: str = "cifar10"
    """A dataset that the table knows: cifar10, cifar100 or tiny_imagenet (as ImageNet16-120)."""
    pair: Path | None = None
    """Folder of generator and predictor; none takes the first shipped pair that has not seen the dataset."""
    features: Features = field(default_factory=Features)
    """What the dataset is seen through, as in the pair's meta-training."""
    generation: Generation = field(default_factory=Generation)
    """How many cells are generated."""
    num_draws: int = 10
    """Draws of the dataset's images that every cell is scored on."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One search each."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.num_draws < 1:
            raise ValueError(f"num_draws is {self.num_draws}; it must be at least 1")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Searched:
    """One search.

    Attributes:
        judged: way to choose -> what it gives; the method's own ranking, and others of the same cells.
        measures: how generation went.
        scores: (15625,) of all cells, in the table's order.
    """

    judged: dict[str, RankedAccuracies]
    measures: dict[str, float]
    scores: Tensor


NOTES = {
    METHOD: "generated cells, ranked by the predictor",
    "generated, by parameters": "the same cells, ranked by their number of parameters",
    "random, by predictor": "as many uniformly random cells, ranked by the predictor",
    "random, unranked": "as many uniformly random cells, in random order (expectation)",
    "random, by parameters": "the same random cells, ranked by their number of parameters",
    "random, by 12 epochs": "the same random cells, ranked by their accuracy on this dataset after 12 epochs, which "
    "has to be trained for",
    "all, by parameters": "all 15,625 cells, ranked by their number of parameters",
    "all, by 12 epochs": "all cells, ranked by their accuracy on this dataset after 12 epochs: 15,625 trainings",
    "all, by the sources' table": "all cells, ranked by their mean rank in the table on the sets that the pair learned "
    "from: what labels alone carry over, without looking at the dataset",
}
"""Ways to choose, and what they are."""


def evaluate(cfg: EvaluateConfig) -> None:
    """Run the step.

    Raises:
        UsageError: the table does not know the dataset, or a pair fits neither it nor the features.
        FileNotFoundError: there is no table, dataset, pair or extractor.
    """
    task = plan_task(cfg.data, data_root=cfg.data_root, seed=cfg.seed)[1].id
    column = column_of(task)
    if column is None:
        raise UsageError(
            f"the benchmark's table does not know {task}; it has {', '.join(TABLE_COLUMNS)}. `python -m metad2a train "
            f"--data {cfg.data} --num-random 10` trains the chosen cell and random ones"
        )
    table = table_of(cfg.data_root)
    pair = choose_pair(cfg.pair, task, "nasbench201")
    folder = cfg.out or Path("exp/metad2a/evaluate") / slug(task)
    with open_run(folder, program="metad2a", step="evaluate", config=cfg) as run:
        if run.result is None:
            print(f"evaluate: {len(cfg.seeds)} searches on {task} by {pair.folder} -> {folder}", flush=True)
            device = resolve_device(cfg.gpu)
            extractor = cfg.features.load()
            check_extractor(pair, extractor.id)
            features = open_features(cfg.data, cfg.features, extractor, cfg=cfg, device=device)
            _evaluate(cfg, pair, features, run, table=table, column=column, device=device)
        else:
            print(f"{folder} is finished; --restart evaluates anew")
        assert run.result is not None
        _report(run.result, folder)


def _evaluate(
    cfg: EvaluateConfig,
    pair: Pair,
    features: FeatureSet,
    run: Run,
    *,
    table: AccuracyTable,
    column: str,
    device: torch.device,
) -> None:
    searched = []
    for seed in track(cfg.seeds, description="searches"):
        searched.append(_search(cfg, pair, features, seed, table=table, column=column, device=device))
        run.log(len(searched) - 1, searched[-1].judged[METHOD].as_dict(), split="valid")
    accuracies = table.accuracy(column, split="test", epochs=200)
    methods = {name: [each.judged[name] for each in searched] for name in searched[0].judged}
    methods |= {name: [judged] for name, judged in _whole_space(pair, features, table, column).items()}
    over_all = [spearman(each.scores, accuracies) for each in searched]
    note = f"test accuracy on {column} after 200 epochs, from the benchmark's table"
    facts = EvaluateFacts(
        dataset=features.description,
        methods=[MethodFacts(name=name, results=methods[name], note=NOTES[name]) for name in NOTES if name in methods],
        measures={name: [each.measures[name] for each in searched] for name in searched[0].measures},
        spearman_all=over_all,
        predicted=searched[0].scores,
        accuracies=accuracies,
        seeds=cfg.seeds,
        table_note=note,
        pair=pair_card(pair),
        commands=commands_of("metad2a", "evaluate", run.folder),
    )
    write_text(run.folder / "report.html", evaluate_page(facts))
    run.finish(
        {
            "task": features.source,
            "description": features.description,
            "table_note": note,
            "pair": str(pair.folder),
            "sources": list(pair.sources),
            "seen": pair.has_seen(features.source),
            "seeds": list(cfg.seeds),
            "best_possible": float(accuracies.max()),
            "methods": {facts.name: _summary(facts.results) for facts in facts.methods},
            "spearman_all": _mean_and_std(over_all),
            "measures": {name: _mean_and_std(values) for name, values in facts.measures.items()},
        }
    )


def _search(
    cfg: EvaluateConfig,
    pair: Pair,
    features: FeatureSet,
    seed: int,
    *,
    table: AccuracyTable,
    column: str,
    device: torch.device,
) -> _Searched:
    ranking = rank(pair, features, generation=cfg.generation, num_draws=cfg.num_draws, seed=seed, device=device)
    sets = draw_to_score(pair, features, cfg.num_draws, seed)
    scores = score_archs(pair.predictor.model, sets, NasBench201Space(), table.cells)
    places = torch.randperm(len(table.cells), generator=generator(seed, "baseline"))[: len(ranking.archs)]
    random = [table.cells[place] for place in places.tolist()]
    of_generated, of_random = (accuracies_of(table, cells, column) for cells in (ranking.archs, random))
    judged = {
        METHOD: judge(ranking.scores, of_generated),
        "generated, by parameters": judge(_num_params(ranking.archs), of_generated),
        "random, by predictor": judge(scores[places], of_random),
        "random, unranked": expected_of_random_order(of_random),
        "random, by parameters": judge(_num_params(random), of_random),
        "random, by 12 epochs": judge(accuracies_of(table, random, column, epochs=SHORT_EPOCHS), of_random),
    }
    known = pair.generator.training_cells
    generated = ranking.generated
    measures = {
        "validity": generated.validity,
        "uniqueness": generated.uniqueness,
        "novelty": generated.novelty(known),
        "canonical": generated.canonical,
        "distinct_classes": float(generated.num_classes),
        "seconds": sum(ranking.seconds.values()),
    }
    return _Searched(judged=judged, measures=measures, scores=scores)


def _whole_space(pair: Pair, features: FeatureSet, table: AccuracyTable, column: str) -> dict[str, RankedAccuracies]:
    """Rankings of all cells, in which there is no chance."""
    accuracies = accuracies_of(table, table.cells, column)
    short = accuracies_of(table, table.cells, column, epochs=SHORT_EPOCHS)
    judged = {
        "all, by parameters": judge(_num_params(table.cells), accuracies),
        "all, by 12 epochs": judge(short, accuracies),
    }
    sources = [column_of(source) for source in pair.sources]
    ranks = [
        accuracies_of(table, table.cells, source).argsort().argsort().double()
        for source in sources
        if source is not None
    ]
    if ranks:
        judged["all, by the sources' table"] = judge(torch.stack(ranks).mean(0), accuracies)
    return judged


def _num_params(cells: Sequence[Cell]) -> Tensor:
    space = NasBench201Space()
    return torch.tensor([space.cost(cell, 10, RESOLUTION).num_params for cell in cells], dtype=torch.float64)


def _summary(results: Sequence[RankedAccuracies]) -> dict[str, Any]:
    return {name: _mean_and_std([getattr(result, name) for result in results]) for name in results[0].as_dict()}


def _mean_and_std(values: Sequence[float]) -> dict[str, Any]:
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": std, "values": list(values)}


def _report(result: Mapping[str, Any], folder: Path) -> None:
    seen = "which the pair HAS seen" if result["seen"] else "which the pair has not seen"
    print(f"{result['description']}, {seen}; {result['table_note']}, in percent; seeds {result['seeds']}")
    columns = {
        "top1": "top-1",
        "best_of_top": f"best of {NUM_BEST}*",
        "mean_of_top": f"mean of {NUM_BEST}",
        "mean": "mean",
    }
    print(f"{'':<28}" + "".join(f"{title:>15}" for title in columns.values()) + f"{'Spearman':>15}")
    for name, found in result["methods"].items():
        cells = [_shown(found[column], 100, 2) for column in columns] + [_shown(found["spearman"], 1, 3)]
        print(f"{name:<28}" + "".join(f"{cell:>15}" for cell in cells))
    print("* the largest of these test accuracies among the first 30, as published: an oracle's choice")
    print(f"predictor over all 15,625 cells: Spearman {_shown(result['spearman_all'], 1, 3)}")
    measures = result["measures"]
    shares = ", ".join(
        f"{n} {_shown(measures[n], 100, 1)} %" for n in ("validity", "uniqueness", "novelty", "canonical")
    )
    print(f"generation: {shares}; {measures['seconds']['mean']:.2f} s a search")
    print(f"best cell of the table: {100 * result['best_possible']:.2f} %\nreport: {folder / 'report.html'}")


def _shown(value: Mapping[str, Any], scale: float, digits: int) -> str:
    spread = f" +- {scale * value['std']:.{digits}f}" if len(value["values"]) > 1 else ""
    return f"{scale * value['mean']:.{digits}f}{spread}"
