"""`python -m mfkd STEP`: the commands of MFKD."""

import sys

from common.experiment.commands import Step, main
from mfkd.run import RunConfig, run_file
from mfkd.train_teacher import TrainTeacherConfig, train_teacher

STEPS = {
    "train-teacher": Step(TrainTeacherConfig, train_teacher, "train the network that low-fidelity runs learn from"),
    "run": Step(RunConfig, run_file, "run a pipeline file: searches at low and high fidelity, full trainings"),
}


def name_file(step: str, arguments: list[str]) -> list[str]:
    """A pipeline file that stands first and alone is the value of `--file`."""
    return ["--file", *arguments] if arguments and not arguments[0].startswith("-") else arguments


if __name__ == "__main__":
    sys.exit(main("mfkd", STEPS, aliases=name_file))
