"""Step `distill`: train the chosen student from its teacher, from several seeds.

Source: Lee et al., ICLR 2023, knowledge distillation of the searched student.
"""

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

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
from common.kd.remap import RemapKind
from common.kd.teacher import is_named_teacher
from common.kd.trainer import train
from common.report.facts import PredictionFacts, RunFacts, commands_of, dataset_facts, run_facts, settings_of
from common.spaces.resnet import ResNetSpace, check_resolution
from dass.facts import network_facts
from dass.networks import TrainedNetwork, load_network, save_network
from dass.report import distill_page
from dass.report_inputs import DistillFacts, NetworkFacts, StudentRuns
from dass.search import search_folder
from dass.students import new_student
from dass.teachers import TeacherConfig, any_teacher
from dass.train_teacher import ensure_teacher

_SHOWN_PREDICTIONS = 200


@dataclass(frozen=True, kw_only=True)
class DistillConfig(StepConfig):
    """Distil a student from its teacher, once for each seed, and report mean and standard deviation."""

    data: str = "digits"
    """A known name (`cub`), a folder of class folders, a packed .npz, `tiny_imagenet/3`, or classes `cifar100/0-9`."""
    resolution: int = 64
    """Side of the images, divisible by 8."""
    space: ResNetSpace = field(default_factory=ResNetSpace)
    """Where the student comes from."""
    arch: str | None = None
    """The student, like `18-32_36_72-128-104_144-256`; none takes the best one of `search` on this dataset."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The teacher; trained first when there is none."""
    pr_type: RemapKind = "copy_paste_first"
    """How the student takes over the teacher's weights; random_init takes none, and then any teacher serves."""
    recipe: Recipe = field(default_factory=Recipe)
    """The distillation."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """One student each."""
    workers: Workers = field(default_factory=Workers)
    """Who trains them."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_resolution(self.resolution)
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds}: give one or more, each once")
        if self.arch is not None:
            self.space.parse(self.arch)


@dataclass(frozen=True, kw_only=True)
class _StudentJob:
    """One student from one seed."""

    data: str
    data_root: Path | None
    data_seed: int
    resolution: int
    space: ResNetSpace
    arch: str
    teacher: str
    pr_type: RemapKind
    recipe: Recipe
    seed: int
    gpu: str
    folder: Path


def distill(cfg: DistillConfig) -> None:
    """Run the step."""
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    folder = cfg.out or Path("exp/dass/distill") / slug(task.id)
    with open_run(folder, program="dass", step="distill", config=cfg, products=[_student_file("*")]) as run:
        if run.result is None:
            arch = cfg.arch or _found_student(task.id, cfg)
            cfg.space.parse(arch)
            teacher = _teacher_file(cfg, task)
            print(f"distilling {arch} on {task.description}, seeds {_joined(cfg.seeds)}, into {folder}", flush=True)
            _distil_all(cfg, arch, teacher, folder)
            _finish(cfg, task, arch, teacher, run)
        assert run.result is not None
        _report(run.result, folder)


def _found_student(task: str, cfg: DistillConfig) -> str:
    """The best student of the search on this task.

    Raises:
        UsageError: there was no search, or it was over another space.
    """
    file = search_folder(task) / "result.json"
    if not file.exists():
        raise UsageError(
            f"which student? Run `python -m dass search --data {cfg.data}` first (no {file}), or give --arch"
        )
    result = read_json(file)
    if result["space"] != cfg.space.name:
        raise UsageError(
            f"{file} is a search over {result['space']}, not {cfg.space.name}: search again or give --arch"
        )
    return str(result["chosen"][0]["arch"])


def _teacher_file(cfg: DistillConfig, task: Task) -> str:
    """The teacher as text: a file, or `timm:NAME@FILE`."""
    if cfg.teacher.file is not None and cfg.pr_type == "random_init":
        any_teacher(cfg.teacher.file, task, torch.device("cpu"))
        return cfg.teacher.file
    return str(ensure_teacher(cfg, cfg.teacher, task, cfg.space, cfg.data))


def _distil_all(cfg: DistillConfig, arch: str, teacher: str, folder: Path) -> None:
    jobs = [
        _StudentJob(
            data=cfg.data,
            data_root=cfg.data_root,
            data_seed=cfg.seed,
            resolution=cfg.resolution,
            space=cfg.space,
            arch=arch,
            teacher=teacher,
            pr_type=cfg.pr_type,
            recipe=cfg.recipe,
            seed=seed,
            gpu=cfg.gpu,
            folder=folder,
        )
        for seed in cfg.seeds
    ]
    map_resumable(
        _distil_one,
        [Job(key=f"seed {job.seed}", args=(job,)) for job in jobs],
        done=lambda key: (folder / _student_file(int(key.split()[1]))).exists(),
        store=lambda key, value: None,  # each job writes its own file
        backend=cfg.workers.backend,
        workers=cfg.workers.num,
        threads=cfg.workers.threads,
        description="students",
    )


def _student_file(seed: int | Literal["*"]) -> str:
    return f"student-seed{seed}.safetensors"


