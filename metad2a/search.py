"""Step `search`: generate architectures for a dataset and rank them, in about a second and without training any.

Source: Lee et al., ICLR 2021, section 3.4; released code.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.data.source import Source
from common.data.tasks import TaskPlan, plan_task
from common.experiment.config import StepConfig, UsageError
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.features.sets import FeatureSet
from common.report.facts import DatasetFacts, commands_of
from common.spaces import Cost, MobileNetV3Space
from common.spaces.nasbench201_table import AccuracyTable
from metad2a.artifacts import Pair
from metad2a.benchmark import RankedAccuracies, accuracies_of, describe, judge, ranks_among
from metad2a.draws import Features, open_features
from metad2a.facts import RESOLUTION, arch_facts, held_dataset, pair_card, planned_dataset
from metad2a.generation import Generated, Generation
from metad2a.labels import TABLE_COLUMNS, column_of, find_table
from metad2a.pairs import ModelSizes, check_extractor, check_sizes, choose_pair
from metad2a.ranking import Ranking, rank
from metad2a.report import search_page
from metad2a.report_inputs import SearchFacts
from metad2a.spaces import SpaceName, bounded, view_of

_PRINTED = 5
_KEPT = ("score", "num_params", "macs", "index", "accuracy", "rank")


@dataclass(frozen=True, kw_only=True)
class SearchConfig(StepConfig):
    """Find the architecture for a dataset, without training any: a NAS-Bench-201 cell or a MobileNetV3 network."""

    data: str = "digits"
    """A known name (`cifar10`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    space: SpaceName | None = None
    """Architectures to search among; none takes those of the pair, or cells where no pair is given."""
    pair: Path | None = None
    """Folder of generator and predictor; none takes the first shipped pair that has not seen the dataset."""
    max_params: int | None = None
    """Largest number of parameters; none means no bound."""
    max_macs: int | None = None
    """Largest number of multiply-accumulates of one image; none means no bound."""
    resolution: int | None = None
    """Side of the images that costs are of; none takes 32 for cells, and what the pair's labels are of for networks."""
    features: Features = field(default_factory=Features)
    """What the dataset is seen through, as in the pair's meta-training."""
    generation: Generation = field(default_factory=Generation)
    """How many architectures are generated."""
    num_draws: int = 10
    """Draws of the dataset's images that every architecture is scored on."""
    top_k: int = 30
    """How many of the best are kept at most, best first."""
    sizes: ModelSizes = field(default_factory=ModelSizes)
    """A check of the models' widths."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.num_draws < 1:
            raise ValueError(f"num_draws is {self.num_draws}; it must be at least 1")
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1")


def search(cfg: SearchConfig) -> None:
    """Run the step.

    Raises:
        UsageError: every shipped pair has seen the dataset, or the pair reads other features or has other widths.
        FileNotFoundError, ValueError: there is no such dataset, pair or extractor, or a class has no image.
        ValueError: a bound that no network is within.
        RuntimeError: a file is damaged, or the generator is out of new architectures.
    """
    held = cfg.features.held(cfg.data)
    found = held or plan_task(cfg.data, data_root=cfg.data_root, seed=cfg.seed)
    task = found.source if isinstance(found, FeatureSet) else found[1].id
    pair = choose_pair(cfg.pair, task, cfg.space)
    check_sizes(pair, cfg.sizes)
    device = resolve_device(cfg.gpu)
    accept = _bounds(cfg, pair, len(found.class_names) if isinstance(found, FeatureSet) else len(found[1].classes))
    features = _features(cfg, pair, found, device)
    folder = cfg.out or search_folder(task, pair.generator.view.name)
    anew = replace(cfg, restart=True)  # it takes a second, and the pair may be another one by now
    with open_run(folder, program="metad2a", step="search", config=anew) as run:
        word = pair.generator.view.word
        print(f"search: {cfg.generation.num_generated} {word} for {features.description} -> {folder}", flush=True)
        ranking = rank(
            pair,
            features,
            generation=cfg.generation,
            num_draws=cfg.num_draws,
            seed=cfg.seed,
            device=device,
            accept=accept,
        )
        dataset = held_dataset(found) if isinstance(found, FeatureSet) else planned_dataset(*found)
        _report(_finish(cfg, pair, ranking, run, dataset=dataset), cfg, folder)


def search_folder(task: str, space: SpaceName = "nasbench201") -> Path:
    """Run folder of a search when no other is asked for."""
    return Path("exp/metad2a/search") / slug(task if space == "nasbench201" else f"{space}-{task}")


def side_of(cfg: SearchConfig, pair: Pair) -> int:
    """Side of the images that costs are of."""
    if cfg.resolution is not None or pair.generator.view.name == "nasbench201":
        return cfg.resolution or RESOLUTION
    return int(pair.predictor.notes.get("resolution", RESOLUTION))


def _bounds(cfg: SearchConfig, pair: Pair, num_classes: int) -> Callable[[Any], bool] | None:
    """The condition that the bounds make."""
    space, side, num = pair.generator.space, side_of(cfg, pair), cfg.generation.num_generated
    if num > space.size():
        raise UsageError(f"num_generated is {num}; there are {space.size():,} {pair.generator.view.word} in all")
    if isinstance(space, MobileNetV3Space):
        space.check_side(side)
    if cfg.max_params is None and cfg.max_macs is None:
        return None
    return bounded(space, num_classes, side, max_params=cfg.max_params, max_macs=cfg.max_macs)


def _features(
    cfg: SearchConfig, pair: Pair, found: FeatureSet | tuple[Source, TaskPlan], device: torch.device
) -> FeatureSet:
    """Features of the dataset on the device, through the extractor that the pair was meta-trained with."""
    if isinstance(found, FeatureSet):
        check_extractor(pair, found.extractor)
        return replace(found, features=found.features.to(device))
    extractor = cfg.features.load()
    check_extractor(pair, extractor.id)
    return open_features(cfg.data, cfg.features, extractor, cfg=cfg, device=device)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Known:
    """What the benchmark's table says.

    Attributes:
        table: None where there is none in the data root.
        accuracies: (M,) of the generated cells; None where it does not know the dataset.
        ranks: (M,) their places among all cells of the table.
        judged: the accuracies of the ranking.
        note: which accuracies these are, or why there are none.
    """

    table: AccuracyTable | None
    accuracies: Tensor | None
    ranks: Tensor | None
    judged: RankedAccuracies | None
    note: str


def _look_up(cfg: SearchConfig, task: str, ranking: Ranking) -> _Known:
    if ranking.generated.view.name != "nasbench201":
        note = "no table knows these networks; `python -m metad2a train --space mobilenetv3` fine-tunes the first"
        return _Known(table=None, accuracies=None, ranks=None, judged=None, note=note)
    table, column = find_table(cfg.data_root), column_of(task)
    if table is None:
        note = "there is no NAS-Bench-201 table in the data root: nothing is known of these cells' accuracies"
        return _Known(table=None, accuracies=None, ranks=None, judged=None, note=note)
    if column is None:
        note = f"the benchmark's table does not know {task}; it has {', '.join(TABLE_COLUMNS.values())}"
        return _Known(table=table, accuracies=None, ranks=None, judged=None, note=note)
    accuracies = accuracies_of(table, ranking.archs, column)
    note = f"test accuracy on {column} after 200 epochs, from the benchmark's table"
    ranks = ranks_among(accuracies_of(table, table.cells, column), accuracies)
    judged = judge(ranking.scores, accuracies)
    return _Known(table=table, accuracies=accuracies, ranks=ranks, judged=judged, note=note)


def _measures(generated: Generated, pair: Pair) -> dict[str, float | None]:
    """Counts of the generation, by definitions that the page repeats."""
    known = pair.generator.training_cells
    return {
        "num_graphs": generated.num_graphs,
        "validity": generated.validity,
        "uniqueness": generated.uniqueness,
        "novelty": generated.novelty(known) if len(known) else None,
        "canonical": generated.canonical,
        "distinct_classes": generated.num_classes,
    }


def _finish(cfg: SearchConfig, pair: Pair, ranking: Ranking, run: Run, *, dataset: DatasetFacts) -> dict[str, Any]:
    space, num_classes = pair.generator.space, len(dataset.class_names)
    known = _look_up(cfg, dataset.name, ranking)
    side, is_cells = side_of(cfg, pair), ranking.generated.view.name == "nasbench201"
    chosen = ranking.order[: cfg.top_k].tolist()
    archs = [
        arch_facts(
            ranking.archs[i],
            space,
            num_classes,
            resolution=side,
            score=float(ranking.scores[i]),
            table=known.table,
            accuracy=None if known.accuracies is None else float(known.accuracies[i]),
            rank=None if known.ranks is None else int(known.ranks[i]),
        )
        for i in chosen
    ]
    measures = _measures(ranking.generated, pair)
    facts = SearchFacts(
        dataset=dataset,
        scores=ranking.scores,
        costs=[_cost(space.cost(arch, num_classes, side), is_cells) for arch in ranking.archs],
        cost_label="parameters" if is_cells else "MACs",
        bound=cfg.max_params if is_cells else cfg.max_macs,
        word=ranking.generated.view.word,
        cells=archs,
        chosen=chosen,
        measures=measures,
        seed=cfg.seed,
        table=known.judged,
        table_note=known.note,
        accuracies=known.accuracies,
        pair=pair_card(pair),
        seconds=ranking.seconds,
        commands=commands_of("metad2a", "search", run.folder, _next(cfg, space.name)),
    )
    write_text(run.folder / "report.html", search_page(facts))
    return run.finish(_result(cfg, pair, ranking, facts, known))


def _result(cfg: SearchConfig, pair: Pair, ranking: Ranking, facts: SearchFacts, known: _Known) -> dict[str, Any]:
    dataset, space = facts.dataset, pair.generator.space
    return {
        "task": dataset.name,
        "description": dataset.description,
        "pair": str(pair.folder),
        "sources": list(pair.sources),
        "seen": pair.has_seen(dataset.name),
        "space": space.name,
        "resolution": side_of(cfg, pair),
        "max_params": cfg.max_params,
        "max_macs": cfg.max_macs,
        "measures": facts.measures,
        "chosen": [{"arch": arch.text} | {name: getattr(arch, name) for name in _KEPT} for arch in facts.cells],
        "candidates": [space.format(arch) for arch in ranking.archs],
        "scores": ranking.scores.tolist(),
        "table": None if known.judged is None else known.judged.as_dict(),
        "table_note": known.note,
        "seconds": ranking.seconds,
    }


def _cost(cost: Cost, is_cells: bool) -> int:
    return cost.num_params if is_cells else cost.macs


def _next(cfg: SearchConfig, space_name: str) -> str:
    of_space = "" if space_name.startswith("nasbench201") else " --space mobilenetv3"
    return f"python -m metad2a train{of_space} --data {cfg.data}"


def _report(result: Mapping[str, Any], cfg: SearchConfig, folder: Path) -> None:
    seen = "which it HAS seen" if result["seen"] else "which it has not seen"
    print(f"{result['task']}, {seen}: the models learned from {', '.join(result['sources']) or 'unknown sets'}")
    for place, cell in enumerate(result["chosen"][:_PRINTED], start=1):
        accuracy = (
            "" if cell["accuracy"] is None else f"  {100 * cell['accuracy']:.2f} % in the table, rank {cell['rank']:,}"
        )
        print(
            f"  {place}. {cell['arch']}  score {cell['score']:.4f}  {cell['num_params']:,} parameters  "
            f"{cell['macs']:,} MACs{accuracy}"
        )
    measures, word = result["measures"], view_of(result["space"]).word
    novelty = "unknown" if measures["novelty"] is None else f"{measures['novelty']:.1%}"
    print(
        f"{len(result['scores'])} {word} of {measures['num_graphs']:,} graphs: valid {measures['validity']:.1%}, "
        f"unique {measures['uniqueness']:.1%}, novel {novelty}, canonical edges {measures['canonical']:.1%}, "
        f"{measures['distinct_classes']} different functions"
    )
    if result["table"] is None:
        print(f"accuracies: {result['table_note']}")
    else:
        print(f"{result['table_note']}: {describe(RankedAccuracies(**result['table']))}")
    seconds = result["seconds"]
    print(
        f"generating {seconds['generating']:.2f} s, scoring {seconds['scoring']:.2f} s (scores rank; they are no "
        f"accuracies)\nreport: {folder / 'report.html'}\nnext: {_next(cfg, result['space'])}"
    )
