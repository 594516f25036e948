"""Step `run`: do what a pipeline file says.

Source: Trofimov et al., arXiv 2006.08341, algorithms 1 and 2; released code for Vega.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.experiment.config import UsageError
from common.experiment.files import read_json, write_json, write_text
from common.experiment.run import open_run
from common.report.facts import commands_of
from mfkd.execution import PRODUCTS, WorkConfig, check_steps, do_steps
from mfkd.pipeline import Pipeline, read_pipeline
from mfkd.report import pipeline_page

_log = logging.getLogger(__name__)

_FOLDER = Path("exp/mfkd/run")


@dataclass(frozen=True, kw_only=True)
class RunConfig(WorkConfig):
    """Run the steps of a pipeline file: searches at low and high fidelity, and full trainings.

    Seeds of searches and trainings stand in the file; --seed draws the test part of datasets that come without one.
    """

    file: Path
    """Pipeline file in the format of Vega; on the command line its name may stand alone, first."""


def run_file(cfg: RunConfig) -> None:
    """Run the step."""
    pipeline = open_pipeline(cfg.file, cfg, _FOLDER)
    with open_run(pipeline.folder, program="mfkd", step="run", config=cfg, products=PRODUCTS) as run:
        keep_identity(pipeline)
        if run.result is None:
            names = ", ".join(step.name for step in pipeline.steps)
            print(f"{cfg.file}: {names}, into {pipeline.folder}", flush=True)
            results = do_steps(pipeline.steps, cfg, run, print)
            commands = commands_of("mfkd", "run", run.folder)
            write_text(run.folder / "report.html", pipeline_page(str(cfg.file), results, commands))
            run.finish({"file": str(cfg.file), "pipeline": pipeline.identity, "steps": results})
        assert run.result is not None
        _report(run.result, pipeline.folder)


def open_pipeline(file: Path, cfg: WorkConfig, default: Path) -> Pipeline:
    """Read and check a pipeline file, and say what in it has no effect; errors as of `read_pipeline`, `check_steps`."""
    pipeline = read_pipeline(file, folder=cfg.out, default=default)
    for note in pipeline.notes:
        _log.warning("%s", note)
    check_steps(pipeline.steps, cfg)
    return pipeline


def keep_identity(pipeline: Pipeline) -> None:
    """Remember which pipeline the folder is of.

    Raises:
        UsageError: it holds a run of another one.
    """
    file = pipeline.folder / "pipeline.json"
    if not file.exists():
        write_json(file, {"identity": pipeline.identity})
    elif read_json(file)["identity"] != pipeline.identity:
        raise UsageError(
            f"{pipeline.folder} holds a run of this file before it was changed: choose another folder with --out, or "
            "pass --restart to begin anew"
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
    print(f"result: {folder / 'result.json'}\nreport: {folder / 'report.html'}")
