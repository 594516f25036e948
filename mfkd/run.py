"""Step `run`: do what a pipeline file says.

Source: Trofimov et al., arXiv 2006.08341, algorithms 1 and 2; released code for Vega.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.data.open import open_source
from common.experiment.config import StepConfig as CommandConfig
from common.experiment.config import UsageError
from common.experiment.files import read_json, write_json
from common.experiment.run import Run, open_run
from common.experiment.workers import Workers
from common.store.records import RecordStore
from mfkd.config import Mfkd1Config
from mfkd.evaluations import Fidelity
from mfkd.images import Images, check_classes, data_root_of
from mfkd.models import teacher_of
from mfkd.pipeline import Pipeline, SearchStep, TrainStep, read_pipeline
from mfkd.search_step import Found, search
from mfkd.train_step import train_models
from mfkd.training import Context, Place

_log = logging.getLogger(__name__)

PRODUCTS = ("output", "scratch", "best_model", "best_model_desc.json", "records.sqlite*", "pipeline.json")
_FOLDER = Path("exp/mfkd/run")


@dataclass(frozen=True, kw_only=True)
class RunConfig(CommandConfig):
    """Run the steps of a pipeline file: searches at low and high fidelity, and full trainings.

    Seeds of searches and trainings stand in the file; --seed draws the test part of datasets that come without one.
    """

    file: Path
    """Pipeline file in the format of Vega; on the command line its name may stand alone, first."""
    workers: Workers = field(default_factory=Workers)
    """Who trains networks."""


def run_file(cfg: RunConfig) -> None:
    """Run the step."""
    pipeline = read_pipeline(cfg.file, folder=cfg.out, default=_FOLDER)
    check_pipeline(pipeline, cfg)
    with open_run(pipeline.folder, program="mfkd", step="run", config=cfg, products=PRODUCTS) as run:
        if run.result is None:
            names = ", ".join(step.name for step in pipeline.steps)
            print(f"{cfg.file}: {names}, into {pipeline.folder}", flush=True)
        result = do_steps(pipeline, cfg, run)
        _report(result, pipeline.folder)


def check_pipeline(pipeline: Pipeline, cfg: CommandConfig) -> None:
    """Look for what would stop a step hours later: datasets, numbers of classes, teachers.

    Raises:
        UsageError: a number of classes is not the dataset's.
        FileNotFoundError: a dataset or a teacher is not there.
        ValueError: a dataset is unknown.
    """
    for note in pipeline.notes:
        _log.warning("%s", note)
    for step in pipeline.steps:
        source = open_source(step.images.dataset, data_root=data_root_of(step.images, cfg.data_root), seed=cfg.seed)
        given = {f"{step.name}.trainer.teacher_num_classes": step.training.teacher_num_classes}
        if isinstance(step, SearchStep):
            given[f"{step.name}.search_space.custom.num_classes"] = step.num_classes
            _check_validation(step.name, step.images)
        elif step.model is not None:
            given[f"{step.name}.model.model_desc.custom.num_classes"] = step.model.num_classes
        check_classes(given, len(source.class_names), source.name)
        _check_teacher(step)


def _check_validation(name: str, images: Images) -> None:
    if images.validate_on == "test":
        _log.warning("%s.dataset.compat_val: the search goes by test images, so their accuracy is no estimate", name)
    elif images.valid_from is None:
        _log.info("%s validates on the last fifth of the training images, not on test images", name)


def _check_teacher(step: SearchStep | TrainStep) -> None:
    if step.training.teacher is None:
        return
    if isinstance(step, SearchStep):
        teacher_of(step.space)
    if not Path(step.training.teacher).expanduser().is_file():
        raise FileNotFoundError(
            f"{step.name}.trainer.teacher: there is no {step.training.teacher}: train one with "
            "`python -m mfkd train-teacher FILE`, or name another"
        )


def do_steps(pipeline: Pipeline, cfg: RunConfig, run: Run) -> dict[str, Any]:
    """All steps in order; what an interrupted run has done is not done again.

    Returns:
        The result of the run, which is finished then.

    Raises:
        UsageError: the folder holds a run of another pipeline.
    """
    _keep(pipeline, run.folder)
    if run.result is not None:
        return run.result
    data_root = cfg.data_root
    place = Place(data_root=data_root, data_seed=cfg.seed, gpu=cfg.gpu, scratch=run.folder / "scratch")
    place.scratch.mkdir(exist_ok=True)
    found: Found | None = None
    results: list[dict[str, Any]] = []
    with RecordStore(run.folder / "records.sqlite") as store:
        context = Context(folder=run.folder, place=place, workers=cfg.workers, store=store)
        for step in pipeline.steps:
            if isinstance(step, SearchStep):
                found = search(step, _fidelity(step, found), context, found)
                results.append(found.result)
            else:
                results.append(train_models(step, context))
            print(_line(results[-1]), flush=True)
    return run.finish({"file": str(cfg.file), "pipeline": pipeline.identity, "steps": results})


def _fidelity(step: SearchStep, found: Found | None) -> Fidelity:
    """Algorithm 1 is all low fidelity; of the steps of algorithm 2 those that start from a winner are high."""
    return "low" if found is None or isinstance(step.algorithm, Mfkd1Config) else "high"


def _keep(pipeline: Pipeline, folder: Path) -> None:
    """Remember which pipeline the folder is of."""
    file = folder / "pipeline.json"
    if not file.exists():
        write_json(file, {"identity": pipeline.identity})
    elif read_json(file)["identity"] != pipeline.identity:
        raise UsageError(
            f"{folder} holds a run of this file before it was changed: choose another folder with --out, or pass "
            "--restart to begin anew"
        )


def _line(result: dict[str, Any]) -> str:
    """A result of a step in one line."""
    if result["kind"] == "train":
        models = (f"{one['architecture']} {100 * one['accuracy']:.2f} %" for one in result["models"])
        return f"{result['step']}: {', '.join(models)}"
    winner = result["winner"]
    if winner["accuracy"] is None:
        accuracy = f"predicted {100 * winner['prediction']['mean']:.2f} %"
    else:
        accuracy = f"{100 * winner['accuracy']:.2f} %"
    return (
        f"{result['step']}: {result['num_evaluations']} of {result['num_points']:,} networks trained in "
        f"{result['seconds']:.0f} s; winner {winner['architecture']}, {accuracy}"
    )


def _report(result: dict[str, Any], folder: Path) -> None:
    for step in result["steps"]:
        if step["kind"] == "train":
            for one in step["models"]:
                print(
                    f"{one['description']}: {one['architecture']} {100 * one['accuracy']:.2f} %, "
                    f"{one['num_params']:,} parameters, {one['macs']:,} MACs, weights {folder / one['weights']}"
                )
        else:
            print(f"tables: {folder / 'output' / step['step'] / 'output.csv'}, pareto_front.csv beside it")
    print(f"result: {folder / 'result.json'}")
