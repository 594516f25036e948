"""Pipeline files as Vega reads them: steps that search, and steps that train what was found.

Source: Trofimov et al., arXiv 2006.08341, released code for Vega (both dialects).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.experiment.config import UsageError, digest
from common.experiment.names import slug
from common.experiment.presets import nearest
from mfkd.config import GpMode, Mfkd1Config, MfKdConfig, StepConfig
from mfkd.fields import Fields, read_mapping
from mfkd.images import Images, read_dataset
from mfkd.models import Model, Space, read_model, read_space
from mfkd.recipes import Training, read_trainer

_SEARCHES = dict.fromkeys(("MFKDNasPipeStep", "NasPipeStep", "SearchPipeStep"), True)
_KINDS = _SEARCHES | dict.fromkeys(("FullyTrainPipeStep", "TrainPipeStep"), False)
_GP_MODES: Mapping[str, GpMode] = {"wellposed": "wellposed", "legacy": "legacy", "sklearn": "sklearn"}
_FOLDER = "{local_base_path}"


@dataclass(frozen=True, kw_only=True)
class HighFidelity:
    """What a search of both fidelities trains networks on, and how, at the high one.

    Attributes:
        images: the validation images are those of the low fidelity.
        training: how.
    """

    images: Images
    training: Training


@dataclass(frozen=True, kw_only=True)
class SearchStep:
    """A step that searches a space.

    Attributes:
        name: of the step.
        images: what networks are trained and compared on.
        space: what is searched.
        num_classes: outputs of its networks as the file says; None for those of the dataset.
        algorithm: a `Mfkd1Config` for algorithm 1, a `StepConfig` for a step of algorithm 2, a `MfKdConfig` for
            co-kriging.
        training: how networks are trained.
        high: the same at high fidelity; for co-kriging alone.
    """

    name: str
    images: Images
    space: Space
    num_classes: int | None
    algorithm: Mfkd1Config | StepConfig | MfKdConfig
    training: Training
    high: HighFidelity | None = None


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """A step that trains one network, or several.

    Attributes:
        name: of the step.
        images: what they are trained on.
        training: how.
        model: the network; None where it is in files.
        model_file: file with its description, which an earlier step may write.
        models_folder: folder of such files, `desc_<id>.json`.
    """

    name: str
    images: Images
    training: Training
    model: Model | None = None
    model_file: Path | None = None
    models_folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A pipeline file.

    Attributes:
        steps: in the order in which they run.
        folder: where everything is written, for which `{local_base_path}` stands.
        identity: twelve hex digits of what the file says.
        notes: what users should know of values that have no effect.
    """

    steps: tuple[SearchStep | TrainStep, ...]
    folder: Path
    identity: str
    notes: tuple[str, ...]


def read_pipeline(file: Path, *, folder: Path | None, default: Path) -> Pipeline:
    """Read and check a pipeline file.

    Args:
        file: YAML, in the old or the new dialect.
        folder: what `{local_base_path}` stands for; None takes the file's `general.task.local_base_path`.
        default: folder in which a run of its own is made where there is neither.

    Raises:
        UsageError: the file cannot be read, has an unknown key or type (the message has the nearest), or a value that
            cannot be used.
    """
    content = read_mapping(file)
    notes: list[str] = []
    top = Fields(content, "", notes)
    own = _general(top.inner("general"))
    folder = folder or own or default / slug(file.stem)
    names = top.get("pipeline")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{file}: pipeline is {names!r}: a list of names of steps is needed")
    steps = []
    for name in names:
        if name not in top:
            others = [key for key in top.values if key not in ("general", "pipeline")]
            raise UsageError(f"{file}: pipeline names the step {name!r}, which is not there: {nearest(name, others)}")
        values = _filled(_referred(top.values[name], content), folder)
        steps.append(_step(Fields(values, name, notes)))
    is_step = [key for key, value in top.values.items() if isinstance(value, Mapping) and "pipe_step" in value]
    top.without_effect("pipeline does not name this step", *[key for key in is_step if key not in names])
    top.finish()
    return Pipeline(steps=tuple(steps), folder=folder, identity=digest(content), notes=tuple(dict.fromkeys(notes)))


