"""What a network sees, which images are taken, and which output each class is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dna.pictures import Part, View, decoded, normalised, open_pictures

Fill = Callable[..., list[Path]]
CLASSES = ["ants", "bees", "cats"]


@pytest.mark.parametrize(("width", "height"), [(50, 30), (30, 50), (64, 64), (17, 90)])
@pytest.mark.parametrize(
    ("name", "method"), [("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)]
)
def test_the_shorter_side_is_resized_and_the_centre_cut_out(
    width: int, height: int, name: str, method: Image.Resampling
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    view = View(resolution=28, interpolation=name)  # type: ignore[arg-type]
    short = 32
    size = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    resized = Image.fromarray(pixels).resize(size, method)
    left, top = round((size[0] - 28) / 2), round((size[1] - 28) / 2)
    expected = np.asarray(resized.crop((left, top, left + 28, top + 28)))
    assert np.array_equal(view.of(Image.fromarray(pixels)), expected.transpose(2, 0, 1))


def test_the_default_view_is_224_pixels_out_of_256() -> None:
    image = Image.fromarray(np.arange(256 * 256 * 3, dtype=np.uint8).reshape(256, 256, 3))
    assert np.array_equal(View().of(image), np.asarray(image)[16:240, 16:240].transpose(2, 0, 1))
    assert View(resolution=240, crop_pct=1.0).of(image).shape == (3, 240, 240)


def test_gray_images_become_rgb() -> None:
    view = View(resolution=8).of(Image.fromarray(np.full((20, 20), 7, np.uint8)))
    assert np.array_equal(view, np.full((3, 8, 8), 7))


def test_pixels_are_normalised_by_the_statistics_of_imagenet() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (images.numpy().transpose(0, 2, 3, 1) / 255 - mean) / std
    np.testing.assert_allclose(normalised(images).numpy(), expected.transpose(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize(("part", "folder"), [("auto", "val"), ("valid", "val"), ("train", "train"), ("test", "test")])
def test_a_folder_with_parts_gives_the_part_alone(tmp_path: Path, write_images: Fill, part: Part, folder: str) -> None:
    for seed, name in enumerate(("train", "val", "test")):
        write_images(tmp_path / name, CLASSES, per_class=2 + seed)
    pictures = open_pictures(str(tmp_path), part, 3, data_root=None, seed=0)
    places = [Path(pictures.source.locate(int(row))) for row in pictures.rows]
    assert places == sorted((tmp_path / folder).rglob("*.png"))
    assert [CLASSES[label] for label in pictures.labels] == [place.parent.name for place in places]


def test_a_folder_named_validation_serves_and_one_without_parts_is_taken_whole(
    tmp_path: Path, write_images: Fill
) -> None:
    paths = write_images(tmp_path / "imagenet" / "validation", CLASSES)
    for place in (tmp_path / "imagenet", tmp_path / "imagenet" / "validation"):
        assert len(open_pictures(str(place), "auto", 3, data_root=None, seed=0).rows) == len(paths)
    named = open_pictures("imagenet", "auto", 3, data_root=tmp_path, seed=0)
    assert len(named.rows) == len(paths)


def test_a_known_set_gives_its_test_part() -> None:
    pictures = open_pictures("digits", "auto", 10, data_root=None, seed=0)
    assert (pictures.source.split[pictures.rows] == 2).all()
    everything = open_pictures("digits", "all", 10, data_root=None, seed=0)
    assert len(everything.rows) == len(everything.source.labels) > len(pictures.rows)
    assert np.array_equal(everything.labels.numpy(), everything.source.labels)


def test_imagenet_ids_find_their_outputs_whatever_the_order_and_number(tmp_path: Path, write_images: Fill) -> None:
    write_images(tmp_path, ["n02123045", "n01440764 tench", "n15075141"], per_class=1)
    pictures = open_pictures(str(tmp_path), "auto", 1000, data_root=None, seed=0)
    assert pictures.source.class_names == ("n01440764 tench", "n02123045", "n15075141")
    assert pictures.labels.tolist() == [0, 281, 999]


def test_other_classes_than_the_network_has_are_refused(tmp_path: Path, write_images: Fill) -> None:
    write_images(tmp_path, CLASSES)
    for outputs in (2, 1000):
        with pytest.raises(ValueError, match=rf"3 classes \(ants, bees, cats\) and the network {outputs} outputs"):
            open_pictures(str(tmp_path), "auto", outputs, data_root=None, seed=0)


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="digits has no images of part 'valid': it has train, test"):
        open_pictures("digits", "valid", 10, data_root=None, seed=0)
    with pytest.raises(FileNotFoundError, match="there is no"):
        open_pictures(str(tmp_path / "none"), "auto", 10, data_root=None, seed=0)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batches_hold_every_image_once_in_order_and_leave_damaged_ones_out(
    tmp_path: Path, write_images: Fill, batch_size: int
) -> None:
    paths = write_images(tmp_path, CLASSES, per_class=4)
    paths[5].write_bytes(paths[5].read_bytes()[:40])
    pictures, view = open_pictures(str(tmp_path), "auto", 3, data_root=None, seed=0), View(resolution=16)
    skipped: list[str] = []
    batches = list(decoded(pictures, view, batch_size, skipped))
    whole = [path for index, path in enumerate(paths) if index != 5]
    expected = np.stack([view.of(Image.open(path)) for path in whole])
    assert np.array_equal(torch.cat([images for images, _ in batches]).numpy(), expected)
    assert torch.cat([labels for _, labels in batches]).tolist() == [0] * 4 + [1] * 3 + [2] * 4
    assert len(skipped) == 1
    assert skipped[0].startswith(str(paths[5]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "resolution is 0"),
        ({"crop_pct": 1.1}, "crop_pct is 1.1"),
        ({"crop_pct": 0}, "crop_pct is 0"),
    ],
)
def test_impossible_views_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        View(**options)  # type: ignore[arg-type]
