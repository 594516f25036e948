"""`python -m mfkd STEP`: the commands of MFKD."""

import sys

from common.experiment.commands import Step, main
from mfkd.benchmark import BenchmarkConfig, benchmark
from mfkd.correlate import CorrelateConfig, correlate
from mfkd.distill import DistillConfig, distill
from mfkd.evaluate import EvaluateConfig, evaluate
from mfkd.run import RunConfig, run_file
from mfkd.search import SearchConfig, search
from mfkd.train_teacher import TrainTeacherConfig, train_teacher

STEPS = {
    "train-teacher": Step(TrainTeacherConfig, train_teacher, "train the network that distilled trainings learn from"),
    "search": Step(SearchConfig, search, "find a network by cheap distilled trainings and a few full ones"),
    "distill": Step(DistillConfig, distill, "train the chosen network, and random ones beside it"),
    "evaluate": Step(EvaluateConfig, evaluate, "search beside random search at equal training cost, several seeds"),
    "correlate": Step(CorrelateConfig, correlate, "rank networks by cheap trainings with labels, KD and NST"),
    "benchmark": Step(BenchmarkConfig, benchmark, "search the table of NAS-Bench-201, many times"),
    "run": Step(RunConfig, run_file, "run a pipeline file in the format of Vega"),
}


def name_file(step: str, arguments: list[str]) -> list[str]:
    """A pipeline file that stands first and alone is the value of `--file`."""
    is_file = step in ("run", "train-teacher") and arguments and not arguments[0].startswith("-")
    return ["--file", *arguments] if is_file else arguments


if __name__ == "__main__":
    sys.exit(main("mfkd", STEPS, aliases=name_file))
