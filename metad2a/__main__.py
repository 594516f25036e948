"""`python -m metad2a STEP`: the commands of MetaD2A; command lines of the released code run here too."""

import sys
from collections.abc import Mapping, Sequence

from common.experiment.commands import Step, main
from metad2a.collect import CollectConfig, collect
from metad2a.collect_subnets import CollectSubnetsConfig, collect_subnets
from metad2a.evaluate import EvaluateConfig, evaluate
from metad2a.evaluate_subnets import EvaluateSubnetsConfig, evaluate_subnets
from metad2a.finetune import FinetuneConfig, finetune
from metad2a.import_official import ImportConfig, import_official
from metad2a.meta_train import MetaTrainConfig, run_meta_train
from metad2a.official_flags import is_of_networks, step_of, translate
from metad2a.search import SearchConfig, search
from metad2a.train import TrainConfig, train
from metad2a.train_supernet import TrainSupernetConfig, run_train_supernet

STEPS = {
    "train-supernet": Step(TrainSupernetConfig, run_train_supernet, "train the weights of all MobileNetV3 networks"),
    "collect": Step(CollectConfig, collect, "make the meta-database: tasks and labelled architectures"),
    "meta-train": Step(MetaTrainConfig, run_meta_train, "fit the generator or the predictor to a database"),
    "search": Step(
        SearchConfig, search, "generate architectures for an unseen dataset and rank them, in about a second"
    ),
    "train": Step(TrainConfig, train, "train the chosen architecture, and random ones beside it"),
    "evaluate": Step(EvaluateConfig, evaluate, "compare searches with simpler ways to choose"),
    "import-official": Step(ImportConfig, import_official, "bring files of the official release into our formats"),
}
"""On cells of NAS-Bench-201, and on what both spaces share."""
NETWORK_STEPS = STEPS | {
    "collect": Step(CollectSubnetsConfig, collect_subnets, STEPS["collect"].help),
    "train": Step(FinetuneConfig, finetune, STEPS["train"].help),
    "evaluate": Step(EvaluateSubnetsConfig, evaluate_subnets, STEPS["evaluate"].help),
}
"""With `--space mobilenetv3`."""


def steps_for(arguments: Sequence[str]) -> Mapping[str, Step]:
    """The steps on the architectures that a command line speaks of."""
    return NETWORK_STEPS if is_of_networks(arguments) else STEPS


if __name__ == "__main__":
    words = step_of(sys.argv[1:])
    sys.exit(main("metad2a", steps_for(words), words, aliases=translate))
