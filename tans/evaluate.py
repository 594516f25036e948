"""Step `evaluate`: fine-tune what is retrieved for unseen datasets, beside other ways to begin, over several seeds.

Source: Jeong et al., NeurIPS 2021, experiments; the ways to begin and the protocol are ours.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from common.data.tasks import open_task
from common.experiment.config import StepConfig, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import read_json, write_json, write_text
from common.experiment.names import slug
from common.experiment.parallel import Job, map_resumable
from common.experiment.run import Run, open_run
from common.experiment.seeds import generator
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.kd.trainer import train
from common.report.facts import commands_of, settings_of
from tans.beginnings import WAYS, begin
from tans.features import Features, check_extractor
from tans.recipes import FINETUNING
from tans.report import evaluate_page
from tans.report_inputs import EvaluateFacts
from tans.retrieve import Bounds, Selection
from tans.search import open_searcher
from tans.shipped import default_zoo
from tans.zoo import open_zoo

UNSEEN = ("cifar10", "mnist", "dtd")
"""Sets that neither the default sources nor the compact extractor have seen."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(StepConfig):
    """Compare the retrieved network with other ways to begin, at equal training."""

    data: tuple[str, ...] = UNSEEN
    """Datasets that the zoo has not seen."""
    zoo: Path | None = None
    """Folder of the zoo; none takes the one that was built here, else the shipped one."""
    space: Path | None = None
    """File of the encoders, or the folder of their meta-training; none takes those in the zoo."""
    features: Features = field(default_factory=Features)
    """What datasets are seen through, as in the zoo."""
    bounds: Bounds = field(default_factory=Bounds)
    """What networks may cost."""
    num_retrieved: int = 10
    """Networks that are retrieved."""
    select: Selection = "predictor"
    """Which of them is trained."""
    recipe: Recipe = FINETUNING
    """The training, for all ways to begin."""
    budgets: tuple[int, ...] = (1, 4, 10)
    """Epochs of the one training after which accuracies are compared."""
    max_evaluated: int | None = None
    """Evaluation images of a dataset that count; none means all."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Each draws the images of the query, the random network, classifiers, and batches."""
    workers: Workers = field(default_factory=Workers)
    """Who trains."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("seeds", "data", "budgets"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} {values}: give one or more, each once")
        if min(self.budgets) < 1 or max(self.budgets) > self.recipe.epochs:
            raise ValueError(f"budgets {self.budgets} are not within the {self.recipe.epochs} epochs of the training")
        if self.recipe.validate_every != 1 or self.recipe.loss != "ce":
            raise ValueError("the recipe of an evaluation has validate_every 1 and loss ce")
        if self.max_evaluated is not None and self.max_evaluated < 1:
            raise ValueError(f"max_evaluated is {self.max_evaluated}; it must be at least 1, or none for all")


@dataclass(frozen=True, kw_only=True)
class _TrialJob:
    """All ways to begin on one dataset from one seed."""

    cfg: EvaluateConfig
    zoo: Path
    data: str
    seed: int
    state: Path


def evaluate(cfg: EvaluateConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError, UsageError: as `search`.
        RuntimeError: trainings failed; the message names them, and the others are kept.
    """
    place = cfg.zoo or default_zoo()
    folder = cfg.out or Path("exp/tans/evaluate") / place.name
    with open_run(folder, program="tans", step="evaluate", config=cfg) as run:
        if run.result is None:
            num = len(cfg.data) * len(cfg.seeds)
            print(f"evaluate: {num} trials of {len(WAYS)} networks on {', '.join(cfg.data)} -> {folder}", flush=True)
            trials = _try_all(cfg, place, run)
            _finish(cfg, trials, run)
        else:
            print(f"{folder} is finished; --restart begins anew")
        assert run.result is not None
        _report(run.result, folder)


def _try_all(cfg: EvaluateConfig, zoo: Path, run: Run) -> dict[str, list[dict[str, Any]]]:
    """Dataset -> what each seed gave."""
    jobs, files = {}, {}
    for seed in cfg.seeds:  # all datasets of a seed before the next one: what is there of a long evaluation is whole
        for data in cfg.data:
            key = f"{slug(data)}-seed{seed}"
            files[key] = run.checkpoint / f"{key}.json"
            jobs[key] = _TrialJob(cfg=cfg, zoo=zoo, data=data, seed=seed, state=run.checkpoint / f"{key}.pt")

    def store(key: str, result: dict[str, Any]) -> None:
        write_json(files[key], result)
        jobs[key].state.unlink(missing_ok=True)

    map_resumable(
        _try,
        [Job(key=key, args=(job,)) for key, job in jobs.items()],
        done=lambda key: files[key].exists(),
        store=store,
        backend=cfg.workers.backend,
        workers=cfg.workers.num,
        threads=cfg.workers.threads,
        description="trials",
    )
    return {data: [read_json(files[f"{slug(data)}-seed{seed}"]) for seed in cfg.seeds] for data in cfg.data}


