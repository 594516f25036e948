import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.features import cache
from common.features.cache import features_of
from common.features.extractors import Extractor, load_extractor
from common.features.sets import FeatureSet

Means = Callable[..., Extractor]
Folder = Callable[..., Path]
TRAIN, TEST = {"red": 5, "green": 3, "blue": 7}, {"red": 2, "green": 2, "blue": 2}


@pytest.fixture
def of(tmp_path: Path, means: Means) -> Callable[..., FeatureSet]:
    """features_of with what all tests share."""

    def call(data: object, **settings: object) -> FeatureSet:
        shared = {"extractor": means(), "device": torch.device("cpu"), "cache": tmp_path / "cache"}
        return features_of(data, **(shared | settings))  # type: ignore[arg-type]

    return call


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("images are decoded")

    monkeypatch.setattr(cache, "decode", refuse)


def test_features_are_those_of_the_training_images_by_class(of: Callable[..., FeatureSet], folder: Folder) -> None:
    root = folder(TRAIN, TEST)
    found = of(root)
    assert (found.source, found.class_names) == ("folder:flags", ("blue", "green", "red"))
    assert found.counts.tolist() == [7, 3, 5]
    files = [path for name in found.class_names for path in sorted((root / "train" / name).iterdir())]
    images = np.stack([np.asarray(Image.open(file)) for file in files]) / 255.0
    mean, std = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2))
    expected = ((images - mean) / std).mean(axis=(1, 2))
    assert np.allclose(found.features[:, :3].numpy(), expected, atol=1e-4)


