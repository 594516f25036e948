"""`python -m dass STEP`: the commands of DaSS."""

import sys

from common.experiment.commands import Step, main
from dass.collect import CollectConfig, collect
from dass.distill import DistillConfig, distill
from dass.evaluate import EvaluateConfig, evaluate
from dass.import_official import ImportConfig, import_official
from dass.meta_train import MetaTrainConfig, run_meta_train
from dass.official_flags import translate
from dass.rank_imported import RankConfig, rank_imported
from dass.search import SearchConfig, search
from dass.train_teacher import TrainTeacherConfig, train_teacher

STEPS = {
    "train-teacher": Step(TrainTeacherConfig, train_teacher, "train the network that students learn from"),
    "collect": Step(CollectConfig, collect, "make the meta-training database: teachers, students, embeddings"),
    "meta-train": Step(MetaTrainConfig, run_meta_train, "fit the predictor to a database"),
    "search": Step(SearchConfig, search, "rank students for an unseen dataset in seconds"),
    "distill": Step(DistillConfig, distill, "train the chosen student from its teacher"),
    "evaluate": Step(EvaluateConfig, evaluate, "compare the ranking with students that were really distilled"),
    "import-official": Step(ImportConfig, import_official, "bring files of the official release into our formats"),
    "rank-imported": Step(RankConfig, rank_imported, "rank imported candidates with an imported predictor"),
}

if __name__ == "__main__":
    sys.exit(main("dass", STEPS, aliases=translate))
