"""`python -m tans STEP`: the commands of TANS; command lines of the released code run here too."""

import sys

from common.experiment.commands import Step, main
from tans.build_zoo import BuildZooConfig, build_zoo
from tans.evaluate import EvaluateConfig, evaluate
from tans.finetune import FinetuneConfig, finetune
from tans.meta_train import MetaTrainConfig, run_meta_train
from tans.search import SearchConfig, search

STEPS = {
    "build-zoo": Step(BuildZooConfig, build_zoo, "train supernets, cut networks out of them, put them into a zoo"),
    "meta-train": Step(MetaTrainConfig, run_meta_train, "learn encoders of datasets and networks from a zoo"),
    "search": Step(SearchConfig, search, "retrieve trained networks for a dataset, in well under a second"),
    "finetune": Step(FinetuneConfig, finetune, "train what a search retrieved, or distil it from a teacher"),
    "evaluate": Step(EvaluateConfig, evaluate, "compare retrieved networks with other ways to begin, on unseen sets"),
}

if __name__ == "__main__":
    sys.exit(main("tans", STEPS))
