"""The supernet and the pair of MobileNetV3 networks that come with the repository."""

from pathlib import Path
from typing import Any

import pytest
import torch

from common.data.tasks import open_task
from common.experiment.config import StepConfig, UsageError, parse_config, to_dict
from common.features.extractors import load_extractor
from common.kd.evaluate import evaluate
from common.supernet import calibration_images, load_supernet, subnet_accuracies
from metad2a.__main__ import NETWORK_STEPS
from metad2a.artifacts import Pair
from metad2a.draws import Features, open_sets
from metad2a.pairs import check_extractor, choose_pair
from metad2a.ranking import rank
from metad2a.shipped import SHIPPED_PAIRS, SHIPPED_SUPERNET
from metad2a.spaces import bounded

PRESET = str(Path(__file__).resolve().parents[2] / "configs/metad2a/mobilenetv3_cpu.yaml")
LARGEST = 6_000_000
CPU = torch.device("cpu")


def preset(step: str, *argv: str) -> Any:
    config = NETWORK_STEPS[step].config
    line = ["--config", PRESET, *argv]
    return parse_config(config, line, program="metad2a", step=step, steps=list(NETWORK_STEPS))


@pytest.fixture(scope="module")
def pair() -> Pair:
    return choose_pair(None, "cifar10", "mobilenetv3")


def test_the_supernet_is_small_and_was_made_by_the_preset() -> None:
    assert SHIPPED_SUPERNET.stat().st_size < LARGEST
    stored, config = load_supernet(SHIPPED_SUPERNET), preset("train-supernet")
    assert stored.supernet.plan == config.network.plan
    later = {"decay_epochs": 3.0, "warmup_epochs": 0}  # settings that recipes did not have, at what they stood for
    assert later | stored.notes["recipe"] == to_dict(config.recipe)
    assert stored.notes["shrinking"] == to_dict(config.shrinking)
    assert (stored.resolution, stored.sources, stored.notes["teacher"]) == (32, ("tiny_imagenet",), "compact")
    assert len(stored.class_names) == 200


def test_the_pair_was_made_by_the_preset_and_goes_with_the_supernet(pair: Pair) -> None:
    assert pair.folder == SHIPPED_PAIRS["mobilenetv3"][0]
    assert pair.sources == ("tiny_imagenet",)
    assert pair.generator.space.plan == load_supernet(SHIPPED_SUPERNET).supernet.plan  # type: ignore[union-attr]
    check_extractor(pair, load_extractor("compact").id)
    for model in ("generator", "predictor"):
        artifact, config = getattr(pair, model), preset("meta-train", "--model", model)
        assert artifact.notes["learning"] == to_dict(config.learning)
        assert artifact.model.sizes == config.sizes_of(artifact.view)
        assert (artifact.notes["labels"], artifact.notes["resolution"]) == ("supernet", 32)


def test_a_search_on_the_set_that_it_has_seen_is_refused() -> None:
    with pytest.raises(UsageError, match=r"every shipped pair .* has learned from tiny_imagenet"):
        choose_pair(None, "tiny_imagenet/0-9", "mobilenetv3")


@pytest.mark.data
def test_networks_are_better_than_chance_by_far(data_root: Path) -> None:
    stored = load_supernet(SHIPPED_SUPERNET)
    task = open_task("tiny_imagenet", resolution=32, data_root=data_root)
    assert evaluate(stored.supernet, task, device=CPU)[1] == pytest.approx(stored.notes["accuracy"], abs=2e-3)
    smallest = preset("train-supernet").network.smallest
    images = calibration_images(task, 256, seed=0, device=CPU)
    found = subnet_accuracies(stored.supernet, [smallest], task, calibration=images, device=CPU)
    assert float(found) > 4 / 200  # chance is 1 / 200


@pytest.mark.data
def test_a_search_on_an_unseen_set_keeps_the_bound(pair: Pair, data_root: Path, tmp_path: Path) -> None:
    features = Features(extractor="compact", max_per_class=20, cache=tmp_path)
    held = open_sets(("cifar10",), features, cfg=StepConfig(data_root=data_root), device=CPU)["cifar10"]
    accept = bounded(pair.generator.space, 10, 32, max_params=None, max_macs=4_500_000)
    plan = preset("search").generation
    found = rank(pair, held, generation=plan, num_draws=10, seed=0, device=CPU, accept=accept)
    assert len({*found.archs}) == plan.num_generated
    assert all(map(accept, found.archs))
    assert found.generated.validity > 0.5