def _distil_one(job: _StudentJob) -> None:
    """Distil one student; an interrupted one goes on where it stopped."""
    device = resolve_device(job.gpu)
    task = open_task(job.data, resolution=job.resolution, data_root=job.data_root, seed=job.data_seed)
    teacher = any_teacher(job.teacher, task, device)
    arch = job.space.parse(job.arch)
    network = _new_network(job, task, device)
    outcome = train(
        [network],
        task,
        job.recipe,
        device=device,
        seed=job.seed,
        teacher=teacher,
        checkpoint=job.folder / "checkpoint" / f"seed{job.seed}.pt",
        description=f"student of {task.id}, seed {job.seed}",
    )[0]
    network.load_state_dict(outcome.best_state)
    student = TrainedNetwork(
        network=network.cpu(),
        role="student",
        space=job.space,
        arch=arch,
        task=task.id,
        description=task.description,
        class_names=task.class_names,
        resolution=task.resolution,
        best_accuracy=outcome.best_accuracy,
        final_accuracy=outcome.final_accuracy,
        initial_accuracy=outcome.initial_accuracy,
        notes={
            "recipe": to_dict(job.recipe),
            "seed": job.seed,
            "pr_type": job.pr_type,
            "weights": "best",
            "curve": outcome.curve,
        },
    )
    save_network(job.folder / _student_file(job.seed), student)


def _new_network(job: _StudentJob, task: Task, device: torch.device) -> nn.Module:
    arch = job.space.parse(job.arch)
    if not is_named_teacher(job.teacher):
        return new_student(load_network(Path(job.teacher)), job.space, arch, job.pr_type, job.seed).to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        return job.space.build(arch, task.num_classes, task.resolution).to(device)


def _finish(cfg: DistillConfig, task: Task, arch: str, teacher: str, run: Run) -> None:
    students = {seed: load_network(run.folder / _student_file(seed)) for seed in cfg.seeds}
    for seed, student in students.items():
        for point in student.notes["curve"]:
            run.log(int(point["step"]), {"valid_accuracy": point["accuracy"]}, split=f"seed{seed}")
    runs = [
        run_facts(
            seed,
            {n: getattr(student, f"{n}_accuracy") for n in ("best", "final", "initial")},
            student.notes["curve"],
        )
        for seed, student in students.items()
    ]
    teacher_facts, teacher_run = _teacher_facts(cfg, task, teacher)
    facts = DistillFacts(
        dataset=dataset_facts(task),
        teacher=teacher_facts,
        teacher_run=teacher_run,
        students=[StudentRuns(network=network_facts("student", cfg.space, cfg.space.parse(arch), task), runs=runs)],
        predictions=_predictions(students[cfg.seeds[0]].network, task),
        settings=settings_of(to_dict(cfg.recipe)) | {"weights taken over": cfg.pr_type},
        commands=commands_of("dass", "distill", run.folder),
    )
    write_text(run.folder / "report.html", distill_page(facts))
    run.finish(_result(task, arch, teacher_facts, students))


def _result(task: Task, arch: str, teacher: NetworkFacts, students: dict[int, TrainedNetwork]) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for name in ("best", "final", "initial"):
        values = [getattr(student, f"{name}_accuracy") for student in students.values()]
        measured[f"{name}_accuracy"] = {
            "seeds": dict(zip(map(str, students), values, strict=True)),
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
        }
    cost = next(iter(students.values()))
    student_cost = cost.space.cost(cost.arch, task.num_classes, task.resolution)
    return {
        "task": task.id,
        "description": task.description,
        "arch": arch,
        "num_params": student_cost.num_params,
        "macs": student_cost.macs,
        "teacher_accuracy": teacher.accuracy,
        "teacher_params": teacher.num_params,
        "teacher_macs": teacher.macs,
        "weights": [_student_file(seed) for seed in students],
        **measured,
    }


def _teacher_facts(cfg: DistillConfig, task: Task, teacher: str) -> tuple[NetworkFacts, RunFacts | None]:
    if is_named_teacher(teacher):
        network = any_teacher(teacher, task, torch.device("cpu"))
        logits = predict(network, task.images, task.evaluation, device=torch.device("cpu"))
        accuracy = float((logits.argmax(1) == task.labels[task.evaluation]).float().mean())
        num_params = sum(parameter.numel() for parameter in network.parameters())
        name = teacher.partition("@")[0]
        return NetworkFacts(name=name, architecture=name, num_params=num_params, macs=0, accuracy=accuracy), None
    trained = load_network(Path(teacher))
    facts = network_facts("teacher", trained.space, trained.arch, task, accuracy=trained.best_accuracy)
    result = Path(teacher).parent / "result.json"
    curve = read_json(result)["curve"] if result.exists() else []
    accuracies = {n: getattr(trained, f"{n}_accuracy") for n in ("best", "final", "initial")}
    return facts, run_facts(int(trained.notes.get("seed", 0)), accuracies, curve)


def _predictions(network: nn.Module, task: Task) -> PredictionFacts:
    shown = task.evaluation[:_SHOWN_PREDICTIONS]
    logits = predict(network, task.images, shown, device=torch.device("cpu"))
    return PredictionFacts(images=task.images[shown], labels=task.labels[shown], logits=logits)


def _joined(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))


def _report(result: dict[str, Any], folder: Path) -> None:
    best, final = result["best_accuracy"], result["final_accuracy"]
    print(f"{result['description']}: teacher {100 * result['teacher_accuracy']:.2f} %")
    print(
        f"student {result['arch']}: final {100 * final['mean']:.2f} +- {100 * final['std']:.2f} %, "
        f"best {100 * best['mean']:.2f} +- {100 * best['std']:.2f} %, {result['num_params']:,} parameters "
        f"({100 * result['num_params'] / result['teacher_params']:.0f} % of the teacher's)"
    )
    print(f"weights: {', '.join(str(folder / name) for name in result['weights'])}\nreport: {folder / 'report.html'}")
