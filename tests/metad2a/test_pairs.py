import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import metad2a.pairs as pairs
from common.experiment.config import UsageError
from metad2a.artifacts import Pair
from metad2a.pairs import ModelSizes, check_extractor, check_sizes, choose_pair

MakePair = Callable[..., Pair]


@pytest.fixture
def shipped(make_pair: MakePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two pairs in the place of those that come with the repository."""
    folders = tmp_path / "hills-lakes", tmp_path / "lakes-woods"
    for folder in folders:
        make_pair(folder, sources=tuple(folder.name.split("-")))
    monkeypatch.setattr(pairs, "SHIPPED_PAIRS", {"nasbench201": folders})
    return folders


@pytest.mark.parametrize(("task", "place"), [("folder:own", 0), ("woods", 0), ("hills", 1), ("hills/0-4", 1)])
def test_the_first_shipped_pair_that_has_not_seen_a_dataset_is_taken(
    task: str, place: int, shipped: tuple[Path, Path]
) -> None:
    assert choose_pair(None, task).folder == shipped[place]


def test_a_dataset_that_every_shipped_pair_has_seen_is_refused(shipped: tuple[Path, Path]) -> None:
    with pytest.raises(
        UsageError, match=r"every shipped pair \(hills-lakes, lakes-woods\) has learned from lakes: meta"
    ):
        choose_pair(None, "lakes/0-4")


def test_a_pair_that_is_asked_for_is_taken_with_a_warning_where_it_has_seen_the_dataset(
    shipped: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_pair(shipped[0], "woods").folder == shipped[0]
        assert not caplog.text
        assert choose_pair(shipped[0], "hills").folder == shipped[0]
    assert "learned from hills, lakes: this is no search on an unseen dataset" in caplog.text


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"generator_hidden_dim": 56}, r"the generator of .* has hidden_dim \(hs\) 8, and 56 is asked for"),
        ({"predictor_hidden_dim": 512}, r"the predictor of .* has hidden_dim \(hs\) 10, and 512 is asked for"),
        ({"latent_dim": 56}, r"the generator of .* has latent_dim \(nz\) 8, and 56 is asked for"),
    ],
)
def test_models_of_other_widths_are_refused(
    sizes: dict[str, int], says: str, make_pair: MakePair, tmp_path: Path
) -> None:
    pair = make_pair(tmp_path)
    check_sizes(pair, ModelSizes(generator_hidden_dim=8, predictor_hidden_dim=10, latent_dim=8))
    with pytest.raises(UsageError, match=says):
        check_sizes(pair, ModelSizes(**sizes))


@pytest.mark.parametrize(
    ("wanted", "found", "fits"),
    [
        ("compact-0123abcd", "compact-0123abcd", True),
        ("compact-0123abcd", "compact-89abcdef", False),
        ("compact-0123abcd", "resnet18-imagenet-0123abcd", False),
        ("resnet18-imagenet", "resnet18-imagenet-0123abcd", True),
        ("resnet18-imagenet", "resnet18-imagenet", True),
        ("resnet18-imagenet-0123abcd", "resnet18-imagenet", True),
        ("resnet18-imagenet", "compact-0123abcd", False),
    ],
)
def test_features_must_come_from_the_network_of_the_meta_training(
    wanted: str, found: str, fits: bool, make_pair: MakePair, tmp_path: Path
) -> None:
    pair = make_pair(tmp_path)
    pair = replace(pair, generator=replace(pair.generator, extractor=wanted))
    if fits:
        check_extractor(pair, found)
        return
    with pytest.raises(UsageError, match=f"features of {wanted}, and these are of {found}: give --features.extractor"):
        check_extractor(pair, found)
