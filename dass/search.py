"""Step `search`: score students of a new dataset's teacher in seconds, without training any of them.

Source: Lee et al., ICLR 2023, rapid search on unseen datasets.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.data.tasks import Task, open_task
from common.experiment.config import StepConfig, UsageError
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.experiment.seeds import generator
from common.report.facts import commands_of, dataset_facts
from common.spaces.base import Cost
from common.spaces.resnet import ResNetArch, ResNetSpace, check_resolution
from common.spaces.sampling import sample_distinct
from dass.facts import network_facts
from dass.networks import TrainedNetwork, load_network
from dass.prediction import Prediction, adapt_and_predict
from dass.predictor import PredictorArtifact, load_predictor, probe_digest, scale_maps
from dass.probe import embed, make_probe
from dass.report import search_page
from dass.report_inputs import SearchFacts
from dass.shipped import SHIPPED_PREDICTOR
from dass.teachers import TeacherConfig
from dass.train_teacher import ensure_teacher


@dataclass(frozen=True, kw_only=True)
class SearchConfig(StepConfig):
    """Find the student that distils best from a dataset's teacher, without training students."""

    data: str = "digits"
    """A known name (`cub`), a folder of class folders, a packed .npz, `tiny_imagenet/3`, or classes `cifar100/0-9`."""
    resolution: int = 64
    """Side of the images; the predictor was meta-trained at one and takes no other."""
    space: ResNetSpace = field(default_factory=ResNetSpace)
    """Where students come from; the predictor was meta-trained on one and takes no other."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The teacher; trained first when there is none."""
    predictor: Path = SHIPPED_PREDICTOR
    """Meta-trained predictor, as `meta-train` writes it."""
    num_candidates: int = 1000
    """Distinct students that are scored. Costs prediction time only, no training."""
    top_k: int = 5
    """How many of the best are kept, best first."""
    max_params: int | None = None
    """Largest allowed number of parameters; none means no bound."""
    max_macs: int | None = None
    """Largest allowed multiply-accumulates for one image; none means no bound."""
    step_size_reset: float | None = None
    """Adapt with this one step size instead of the learned ones, as the released code does (0.005)."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_resolution(self.resolution)
        if not 1 <= self.top_k <= self.num_candidates:
            raise ValueError(f"top_k is {self.top_k}; it must lie in 1 to num_candidates ({self.num_candidates})")


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Candidates of one task with their scores.

    Attributes:
        archs: N candidates.
        costs: theirs.
        prediction: their scores, and the predictor's error on the teacher.
        order: (N,) from the best score to the worst; equal scores in the order of the candidates.
        seconds: what took how long.
    """

    archs: list[ResNetArch]
    costs: list[Cost]
    prediction: Prediction
    order: Tensor
    seconds: dict[str, float]


def search(cfg: SearchConfig) -> None:
    """Run the step."""
    artifact = load_predictor(cfg.predictor)
    check_predictor(artifact, cfg.space, cfg.resolution, cfg.predictor)
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    candidates = draw_candidates(cfg, task)
    teacher_file = ensure_teacher(cfg, cfg.teacher, task, cfg.space, cfg.data)
    folder = cfg.out or search_folder(task.id)
    anew = replace(cfg, restart=True)  # it takes seconds, and the teacher may be another one by now
    with open_run(folder, program="dass", step="search", config=anew) as run:
        print(f"scoring {len(candidates)} students of {task.description}, into {folder}", flush=True)
        teacher = load_network(teacher_file)
        ranking = rank(artifact, teacher, cfg.space, candidates, step_size=cfg.step_size_reset, gpu=cfg.gpu)
        _report(
            _finish(
                cfg, run, task=task, teacher=teacher, teacher_file=teacher_file, artifact=artifact, ranking=ranking
            ),
            cfg,
            folder,
        )


def search_folder(task: str) -> Path:
    """Run folder of a search when no other is asked for."""
    return Path("exp/dass/search") / slug(task)


