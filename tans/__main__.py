"""`python -m tans STEP`: the commands of TANS; command lines of the released code run here too."""

import sys

from common.experiment.commands import Step, main
from tans.build_zoo import BuildZooConfig, build_zoo
from tans.evaluate import EvaluateConfig, evaluate
from tans.finetune import FinetuneConfig, finetune
from tans.meta_train import MetaTrainConfig, run_meta_train
from tans.official_flags import step_of, translate
from tans.search import SearchConfig, search
from tans.zoo_add import AddConfig, add
from tans.zoo_import import ExportConfig, ImportConfig, export, import_zoo
from tans.zoo_steps import ListConfig, ShowConfig, VerifyConfig, list_zoo, show, verify_zoo

STEPS = {
    "build-zoo": Step(BuildZooConfig, build_zoo, "train supernets, cut networks out of them, put them into a zoo"),
    "meta-train": Step(MetaTrainConfig, run_meta_train, "learn encoders of datasets and networks from a zoo"),
    "search": Step(SearchConfig, search, "retrieve trained networks for a dataset, in well under a second"),
    "finetune": Step(FinetuneConfig, finetune, "train what a search retrieved, or distil it from a teacher"),
    "evaluate": Step(EvaluateConfig, evaluate, "compare retrieved networks with other ways to begin, on unseen sets"),
    "zoo list": Step(ListConfig, list_zoo, "the datasets of a zoo, or the networks of one"),
    "zoo show": Step(ShowConfig, show, "all that a zoo knows of one network"),
    "zoo add": Step(AddConfig, add, "put a trained network of timm or torchvision into a zoo"),
    "zoo export": Step(ExportConfig, export, "write a zoo as the released code reads it, or one network"),
    "zoo import": Step(ImportConfig, import_zoo, "bring files of the official release into a zoo"),
    "zoo verify": Step(VerifyConfig, verify_zoo, "check that a zoo is whole, and name what is missing or damaged"),
}

if __name__ == "__main__":
    sys.exit(main("tans", STEPS, step_of(sys.argv[1:]), aliases=translate))
