"""Step `meta-train`: fit the generator or the predictor to a meta-database.

Source: Lee et al., ICLR 2021, released code.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from common.experiment.config import StepConfig, UsageError, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.names import slug
from common.experiment.run import Run, open_run
from common.report.facts import commands_of, read_curves, settings_of
from metad2a.artifacts import Artifact, save_artifact
from metad2a.database import MetaDatabase, load_database
from metad2a.draws import Features, TaskDraws, open_sets
from metad2a.facts import RESOLUTION
from metad2a.generator import GeneratorSizes, new_generator
from metad2a.learners import GeneratorLearner, GeneratorLearning, PredictorLearner, PredictorLearning
from metad2a.meta_training import meta_train
from metad2a.predictor import PredictorSizes, new_predictor
from metad2a.report import meta_train_page
from metad2a.report_inputs import MetaTrainFacts, SourceFacts
from metad2a.spaces import VIEWS, SpaceName, View

DATABASE = Path("exp/metad2a/collect/cifar100-tiny_imagenet/database.safetensors")
"""Where `collect` puts the database of the default sources."""


@dataclass(frozen=True, kw_only=True)
class MetaTrainConfig(StepConfig):
    """Meta-train the generator or the predictor on a database of tasks and labelled architectures."""

    model: Literal["generator", "predictor"] = "generator"
    """Which of the two; a search needs both. Released name model_name."""
    space: SpaceName | None = None
    """Refuse a database of another space; none takes any."""
    database: Path = DATABASE
    """File that `collect` or `import-official` wrote."""
    features: Features = field(default_factory=Features)
    """What datasets are seen through; a search with the trained model sees them through the same."""
    num_sample: int = 20
    """Images of a class in a draw; classes with fewer give some of theirs twice."""
    latent_dim: int = 56
    """Width of a dataset's vector, and of the generator's latent vectors; released name nz."""
    generator: GeneratorLearning = field(default_factory=GeneratorLearning)
    """Size and learning of the generator."""
    predictor: PredictorLearning = field(default_factory=PredictorLearning)
    """Size and learning of the predictor."""
    seed: int = 333
    """Seed of the first weights and of the draws; published."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.num_sample < 1:
            raise ValueError(f"num_sample is {self.num_sample}; it must be at least 1")
        self.sizes_of(VIEWS["nasbench201"])  # checks itself

    @property
    def learning(self) -> GeneratorLearning | PredictorLearning:
        """How the model learns that is trained."""
        return self.generator if self.model == "generator" else self.predictor

    def sizes_of(self, view: View) -> GeneratorSizes | PredictorSizes:
        """Its sizes, for the graphs of a space."""
        graphs = {"num_types": view.num_types, "max_nodes": view.num_vertices}
        if self.model == "generator":
            return GeneratorSizes(hidden_dim=self.generator.hidden_dim, latent_dim=self.latent_dim, **graphs)
        return PredictorSizes(hidden_dim=self.predictor.hidden_dim, embedding_dim=self.latent_dim, **graphs)


