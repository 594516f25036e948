"""`python -m common.features STEP`: train and judge the feature network that comes with the repository."""

import sys

from common.experiment.commands import Step, main
from common.features.evaluate import EvaluateConfig, evaluate
from common.features.train_compact import TrainCompactConfig, train_compact

STEPS = {
    "train-compact": Step(TrainCompactConfig, train_compact, "train the small network from an ImageNet teacher"),
    "evaluate": Step(EvaluateConfig, evaluate, "compare extractors by linear probes on unseen datasets"),
}

if __name__ == "__main__":
    sys.exit(main("common.features", STEPS))
