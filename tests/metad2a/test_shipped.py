"""The pairs that come with the repository: what they saw, how they were made, and that they still find good cells."""

from pathlib import Path

import pytest
import torch

from common.experiment.config import StepConfig, parse_config, to_dict
from common.features.extractors import load_extractor
from common.spaces.nasbench201_table import load_table
from metad2a.__main__ import STEPS
from metad2a.artifacts import Pair, load_pair
from metad2a.benchmark import accuracies_of, judge
from metad2a.draws import Features, open_sets
from metad2a.labels import TABLE_COLUMNS
from metad2a.meta_train import MetaTrainConfig
from metad2a.pairs import check_extractor, choose_pair
from metad2a.ranking import rank
from metad2a.search import SearchConfig
from metad2a.shipped import SHIPPED_PAIRS

PRESET = ["--config", str(Path(__file__).resolve().parents[2] / "configs/metad2a/cpu.yaml")]
LARGEST = 4_000_000


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return [load_pair(folder) for folder in SHIPPED_PAIRS["nasbench201"]]


def test_they_are_named_after_what_they_saw_and_small(pairs: list[Pair]) -> None:
    for pair in pairs:
        assert "-".join(pair.sources) == pair.folder.name
        assert sum(file.stat().st_size for file in pair.folder.iterdir()) < LARGEST


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("cifar10", "cifar100-tiny_imagenet"),
        ("cifar100", "cifar10-tiny_imagenet"),
        ("cifar100/0-9", "cifar10-tiny_imagenet"),
        ("folder:birds", "cifar100-tiny_imagenet"),
    ],
)
def test_a_dataset_is_searched_by_a_pair_that_has_not_seen_it(task: str, name: str) -> None:
    pair = choose_pair(None, task)
    assert pair.folder.name == name
    assert not pair.has_seen(task)


def test_they_read_the_shipped_extractor(pairs: list[Pair]) -> None:
    for pair in pairs:
        check_extractor(pair, load_extractor("compact").id)


@pytest.mark.parametrize("model", ["generator", "predictor"])
def test_they_were_made_by_the_preset(model: str, pairs: list[Pair]) -> None:
    arguments = [*PRESET, "--model", model]
    config = parse_config(MetaTrainConfig, arguments, program="metad2a", step="meta-train", steps=list(STEPS))
    for pair in pairs:
        artifact = getattr(pair, model)
        added_since = {"cost_bins": 1} if model == "generator" else {}
        assert added_since | artifact.notes["learning"] == to_dict(config.learning)
        assert (artifact.notes["seed"], artifact.num_sample) == (config.seed, config.num_sample)
        assert artifact.model.sizes == config.sizes_of(artifact.view)
        assert (artifact.origin, artifact.space_name, artifact.notes["labels"]) == (
            "metad2a",
            "nasbench201-16x5",
            "table",
        )
        assert artifact.training_cells.numel() > 50


@pytest.mark.data
@pytest.mark.parametrize(("data", "floor", "best"), [("cifar10", 0.94, 0.9437), ("cifar100", 0.72, 0.7351)])
def test_a_search_on_an_unseen_set_finds_cells_of_the_top(
    data: str, floor: float, best: float, data_root: Path, tmp_path: Path
) -> None:
    config = parse_config(SearchConfig, PRESET, program="metad2a", step="search", steps=list(STEPS))
    cpu = torch.device("cpu")
    features = Features(extractor="compact", max_per_class=20, cache=tmp_path)
    held = open_sets((data,), features, cfg=StepConfig(data_root=data_root), device=cpu)[data]
    pair = choose_pair(None, data)
    found = rank(pair, held, generation=config.generation, num_draws=config.num_draws, seed=0, device=cpu)
    judged = judge(found.scores, accuracies_of(load_table(data_root), found.archs, TABLE_COLUMNS[data]))
    assert judged.top1 >= floor
    assert judged.best_of_top == pytest.approx(best, abs=1e-4)
    assert judged.spearman >= 0.7
    assert found.generated.validity >= 0.95
