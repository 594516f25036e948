"""Step `meta-train`: learn the space in which datasets are close to networks trained on their like.

Source: Jeong et al., NeurIPS 2021.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.experiment.config import StepConfig, to_dict
from common.experiment.device import resolve_device
from common.experiment.files import write_text
from common.experiment.run import Run, open_run
from common.report.facts import commands_of, read_curves, settings_of
from tans.artifacts import SpaceArtifact, save_space
from tans.build_zoo import ZOO
from tans.encoders import SpaceSizes, new_space
from tans.measures import chance
from tans.meta_training import SpaceLearning, feature_statistics, load_resident, meta_train, norms_of_branches
from tans.report import meta_train_page
from tans.report_inputs import MetaTrainFacts
from tans.space_map import space_map
from tans.zoo import Zoo, open_zoo
from tans.zoo_spaces import store_space

FILE = "space.safetensors"
_TOPOLOGY = 45


@dataclass(frozen=True, kw_only=True)
class MetaTrainConfig(StepConfig):
    """Learn encoders of datasets and of networks from a zoo, and a predictor of accuracies."""

    zoo: Path = ZOO
    """Folder of the zoo; the encoders are kept in it."""
    embedding_dim: int = 128
    """Width of the space; released name n-dims."""
    described_by: Literal["both", "topology", "functional"] = "both"
    """What of a network its encoder sees."""
    branches: Literal["joint", "separate"] = "joint"
    """Normalise topology and functional embedding as one vector, as published, or each for itself."""
    learning: SpaceLearning = field(default_factory=SpaceLearning)
    """How the space learns."""
    seed: int = 777
    """Seed of the first weights and of the draws; published."""

    def __post_init__(self) -> None:
        """Check the width."""
        if self.embedding_dim < 1:
            raise ValueError(f"embedding_dim is {self.embedding_dim}; it must be at least 1")


def run_meta_train(cfg: MetaTrainConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError, RuntimeError: there is no such zoo, or it is damaged.
        ValueError: it has fewer than two datasets.
    """
    folder = cfg.out or Path("exp/tans/meta-train") / cfg.zoo.name
    with (
        open_zoo(cfg.zoo) as zoo,
        open_run(folder, program="tans", step="meta-train", config=cfg, products=[FILE]) as run,
    ):
        if run.result is None:
            num = cfg.learning.steps
            print(f"meta-train: {num:,} steps on {len(zoo):,} networks of {cfg.zoo} -> {folder}", flush=True)
            _train(cfg, zoo, run)
        else:
            print(f"{folder} is finished; --restart begins anew (as after adding to the zoo)")
        assert run.result is not None
        _report(run.result, folder, cfg)


def _train(cfg: MetaTrainConfig, zoo: Zoo, run: Run) -> None:
    device = resolve_device(cfg.gpu)
    query = next(iter(zoo.queries("train").values()), None)
    sizes = SpaceSizes(
        image_dim=512 if query is None else query.class_means.shape[1],
        topology_dim=0 if cfg.described_by == "functional" else _TOPOLOGY,
        functional_dim=0 if cfg.described_by == "topology" else zoo.settings.functional_dim,
        embedding_dim=cfg.embedding_dim,
        branches=cfg.branches,
    )
    space = new_space(sizes, cfg.seed)
    resident = load_resident(zoo, space, cfg.learning, device)
    mean, std = feature_statistics(zoo, cfg.learning)
    space = new_space(sizes, cfg.seed, mean, std).to(device)
    found = meta_train(space, resident, cfg.learning, seed=cfg.seed, run=run)
    measures = {**found, **norms_of_branches(resident, sizes.topology_dim)}
    artifact = SpaceArtifact(
        space=space.cpu().eval(),
        extractor=zoo.settings.extractor,
        probe=zoo.settings.probe,
        topology=cfg.learning.topology,
        sources=resident.names,
        origin="tans",
        notes={
            "measures": measures,
            "learning": to_dict(cfg.learning),
            "seed": cfg.seed,
            "num_networks": len(resident.accuracies),
        },
    )
    save_space(run.folder / FILE, artifact)
    store_space(zoo, artifact)
    run.flush()
    write_text(run.folder / "report.html", meta_train_page(_facts(cfg, zoo, run, artifact, measures)))
    run.finish(
        {
            "file": FILE,
            "encoder": artifact.id,
            "sources": list(resident.names),
            "num_networks": len(resident.accuracies),
            "measures": measures,
            "chance": _chance(len(resident.names)),
        }
    )


def _chance(num: int) -> dict[str, float]:
    found = chance(num)
    recalls = {f"recall_{k}": value for k, value in found.recall.items()}
    return {**recalls, "median_rank": found.median_rank, "mean_rank": found.mean_rank}


def _facts(
    cfg: MetaTrainConfig, zoo: Zoo, run: Run, artifact: SpaceArtifact, measures: Mapping[str, float]
) -> MetaTrainFacts:
    curves = read_curves(run.folder)
    return MetaTrainFacts(
        losses={name: curve for (split, name), curve in curves.items() if split == "train"},
        validation={name: curve for (split, name), curve in curves.items() if split == "valid"},
        kept=measures,
        chance=_chance(len(artifact.sources)),
        map=space_map(zoo, artifact),
        settings=settings_of(
            {
                **asdict(artifact.space.sizes),
                **to_dict(cfg.learning),
                "seed": cfg.seed,
                "extractor": artifact.extractor,
                "datasets": ", ".join(artifact.sources),
                "networks": artifact.notes["num_networks"],
            }
        ),
        commands=commands_of("tans", "meta-train", run.folder, _next(cfg)),
    )


def _next(cfg: MetaTrainConfig) -> str:
    return f"python -m tans search --zoo {cfg.zoo} --data NAME"


def _report(result: Mapping[str, Any], folder: Path, cfg: MetaTrainConfig) -> None:
    found, by_chance = result["measures"], result["chance"]
    recalls = ", ".join(
        f"R@{k} {100 * found[f'recall_{k}']:.1f} % (chance {100 * by_chance[f'recall_{k}']:.1f})"
        for k in (1, 5, 10)
        if f"recall_{k}" in found
    )
    print(
        f"result: unseen images of {len(result['sources'])} sources find a network of their own: {recalls}, mean rank "
        f"{found['mean_rank']:.2f} (chance {by_chance['mean_rank']:.1f}), median {found['median_rank']:.0f}; predicted "
        f"accuracies: Pearson {found['pearson']:.2f}, Spearman {found['spearman']:.2f} (step {found['step'] + 1:,})"
    )
    print(f"encoders: {folder / FILE}, kept in {cfg.zoo}\nreport: {folder / 'report.html'}\nnext: {_next(cfg)}")
