"""`python -m dna STEP`: the commands of DNA."""

import sys

from common.experiment.commands import Step, main
from dna.evaluate import EvaluateConfig, evaluate
from dna.import_official import ImportConfig, import_official
from dna.meta_train import MetaTrainConfig, meta_train
from dna.rate import RateConfig, rate
from dna.retrain import RetrainConfig, retrain
from dna.search import SearchConfig, search
from dna.train_teacher import TrainTeacherConfig, train_teacher
from dna.validate import ValidateConfig, validate

STEPS = {
    "train-teacher": Step(TrainTeacherConfig, train_teacher, "train a teacher, where no published weights fit"),
    "meta-train": Step(MetaTrainConfig, meta_train, "train the supernet block by block from the teacher"),
    "rate": Step(RateConfig, rate, "rate every path of every block"),
    "search": Step(SearchConfig, search, "find the best networks within a budget, rating first where needed"),
    "retrain": Step(RetrainConfig, retrain, "train the network that was found from scratch"),
    "evaluate": Step(EvaluateConfig, evaluate, "compare the found network and the ratings with trained random ones"),
    "validate": Step(ValidateConfig, validate, "measure the accuracy of a retrained network"),
    "import-official": Step(ImportConfig, import_official, "bring a released checkpoint into our format"),
}
_FIRST = {"validate": "data", "import-official": "source"}


def name_first(step: str, arguments: list[str]) -> list[str]:
    """Arguments in which a bare first one has become the flag that it stands for."""
    if arguments and not arguments[0].startswith("-"):
        return [f"--{_FIRST.get(step, 'data')}", *arguments]
    return arguments


if __name__ == "__main__":
    sys.exit(main("dna", STEPS, aliases=name_first))
