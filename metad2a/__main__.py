"""`python -m metad2a STEP`: the commands of MetaD2A; command lines of the released code run here too."""

import sys

from common.experiment.commands import Step, main
from metad2a.collect import CollectConfig, collect
from metad2a.evaluate import EvaluateConfig, evaluate
from metad2a.import_official import ImportConfig, import_official
from metad2a.meta_train import MetaTrainConfig, run_meta_train
from metad2a.official_flags import step_of, translate
from metad2a.search import SearchConfig, search
from metad2a.train import TrainConfig, train

STEPS = {
    "collect": Step(CollectConfig, collect, "make the meta-database: tasks and labelled cells"),
    "meta-train": Step(MetaTrainConfig, run_meta_train, "fit the generator or the predictor to a database"),
    "search": Step(SearchConfig, search, "generate cells for an unseen dataset and rank them, in about a second"),
    "train": Step(TrainConfig, train, "train the chosen cell, and random ones beside it"),
    "evaluate": Step(EvaluateConfig, evaluate, "compare searches with the table and with simpler ways to choose"),
    "import-official": Step(ImportConfig, import_official, "bring files of the official release into our formats"),
}

if __name__ == "__main__":
    sys.exit(main("metad2a", STEPS, step_of(sys.argv[1:]), aliases=translate))