def test_a_second_call_decodes_nothing_and_gives_the_same(
    of: Callable[..., FeatureSet], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(TRAIN, TEST)
    first = of(root)
    forbid_decoding(monkeypatch)
    second = of(root)
    assert torch.equal(first.features, second.features)
    assert torch.equal(first.labels, second.labels)
    for name in ("class_names", "extractor", "source", "description"):
        assert getattr(first, name) == getattr(second, name)


def test_files_are_named_after_task_extractor_and_settings(
    of: Callable[..., FeatureSet], folder: Folder, means: Means, tmp_path: Path
) -> None:
    root = folder(TRAIN, TEST)
    of(root)
    of(root, max_per_class=2, seed=3)
    of(root, extractor=means(2.0))
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    one, two = means(1.0).id, means(2.0).id
    assert names == sorted(
        f"folder_flags-{name}.safetensors" for name in (f"{one}-all-0", f"{one}-2-3", f"{two}-all-0")
    )


def test_classes_of_a_set_are_numbered_anew(of: Callable[..., FeatureSet], folder: Folder) -> None:
    some = of(f"{folder(TRAIN, TEST)}/1-2")
    assert (some.source, some.class_names) == ("folder:flags/1-2", ("green", "red"))
    assert some.labels.tolist() == [0] * 3 + [1] * 5


def test_a_limit_draws_images_of_each_class_by_the_seed(of: Callable[..., FeatureSet], folder: Folder) -> None:
    root = folder({"red": 30, "green": 3}, {"red": 1, "green": 1})
    whole = of(root)
    drawn = [of(root, max_per_class=10, seed=seed) for seed in (0, 1)]
    for one in drawn:
        assert one.counts.tolist() == [3, 10]
        rows = {tuple(row) for row in whole.features.tolist()}
        assert {tuple(row) for row in one.features.tolist()} < rows, "normalised as the whole set is"
    assert not torch.equal(drawn[0].features, drawn[1].features)
    with pytest.raises(ValueError, match="max_per_class is 0"):
        of(root, max_per_class=0)


def test_a_damaged_file_is_replaced_with_a_warning(
    of: Callable[..., FeatureSet], folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = folder(TRAIN, TEST)
    first = of(root)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    for content in (whole[:-4], b"", b"{}", whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert torch.equal(of(root).features, first.features)
        assert "features are computed again" in caplog.text
        assert file.name in caplog.text
        assert file.read_bytes() == whole


def test_features_of_images_that_changed_are_computed_again(
    of: Callable[..., FeatureSet], folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    root = folder(TRAIN, TEST)
    first = of(root)
    file = root / "train" / "red" / "000.png"
    Image.new("RGB", (32, 32), "white").save(file)
    os.utime(file, ns=(1, 1))
    with caplog.at_level(logging.WARNING):
        second = of(root)
    assert "of other images" in caplog.text
    assert not torch.equal(first.features, second.features)
    (root / "train" / "red" / "001.png").unlink()
    assert of(root).counts.tolist() == [7, 3, 4]


def test_an_interrupted_extraction_leaves_no_file(
    of: Callable[..., FeatureSet], folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(TRAIN, TEST)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "embed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            of(root)
    assert not (tmp_path / "cache").exists()
    assert of(root).counts.sum() == 15


def test_images_are_decoded_a_piece_at_a_time(
    of: Callable[..., FeatureSet], folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(TRAIN, TEST)
    whole = of(root, cache=None)
    sizes: list[int] = []
    decode = cache.decode

    def watch(source: object, rows: np.ndarray, resolution: int) -> object:  # type: ignore[type-arg]
        sizes.append(len(rows))
        return decode(source, rows, resolution)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "decode", watch)
    monkeypatch.setattr(cache, "_CHUNK", 4)
    assert torch.allclose(of(root, cache=None).features, whole.features, atol=1e-6)
    assert sizes[1:] == [4, 4, 4, 3], "the first is the sample for the channel means"


def test_damaged_images_are_left_out(of: Callable[..., FeatureSet], folder: Folder) -> None:
    root = folder(TRAIN, TEST)
    (root / "train" / "red" / "002.png").write_bytes(b"no image")
    assert of(root).counts.tolist() == [7, 3, 4]


def test_known_sets_take_published_constants_and_others_their_own(
    of: Callable[..., FeatureSet], folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[torch.Tensor] = []

    def watch(extractor: Extractor, images: torch.Tensor, mean: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        given.append(mean)
        return torch.zeros(len(images), 512)

    monkeypatch.setattr(cache, "embed", watch)
    of(folder(TRAIN, TEST, name="cifar10"))
    assert not torch.allclose(given[0], torch.tensor([125.3, 123.0, 113.9]) / 255, atol=1e-3), "a folder of that name"
    of("digits")
    assert given[1].unique().numel() == 1, "gray"


@pytest.mark.data
def test_cifar_takes_published_constants(
    of: Callable[..., FeatureSet], data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[torch.Tensor] = []

    def watch(extractor: Extractor, images: torch.Tensor, mean: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        given.append(mean)
        return torch.zeros(len(images), 512)

    monkeypatch.setattr(cache, "embed", watch)
    found = of("cifar100/0-4", data_root=data_root, max_per_class=3)
    assert found.counts.tolist() == [3] * 5
    assert torch.allclose(given[0], torch.tensor([129.3, 124.1, 112.4]) / 255)


@pytest.mark.data
def test_classes_of_unseen_sets_are_told_apart_by_the_network_that_is_shipped(
    of: Callable[..., FeatureSet], data_root: Path
) -> None:
    for data, floor in (("mnist/0-4", 0.9), ("cifar10/0-1", 0.9)):
        found = of(data, extractor=load_extractor("compact"), data_root=data_root, max_per_class=40)
        by_class = found.features.view(found.num_classes, 40, 512)
        prototypes, others = by_class[:, :20].mean(dim=1), by_class[:, 20:].flatten(0, 1)
        nearest = torch.cdist(others, prototypes).argmin(dim=1)
        accuracy = float((nearest == torch.arange(found.num_classes).repeat_interleave(20)).float().mean())
        assert accuracy >= floor, f"{data}: {accuracy}"


def test_features_of_the_other_part_are_those_of_the_images_accuracy_is_measured_on(
    of: Callable[..., FeatureSet], folder: Folder
) -> None:
    root = folder(TRAIN, TEST)
    train, found = of(root), of(root, part="evaluation")
    assert found.counts.tolist() == [2, 2, 2]
    files = [path for name in found.class_names for path in sorted((root / "test" / name).iterdir())]
    images = np.stack([np.asarray(Image.open(file)) for file in files]) / 255.0
    learned = [path for path in sorted((root / "train").rglob("*.png"))]
    pixels = np.stack([np.asarray(Image.open(file)) for file in learned]) / 255.0
    expected = ((images - pixels.mean(axis=(0, 1, 2))) / pixels.std(axis=(0, 1, 2))).mean(axis=(1, 2))
    assert np.allclose(found.features[:, :3].numpy(), expected, atol=1e-4), "normalised as training images are"
    assert torch.equal(of(root).features, train.features), "each part has a file of its own"
