"""Step `retrain`: train the network that was found from scratch, at its thin widths.

Source: Li et al., CVPR 2020; released code, retraining part. Images are shifted and mirrored here, not cropped at
random sizes and jittered in colour; no other part of the published recipe is left out.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, UsageError, to_dict
from common.experiment.files import read_json, write_text
from common.experiment.parallel import Job, map_resumable
from common.experiment.run import Run, open_run
from common.experiment.workers import Workers
from common.kd.recipe import Recipe
from common.report.facts import RunFacts, commands_of, dataset_facts, run_facts, settings_of
from dna.archs import DnaArch, Skeleton, format_arch, parse_arch
from dna.costs import network_costs
from dna.images import step_folder
from dna.meta_train import weights_of
from dna.networks import NetworkJob, train_network
from dna.official_files import read_checkpoint
from dna.report import retrain_page
from dna.report_inputs import FoundFacts, RetrainFacts, TrainedFacts
from dna.teacher import TeacherConfig

RECIPE = Recipe(
    loss="ce",
    epochs=500,
    batch_size=1024,
    optimizer="rmsproptf",
    learning_rate=0.064,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="exponential",
    gamma=0.963,
    decay_epochs=3.0,
    warmup_epochs=5,
    label_smoothing=0.1,
    ema_decay=0.9998,
    validate_every=1,
)
"""Of the example script in the release; its authors say that the paper's networks had another batch and rate."""


