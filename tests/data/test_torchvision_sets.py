import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from pictures import picture

from common.data.open import open_dataset
from common.data.torchvision_sets import LAYOUTS


def write_jpegs(folder: Path, names: list[str]) -> None:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i, (20, 16)).save(folder / name)


def write_aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    write_jpegs(data / "images", [f"{i:03d}.jpg" for i in range(8)])
    (data / "variants.txt").write_text("707-320\nA300 B4\n")
    for split, rows in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 8))):
        lines = [f"{i:03d} {('707-320', 'A300 B4')[i % 2]}\n" for i in rows]
        (data / f"images_variant_{split}.txt").write_text("".join(lines))


def write_dtd(root: Path) -> None:
    folder = root / "dtd" / "dtd"
    names = [f"{name}/{name}_{i}.jpg" for i in range(4) for name in ("banded", "woven")]
    write_jpegs(folder / "images", names)
    (folder / "labels").mkdir()
    for split, part in (("train", names[:4]), ("val", names[4:6]), ("test", names[6:])):
        (folder / "labels" / f"{split}1.txt").write_text("".join(f"{name}\n" for name in part))


def write_pets(root: Path) -> None:
    folder = root / "oxford-iiit-pet"
    names = [f"{name}_{i}" for i in range(4) for name in ("Abyssinian", "beagle")]
    write_jpegs(folder / "images", [f"{name}.jpg" for name in names])
    (folder / "annotations").mkdir()
    for split, part in (("trainval", names[:6]), ("test", names[6:])):
        lines = [f"{name} {1 + (name[0] == 'b')} 1 1\n" for name in part]
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))


def write_cars(root: Path) -> None:
    from scipy.io import savemat

    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi S4", "BMW M3"], dtype=object)})
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        names = [f"{i:05d}.jpg" for i in range(4)]
        write_jpegs(folder / f"cars_{split}", names)
        rows = np.array([(name, 1 + i % 2) for i, name in enumerate(names)], dtype=[("fname", object), ("class", int)])
        savemat(folder / file, {"annotations": rows})


def write_mnist(root: Path) -> None:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for stem, num in (("train", 20), ("t10k", 10)):
        pixels = np.random.default_rng(num).integers(0, 256, (num, 28, 28), dtype=np.uint8)
        header = struct.pack(">4i", 0x803, num, 28, 28)
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = (np.arange(num) % 10).astype(np.uint8)
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, num) + labels.tobytes())


@pytest.mark.parametrize(
    ("name", "write", "names", "parts"),
    [
        ("aircraft", write_aircraft, ("707-320", "A300 B4"), (4, 2, 2)),
        ("dtd", write_dtd, ("banded", "woven"), (4, 2, 2)),
        ("pets", write_pets, ("Abyssinian", "Beagle"), (6, 0, 2)),
        ("cars", write_cars, ("Audi S4", "BMW M3"), (4, 0, 4)),
        ("mnist", write_mnist, None, (20, 0, 10)),
    ],
)
@pytest.mark.parametrize("below", [".", "own"])
def test_a_set_in_the_layout_of_torchvision_opens(tmp_path: Path, name, write, names, parts, below: str) -> None:  # type: ignore[no-untyped-def]
    canonical = "stanford_cars" if name == "cars" else name
    write(tmp_path if below == "." else tmp_path / canonical)
    dataset = open_dataset(name, resolution=8, data_root=tmp_path)
    assert (len(dataset.train), len(dataset.valid), len(dataset.test)) == parts
    assert names is None or dataset.class_names == names
    assert torch.equal(dataset.labels, torch.arange(sum(parts)) % dataset.num_classes)
    assert dataset.description == f"{canonical}: {dataset.num_classes} classes, {sum(parts[:2])} training images"
    assert dataset.flip == (name != "mnist")
    assert dataset.skipped == ()


def test_the_pixels_are_those_torchvision_gives(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    dataset = open_dataset("mnist", resolution=28, data_root=tmp_path)
    raw = torchvision.datasets.MNIST(str(tmp_path), train=False)
    assert torch.equal(dataset.images[20:, 2], raw.data)


def test_digits_of_houses_have_their_digits_as_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda _: True)  # the real checksums
    for split, num in (("train", 20), ("test", 10)):
        pixels = np.random.default_rng(num).integers(0, 256, (32, 32, 3, num), dtype=np.uint8)
        labels = np.arange(1, num + 1)[:, None] % 10 + 1  # 10 stands for the digit 0
        savemat(tmp_path / f"{split}_32x32.mat", {"X": pixels, "y": labels})
    dataset = open_dataset("svhn", resolution=32, data_root=tmp_path)
    assert dataset.class_names == tuple("0123456789")
    assert dataset.labels[:10].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert np.array_equal(dataset.images[20].numpy(), pixels[:, :, :, 0].transpose(2, 0, 1))
    assert not dataset.flip


def test_the_full_set_wins_over_the_packed_copy(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "mnist.npz").write_bytes(b"not read")
    assert len(open_dataset("mnist", resolution=8, data_root=tmp_path).images) == 30


def test_an_incomplete_set_names_the_command_that_completes_it(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(RuntimeError, match=r"incomplete or damaged .*python -m download\.dataset --name mnist"):
        open_dataset("mnist", resolution=8, data_root=tmp_path)


def test_a_missing_image_file_is_left_out_by_name(tmp_path: Path) -> None:
    write_aircraft(tmp_path)
    (tmp_path / "fgvc-aircraft-2013b" / "data" / "images" / "003.jpg").unlink()
    dataset = open_dataset("aircraft", resolution=8, data_root=tmp_path)
    assert len(dataset.images) == 7
    assert "003.jpg" in dataset.skipped[0]


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_set_that_is_not_there_names_its_download(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"python -m download\.dataset --name {name}"):
        open_dataset(name, resolution=8, data_root=tmp_path)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_layout_names_a_class_of_torchvision(name: str) -> None:
    assert hasattr(torchvision.datasets, LAYOUTS[name].class_name)
