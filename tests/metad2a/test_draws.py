import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from common.experiment.config import StepConfig, UsageError
from common.features.sets import FeatureSet
from metad2a.database import MetaTask
from metad2a.draws import Features, TaskDraws, open_sets
from metad2a.feature_files import features_path, load_features, save_features

TASKS = (MetaTask("hills", (0, 2)), MetaTask("lakes", (0, 1, 3)), MetaTask("hills", (1, 2, 3)), MetaTask("lakes", (3,)))


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_row_of_a_draw_is_an_image_of_its_class(sets: dict[str, FeatureSet]) -> None:
    batch = torch.tensor([1, 0, 3, 1, 2])
    features, num_classes = TaskDraws(TASKS, sets, 4).draw(batch, random())
    assert features.shape == (5, 3, 4, 12)
    assert num_classes.tolist() == [3, 2, 1, 3, 3]
    for drawn, task in zip(features, (TASKS[i] for i in batch.tolist()), strict=True):
        held = sets[task.source]
        for images, label in zip(drawn, task.classes, strict=False):
            rows = (images[:, None] == held.features).all(2)
            assert rows.sum(1).tolist() == [1] * 4
            assert set(held.labels[rows.any(0)].tolist()) == {label}
            assert int(rows.any(0).sum()) == 4, "without replacement"
        assert not drawn[len(task.classes) :].any(), "padding"
    assert not torch.equal(features[0], features[3]), "two draws of one task differ"


def test_draws_follow_the_generator(sets: dict[str, FeatureSet]) -> None:
    draws = TaskDraws(TASKS, sets, 4)
    first, again, other = (draws.draw(torch.arange(4), random(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_small_class_is_drawn_with_replacement_and_a_warning(
    sets: dict[str, FeatureSet], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        features, _ = TaskDraws(TASKS, sets, 8).draw(torch.tensor([3]), random())
    assert features.shape == (1, 1, 8, 12)
    assert "lakes: 1 classes have fewer than 8 images" in caplog.text


def test_an_empty_class_is_named(make_set: Callable[..., FeatureSet], sets: dict[str, FeatureSet]) -> None:
    sets["hills"] = make_set("hills", (6, 9, 0, 5))
    with pytest.raises(ValueError, match="hills has no image of class hills 2"):
        TaskDraws(TASKS, sets, 3).draw(torch.tensor([0]), random())


def test_a_set_that_lost_classes_since_collection_is_named(
    make_set: Callable[..., FeatureSet], sets: dict[str, FeatureSet]
) -> None:
    sets["hills"] = make_set("hills", (6, 9, 4))
    with pytest.raises(UsageError, match="class 3 of hills, and the set in the data root has 3 classes: collect again"):
        TaskDraws(TASKS, sets, 3)


def test_imported_features_come_back_class_by_class_and_are_taken_in_place_of_images(tmp_path: Path) -> None:
    by_class = [torch.rand(3, 12), torch.rand(5, 12)]
    for source in ("cifar10", "mnist"):
        save_features(features_path(tmp_path, source), by_class, extractor="resnet18-imagenet", source=source)
    found = load_features(features_path(tmp_path, "cifar10"))
    assert (found.source, found.extractor, found.num_classes) == ("cifar10", "resnet18-imagenet", 2)
    assert all(torch.equal(found.features[found.labels == label], by_class[label]) for label in (0, 1))
    features = Features(imported=tmp_path)
    opened = open_sets(("cifar10", "mnist"), features, cfg=StepConfig(), device=torch.device("cpu"))
    assert torch.equal(opened["mnist"].features, found.features)
    assert features.held("svhn") is None


def test_imported_features_of_two_networks_do_not_mix(tmp_path: Path) -> None:
    for source, extractor in (("cifar10", "resnet18-imagenet"), ("mnist", "other")):
        save_features(features_path(tmp_path, source), [torch.rand(3, 12)], extractor=extractor, source=source)
    with pytest.raises(UsageError, match=r"different networks \(cifar10 of resnet18-imagenet, mnist of other\)"):
        open_sets(("cifar10", "mnist"), Features(imported=tmp_path), cfg=StepConfig(), device=torch.device("cpu"))


def test_a_file_that_holds_no_features_is_refused(tmp_path: Path, make_pair: Callable[..., object]) -> None:
    make_pair(tmp_path)
    with pytest.raises(RuntimeError, match="'metad2a-model', no imported features"):
        load_features(tmp_path / "generator.safetensors")


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"extractor": "vgg"}, "extractor is 'vgg'; known are compact"), ({"max_per_class": 0}, "max_per_class is 0")],
)
def test_features_that_cannot_be_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(Features(), **changes)  # type: ignore[arg-type]
