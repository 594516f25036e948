"""`python -m tans STEP`: the commands of TANS; command lines of the released code run here too."""

import sys

from common.experiment.commands import Step, main
from tans.build_zoo import BuildZooConfig, build_zoo
from tans.meta_train import MetaTrainConfig, run_meta_train

STEPS = {
    "build-zoo": Step(BuildZooConfig, build_zoo, "train supernets, cut networks out of them, put them into a zoo"),
    "meta-train": Step(MetaTrainConfig, run_meta_train, "learn encoders of datasets and networks from a zoo"),
}

if __name__ == "__main__":
    sys.exit(main("tans", STEPS))