def _try(job: _TrialJob) -> dict[str, Any]:
    """Search once, and train all ways to begin on the same batches."""
    cfg, device = job.cfg, resolve_device(job.cfg.gpu)
    with open_zoo(job.zoo) as zoo:
        searcher = open_searcher(zoo, cfg.space, device)
        extractor = cfg.features.load()
        check_extractor(zoo.settings.extractor, extractor.id)
        features = cfg.features.of(
            job.data, extractor, data_root=cfg.data_root, device=device, part="train", seed=job.seed
        )
        mean = features.features.double().mean(0).float()
        found = searcher.search(mean, cfg.num_retrieved, cfg.select, cfg.bounds, features.num_classes)
        task = open_task(job.data, resolution=zoo.settings.resolution, data_root=cfg.data_root, seed=cfg.seed)
        if cfg.max_evaluated is not None:
            order = torch.randperm(len(task.evaluation), generator=generator(cfg.seed, "evaluated", task.id))
            task = replace(task, evaluation=task.evaluation[order[: cfg.max_evaluated].sort().values])
        begun = {way: begin(way, zoo, searcher, found, num_classes=task.num_classes, seed=job.seed) for way in WAYS}
        outcomes = train(
            [network for _, network in begun.values()],
            task,
            cfg.recipe,
            device=device,
            seed=job.seed,
            checkpoint=job.state,
            description=f"{task.id}, seed {job.seed}",
        )
        seen = searcher.artifact.has_seen(task.id)
    return {
        "task": task.id,
        "description": task.description,
        "seen": seen,
        "retrieved": [{"id": row.id, "dataset": row.dataset} for row in found.rows],
        "ways": {
            way: {
                "network": row.id,
                "dataset": row.dataset,
                "num_params": row.num_params + row.head(task.num_classes),
                "curve": [point["accuracy"] for point in outcome.curve],
            }
            for (way, (row, _)), outcome in zip(begun.items(), outcomes, strict=True)
        },
    }


def _finish(cfg: EvaluateConfig, trials: Mapping[str, Sequence[Mapping[str, Any]]], run: Run) -> None:
    accuracies = {
        data: {
            way: {budget: [trial["ways"][way]["curve"][budget - 1] for trial in seeds] for budget in cfg.budgets}
            for way in WAYS
        }
        for data, seeds in trials.items()
    }
    for data, seeds in trials.items():
        for way in WAYS:
            for trial, seed in zip(seeds, cfg.seeds, strict=True):
                for epoch, value in enumerate(trial["ways"][way]["curve"], start=1):
                    run.log(epoch, {"accuracy": value}, split=f"{slug(data)} {way} seed{seed}")
    facts = EvaluateFacts(
        budgets=cfg.budgets,
        accuracies=accuracies,
        ways=WAYS,
        settings=settings_of(
            {**to_dict(cfg.recipe), "seeds": list(cfg.seeds), "evaluated images": cfg.max_evaluated or "all"}
        ),
        commands=commands_of("tans", "evaluate", run.folder),
    )
    write_text(run.folder / "report.html", evaluate_page(facts))
    means = {
        str(budget): {
            way: statistics.fmean(statistics.fmean(accuracies[data][way][budget]) for data in cfg.data) for way in WAYS
        }
        for budget in cfg.budgets
    }
    run.finish(
        {"seeds": list(cfg.seeds), "trials": {data: list(seeds) for data, seeds in trials.items()}, "mean": means}
    )


def _report(result: Mapping[str, Any], folder: Path) -> None:
    for data, seeds in result["trials"].items():
        from_sets = {trial["ways"]["retrieved"]["dataset"] for trial in seeds}
        print(f"{data}{' (SEEN)' if seeds[0]['seen'] else ''}: retrieved from {', '.join(sorted(from_sets))}")
        for way in WAYS:
            values = {
                budget: [trial["ways"][way]["curve"][int(budget) - 1] for trial in seeds] for budget in result["mean"]
            }
            shown = ", ".join(
                f"{100 * statistics.fmean(v):.1f} +- {100 * (statistics.stdev(v) if len(v) > 1 else 0):.1f}"
                for v in values.values()
            )
            print(f"  {way:<10} {shown} % after {', '.join(values)} epochs")
    for budget, ways in result["mean"].items():
        shown = ", ".join(f"{way} {100 * value:.1f}" for way, value in ways.items())
        print(f"result: mean accuracy in percent after {budget} epochs: {shown}")
    print(f"report: {folder / 'report.html'}")
