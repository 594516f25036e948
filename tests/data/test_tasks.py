import io
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import encode
from PIL import Image

from common.data.open import open_dataset, open_source
from common.data.tasks import Task, open_task, task_id


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 classes, each with 8 train, 1 test in part a and 7 train, 1 valid in b; the colour is (label, copy, 0)."""
    root = tmp_path_factory.mktemp("tiny")
    for part, first, split in (("a", 0, [0] * 8 + [2]), ("b", 9, [0] * 7 + [1])):
        colours = [(label, first + copy, 0) for copy in range(len(split)) for label in range(200)]
        blobs = [encode(Image.new("RGB", (2, 2), colour)) for colour in colours]
        np.savez(
            root / f"tiny_imagenet_{part}.npz",
            data=np.frombuffer(b"".join(blobs), np.uint8),
            offsets=np.cumsum([0, *map(len, blobs)]),
            labels=np.tile(np.arange(200), len(split)),
            split=np.repeat(np.array(split, np.uint8), 200),
            class_names=np.array([f"n{i:03d}" for i in range(200)]),
        )
    return root


def identities(task: Task, rows: torch.Tensor) -> set[tuple[int, int]]:
    """(class in the whole set, copy) of some images, read from their colour."""
    return {(int(pixel[0]), int(pixel[1])) for pixel in task.images[rows, :, 0, 0]}


def test_two_splits_share_a_group_of_forty_classes_with_the_halves_swapped(tiny_root: Path) -> None:
    for group in range(5):
        even, odd = (open_task(f"tiny_imagenet/{2 * group + k}", resolution=2, data_root=tiny_root) for k in (0, 1))
        first, second = identities(even, even.train), identities(even, even.evaluation)
        assert (identities(odd, odd.train), identities(odd, odd.evaluation)) == (second, first)
        training = {(label, copy) for label in range(40 * group, 40 * group + 40) for copy in range(17) if copy != 8}
        assert first | second == training  # train and valid parts, no test image
        assert not first & second
        assert len(first) == len(second) == 320
        assert even.class_names == tuple(f"n{label:03d}" for label in range(40 * group, 40 * group + 40))
        assert torch.equal(even.labels, even.images[:, 0, 0, 0].long() - 40 * group)


def test_the_halves_are_shuffled_and_not_stratified(tiny_root: Path) -> None:
    task = open_task("tiny_imagenet/0", resolution=2, data_root=tiny_root)
    counts = torch.bincount(task.labels[task.train], minlength=40)
    assert counts.min() < 8 < counts.max()


def test_the_seed_decides_the_halves_and_is_kept(tiny_root: Path) -> None:
    zero, again, one = (
        open_task("tiny_imagenet/4", resolution=2, data_root=tiny_root, seed=seed) for seed in (0, 0, 1)
    )
    assert identities(zero, zero.train) == identities(again, again.train) != identities(one, one.train)
    assert (zero.seed, one.seed) == (0, 1)


def test_only_the_images_asked_for_are_decoded(tiny_root: Path) -> None:
    assert len(open_task("tiny_imagenet/9", resolution=2, data_root=tiny_root).images) == 640
    assert len(open_task("tiny_imagenet/10-12", resolution=2, data_root=tiny_root).images) == 51


def test_a_range_of_classes_is_numbered_anew(tiny_root: Path) -> None:
    task = open_task("tiny_imagenet/150-152", resolution=2, data_root=tiny_root)
    assert task.id == "tiny_imagenet/150-152"
    assert task.class_names == ("n150", "n151", "n152")
    assert torch.equal(task.labels + 150, task.images[:, 0, 0, 0].long())
    assert identities(task, task.evaluation) == {(label, 8) for label in (150, 151, 152)}
    assert (task.num_classes, task.resolution) == (3, 2)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("tiny_imagenet/10", ValueError, "tiny_imagenet/10: the splits are numbered 0 to 9"),
        ("tiny_imagenet/150-200", ValueError, "classes must be a rising range within 0-199"),
        ("tiny_imagenet/8-2", ValueError, "classes must be a rising range within 0-199"),
        ("tiny_imagenet/8-8", ValueError, r"tiny_imagenet/8-8 has one class only \(n008\)"),
        ("digits/3", ValueError, "only tiny_imagenet has numbered splits; .* write digits/0-9"),
        ("photos/3", FileNotFoundError, "there is no folder photos/3, and 'photos' is no known dataset"),
        ("photos/0-3", ValueError, "unknown dataset 'photos'"),
        ("svhn", FileNotFoundError, "run `python -m download.dataset --name svhn`"),
        ("gtsrb", FileNotFoundError, r"put gtsrb\.npz there"),
        ("tiny_imagnet", ValueError, "did you mean tiny_imagenet"),
    ],
)
def test_a_task_that_does_not_exist_is_refused_in_one_line(
    tiny_root: Path, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        open_task(text, resolution=2, data_root=tiny_root)
    assert "\n" not in str(caught.value)


def test_a_resolution_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="resolution must be at least 1 pixel, got 0"):
        open_task("digits", resolution=0)


def test_digits_need_no_files_and_keep_the_ink(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    dataset = open_dataset("digits", resolution=8, data_root=tmp_path)
    raw = load_digits()
    assert np.array_equal(dataset.images[:, 1].numpy(), np.rint(raw.images * 255 / 16))
    assert np.array_equal(dataset.labels.numpy(), raw.target)
    shares = torch.bincount(dataset.labels[dataset.test]) / torch.bincount(dataset.labels)
    assert ((shares - 0.2).abs() < 0.003).all()  # rounding of one image in about 180
    assert not dataset.flip


def test_half_of_the_digits_make_a_task() -> None:
    task = open_task("digits/5-9", resolution=16)
    assert (task.id, task.class_names) == ("digits/5-9", ("5", "6", "7", "8", "9"))
    assert task.images.shape[1:] == (3, 16, 16)
    assert not task.flip


def test_the_id_is_known_before_anything_is_decoded(tiny_root: Path, tmp_path: Path) -> None:
    for text in ("digits", "digits/2-5", "tiny_imagenet", "tiny_imagenet/3", "tiny_imagenet/0-1"):
        assert task_id(text, data_root=tiny_root) == open_task(text, resolution=2, data_root=tiny_root).id
    with pytest.raises(FileNotFoundError, match="cub is not in"):
        task_id("cub", data_root=tmp_path)


def test_the_data_root_comes_from_the_environment(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATA", str(tiny_root))
    assert open_task("tiny_imagenet/0-1", resolution=2).num_classes == 2


def test_the_data_root_is_the_dataset_folder_by_default(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_root)
    with pytest.raises(FileNotFoundError, match="cub is not in dataset"):
        open_task("cub", resolution=2)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "description", "classes", "train", "test"),
    [
        ("cub", "cub, reduced: 100 of 200 classes", 100, 2999, 2903),
        ("dtd", "dtd, reduced: 10 of 47 classes", 10, 946, 240),
        ("cars", "stanford_cars, reduced: 6489 training images of 8144", 196, 6489, 1629),
        ("quickdraw", "quickdraw, reduced: 345 classes, 6101 training images", 345, 6973, 1736),
        ("tiny_imagenet", "tiny_imagenet, reduced: 60 of 500 training images a class", 200, 12000, 3000),
        ("cifar10", "cifar10, reduced: 15000 training images of 50000", 10, 15000, 4000),
        ("caltech101", "caltech101, reduced: 99 of 101 classes", 99, 3398, 857),
        ("ants_bees", "ants_bees, packed: 2 classes, 208 training images", 2, 244, 153),
        ("dtd10", "dtd10, packed: 10 classes, 827 training images", 10, 946, 240),
    ],
)
def test_reduced_sets_say_so(data_root: Path, name: str, description: str, classes: int, train: int, test: int) -> None:
    source = open_source(name, data_root=data_root)
    assert source.description == description
    assert len(source.class_names) == classes
    assert (np.count_nonzero(source.split < 2), np.count_nonzero(source.split == 2)) == (train, test)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "description", "train", "evaluation"),
    [
        ("dtd", "dtd, reduced: 10 of 47 classes", 946, 240),
        ("cifar100/0-3", "cifar100, reduced: 11000 training images of 50000; classes 0 to 3", 440, 120),
        ("tiny_imagenet/7", "tiny_imagenet/7, reduced: 60 of 500 training images a class", 1200, 1200),
    ],
)
def test_tasks_of_reduced_sets_say_so(
    data_root: Path, name: str, description: str, train: int, evaluation: int
) -> None:
    task = open_task(name, resolution=8, data_root=data_root)
    assert (task.description, len(task.train), len(task.evaluation)) == (description, train, evaluation)


@pytest.mark.data
def test_quickdraw_keeps_at_most_twenty_training_images_a_class(data_root: Path) -> None:
    task = open_task("quickdraw/0-79", resolution=8, data_root=data_root)
    counts = torch.bincount(task.labels[task.train], minlength=80)
    assert counts.max() == 20
    assert counts.min() >= 7
    assert "trained on the first 20 a class: 6033 images; classes 0 to 79" in task.description


@pytest.mark.data
def test_packed_pixels_equal_a_bare_decode(data_root: Path) -> None:
    dataset = open_dataset("ants_bees", resolution=64, data_root=data_root)
    with np.load(data_root / "ants_bees.npz", allow_pickle=False) as archive:
        data, offsets, labels = archive["data"], archive["offsets"], archive["labels"]
    for row in (0, 17, 396):
        image = Image.open(io.BytesIO(data[offsets[row] : offsets[row + 1]].tobytes())).convert("RGB")
        assert np.array_equal(dataset.images[row].permute(1, 2, 0).numpy(), np.asarray(image))
    assert np.array_equal(dataset.labels.numpy(), labels)


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "gtsrb", "omniglot_small", "sign_digits"])
def test_sets_of_signs_are_not_mirrored(data_root: Path, name: str) -> None:
    assert not open_task(f"{name}/0-1", resolution=4, data_root=data_root).flip


@pytest.mark.data
def test_photos_are_mirrored_and_the_samples_without_test_part_are_refused(data_root: Path) -> None:
    assert open_task("caltech101/0-1", resolution=4, data_root=data_root).flip
    with pytest.raises(ValueError, match="imagenet1k_samples has training images only, none to evaluate on"):
        open_task("imagenet1k_samples", resolution=4, data_root=data_root)