def check_predictor(artifact: PredictorArtifact, space: ResNetSpace, resolution: int, file: Path) -> None:
    """Refuse a predictor of another space or image size.

    Raises:
        UsageError: it was meta-trained on another one, or its codes are the released ones; the message says which.
    """
    if artifact.origin != "dass":
        raise UsageError(
            f"predictor {file} reads the codes and the probe of the released files, which are not ours: rank the "
            "released candidates with `python -m dass rank-imported`"
        )
    if artifact.space_name != space.code_name or artifact.resolution != resolution:
        raise UsageError(
            f"predictor {file} was meta-trained on {artifact.space_name} at {artifact.resolution} px, and you search "
            f"{space.code_name} at {resolution} px: take the same preset for both (--config configs/dass/cpu.yaml), or "
            "meta-train a predictor for this space with --predictor pointing at it"
        )


def draw_candidates(cfg: SearchConfig, task: Task) -> list[ResNetArch]:
    """Distinct students within the bounds.

    Raises:
        UsageError: no student satisfies the bounds; the message says what the smallest one costs.
    """
    space = cfg.space

    def within(arch: ResNetArch) -> bool:
        cost = space.cost(arch, task.num_classes, task.resolution)
        return (cfg.max_params is None or cost.num_params <= cfg.max_params) and (
            cfg.max_macs is None or cost.macs <= cfg.max_macs
        )

    if not within(space.smallest):  # it has the fewest parameters and the fewest MACs
        least = space.cost(space.smallest, task.num_classes, task.resolution)
        raise UsageError(
            f"no student satisfies max_params {cfg.max_params} and max_macs {cfg.max_macs}: the smallest of "
            f"{space.name} on {task.id} has {least.num_params:,} parameters and {least.macs:,} MACs"
        )
    draws = generator(cfg.seed, "candidates")
    return sample_distinct(space, cfg.num_candidates, draws, accept=within) or [space.smallest]


def rank(
    artifact: PredictorArtifact,
    teacher: TrainedNetwork,
    space: ResNetSpace,
    archs: list[ResNetArch],
    *,
    step_size: float | None = None,
    gpu: str = "cpu",
) -> Ranking:
    """Embed the candidates with the teacher's weights, adapt the predictor to the teacher, and score.

    Args:
        artifact: the predictor.
        teacher: the task's teacher.
        space: space of the candidates.
        archs: the candidates.
        step_size: replaces the learned step sizes.
        gpu: where to compute.

    Raises:
        UsageError: the teacher is of another space.
        RuntimeError: scores are not finite.
    """
    if teacher.space.name != space.name:
        raise UsageError(
            f"the teacher of {teacher.task} is of {teacher.space.name}, and you search {space.name}: take the same "
            "preset for both, or train a teacher of this space with `python -m dass train-teacher`"
        )
    device = resolve_device(gpu)
    probe = make_probe(teacher.resolution) if artifact.probe is None else artifact.probe
    state = {name: value.to(device) for name, value in teacher.network.state_dict().items()}
    begin = time.perf_counter()
    everyone = [teacher.arch, *archs]
    maps = embed(state, teacher.arch, everyone, probe.to(device), artifact.pr_type, description="probing students")  # type: ignore[arg-type]
    embedded = time.perf_counter()
    students, teacher_map = scale_maps(maps[1:], maps[:1], artifact.predictor.config.map_scale)
    codes = space.encode(everyone).to(device)
    steps = artifact.step_sizes
    if step_size is not None:
        steps = {name: torch.full_like(value, step_size) for name, value in steps.items()}
    prediction = adapt_and_predict(
        artifact.predictor.to(device),
        {name: value.to(device) for name, value in steps.items()} if artifact.adapt else None,
        teacher_map,
        codes[:1],
        teacher.best_accuracy,
        maps=students,
        codes=codes[1:],
        num_steps=artifact.num_inner_updates,
    )
    if not torch.isfinite(prediction.scores).all():
        raise RuntimeError(f"scores of {teacher.task} are not finite: the teacher or the predictor holds bad weights")
    return Ranking(
        archs=archs,
        costs=[space.cost(arch, teacher.num_classes, teacher.resolution) for arch in archs],
        prediction=prediction,
        order=torch.argsort(prediction.scores, descending=True, stable=True),
        seconds={"probing": embedded - begin, "scoring": time.perf_counter() - embedded},
    )


