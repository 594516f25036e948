"""Step `distill`: train the network that the search chose, from the teacher, from several seeds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common.data.tasks import Task, task_id
from common.experiment.config import UsageError, to_dict
from common.experiment.files import read_json, write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.experiment.seeds import generator
from common.kd.evaluate import predict
from common.kd.recipe import Recipe
from common.report.facts import PredictionFacts, commands_of
from common.spaces.sampling import sample_distinct
from mfkd.execution import PRODUCTS, WorkConfig, check_steps, do_steps
from mfkd.images import final_task, open_images
from mfkd.models import Model, load_into, model_of
from mfkd.pipeline import TrainStep
from mfkd.plans import SpaceOptions, TeacherOptions, check_resolution, images_of, published, training_of
from mfkd.report import distill_page
from mfkd.report_inputs import DistillFacts
from mfkd.search import search_folder
from mfkd.train_teacher import ensure_teacher

_SHOWN_PREDICTIONS = 200


@dataclass(frozen=True, kw_only=True)
class DistillConfig(WorkConfig):
    """Train the chosen network on all training images, distilled from the teacher, once for each seed."""

    data: str = "digits"
    """A known name (`cifar10`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 32
    """Side of the images in pixels."""
    space: SpaceOptions = field(default_factory=SpaceOptions)
    """The space of the network."""
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    """What it learns from."""
    arch: str | None = None
    """The network, channels x blocks of its seven stages like `16x1_24x2_32x3_64x4_96x3_160x3_320x1`; none takes that
    of `search` on this dataset."""
    recipe: Recipe = field(default_factory=lambda: published(loss="kd", temperature=4.0, alpha=0.1))
    """The training; with loss ce it has no teacher, as the published final training."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """One training each."""
    num_random: int = 0
    """Random networks of the space that are trained the same way, from the first seed, for comparison."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_resolution(self.resolution)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")
        if self.num_random < 0:
            raise ValueError(f"num_random is {self.num_random}; it must be 0 or more")
        if self.arch is not None:
            self.space.space.parse(self.arch)


def distill(cfg: DistillConfig) -> None:
    """Run the step.

    Raises:
        UsageError: there was no search on this dataset and no network is given.
        FileNotFoundError, ValueError: there is no such dataset or teacher, or fewer training images than a batch.
    """
    task = task_id(cfg.data, data_root=cfg.data_root)
    folder = cfg.out or Path("exp/mfkd/distill") / slug(task)
    with open_run(folder, program="mfkd", step="distill", config=cfg, products=PRODUCTS) as run:
        if run.result is None:
            chosen = _chosen(cfg, task)
            print(f"distill: {chosen.text} on {task}, seeds {' '.join(map(str, cfg.seeds))} -> {folder}", flush=True)
            steps = _steps(cfg, chosen, _teacher(cfg))
            check_steps(steps, cfg)
            _finish(cfg, run, do_steps(steps, cfg, run, print), steps[0])
        else:
            print(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        _report(run.result, folder)


def _chosen(cfg: DistillConfig, task: str) -> Model:
    """The network that is given, or that of the search on this task.

    Raises:
        UsageError: there was no search, or it searched another space.
    """
    space = cfg.space.space
    text = cfg.arch
    if text is None:
        file = search_folder(task) / "result.json"
        if not file.exists():
            raise UsageError(
                f"which network? Run `python -m mfkd search --data {cfg.data}` first (no {file}), or give --arch"
            )
        found = read_json(file)
        if found["steps"][-1]["space"] != space.name:
            raise UsageError(
                f"{file} is of a search of another space ({found['steps'][-1]['space']}, here {space.name}): search "
                "again with this --config and --restart, or give --arch"
            )
        text = str(found["chosen"][0]["arch"])
    return model_of(space, space.parse(text))


def _teacher(cfg: DistillConfig) -> Path:
    if cfg.recipe.loss == "ce":
        return Path("none")
    return ensure_teacher(cfg, cfg.teacher, cfg.space, data=cfg.data, resolution=cfg.resolution)


def _steps(cfg: DistillConfig, chosen: Model, teacher: Path) -> list[TrainStep]:
    """One step a seed, and one a random network."""
    images = images_of(cfg.data, cfg.resolution)
    space = cfg.space.space
    draws = generator(cfg.seed, "random networks")
    random = sample_distinct(space, cfg.num_random, draws, exclude=(space.parse(chosen.text),))
    wanted = [(f"seed{seed}", chosen, seed) for seed in cfg.seeds]
    wanted += [(f"random{n}", model_of(space, arch), cfg.seeds[0]) for n, arch in enumerate(random, start=1)]
    return [
        TrainStep(name=name, images=images, training=training_of(cfg.recipe, seed, teacher), model=model)
        for name, model, seed in wanted
    ]


def _finish(cfg: DistillConfig, run: Run, results: Sequence[dict[str, Any]], first: TrainStep) -> None:
    chosen = [result["models"][0] | {"seed": result["seed"]} for result in results[: len(cfg.seeds)]]
    random = [result["models"][0] for result in results[len(cfg.seeds) :]]
    dataset = open_images(first.images, data_root=cfg.data_root, seed=cfg.seed)
    task = final_task(first.images, dataset)
    accuracies = [one["accuracy"] for one in chosen]
    assert first.model is not None
    facts = DistillFacts(
        task=task,
        chosen=chosen,
        random=random,
        space=cfg.space.space,
        predictions=_predictions(first.model, run.folder / chosen[0]["weights"], task),
        settings=to_dict(cfg.recipe),
        commands=commands_of("mfkd", "distill", run.folder),
    )
    write_text(run.folder / "report.html", distill_page(facts))
    run.finish(
        {
            "task": task.id,
            "data": cfg.data,
            "description": dataset.description,
            "space": cfg.space.space.name,
            "arch": chosen[0]["architecture"],
            "num_params": chosen[0]["num_params"],
            "macs": chosen[0]["macs"],
            "weights": [one["weights"] for one in chosen],
            "final_accuracy": {
                "seeds": {str(one["seed"]): one["accuracy"] for one in chosen},
                "mean": statistics.fmean(accuracies),
                "std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
            },
            "random": [
                {"arch": one["architecture"], "num_params": one["num_params"], "final_accuracy": one["accuracy"]}
                for one in random
            ],
            "steps": list(results),
        }
    )


def _predictions(model: Model, weights: Path, task: Task) -> PredictionFacts:
    network = load_into(model.build(task.num_classes, task.resolution, 0), weights, f"the network {model.text}")
    shown = task.evaluation[:_SHOWN_PREDICTIONS]
    logits = predict(network, task.images, shown, device=torch.device("cpu"))
    return PredictionFacts(images=task.images[shown], labels=task.labels[shown], logits=logits)


def _report(result: Mapping[str, Any], folder: Path) -> None:
    final = result["final_accuracy"]
    spread = f" +- {100 * final['std']:.2f}" if len(final["seeds"]) > 1 else ""
    print(
        f"{result['description']}: {result['arch']}\ntest accuracy {100 * final['mean']:.2f}{spread} %, "
        f"{len(final['seeds'])} seeds; {result['num_params']:,} parameters, {result['macs']:,} MACs"
    )
    if result["random"]:
        values = [other["final_accuracy"] for other in result["random"]]
        mean, best = 100 * statistics.fmean(values), 100 * max(values)
        print(f"{len(values)} random networks trained the same way: mean {mean:.2f} %, best {best:.2f} %")
    print(f"weights: {', '.join(str(folder / name) for name in result['weights'])}\nreport: {folder / 'report.html'}")