def _general(fields: Fields) -> Path | None:
    """Check the section `general`; returns the folder that it names, if any."""
    fields.choice("backend", {"pytorch": None}, "pytorch")
    task = fields.inner("task")
    folder = Path(task.text("local_base_path")).expanduser() if "local_base_path" in task else None
    task.without_effect("one folder holds a run", "task_id", "result_path", "backup_base_path")
    task.finish()
    fields.without_effect("give --workers and --gpu", "parallel_search", "parallel_fully_train", "devices_per_trainer")
    fields.without_effect("this program has no such service", "cluster", "quota", "timeout", "logger", "worker")
    fields.finish()
    return folder


def _referred(values: object, content: Mapping[str, object]) -> object:
    """Sections with `ref: step.section` filled with what they refer to; what they have themselves wins."""
    if not isinstance(values, Mapping):
        return values
    found = {}
    for key, section in values.items():
        if isinstance(section, Mapping) and "ref" in section:
            there: Any = content
            for name in str(section["ref"]).split("."):
                there = there.get(name) if isinstance(there, Mapping) else None
            if not isinstance(there, Mapping):
                raise UsageError(f"{key}.ref is {section['ref']!r}: there is no such section")
            section = {**there, **{name: value for name, value in section.items() if name != "ref"}}
        found[key] = section
    return found


def _filled(value: Any, folder: Path) -> Any:
    """The folder in the place of `{local_base_path}`, in all texts."""
    if isinstance(value, Mapping):
        return {key: _filled(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, folder) for one in value]
    return value.replace(_FOLDER, str(folder)) if isinstance(value, str) else value


def _step(fields: Fields) -> SearchStep | TrainStep:
    kind = fields.inner("pipe_step")
    searches = kind.choice("type", _KINDS)
    images, settings = read_dataset(fields.inner("dataset"))
    training = read_trainer(fields.inner("trainer"), settings)
    step: SearchStep | TrainStep
    if searches:
        space, num_classes = read_space(fields.inner("search_space"))
        algorithm = _algorithm(fields.inner("search_algorithm"))
        step = SearchStep(
            name=fields.path,
            images=images,
            space=space,
            num_classes=num_classes,
            algorithm=algorithm,
            training=training,
        )
    else:
        step = _train_step(fields, kind, images, training)
    kind.finish()
    fields.finish()
    return step


def _train_step(fields: Fields, kind: Fields, images: Images, training: Training) -> TrainStep:
    model = fields.inner("model")
    given = [place for place in ("model_desc", "model_desc_file") if place in model]
    folder = Path(kind.text("models_folder")).expanduser() if "models_folder" in kind else None
    if len(given) + (folder is not None) != 1:
        raise UsageError(f"{fields.path}: give one of model.model_desc, model.model_desc_file, pipe_step.models_folder")
    step = TrainStep(
        name=fields.path,
        images=images,
        training=training,
        model=read_model(model.inner("model_desc")) if given == ["model_desc"] else None,
        model_file=Path(model.text("model_desc_file")).expanduser() if given == ["model_desc_file"] else None,
        models_folder=folder,
    )
    model.finish()
    return step


def _algorithm(fields: Fields) -> Mfkd1Config | StepConfig:
    is_first = fields.choice("type", {"MFKD1": True, "MFKD2": False})
    if fields.get("objective_keys") not in (None, "accuracy", ["accuracy"]):
        raise UsageError(f"{fields.at('objective_keys')} is {fields.get('objective_keys')!r}: 'accuracy' is needed")
    max_samples, seed = fields.integer("max_samples", 5), fields.integer("seed", 7)
    gp = fields.choice("gp", _GP_MODES, "wellposed")
    try:
        algorithm: Mfkd1Config | StepConfig
        if is_first:
            algorithm = Mfkd1Config(max_samples=max_samples, gp=gp, risk=fields.number("risk", 0.0), seed=seed)
        else:
            init, kappa = fields.integer("init_samples", 1), fields.number("kappa", 0.5)
            algorithm = StepConfig(init_samples=init, max_samples=max_samples, kappa=kappa, gp=gp, seed=seed)
    except ValueError as error:
        raise UsageError(f"{fields.path}: {error}") from error
    fields.finish()
    return algorithm