def predictor_card(artifact: PredictorArtifact, file: Path) -> dict[str, str]:
    """What a page says of a predictor."""
    card = {
        "File": str(file),
        "Space": f"{artifact.space_name} at {artifact.resolution} px",
        "Inputs": artifact.predictor.config.input_type,
        "Mean Spearman on its meta-validation tasks": "unknown" if artifact.score is None else f"{artifact.score:.3f}",
        "Probe": probe_digest(artifact.probe),
    }
    return card | {str(name).replace("_", " ").capitalize(): _brief(value) for name, value in artifact.notes.items()}


def _brief(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {item}" for name, item in value.items())
    return str(value)


def _finish(
    cfg: SearchConfig,
    run: Run,
    *,
    task: Task,
    teacher: TrainedNetwork,
    teacher_file: Path,
    artifact: PredictorArtifact,
    ranking: Ranking,
) -> dict[str, Any]:
    space, prediction = cfg.space, ranking.prediction
    chosen = ranking.order[: cfg.top_k].tolist()
    students = [
        network_facts(f"rank {place}", space, ranking.archs[i], task, score=float(prediction.scores[i]))
        for place, i in enumerate(chosen, start=1)
    ]
    next_step = f"python -m dass distill --data {cfg.data}"
    facts = SearchFacts(
        dataset=dataset_facts(task),
        teacher=network_facts("teacher", space, teacher.arch, task, accuracy=teacher.best_accuracy),
        scores=prediction.scores,
        num_params=[cost.num_params for cost in ranking.costs],
        macs=[cost.macs for cost in ranking.costs],
        chosen=chosen,
        students=students,
        seed=cfg.seed,
        max_params=cfg.max_params,
        max_macs=cfg.max_macs,
        teacher_error=(prediction.error_before, prediction.error_after),
        predictor=predictor_card(artifact, cfg.predictor),
        seconds=ranking.seconds,
        commands=commands_of("dass", "search", run.folder, next_step=next_step),
    )
    write_text(run.folder / "report.html", search_page(facts))
    return run.finish(
        {
            "task": task.id,
            "description": task.description,
            "teacher": str(teacher_file),
            "teacher_accuracy": teacher.best_accuracy,
            "teacher_error_before": prediction.error_before,
            "teacher_error_after": prediction.error_after,
            "space": space.name,
            "resolution": cfg.resolution,
            "chosen": [
                {"arch": s.architecture, "score": s.score, "num_params": s.num_params, "macs": s.macs} for s in students
            ],
            "candidates": [space.format(arch) for arch in ranking.archs],
            "scores": prediction.scores.tolist(),
            "seconds": ranking.seconds,
        }
    )


def _report(result: Mapping[str, Any], cfg: SearchConfig, folder: Path) -> None:
    print(f"{result['description']}: teacher {100 * result['teacher_accuracy']:.2f} %")
    for place, student in enumerate(result["chosen"], start=1):
        print(
            f"  {place}. {student['arch']}  score {student['score']:.4f}  {student['num_params']:,} parameters  "
            f"{student['macs']:,} MACs"
        )
    seconds = result["seconds"]
    print(
        f"{len(result['scores'])} students: probing {seconds['probing']:.1f} s, scoring {seconds['scoring']:.2f} s "
        "(scores rank students; they are no calibrated accuracies)"
    )
    print(f"report: {folder / 'report.html'}\nnext: python -m dass distill --data {cfg.data}")