@dataclass(frozen=True, kw_only=True)
class RetrainConfig(StepConfig):
    """Train a network from scratch, once for each seed."""

    data: str = "imagenet"
    """A known name (`cifar10`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 224
    """Side of the images in pixels."""
    skeleton: Skeleton = field(default_factory=Skeleton)
    """What surrounds the stages."""
    arch: str | None = None
    """DNA_a to DNA_d, or widths and ops such as 24:10|40:1101|80:1011|112:0114|192:1411|320:0; None takes the best one
    of `search` on this dataset."""
    recipe: Recipe = RECIPE
    """The training; loss kd learns from the teacher as well."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Whose logits it learns from, where the loss is not ce."""
    drop_rate: float = 0.2
    """Dropout before the classifier."""
    drop_path_rate: float = 0.2
    """Of the last layer's residual branch; layer i of N has i / N of it."""
    seeds: tuple[int, ...] = (1,)
    """One training each."""
    workers: Workers = field(default_factory=Workers)
    """Who trains them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")
        if not (0 <= self.drop_rate < 1 and 0 <= self.drop_path_rate < 1):
            raise ValueError(f"drop_rate is {self.drop_rate}, drop_path_rate {self.drop_path_rate}: both in [0, 1)")
        if self.arch is not None:
            parse_arch(self.arch)


def retrain(cfg: RetrainConfig) -> None:
    """Run the step.

    Raises:
        UsageError: there was no search on this dataset and no network is given.
        FileNotFoundError, ValueError: as `open_task`.
    """
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    folder = cfg.out or step_folder("retrain", task.id)
    with open_run(folder, program="dna", step="retrain", config=cfg, products=["network-*.safetensors"]) as run:
        if run.result is None:
            arch = parse_arch(cfg.arch) if cfg.arch else found_arch(task.id, cfg)
            print(f"retrain: {format_arch(arch)} on {task.description}, seeds {cfg.seeds} -> {folder}", flush=True)
            _train_all(cfg, task, arch, folder)
            _finish(cfg, task, run, arch)
        else:
            print(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        _report(run.result, folder)


def found_arch(task: str, cfg: RetrainConfig) -> DnaArch:
    """The best network of the search on this task.

    Raises:
        UsageError: there was none, or it has another skeleton or image size.
    """
    file = step_folder("search", task) / "result.json"
    if not file.exists():
        raise UsageError(
            f"which network? Run `python -m dna search --data {cfg.data}` first (no {file}), or give --arch"
        )
    result = read_json(file)
    asked = {"skeleton": cfg.skeleton.format(), "resolution": cfg.resolution}
    wrong = [f"{name} {result[name]}, not {value}" for name, value in asked.items() if result[name] != value]
    if wrong:
        raise UsageError(f"the search in {file.parent} was for {'; '.join(wrong)}: give the same here, or --arch")
    return parse_arch(str(result["chosen"][0]["arch"]))


def _file(seed: int) -> str:
    return f"network-seed{seed}.safetensors"


def _train_all(cfg: RetrainConfig, task: Task, arch: DnaArch, folder: Path) -> None:
    is_taught = cfg.recipe.loss != "ce"
    jobs = {
        _file(seed): NetworkJob(
            data=cfg.data,
            data_root=cfg.data_root,
            data_seed=cfg.seed,
            resolution=cfg.resolution,
            arch=arch,
            skeleton=cfg.skeleton,
            recipe=cfg.recipe,
            seed=seed,
            drop_rate=cfg.drop_rate,
            drop_path_rate=cfg.drop_path_rate,
            gpu=cfg.gpu,
            state=folder / "checkpoint" / f"seed{seed}.pt",
            teacher=cfg.teacher if is_taught else None,
            teacher_file=weights_of(cfg.teacher, task.id) if is_taught else None,
            file=folder / _file(seed),
        )
        for seed in cfg.seeds
    }
    map_resumable(
        _train_one,
        [Job(key=key, args=(job,)) for key, job in jobs.items()],
        done=lambda key: (folder / key).exists(),
        store=lambda key, value: None,  # each job writes its own file
        backend=cfg.workers.backend,
        workers=cfg.workers.num,
        threads=cfg.workers.threads,
        description="networks",
    )


def _train_one(job: NetworkJob) -> None:
    train_network(job)


def _run_of(file: Path) -> RunFacts:
    notes = read_checkpoint(file).notes
    accuracies = {name: float(notes[f"{name}_accuracy"]) for name in ("best", "final", "initial")}
    return run_facts(int(notes["seed"]), accuracies, json.loads(notes["curve"]), float(notes["seconds"]))


def _finish(cfg: RetrainConfig, task: Task, run: Run, arch: DnaArch) -> None:
    runs = [_run_of(run.folder / _file(seed)) for seed in cfg.seeds]
    costs = network_costs(arch, task.num_classes, task.resolution, cfg.skeleton)
    network = FoundFacts(
        arch=arch,
        rating=float("nan"),
        ratings=(),
        macs=int(costs.macs),
        official_macs=int(costs.official_macs),
        num_params=int(costs.num_params),
    )
    facts = RetrainFacts(
        dataset=dataset_facts(task),
        chosen=TrainedFacts(name="chosen", network=network, runs=runs),
        settings=settings_of(to_dict(cfg.recipe)),
        commands=commands_of("dna", "retrain", run.folder),
    )
    write_text(run.folder / "report.html", retrain_page(facts))
    values = [one.final_accuracy for one in runs]
    run.finish(
        {
            "task": task.id,
            "description": task.description,
            "arch": format_arch(arch),
            "skeleton": cfg.skeleton.format(),
            "macs": network.macs,
            "official_macs": network.official_macs,
            "num_params": network.num_params,
            "weights": [_file(seed) for seed in cfg.seeds],
            "final_accuracy": {
                "seeds": {str(one.seed): one.final_accuracy for one in runs},
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            },
            "best_accuracy": {str(one.seed): one.best_accuracy for one in runs},
        }
    )


def _report(result: Mapping[str, Any], folder: Path) -> None:
    final = result["final_accuracy"]
    spread = f" +- {100 * final['std']:.2f}" if len(final["seeds"]) > 1 else ""
    print(
        f"{result['description']}: {result['arch']}\nfinal accuracy {100 * final['mean']:.2f}{spread} %; "
        f"{result['num_params']:,} parameters, {result['macs']:,} MACs\n"
        f"weights: {', '.join(str(folder / name) for name in result['weights'])}\nreport: {folder / 'report.html'}"
    )
