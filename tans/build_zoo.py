"""Step `build-zoo`: train a supernet for each source, cut networks out of it and put them into a zoo.

Source: Jeong et al., NeurIPS 2021; the released code only reads finished zoos, so how one is built is ours.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.tasks import plan_task
from common.experiment.config import StepConfig, UsageError
from common.experiment.files import read_json, write_json, write_text
from common.experiment.parallel import Job, map_resumable
from common.experiment.run import Run, open_run
from common.experiment.workers import Workers
from common.report.facts import commands_of, settings_of
from tans.features import Features
from tans.growth import Growth, hypervolume
from tans.recipes import BASE, OWN
from tans.report import build_page
from tans.report_inputs import BuildFacts, SourceFacts
from tans.zoo import Zoo, create_zoo
from tans.zoo_datasets import put_dataset
from tans.zoo_filling import FillingPlan, fill
from tans.zoo_jobs import BaseJob, Measuring, Place, SupernetJob, SupernetTraining, train_base, train_source
from tans.zoo_tables import SupernetRow, ZooSettings, file_stem

ZOO = Path("exp/tans/zoo")
"""Where a zoo is when no other folder is given."""
SOURCES = (
    *("caltech101/0-19", "omniglot_small/0-19", "gtsrb/0-19", "sign_digits", "trashnet", "clothing10", "brain_mri"),
    *("rsscn7", "flowers5", "blood_cells", "fruit_shapes/0-19", "tiny_imagenet/0-19"),
)
"""Packed sets; none is a target of the published or of our evaluations."""


@dataclass(frozen=True, kw_only=True)
class BuildZooConfig(StepConfig):
    """Build a zoo, or go on with one: the same command after an interruption, another one with more sources."""

    sources: tuple[str, ...] = SOURCES
    """Known names, folders of class folders, or some classes of them, `cifar100/0-19`. The publication has 140 tasks of
    up to 20 classes."""
    zoo: Path = ZOO
    """Folder of the zoo. Several builders may fill one at once."""
    resolution: int = 224
    """Side of the images."""
    width_mult: float = 1.2
    """Of the supernets."""
    first_stride: int = 2
    """Of their stems; 1 for images of 32 pixels."""
    functional_dim: int = 1536
    """Numbers of a functional embedding that the zoo keeps; more than the supernets' 1,280 x width_mult leaves room for
    other networks."""
    num_probes: int = 1
    """Images of noise that networks answer to."""
    features: Features = field(default_factory=Features)
    """What datasets are seen through."""
    base_file: Path | None = None
    """Supernet of ours to begin with; none trains one on all sources together."""
    base: SupernetTraining = BASE
    """Training of the base."""
    own: SupernetTraining = OWN
    """Training of a source's supernet from the base."""
    num_networks: int = 100
    """Networks a source, on average with growth.kind pareto."""
    growth: Growth = field(default_factory=Growth)
    """Which networks these are."""
    measuring: Measuring = field(default_factory=Measuring)
    """How networks are measured."""
    is_half: bool = False
    """Store weights and statistics in half precision."""
    workers: Workers = field(default_factory=Workers)
    """Who trains and measures."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.sources or len(set(self.sources)) != len(self.sources):
            raise ValueError(f"sources {self.sources}: give one or more, each once")
        for name in ("num_networks", "num_probes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        settings = self.settings("")
        settings.space.check_side(self.resolution)
        width = settings.space.plan.mix * self.num_probes
        if width > self.functional_dim:
            raise ValueError(f"functional_dim is {self.functional_dim}, and the supernets give {width} numbers")

    def settings(self, extractor: str) -> ZooSettings:
        """What the zoo's networks share."""
        return ZooSettings(
            width_mult=self.width_mult,
            first_stride=self.first_stride,
            resolution=self.resolution,
            functional_dim=self.functional_dim,
            extractor=extractor,
        )

    @property
    def place(self) -> Place:
        """Where jobs work."""
        return Place(data_root=self.data_root, resolution=self.resolution, seed=self.seed, gpu=self.gpu)

    @property
    def plan(self) -> FillingPlan:
        """How the zoo is filled."""
        return FillingPlan(
            place=self.place,
            num_networks=self.num_networks,
            growth=self.growth,
            measuring=self.measuring,
            is_half=self.is_half,
            workers=self.workers,
        )


def build_zoo(cfg: BuildZooConfig) -> None:
    """Run the step.

    Raises:
        UsageError: the zoo is one of other settings, or knows another dataset by a source's name.
        FileNotFoundError, ValueError: as `open_task`, or there is no such extractor.
        RuntimeError: a training failed; the message names the source, and the rest is done.
    """
    folder = cfg.out or Path("exp/tans/build-zoo") / cfg.zoo.name
    for name in cfg.sources:
        plan_task(name, data_root=cfg.data_root, seed=cfg.seed)  # before anything is made
    extractor = cfg.features.load()
    with (
        open_run(folder, program="tans", step="build-zoo", config=cfg, products=["base.safetensors"]) as run,
        create_zoo(cfg.zoo, cfg.settings(extractor.id), probe_seed=cfg.seed, num_probes=cfg.num_probes) as zoo,
    ):
        if run.result is None:
            sources = f"{len(cfg.sources)} sources, {cfg.num_networks} networks each"
            print(f"build-zoo: {sources}, {cfg.growth.kind} -> {cfg.zoo} (run {folder})", flush=True)
            names = {
                name: put_dataset(zoo, name, cfg.features, extractor, cfg=cfg, is_half=cfg.is_half)
                for name in cfg.sources
            }
            base = _base(cfg, folder, run)
            supernets = _supernets(cfg, zoo, run, names, base)
            fill(zoo, supernets, {dataset: name for name, dataset in names.items()}, cfg.plan)
            _finish(cfg, zoo, run, [*names.values()])
        else:
            print(f"{folder} is finished; --restart looks again at what the zoo lacks")
        assert run.result is not None
        _report(run.result, cfg, folder)


