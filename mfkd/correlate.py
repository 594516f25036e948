"""Step `correlate`: does distillation make cheap trainings rank networks more like full ones do?

The same random networks are trained at low fidelity with each loss, and fully; Kendall's tau of both follows.

Source: Trofimov et al., arXiv 2006.08341: the claim of the paper.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from common.data.tasks import task_id
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.experiment.seeds import generator
from common.kd.recipe import Loss
from common.meta.ranking import kendall
from common.report.facts import commands_of
from common.spaces.sampling import sample_distinct
from common.store.records import RecordStore
from mfkd.evaluations import Fidelity
from mfkd.execution import PRODUCTS, WorkConfig, context_of
from mfkd.images import open_images
from mfkd.plans import (
    FidelityOptions,
    SpaceOptions,
    TeacherOptions,
    check_resolution,
    images_of,
    low_fidelity,
    plain_settings,
    training_of,
)
from mfkd.point_evaluations import PointEvaluations, setting_of
from mfkd.report_comparisons import correlate_page
from mfkd.report_inputs import CorrelateFacts
from mfkd.train_teacher import ensure_teacher
from mfkd.training import Context

NAMES: Mapping[Loss, str] = {"ce": "labels only", "kd": "KD", "nst": "NST"}
CEILING, BY_MACS, BY_PARAMS = "full, two seeds", "MACs", "parameters"


@dataclass(frozen=True, kw_only=True)
class CorrelateConfig(WorkConfig):
    """Compare rankings of networks by cheap trainings with labels, KD and NST, with that of full trainings."""

    data: str = "cifar10"
    """A known name (`cifar10`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 32
    """Side of the images in pixels."""
    space: SpaceOptions = field(default_factory=SpaceOptions)
    """Where the networks are drawn from."""
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    """What distilled trainings learn from."""
    low: FidelityOptions = field(default_factory=low_fidelity)
    """Cheap trainings; their loss is replaced by each of `losses`, temperature, alpha and beta stay."""
    high: FidelityOptions = field(default_factory=FidelityOptions)
    """Full trainings."""
    losses: tuple[Loss, ...] = ("ce", "kd", "nst")
    """Compared at low fidelity."""
    num_networks: int = 25
    """Random networks."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One cheap training of each network and loss for each; --seed draws networks and teacher."""
    full_seeds: tuple[int, ...] = (0, 1)
    """One full training of each network for each; their mean is ranked, and two tell how far a ranking can be known."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_resolution(self.resolution)
        for name in ("seeds", "full_seeds", "losses"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} {values}: give one or more, each once")
        if self.num_networks < 3:
            raise ValueError(f"num_networks is {self.num_networks}: a ranking needs 3 or more")


def correlate(cfg: CorrelateConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError, ValueError: there is no such dataset or teacher, or a class has no image.
        RuntimeError: the teacher's file holds another network, or a training diverged.
    """
    task = task_id(cfg.data, data_root=cfg.data_root)
    folder = cfg.out or Path("exp/mfkd/correlate") / slug(task)
    with open_run(folder, program="mfkd", step="correlate", config=cfg, products=PRODUCTS) as run:
        if run.result is None:
            num = cfg.num_networks * (len(cfg.losses) * len(cfg.seeds) + len(cfg.full_seeds))
            print(f"correlate: {cfg.num_networks} networks on {task}, {num} trainings -> {folder}", flush=True)
            teacher = ensure_teacher(cfg, cfg.teacher, cfg.space, data=cfg.data, resolution=cfg.resolution)
            with RecordStore(run.folder / "records.sqlite") as store:
                _correlate(cfg, run, context_of(run.folder, cfg, store), teacher)
        else:
            print(f"{folder} is finished; --restart trains anew")
        assert run.result is not None
        _report(run.result, folder)


def _correlate(cfg: CorrelateConfig, run: Run, context: Context, teacher: Path) -> None:
    space = cfg.space.space
    archs = sample_distinct(space, cfg.num_networks, generator(cfg.seed, "networks"))
    points = [space.index(arch) for arch in archs]
    loss_of_high = cfg.high.recipe.loss
    high = [
        _accuracies(cfg, context, teacher, points, fidelity="high", seed=seed, loss=loss_of_high)
        for seed in cfg.full_seeds
    ]
    low: dict[Loss, list[list[float]]] = {loss: [] for loss in cfg.losses}
    for seed in cfg.seeds:
        for loss, found in low.items():
            found.append(_accuracies(cfg, context, teacher, points, fidelity="low", seed=seed, loss=loss))
    reference = torch.tensor(high, dtype=torch.float64).mean(0)
    dataset = open_images(images_of(cfg.data, cfg.resolution), data_root=cfg.data_root, seed=cfg.seed)
    costs = [space.cost(arch, dataset.num_classes, cfg.resolution) for arch in archs]
    taus = {NAMES.get(loss, loss): [_tau(one, reference) for one in seeds] for loss, seeds in low.items()}
    taus[BY_MACS] = [_tau([cost.macs for cost in costs], reference)]
    taus[BY_PARAMS] = [_tau([cost.num_params for cost in costs], reference)]
    if len(high) > 1:
        taus[CEILING] = [_tau(high[0], torch.tensor(high[1], dtype=torch.float64))]
    named = {NAMES.get(loss, loss): seeds for loss, seeds in low.items()}
    for number in range(len(points)):
        run.log(number, {"full": float(reference[number])}, split="high")
        for name, seeds in named.items():
            run.log(number, {slug(name): statistics.fmean(seed[number] for seed in seeds)}, split="low")
    facts = CorrelateFacts(
        dataset=dataset.description,
        losses=list(named),
        low=named,
        high=reference.tolist(),
        kendall=taus,
        commands=commands_of("mfkd", "correlate", run.folder),
        settings={
            "Networks": f"{cfg.num_networks} random ones of {space.size():,}, {cfg.resolution} px",
            "Low fidelity": f"{cfg.low.portion:.1%} of the images; {plain_settings(cfg.low.recipe)}",
            "High fidelity": f"{cfg.high.portion:.1%} of the images; {plain_settings(cfg.high.recipe)}",
        },
    )
    write_text(run.folder / "report.html", correlate_page(facts))
    run.finish(
        {
            "description": dataset.description,
            "num_networks": cfg.num_networks,
            "seeds": list(cfg.seeds),
            "full_seeds": list(cfg.full_seeds),
            "architectures": [space.format(arch) for arch in archs],
            "low": named,
            "high": high,
            "kendall": taus,
        }
    )


def _accuracies(
    cfg: CorrelateConfig,
    context: Context,
    teacher: Path,
    points: Sequence[int],
    *,
    fidelity: Fidelity,
    seed: int,
    loss: Loss,
) -> list[float]:
    """Validation accuracies of the networks, from one seed."""
    options = cfg.low if fidelity == "low" else cfg.high
    images = images_of(cfg.data, cfg.resolution, options)
    training = training_of(replace(options.recipe, loss=loss), seed, teacher)
    setting = setting_of(cfg.space.space, images, training, fidelity, context)
    evaluations = PointEvaluations(f"{loss}, seed {seed}", {fidelity: setting}, context, len(points))
    return evaluations(points, fidelity)


def _tau(predicted: Sequence[float], reference: torch.Tensor) -> float:
    return kendall(torch.tensor(predicted, dtype=torch.float64), reference)


def _report(result: Mapping[str, Any], folder: Path) -> None:
    print(f"{result['description']}: {result['num_networks']} networks, seeds {result['seeds']}")
    print(f"{'ranked by':<20}{'Kendall tau':>16}{'mean accuracy':>16}")
    for name, values in result["kendall"].items():
        spread = f" +- {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        low = result["low"].get(name)
        accuracy = "" if low is None else f"{100 * statistics.fmean(one for seed in low for one in seed):.1f} %"
        print(f"{name:<20}{f'{statistics.fmean(values):.2f}{spread}':>16}{accuracy:>16}")
    full = statistics.fmean(one for seed in result["high"] for one in seed)
    print(f"full trainings: mean {100 * full:.1f} %\nreport: {folder / 'report.html'}")