def run_meta_train(cfg: MetaTrainConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError: there is no database, no source set or no extractor.
        ValueError: the database does not fit the sets, or a class has no image.
        RuntimeError: the loss is not finite any more.
    """
    database = load_database(cfg.database)
    if cfg.space is not None and database.view.name != cfg.space:
        raise UsageError(f"{cfg.database} is of {database.space_name}, and --space {cfg.space} is asked for")
    folder = cfg.out or pair_folder(database) / cfg.model
    print(f"meta-train: {cfg.model} on {cfg.database} -> {folder}", flush=True)
    with open_run(folder, program="metad2a", step="meta-train", config=cfg, products=[file_name(cfg.model)]) as run:
        if run.result is None:
            _train(cfg, database, run)
        else:
            print(f"{folder} is finished; --restart begins anew")
        assert run.result is not None
        print(_summary(run.result))
    print(f"{cfg.model}: {folder / file_name(cfg.model)}\nreport: {folder / 'report.html'}")
    print(f"next, with both models in {folder.parent}: {_next(folder)}")


def _next(folder: Path) -> str:
    return f"python -m metad2a search --pair {folder.parent} --data NAME"


def pair_folder(database: MetaDatabase) -> Path:
    """Where the models of a database lie when no other folder is asked for: each in a folder of its name."""
    name = "-".join(database.sources)
    return Path("exp/metad2a/meta-train") / slug(name if database.view.name == "nasbench201" else f"mobilenetv3-{name}")


def file_name(model: str) -> str:
    """File of a model in its run folder."""
    return f"{model}.safetensors"


def _train(cfg: MetaTrainConfig, database: MetaDatabase, run: Run) -> None:
    """Do what is left of the run, and finish it."""
    device = resolve_device(cfg.gpu)
    sets = open_sets(database.sources, cfg.features, cfg=cfg, device=device)
    draws = TaskDraws(database.tasks, sets, cfg.num_sample)
    learner = _learner(cfg, database, draws, device)
    kept = meta_train(learner, cfg.learning, seed=cfg.seed, run=run)
    learner.model.cpu().eval()
    result = {
        "model": cfg.model,
        "file": file_name(cfg.model),
        "sources": [held.source for held in sets.values()],
        "num_rows": learner.num_rows,
        "num_training_cells": len(learner.training_cells()),
        "valid": kept,
    }
    artifact: Artifact[Any] = Artifact(
        model=learner.model,
        space_name=database.space_name,
        extractor=sets[database.sources[0]].extractor,
        sources=tuple(result["sources"]),  # type: ignore[arg-type]
        num_sample=cfg.num_sample,
        training_cells=learner.training_cells(),
        normaliser=learner.normaliser if isinstance(learner, PredictorLearner) else None,
        origin="metad2a",
        notes={
            "seed": cfg.seed,
            "learning": to_dict(cfg.learning),
            "labels": database.meta.get("labels", "unknown"),
            "resolution": database.meta.get("resolution", RESOLUTION),
            **result,
        },
    )
    save_artifact(run.folder / file_name(cfg.model), artifact)
    run.flush()
    write_text(run.folder / "report.html", meta_train_page(_facts(cfg, database, run, kept)))
    run.finish(result)


def _learner(
    cfg: MetaTrainConfig, database: MetaDatabase, draws: TaskDraws, device: torch.device
) -> GeneratorLearner | PredictorLearner:
    sizes, seed = cfg.sizes_of(database.view), cfg.seed
    if isinstance(sizes, GeneratorSizes):
        generator = new_generator(sizes, seed).to(device)
        return GeneratorLearner(generator, database, draws, learning=cfg.generator, seed=seed, device=device)
    predictor = new_predictor(sizes, seed).to(device)
    return PredictorLearner(predictor, database, draws, learning=cfg.predictor, seed=seed, device=device)


def _facts(cfg: MetaTrainConfig, database: MetaDatabase, run: Run, kept: Mapping[str, float]) -> MetaTrainFacts:
    curves, source = read_curves(run.folder), database.source_index()
    return MetaTrainFacts(
        model=cfg.model,
        losses=curves["train", "loss"],
        validation={name: curve for (split, name), curve in curves.items() if split == "valid"},
        kept=kept,
        sources=[
            SourceFacts(
                name=name,
                num_tasks=sum(task.source == name for task in database.tasks),
                accuracies=database.accuracy[source == place],
            )
            for place, name in enumerate(database.sources)
        ],
        settings=settings_of(
            {
                **asdict(cfg.sizes_of(database.view)),
                **to_dict(cfg.learning),
                "num_sample": cfg.num_sample,
                "seed": cfg.seed,
                "extractor": cfg.features.extractor,
                **_labels(database),
            }
        ),
        commands=commands_of("metad2a", "meta-train", run.folder, _next(run.folder)),
    )


def _labels(database: MetaDatabase) -> dict[str, Any]:
    return {name: database.meta[name] for name in ("labels", "epochs", "limit") if name in database.meta}


def _summary(result: Mapping[str, Any]) -> str:
    """One line: what was learned from, and how well it does on held-out tasks."""
    shown = ", ".join(
        f"{name} {value:.3f}" for name, value in result["valid"].items() if name not in ("epoch", "score")
    )
    epoch = f"; epoch {result['valid']['epoch']}: {shown}" if result["valid"] else "; nothing was held out"
    return f"result: {result['model']} of {result['num_rows']:,} rows of {', '.join(result['sources'])}{epoch}"
