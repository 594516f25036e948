"""Step `search`: retrieve trained networks for a dataset from the zoo, within bounds, without training any.

Source: Jeong et al., NeurIPS 2021, section 3 (meta-test); released code (10 retrieved networks, selection among them).
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.tasks import plan_task
from common.experiment.config import StepConfig, UsageError
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.report.facts import DatasetFacts, commands_of
from tans.approximate import make_index
from tans.artifacts import SpaceArtifact, check_fits, load_space
from tans.facts import planned_dataset, retrieved_facts, space_card
from tans.features import Features, check_extractor
from tans.report import search_page
from tans.report_inputs import SearchFacts
from tans.retrieve import Bounds, Selection, feasible, select
from tans.shipped import default_zoo
from tans.space_map import space_map
from tans.zoo import Zoo, ZooTable, open_zoo
from tans.zoo_spaces import stored_space, vectors_of
from tans.zoo_tables import NetworkRow

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SearchConfig(StepConfig):
    """Find trained networks for a dataset, without training any."""

    data: str = "digits"
    """A known name (`cub`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    query: str | None = None
    """Instead of data: a dataset whose features are in the zoo, as released ones that were imported."""
    query_classes: int = 20
    """Its number of classes, for the bounds."""
    zoo: Path | None = None
    """Folder of the zoo; none takes the one that was built here (exp/tans/zoo), else the shipped one."""
    space: Path | None = None
    """File of the encoders, or the folder of their meta-training; none takes those in the zoo."""
    features: Features = field(default_factory=Features)
    """What the dataset is seen through, as in the zoo."""
    bounds: Bounds = field(default_factory=Bounds)
    """What the network may cost."""
    num_retrieved: int = 10
    """Networks that are retrieved; released name n-retrievals."""
    select: Selection = "predictor"
    """Which of them comes first: the one with the highest predicted accuracy, the nearest (top1), or the released list
    of up to four (official)."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.num_retrieved < 1:
            raise ValueError(f"num_retrieved is {self.num_retrieved}; it must be at least 1")
        if self.query_classes < 2:
            raise ValueError(f"query_classes is {self.query_classes}; it must be at least 2")


@dataclass(frozen=True, kw_only=True, eq=False)
class Retrieved:
    """What a search found; networks are nearest first.

    Attributes:
        query: (D,) unit vector of the dataset.
        rows: the networks.
        cosines: (n,) with the query.
        predicted: (n,) accuracies.
        chosen: places among them, the one to train first.
        num_feasible: networks of the zoo within the bounds.
        seconds: what took how long.
    """

    query: Tensor
    rows: list[NetworkRow]
    cosines: Tensor
    predicted: Tensor
    chosen: list[int]
    num_feasible: int
    seconds: dict[str, float]


class Searcher:
    """A zoo with its index, for any number of searches.

    Args:
        zoo: open.
        artifact: encoders that fit it.
        device: where to search.

    Raises:
        UsageError: the encoders are of another zoo.
        ValueError: the zoo is empty.
    """

    def __init__(self, zoo: Zoo, artifact: SpaceArtifact, device: torch.device) -> None:
        check_fits(artifact, zoo.settings, zoo.folder)
        self.zoo, self.artifact = zoo, artifact
        self.table: ZooTable = zoo.table()
        self.vectors = vectors_of(zoo, artifact, self.table)
        self.index = make_index(self.vectors, device)

    @torch.no_grad()
    def search(self, mean: Tensor, num: int, selection: Selection, bounds: Bounds, num_classes: int) -> Retrieved:
        """Networks for a dataset.

        Args:
            mean: (image_dim,) mean feature of the dataset.
            num: how many to retrieve.
            selection: which of them comes first.
            bounds: what they may cost.
            num_classes: of the dataset.

        Raises:
            Infeasible: none is within the bounds.
        """
        start = time.perf_counter()
        query = self.artifact.space.encode_queries(mean[None])
        mask = feasible(self.table, bounds, num_classes) if bounds.is_bounded else None
        cosines, places = self.index.search(query, num, mask)
        found = places[0].tolist()
        predicted = self.artifact.space.predict(query.expand(len(found), -1), self._vectors(found))
        chosen = select(predicted.tolist(), selection)
        seconds = time.perf_counter() - start
        return Retrieved(
            query=query[0],
            rows=[self.zoo.network(place + 1) for place in found],
            cosines=cosines[0],
            predicted=predicted,
            chosen=chosen,
            num_feasible=len(self.table) if mask is None else int(mask.sum()),
            seconds={"encoding, retrieving and selecting": seconds},
        )

    def _vectors(self, places: Sequence[int]) -> Tensor:
        """(n, D) vectors of some networks."""
        starts = np.cumsum([0, *map(len, self.vectors)])
        parts = [int(np.searchsorted(starts, place, side="right")) - 1 for place in places]
        return torch.stack(
            [
                torch.as_tensor(self.vectors[part][place - int(starts[part])])
                for part, place in zip(parts, places, strict=True)
            ]
        )


def open_searcher(zoo: Zoo, space: Path | None, device: torch.device) -> Searcher:
    """A searcher with the encoders of a file, or those that are kept in the zoo; errors as `Searcher`, `load_space`."""
    if space is not None and space.is_dir():
        space = space / "space.safetensors"  # the folder of a meta-training
    return Searcher(zoo, stored_space(zoo) if space is None else load_space(space), device)


def search(cfg: SearchConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError: there is no such zoo, dataset or extractor, or the zoo has no encoders.
        UsageError: the encoders or features are of another zoo, or nothing is within the bounds.
        RuntimeError: a file is damaged.
    """
    with open_zoo(cfg.zoo or default_zoo()) as zoo:
        searcher = open_searcher(zoo, cfg.space, resolve_device(cfg.gpu))
        start = time.perf_counter()
        dataset, mean = _stored_query(cfg, zoo) if cfg.query is not None else _seen(cfg, zoo)
        seconds = time.perf_counter() - start
        folder = cfg.out or search_folder(dataset.name)
        anew = replace(cfg, restart=True)  # it takes no time, and the zoo may have grown
        with open_run(folder, program="tans", step="search", config=anew) as run:
            print(
                f"search: {len(searcher.table):,} networks of {zoo.folder} for {dataset.name} -> {folder}", flush=True
            )
            num_classes = len(dataset.class_names)
            found = searcher.search(mean, cfg.num_retrieved, cfg.select, cfg.bounds, num_classes)
            found.seconds["features of the dataset"] = seconds
            _report(_finish(cfg, searcher, found, run, dataset), cfg, folder)


def _seen(cfg: SearchConfig, zoo: Zoo) -> tuple[DatasetFacts, Tensor]:
    """A dataset and its mean feature, through the zoo's extractor."""
    source, plan = plan_task(cfg.data, data_root=cfg.data_root, seed=cfg.seed)
    extractor, device = cfg.features.load(), resolve_device(cfg.gpu)
    check_extractor(zoo.settings.extractor, extractor.id)
    features = cfg.features.of(cfg.data, extractor, data_root=cfg.data_root, device=device, part="train", seed=cfg.seed)
    return planned_dataset(source, plan, zoo.settings.resolution), features.features.double().mean(0).float()


def _stored_query(cfg: SearchConfig, zoo: Zoo) -> tuple[DatasetFacts, Tensor]:
    """A dataset of which the zoo has features, and their mean.

    Raises:
        UsageError: it has none.
    """
    rows = zoo.queries("train", "meta-test") | zoo.queries("train")
    if cfg.query not in rows:
        raise UsageError(f"{zoo.folder} has no features of {cfg.query}: it has those of {', '.join(rows) or 'none'}")
    row = zoo.datasets()[cfg.query]
    dataset = DatasetFacts(
        name=row.name,
        description=row.source,
        class_names=row.class_names or tuple(map(str, range(cfg.query_classes))),
        num_train=row.num_train,
        num_evaluation=row.num_evaluation,
        resolution=row.resolution,
    )
    return dataset, rows[cfg.query].mean


def search_folder(task: str) -> Path:
    """Run folder of a search when no other is asked for."""
    return Path("exp/tans/search") / slug(task)


def _finish(cfg: SearchConfig, searcher: Searcher, found: Retrieved, run: Run, dataset: DatasetFacts) -> dict[str, Any]:
    num_classes, artifact = len(dataset.class_names), searcher.artifact
    retrieved = [
        retrieved_facts(row, searcher.zoo.settings.space, num_classes, float(cosine), float(predicted))
        for row, cosine, predicted in zip(found.rows, found.cosines, found.predicted, strict=True)
    ]
    places = [row.id - 1 for row in found.rows]
    facts = SearchFacts(
        dataset=dataset,
        retrieved=retrieved,
        chosen=found.chosen,
        num_networks=len(searcher.table),
        num_feasible=found.num_feasible,
        bounds={
            name.replace("_", " "): f"{value:,}" for name, value in asdict(cfg.bounds).items() if value is not None
        },
        map=space_map(searcher.zoo, artifact, found.query, places, searcher.table),
        seconds=found.seconds,
        space=space_card(artifact),
        commands=commands_of("tans", "search", run.folder, _next(cfg)),
    )
    write_text(run.folder / "report.html", search_page(facts))
    return run.finish(
        {
            "task": dataset.name,
            "description": dataset.description,
            "zoo": str(searcher.zoo.folder),
            "encoder": artifact.id,
            "seen": artifact.has_seen(dataset.name),
            "selection": cfg.select,
            "num_feasible": found.num_feasible,
            "chosen": [asdict(retrieved[place]) for place in found.chosen],
            "retrieved": [asdict(one) for one in retrieved],
            "seconds": found.seconds,
        }
    )


def _next(cfg: SearchConfig) -> str:
    zoo = "" if cfg.zoo is None else f" --zoo {cfg.zoo}"
    return f"python -m tans finetune{zoo} --data {cfg.data}"


def _report(result: Mapping[str, Any], cfg: SearchConfig, folder: Path) -> None:
    if result["seen"]:
        _LOG.warning("the encoders learned from %s: this says nothing about unseen datasets", result["task"])
    print(f"{result['task']}: nearest of {result['num_feasible']:,} networks (cosine, predicted accuracy)")
    for one in result["retrieved"][:5]:
        mark = "*" if one["id"] == result["chosen"][0]["id"] else " "
        print(
            f" {mark} network {one['id']} of {one['dataset']}: {one['cosine']:.3f}, {100 * one['predicted']:.1f} %; "
            f"{one['num_params']:,} parameters, {one['macs']:,} MACs; {100 * one['accuracy']:.1f} % on its own dataset"
        )
    chosen = result["chosen"][0]
    seconds = sum(result["seconds"].values())
    print(
        f"result: network {chosen['id']} (of {chosen['dataset']}), found in {seconds:.2f} s\n"
        f"report: {folder / 'report.html'}\nnext: {_next(cfg)}"
    )
