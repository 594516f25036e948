"""Step `finetune`: train the retrieved network on the dataset, and the same architecture from scratch beside it.

Source: Jeong et al., NeurIPS 2021, released code (`fine_tune`): a fresh classifier, all weights are trained.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, UsageError, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import read_json, write_text
from common.experiment.names import slug
from common.experiment.parallel import Job, map_resumable
from common.experiment.run import Run, open_run
from common.experiment.workers import Workers
from common.kd.evaluate import predict
from common.kd.recipe import Recipe
from common.kd.teacher import load_teacher
from common.kd.trainer import train
from common.report.facts import PredictionFacts, RunFacts, commands_of, dataset_facts, run_facts, settings_of
from tans.beginnings import from_scratch
from tans.facts import retrieved_facts
from tans.finetuned import FinetunedNetwork, load_finetuned, save_finetuned
from tans.networks import load_network, with_fresh_head
from tans.recipes import FINETUNING
from tans.report import finetune_page
from tans.report_inputs import FinetuneFacts, TrainedFacts
from tans.search import search_folder
from tans.shipped import default_zoo
from tans.zoo import Zoo, open_zoo
from tans.zoo_tables import NetworkRow

_SHOWN_PREDICTIONS = 200


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(StepConfig):
    """Train what a search retrieved, once for each seed; with a teacher, distil it."""

    data: str = "digits"
    """A known name (`cub`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    zoo: Path | None = None
    """Folder of the zoo; none takes the one that was built here, else the shipped one."""
    networks: tuple[int, ...] = ()
    """Ids of networks of the zoo; none takes those that `search` chose for this dataset."""
    recipe: Recipe = FINETUNING
    """The training."""
    teacher: str | None = None
    """`timm:NAME@FILE`, as `python -m dass train-teacher --model timm:NAME` writes it. The labels alone of the recipe
    (loss ce) then become distillation (kd)."""
    scratch: bool = True
    """Train the first network's architecture from fresh weights too, for comparison."""
    seeds: tuple[int, ...] = (777, 888, 999)
    """One training each."""
    workers: Workers = field(default_factory=Workers)
    """Who trains."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")
        if self.recipe.loss != "ce" and self.teacher is None:
            raise ValueError(f"loss {self.recipe.loss} needs a teacher: give --teacher timm:NAME@FILE, or loss ce")

    @property
    def training(self) -> Recipe:
        """The recipe, with distillation where there is a teacher."""
        return replace(self.recipe, loss="kd") if self.teacher and self.recipe.loss == "ce" else self.recipe


@dataclass(frozen=True, kw_only=True)
class _Training:
    """Networks that are trained together from one seed."""

    cfg: FinetuneConfig
    zoo: Path
    network: int
    seed: int
    files: dict[str, Path]
    """Name -> where it is kept; `scratch` is the architecture with fresh weights."""
    state: Path


def finetune(cfg: FinetuneConfig) -> None:
    """Run the step.

    Raises:
        UsageError: there was no search on this dataset and no network is given, or the zoo has no weights of it.
        FileNotFoundError, ValueError: as `open_task`, or fewer training images than a batch.
    """
    with open_zoo(cfg.zoo or default_zoo()) as zoo:
        task = open_task(cfg.data, resolution=zoo.settings.resolution, data_root=cfg.data_root, seed=cfg.seed)
        folder = cfg.out or Path("exp/tans/finetune") / slug(task.id)
        with open_run(folder, program="tans", step="finetune", config=cfg, products=["*-seed*.safetensors"]) as run:
            if run.result is None:
                rows = [zoo.network(number) for number in cfg.networks or _found(task.id, cfg, zoo)]
                what = ", ".join(f"network {row.id} of {row.dataset}" for row in rows)
                print(f"finetune: {what} on {task.description} -> {folder}", flush=True)
                _train_all(cfg, zoo, rows, run)
                _finish(cfg, zoo, rows, task, run)
            else:
                print(f"{folder} is finished; --restart trains anew")
            assert run.result is not None
            _report(run.result, folder)


def _found(task: str, cfg: FinetuneConfig, zoo: Zoo) -> list[int]:
    """What the search on this task chose.

    Raises:
        UsageError: there was none, or it was in another zoo.
    """
    file = search_folder(task) / "result.json"
    if not file.exists():
        raise UsageError(
            f"which network? Run `python -m tans search --data {cfg.data}` first (no {file}), or give --networks ID"
        )
    result = read_json(file)
    if Path(result["zoo"]).resolve() != zoo.folder.resolve():
        raise UsageError(f"the search on {task} was in {result['zoo']}, and this is {zoo.folder}: give the same --zoo")
    return [int(one["id"]) for one in result["chosen"]]


def _train_all(cfg: FinetuneConfig, zoo: Zoo, rows: Sequence[NetworkRow], run: Run) -> None:
    jobs = {}
    for place, row in enumerate(rows):
        for seed in cfg.seeds:
            names = [_name(row), *(["scratch"] if cfg.scratch and place == 0 else [])]
            key = f"{_name(row)}-seed{seed}"
            jobs[key] = _Training(
                cfg=cfg,
                zoo=zoo.folder,
                network=row.id,
                seed=seed,
                files={name: run.folder / _file(name, seed) for name in names},
                state=run.checkpoint / f"{key}.pt",
            )
    map_resumable(
        _train_one,
        [Job(key=key, args=(job,)) for key, job in jobs.items()],
        done=lambda key: all(file.exists() for file in jobs[key].files.values()),
        store=lambda key, value: None,  # each job writes its own files
        backend=cfg.workers.backend,
        workers=cfg.workers.num,
        threads=cfg.workers.threads,
        description="trainings",
    )


def _name(row: NetworkRow) -> str:
    return f"network{row.id}"


def _file(name: str, seed: int) -> str:
    return f"{name}-seed{seed}.safetensors"


def _train_one(job: _Training) -> None:
    """Train one retrieved network, and its architecture from scratch; goes on where it was interrupted."""
    cfg, device = job.cfg, resolve_device(job.cfg.gpu)
    with open_zoo(job.zoo) as zoo:
        row, settings = zoo.network(job.network), zoo.settings
        task = open_task(cfg.data, resolution=settings.resolution, data_root=cfg.data_root, seed=cfg.seed)
        networks = [with_fresh_head(load_network(zoo, row), task.num_classes, job.seed)]
        if "scratch" in job.files:
            networks.append(from_scratch(zoo, row, task.num_classes, job.seed))
    teacher = None
    if cfg.teacher is not None:
        teacher = load_teacher(cfg.teacher, num_classes=task.num_classes, resolution=task.resolution, device=device)
    outcomes = train(
        networks,
        task,
        cfg.training,
        device=device,
        seed=job.seed,
        teacher=teacher,
        checkpoint=job.state,
        description=f"{task.id}, seed {job.seed}",
    )
    for network, outcome, file in zip(networks, outcomes, job.files.values(), strict=True):
        trained = FinetunedNetwork(
            network=network.cpu(),
            family=row.family,
            topology=row.topology,
            width_mult=settings.width_mult,
            first_stride=settings.first_stride,
            normalisation=row.details.get("normalisation", "symmetric"),
            task=task.id,
            class_names=task.class_names,
            resolution=task.resolution,
            final_accuracy=outcome.final_accuracy,
            best_accuracy=outcome.best_accuracy,
            initial_accuracy=outcome.initial_accuracy,
            notes={
                **{"recipe": to_dict(cfg.training), "seed": job.seed, "network": row.id, "dataset": row.dataset},
                **{"curve": outcome.curve, "seconds": outcome.seconds, "teacher": cfg.teacher},
            },
        )
        save_finetuned(file, trained)
    job.state.unlink(missing_ok=True)


def _finish(cfg: FinetuneConfig, zoo: Zoo, rows: Sequence[NetworkRow], task: Task, run: Run) -> None:
    names = [_name(row) for row in rows] + (["scratch"] if cfg.scratch else [])
    trained = {name: [load_finetuned(run.folder / _file(name, seed)) for seed in cfg.seeds] for name in names}
    for name, networks in trained.items():
        for seed, network in zip(cfg.seeds, networks, strict=True):
            for point in network.notes["curve"]:
                run.log(int(point["step"]), {"valid_accuracy": point["accuracy"]}, split=f"{name} seed{seed}")
    runs = {
        name: [_run_of(seed, network) for seed, network in zip(cfg.seeds, networks, strict=True)]
        for name, networks in trained.items()
    }
    space = zoo.settings.space
    facts = [retrieved_facts(row, space, task.num_classes) for row in rows]
    first = trained[names[0]][0]
    shown = task.evaluation[:_SHOWN_PREDICTIONS]
    logits = predict(first.network, task.images, shown, device=torch.device("cpu"))
    notes = {_name(row): f"trained on {row.dataset} before" for row in rows} | {"scratch": "fresh weights"}
    page = finetune_page(
        FinetuneFacts(
            dataset=dataset_facts(task),
            network=facts[0],
            trained=[TrainedFacts(name=name, note=notes[name], runs=runs[name]) for name in names],
            predictions=PredictionFacts(images=task.images[shown], labels=task.labels[shown], logits=logits),
            settings=settings_of({**to_dict(cfg.training), "teacher": cfg.teacher}),
            commands=commands_of("tans", "finetune", run.folder),
        )
    )
    write_text(run.folder / "report.html", page)
    run.finish(
        {
            "task": task.id,
            "description": task.description,
            "networks": [
                {"id": one.id, "dataset": one.dataset, "arch": one.text, "num_params": one.num_params, "macs": one.macs}
                for one in facts
            ],
            "weights": [_file(name, seed) for name in names for seed in cfg.seeds],
            "accuracies": {name: _accuracies(runs[name]) for name in names},
        }
    )


def _run_of(seed: int, trained: FinetunedNetwork) -> RunFacts:
    accuracies = {name: getattr(trained, f"{name}_accuracy") for name in ("best", "final", "initial")}
    return run_facts(seed, accuracies, trained.notes["curve"], trained.notes["seconds"])


def _accuracies(runs: Sequence[RunFacts]) -> dict[str, Any]:
    """Final accuracies, and the course of the mean over the seeds."""
    values = [run.final_accuracy for run in runs]
    curves = [run.accuracies for run in runs if run.accuracies is not None]
    return {
        "seeds": {str(run.seed): run.final_accuracy for run in runs},
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        "epochs": [int(step) for step in curves[0].steps],
        "course": [statistics.fmean(points) for points in zip(*(curve.values for curve in curves), strict=True)],
    }


def _report(result: Mapping[str, Any], folder: Path) -> None:
    for name, found in result["accuracies"].items():
        early = ", ".join(
            f"{100 * value:.1f} after {epoch}"
            for epoch, value in zip(found["epochs"], found["course"], strict=True)
            if epoch in (1, 10)
        )
        print(f"  {name}: {100 * found['mean']:.2f} +- {100 * found['std']:.2f} % at the end ({early or '-'} epochs)")
    first = next(iter(result["accuracies"].values()))
    print(
        f"result: {result['description']}: {100 * first['mean']:.2f} %, {result['networks'][0]['num_params']:,} "
        f"parameters\nweights: {', '.join(str(folder / name) for name in result['weights'])}\n"
        f"report: {folder / 'report.html'}"
    )