def _base(cfg: BuildZooConfig, folder: Path, run: Run) -> Path:
    """File of the supernet that all others begin with."""
    if cfg.base_file is not None:
        return cfg.base_file
    file = folder / "base.safetensors"
    job = BaseJob(
        sources=cfg.sources,
        place=cfg.place,
        space=cfg.settings("").space,
        training=cfg.base,
        num_calibration=cfg.measuring.num_calibration,
        file=file,
        state=run.checkpoint / "base.pt",
    )
    if not file.exists():
        accuracy = train_base(job)
        print(f"base supernet: its largest network is right on {100 * accuracy:.1f} % of all sources together")
    return file


def _supernets(cfg: BuildZooConfig, zoo: Zoo, run: Run, names: dict[str, str], base: Path) -> dict[str, SupernetRow]:
    """The supernet of each source's dataset, trained where the run has not done it yet."""
    kept = run.checkpoint / "supernets"
    jobs = {
        name: SupernetJob(
            source=name,
            place=cfg.place,
            training=cfg.own,
            num_calibration=cfg.measuring.num_calibration,
            base=base,
            zoo=cfg.zoo,
            is_half=cfg.is_half,
            state=kept / f"{file_stem(name)}.pt",
        )
        for name in cfg.sources
    }
    ids = _Names(kept / "done.json")

    def store(key: str, row: SupernetRow) -> None:
        zoo.put_supernet(row)
        ids.put(key, row.id)
        jobs[key].state.unlink(missing_ok=True)

    kept.mkdir(parents=True, exist_ok=True)
    map_resumable(
        train_source,
        [Job(key=key, args=(job,)) for key, job in jobs.items()],
        done=lambda key: key in ids,
        store=store,
        backend=cfg.workers.backend,
        workers=cfg.workers.num,
        threads=cfg.workers.threads,
        description="supernets",
    )
    rows = zoo.supernets()
    missing = [key for key in cfg.sources if ids[key] not in rows]
    if missing:
        raise UsageError(f"{cfg.zoo} has lost the supernet of {missing[0]}: start again with --restart")
    return {names[key]: rows[ids[key]] for key in cfg.sources}


class _Names:
    """Names by key in a JSON file that is written with every new one."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._names: dict[str, str] = read_json(file) if file.exists() else {}

    def __contains__(self, key: str) -> bool:
        return key in self._names

    def __getitem__(self, key: str) -> str:
        return self._names[key]

    def put(self, key: str, name: str) -> None:
        """Add one."""
        self._names[key] = name
        write_json(self._file, self._names)


def _finish(cfg: BuildZooConfig, zoo: Zoo, run: Run, names: Sequence[str]) -> None:
    filling = {name: [row for row in zoo.networks() if row.dataset == name and row.supernet] for name in names}
    datasets, supernets = zoo.datasets(), {row.dataset: row for row in zoo.supernets().values()}
    largest = max(row.num_params for rows in filling.values() for row in rows)
    sources = []
    for name, rows in filling.items():
        accuracies = torch.tensor([row.accuracy for row in rows])
        costs = np.array([[row.num_params / largest] for row in rows])
        sources.append(
            SourceFacts(
                name=name,
                description=datasets[name].source,
                num_classes=len(datasets[name].class_names),
                supernet_accuracy=supernets[name].largest_accuracy,
                accuracies=accuracies,
                num_params=[row.num_params for row in rows],
                hypervolume=hypervolume(costs, accuracies.double().numpy()),
            )
        )
    facts = BuildFacts(
        sources=sources,
        settings=settings_of(
            {
                "zoo": str(cfg.zoo),
                "space": zoo.settings.space.name,
                "resolution": cfg.resolution,
                "extractor": zoo.settings.extractor,
                "growth": cfg.growth.kind,
                "seed": cfg.seed,
            }
        ),
        commands=commands_of("tans", "build-zoo", run.folder, _next(cfg)),
    )
    write_text(run.folder / "report.html", build_page(facts))
    run.finish(
        {
            "zoo": str(cfg.zoo),
            "num_networks": len(zoo),
            "sources": {
                facts.name: {
                    "num_networks": len(facts.num_params),
                    "num_classes": facts.num_classes,
                    "supernet_accuracy": facts.supernet_accuracy,
                    "mean": float(facts.accuracies.mean()),
                    "worst": float(facts.accuracies.min()),
                    "best": float(facts.accuracies.max()),
                    "hypervolume": facts.hypervolume,
                }
                for facts in sources
            },
        }
    )


def _next(cfg: BuildZooConfig) -> str:
    return f"python -m tans meta-train --zoo {cfg.zoo}"


def _report(result: dict[str, Any], cfg: BuildZooConfig, folder: Path) -> None:
    for name, facts in result["sources"].items():
        print(
            f"  {name}: {facts['num_networks']} networks, accuracy {100 * facts['worst']:.1f} to "
            f"{100 * facts['best']:.1f} %, mean {100 * facts['mean']:.1f} %"
        )
    mean = statistics.fmean(facts["mean"] for facts in result["sources"].values())
    print(
        f"result: {result['num_networks']} networks in {result['zoo']}, mean accuracy of the sources {100 * mean:.1f} %"
        f"\nreport: {folder / 'report.html'}\nnext: {_next(cfg)}"
    )
