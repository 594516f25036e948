"""Manifests are checked when they are read, and the shipped ones list what the specification lists."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import download
from download.manifest import Entry, load_manifest

SHIPPED = Path(download.__file__).parent
FILE: dict[str, Any] = {"target": "cub/a.npy", "urls": ["https://host/a.npy"], "size": None, "sha256": None}


def manifest(tmp_path: Path, files: Any, **group: Any) -> Path:
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump({"cub": {"licence": "free", "by_hand": "ask", "files": files} | group}))
    return path


def test_fields_come_back_typed(tmp_path: Path) -> None:
    file = FILE | {"size": 3, "sha256": "ab" * 32, "unpack": True, "unpacked_size": 9}
    entry = Entry(
        name="cub",
        target="cub/a.npy",
        urls=("https://host/a.npy",),
        size=3,
        sha256="ab" * 32,
        licence="free",
        unpack=True,
        unpacked_size=9,
    )
    loaded = load_manifest(manifest(tmp_path, [file]))
    assert loaded.entries == (entry,)
    assert loaded.by_hand == {"cub": "ask"}
    assert loaded.select(("cub",)) == (entry,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "../a"}, "must be a path inside the folder"),
        ({"target": "/a"}, "must be a path inside the folder"),
        ({"target": "c:a"}, "must be a path inside the folder"),
        ({"urls": []}, "urls is empty"),
        ({"urls": ["ftp://host/a"]}, "must begin with https:// or http://"),
        ({"urls": [3]}, "urls must be texts"),
        ({"sha256": "xyz"}, "64 lower-case hexadecimal digits or null"),
        ({"size": 0}, "size is 0: a number of bytes above 0"),
        ({"size": "3"}, "size is '3', which is no int"),
        ({"unpack": None}, "unpack is None, which is no bool"),
        ({"sha": "x"}, "unknown field 'sha'; known: target, urls, size"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_manifest(manifest(tmp_path, [FILE | change]))
    assert "manifest.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cub: {licence: a, by_hand: b, files: [{urls: []}]}", "cub, file 1: field 'target' is missing"),
        ("cub: {licence: a, files: []}", "cub: field 'by_hand' is missing"),
        ("cub: 3", "cub must be a mapping, not int"),
        ("[]", "the file must be a mapping, not list"),
        ("cub: {", "manifest.yaml"),
    ],
)
def test_a_wrong_form_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_manifest(tmp_path / "manifest.yaml")


def test_a_target_may_be_listed_once_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"target cub/a.npy is listed twice"):
        load_manifest(manifest(tmp_path, [FILE, FILE]))


def test_an_unknown_group_is_an_error_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no group is named 'dtd'; known: cub"):
        load_manifest(manifest(tmp_path, [FILE])).select(("dtd",))


@pytest.mark.parametrize(
    ("name", "num_files", "groups"),
    [
        ("datasets.yaml", 14 + 4 * 4, ["tiny_imagenet", "cub", "dtd", "quickdraw", "stanford_cars"]),
        (
            "checkpoints.yaml",
            14,
            [*(f"tiny_imagenet-{split}" for split in range(10)), "cub", "dtd", "stanford_cars", "quickdraw"],
        ),
        ("preprocessed.yaml", 1, ["preprocessed"]),
    ],
)
def test_the_shipped_manifests_list_every_official_file_once(name: str, num_files: int, groups: list[str]) -> None:
    loaded = load_manifest(SHIPPED / name)
    assert list(loaded.names) == groups
    assert len(loaded.entries) == num_files
    urls = [url for entry in loaded.entries for url in entry.urls]
    assert len(set(urls)) == num_files
    for entry in loaded.entries:
        identifier, file = entry.urls[0].removeprefix("https://www.dropbox.com/s/").split("/")
        assert len(identifier) == 15
        assert identifier.isalnum()
        assert file == f"{entry.file_name}?dl=1"


def test_official_addresses_are_those_of_the_specification() -> None:
    entries = [
        e
        for name in ("datasets", "checkpoints", "preprocessed")
        for e in load_manifest(SHIPPED / f"{name}.yaml").entries
    ]
    identifiers = {entry.target: entry.urls[0].split("/")[4] for entry in entries}
    assert identifiers["tiny_imagenet/labels/valid_labels.npy"] == "ta4ulgv8qs9ncsa"
    assert identifiers["tiny_imagenet/10_split/split_9.npz"] == "wssc1y0sk3uc387"
    assert identifiers["cub/test_images.npy"] == "vqs17ei1qda8wkm"
    assert identifiers["quickdraw/train_labels.npy"] == "9vz2bsjhu4fi7ef"
    assert identifiers["stanford_cars/test_labels.npy"] == "4fel82itunz52nk"
    assert identifiers["tiny_imagenet-5/model_best.pth.tar"] == "6bd7j05fqdhk8q8"
    assert identifiers["quickdraw/model_best.pth.tar"] == "1g5i5obahn327bi"
    assert identifiers["preprocessed.zip"] == "09kn998qbflyozy"


def test_files_of_torchvision_are_those_that_torchvision_itself_asks_for() -> None:
    from torchvision.models import ResNet18_Weights, SqueezeNet1_0_Weights

    loaded = load_manifest(SHIPPED / "features.yaml")
    theirs = {"resnet18-imagenet": ResNet18_Weights, "squeezenet1_0": SqueezeNet1_0_Weights}
    assert {e.name: e.urls for e in loaded.entries} == {n: (w.IMAGENET1K_V1.url,) for n, w in theirs.items()}
    assert [entry.target for entry in loaded.entries] == ["resnet18-f37072fd.pth", "squeezenet1_0-b66bff10.pth"]
