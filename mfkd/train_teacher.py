"""Step `train-teacher`: the network that low-fidelity trainings are distilled from."""

import shutil
from dataclasses import dataclass, field, fields
from pathlib import Path

from common.data.tasks import task_id
from common.experiment.config import UsageError, digest, to_dict
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import open_run
from common.kd.recipe import Recipe
from common.report.facts import commands_of
from mfkd.execution import PRODUCTS, WorkConfig, check_steps, do_steps
from mfkd.models import teacher_of
from mfkd.pipeline import Pipeline, TrainStep
from mfkd.plans import SpaceOptions, TeacherOptions, check_resolution, images_of, published, training_of
from mfkd.report import pipeline_page
from mfkd.run import keep_identity, open_pipeline

TEACHER_FILE = "teacher.safetensors"
_FOLDER = Path("exp/mfkd/train-teacher")
_OF_PRESETS = ("data", "resolution", "space", "recipe")


@dataclass(frozen=True, kw_only=True)
class TrainTeacherConfig(WorkConfig):
    """Train the teacher of a dataset, or the one of a pipeline file: one network that learns from labels."""

    file: Path | None = None
    """Pipeline file of one step that trains one network; it says everything, so the next fields are left alone. On the
    command line its name may stand alone, first."""
    data: str = "digits"
    """A known name (`cifar10`), a folder of class folders, a packed .npz, or some classes, `cifar100/0-9`."""
    resolution: int = 32
    """Side of the images in pixels."""
    space: SpaceOptions = field(default_factory=SpaceOptions)
    """The space whose students learn from it: stem and last convolution are shared, widths and depths published."""
    recipe: Recipe = field(default_factory=lambda: published(loss="ce"))
    """The training; its loss is ce."""

    def __post_init__(self) -> None:
        """Check the fields."""
        check_resolution(self.resolution)
        TeacherOptions(recipe=self.recipe)
        defaults = {one.name: one for one in fields(self)}
        changed = [name for name in _OF_PRESETS if getattr(self, name) != _default(defaults[name])]
        if self.file is not None and changed:
            raise ValueError(f"{changed[0]} is given beside the pipeline file {self.file}, which says it itself")


def _default(one: object) -> object:
    made = one.default_factory  # type: ignore[attr-defined]
    return made() if callable(made) else one.default  # type: ignore[attr-defined]


def train_teacher(cfg: TrainTeacherConfig) -> Path:
    """Run the step; returns the teacher's file.

    Raises:
        UsageError: the pipeline is not one training of one network with labels.
        FileNotFoundError, ValueError: there is no such dataset, or it has too few images.
    """
    if cfg.file is None:
        step = teacher_step(cfg)
        check_steps([step], cfg)
        folder = cfg.out or teacher_folder(cfg)
        pipeline = Pipeline(steps=(step,), folder=folder, identity="", notes=())
    else:
        pipeline = open_pipeline(cfg.file, cfg, _FOLDER)
        _check_teacher(pipeline, cfg.file)
    file = pipeline.folder / TEACHER_FILE
    products = [*PRODUCTS, TEACHER_FILE]
    with open_run(pipeline.folder, program="mfkd", step="train-teacher", config=cfg, products=products) as run:
        keep_identity(pipeline)
        if run.result is None:
            print(f"teacher of {cfg.file or cfg.data}, into {pipeline.folder}", flush=True)
            results = do_steps(pipeline.steps, cfg, run, print)
            shutil.copyfile(pipeline.folder / results[0]["models"][0]["weights"], file)
            commands = commands_of("mfkd", "train-teacher", run.folder)
            write_text(run.folder / "report.html", pipeline_page("teacher", results, commands))
            run.finish({"file": str(cfg.file), "pipeline": pipeline.identity, "steps": results})
        assert run.result is not None
        teacher = run.result["steps"][0]["models"][0]
        print(f"{teacher['description']}: {teacher['architecture']} {100 * teacher['accuracy']:.2f} %")
        print(f"weights: {file}")
    return file


def teacher_folder(cfg: TrainTeacherConfig) -> Path:
    """Run folder of a dataset's teacher when no other is asked for: one for each way to train it, whatever the seed."""
    space = cfg.space.space
    network = {"first_stride": space.first_stride, "last_channel": space.last_channel, "resolution": cfg.resolution}
    way = digest({"recipe": to_dict(cfg.recipe), **network})[:6]
    return _FOLDER / f"{slug(task_id(cfg.data, data_root=cfg.data_root))}-{way}"


def teacher_step(cfg: TrainTeacherConfig) -> TrainStep:
    """The training of a dataset's teacher."""
    return TrainStep(
        name="teacher",
        images=images_of(cfg.data, cfg.resolution),
        training=training_of(cfg.recipe, cfg.seed, None),
        model=teacher_of(cfg.space.space),
    )


def ensure_teacher(
    cfg: WorkConfig, teacher: TeacherOptions, space: SpaceOptions, *, data: str, resolution: int
) -> Path:
    """File of the teacher: the one asked for, the one that was trained before, or a new one.

    Raises:
        FileNotFoundError: the file asked for is not there.
    """
    if teacher.file is not None:
        file = teacher.file.expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"there is no teacher {file}: leave --teacher.file out to train one")
        return file
    shared = {name: getattr(cfg, name) for name in ("gpu", "data_root", "seed", "threads", "deterministic", "workers")}
    wanted = TrainTeacherConfig(data=data, resolution=resolution, space=space, recipe=teacher.recipe, **shared)
    file = teacher_folder(wanted) / TEACHER_FILE
    return file if file.is_file() else train_teacher(wanted)


def _check_teacher(pipeline: Pipeline, file: Path) -> None:
    step = pipeline.steps[0]
    if len(pipeline.steps) > 1 or not isinstance(step, TrainStep) or step.model is None:
        raise UsageError(
            f"{file}: a teacher is one step of type TrainPipeStep with model.model_desc; use `run` for others"
        )
    if step.training.recipe.loss != "ce":
        raise UsageError(f"{file}: a teacher learns from labels: take the type Trainer and CrossEntropyLoss")
