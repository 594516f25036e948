"""The commands bring, find, record and verify files, and say in one line what is wrong."""

import errno
import hashlib
import json
import os
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import yaml

import download
import download.fetch
from download import checkpoint, dataset, preprocessed, torchvision_sets
from download.collection import exclusive
from download.command import Command, run
from download.fetch import Fetcher
from download.manifest import load_manifest
from download.torchvision_sets import TORCHVISION_SETS, TorchvisionSet

REPOSITORY = Path(download.__file__).parents[1]
Make = Callable[..., Command]


@pytest.fixture
def make(site: Any, fetcher: Fetcher, tmp_path: Path) -> Make:
    """A command with the groups cub and dtd of one file each, and set.zip."""

    def make(**sets: TorchvisionSet) -> Command:
        groups = {
            name: {
                "licence": "free",
                "by_hand": f"ask for {name}",
                "files": [{"target": target, "urls": [f"{site.url}/{name}"], "unpack": target.endswith("zip")}],
            }
            for name, target in (("cub", "cub/images.npy"), ("dtd", "dtd/images.npy"), ("set", "set.zip"))
        }
        (tmp_path / "manifest.yaml").write_text(yaml.safe_dump(groups, sort_keys=False))
        return Command(
            module="download.dataset",
            help="Fetch.",
            manifest=tmp_path / "manifest.yaml",
            folder=tmp_path / "data",
            through_torchvision=sets,
            fetcher=fetcher,
        )

    return make


@pytest.fixture
def packed(zip_file: Callable[[dict[str, bytes]], bytes]) -> bytes:
    return zip_file({"set/ours/a": b"1234", "set/search/b": b"56"})


def lines(text: str, *marks: str) -> list[str]:
    return [line for line in text.splitlines() if all(mark in line for mark in marks)]


def test_all_brings_every_group_and_records_what_came(
    site: Any, make: Make, array_file: bytes, packed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, body in (("cub", array_file), ("dtd", array_file), ("set", packed)):
        site.put(f"/{name}", {"body": body})
    assert run(make(), []) == 0
    digest = hashlib.sha256(array_file).hexdigest()
    assert lines(capsys.readouterr().out, "cub/images.npy", site.url + "/cub", digest)
    assert (tmp_path / "data" / "dtd" / "images.npy").read_bytes() == array_file
    assert (tmp_path / "data" / "set" / "ours" / "a").read_bytes() == b"1234"
    assert sorted(os.listdir(tmp_path / "data")) == ["cub", "downloads.lock.json", "dtd", "set"]
    files = json.loads((tmp_path / "data" / "downloads.lock.json").read_text())["files"]
    assert files["cub/images.npy"]["file"] == {"size": len(array_file), "sha256": digest}
    assert files["set.zip"]["unpacked"]["set/search/b"] == {"size": 2, "sha256": hashlib.sha256(b"56").hexdigest()}


def test_a_second_run_asks_for_nothing(site: Any, make: Make, array_file: bytes, packed: bytes) -> None:
    site.put("/cub", {"body": array_file})
    site.put("/set", {"body": packed})
    assert [run(make(), ["--name", "cub", "set"]) for _ in range(2)] == [0, 0]
    assert [path for path, _ in site.asked] == ["/cub", "/set"]


def test_a_dead_link_is_one_line_with_the_answer_and_the_way_by_hand_and_the_others_are_fetched(
    site: Any, make: Make, array_file: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("/dtd", {"body": array_file})
    assert run(make(), ["--name", "cub", "dtd"]) == 1
    streams = capsys.readouterr()
    errors = lines(streams.err, "error")
    folder = tmp_path / "data"
    assert errors == [
        f"download dataset: error: cub/images.npy could not be fetched: {site.url}/cub answered 404 Not Found; "
        "by hand: put what you fetched into a folder DIR and run "
        f"python -m download.dataset --name cub --dir-path {folder} --from DIR"
    ]
    assert lines(streams.err, "cub by other ways: ask for cub")
    assert "Traceback" not in streams.err
    assert (folder / "dtd" / "images.npy").is_file()


def test_a_file_that_changed_at_its_address_is_refused_after_the_first_use(
    site: Any, make: Make, array_file: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("/cub", {"body": array_file})
    assert run(make(), ["--name", "cub"]) == 0
    (tmp_path / "data" / "cub" / "images.npy").unlink()
    site.put("/cub", {"body": array_file[:-1] + b"!"})
    assert run(make(), ["--name", "cub"]) == 1
    assert lines(capsys.readouterr().err, "SHA-256", "downloads.lock.json")
    assert not (tmp_path / "data" / "cub" / "images.npy").exists()


@pytest.mark.parametrize("place", ["cub/images.npy", "images.npy"])
def test_a_file_fetched_by_hand_is_found_by_its_name_and_copied(
    site: Any, make: Make, array_file: bytes, tmp_path: Path, place: str
) -> None:
    file = tmp_path / "hand" / place
    file.parent.mkdir(parents=True)
    file.write_bytes(array_file)
    assert run(make(), ["--name", "cub", "--from", str(tmp_path / "hand")]) == 0
    assert (tmp_path / "data" / "cub" / "images.npy").read_bytes() == array_file
    assert file.read_bytes() == array_file
    assert site.asked == []


def test_a_base_name_that_two_groups_share_is_not_guessed(
    make: Make, array_file: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hand" / "dtd").mkdir(parents=True)
    (tmp_path / "hand" / "images.npy").write_bytes(array_file)
    (tmp_path / "hand" / "dtd" / "images.npy").write_bytes(array_file)
    assert run(make(), ["--name", "cub", "dtd", "--from", str(tmp_path / "hand")]) == 1
    assert lines(capsys.readouterr().err, "error", f"there is no {tmp_path / 'hand' / 'cub' / 'images.npy'}")
    assert sorted(os.listdir(tmp_path / "data")) == ["downloads.lock.json", "dtd"]


def test_a_damaged_file_from_hand_is_refused(
    make: Make, array_file: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images.npy").write_bytes(array_file[:-7])
    assert run(make(), ["--name", "cub", "--from", str(tmp_path)]) == 1
    assert lines(capsys.readouterr().err, "error", str(tmp_path / "images.npy"), "truncated", "fetch it again")
    assert not (tmp_path / "data" / "cub").exists()


def test_an_archive_from_hand_is_unpacked_and_stays_where_it_was(make: Make, packed: bytes, tmp_path: Path) -> None:
    (tmp_path / "hand").mkdir()
    (tmp_path / "hand" / "set.zip").write_bytes(packed)
    assert run(make(), ["--name", "set", "--from", str(tmp_path / "hand")]) == 0
    assert (tmp_path / "data" / "set" / "search" / "b").read_bytes() == b"56"
    assert (tmp_path / "hand" / "set.zip").read_bytes() == packed


def test_a_hostile_archive_is_one_line_and_leaves_no_file_outside(
    site: Any, make: Make, zip_file: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("/set", {"body": zip_file({"../evil": b"1"})})
    assert run(make(), ["--name", "set"]) == 1
    assert lines(capsys.readouterr().err, "error", "'../evil' would land outside of the folder")
    assert not list(tmp_path.rglob("evil"))


def test_verify_tells_intact_damaged_and_missing_files(
    site: Any, make: Make, array_file: bytes, packed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.put("/cub", {"body": array_file})
    site.put("/set", {"body": packed})
    assert run(make(), ["--name", "cub", "set"]) == 0
    assert run(make(), ["--name", "cub", "set", "--verify"]) == 0
    capsys.readouterr()
    (tmp_path / "data" / "cub" / "images.npy").write_bytes(array_file[:-1] + bytes([array_file[-1] ^ 1]))
    (tmp_path / "data" / "set" / "search" / "b").unlink()
    assert run(make(), ["--verify"]) == 1
    verdicts = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert verdicts.pop("cub/images.npy").startswith("damaged: its SHA-256 is ")
    assert verdicts == {"dtd/images.npy": "missing", "set/ours/a": "intact", "set/search/b": "missing"}
    assert len(site.asked) == 2


def test_a_file_that_was_there_before_is_recorded_and_then_guarded(
    site: Any, make: Make, array_file: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "data" / "cub" / "images.npy"
    path.parent.mkdir(parents=True)
    path.write_bytes(array_file)
    assert run(make(), ["--name", "cub", "--verify"]) == 1
    assert "not recorded" in capsys.readouterr().out
    assert run(make(), ["--name", "cub"]) == 0
    assert run(make(), ["--name", "cub", "--verify"]) == 0
    path.write_bytes(b"short")
    assert run(make(), ["--name", "cub"]) == 1
    assert lines(capsys.readouterr().err, "error", str(path), "delete it and run the command again")
    assert path.read_bytes() == b"short"
    assert site.asked == []


def test_list_shows_what_is_there_without_asking(
    site: Any, make: Make, array_file: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "dtd").mkdir(parents=True)
    (tmp_path / "data" / "dtd" / "images.npy").write_bytes(array_file)
    assert run(make(), ["--list"]) == 0
    out = capsys.readouterr().out
    assert lines(out, "cub/images.npy: not there; size unknown", f"{site.url}/cub", "free")
    assert lines(out, "dtd/images.npy: there")
    assert site.asked == []


def test_a_damaged_record_is_one_line(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "downloads.lock.json").write_text('{"format": 1, "files": {"cub/images.npy": 3}}')
    assert run(make(), []) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "downloads.lock.json is damaged" in errors[0]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--name", "cuub"], "unknown name 'cuub', did you mean cub? known are all, cub, dtd, set"),
        (["--from", "nowhere"], "--from nowhere: there is no such folder"),
        (["--nme", "cub"], "unrecognized arguments"),
    ],
)
def test_wrong_usage_exits_with_two(
    make: Make, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(make(), argv) == 2
    assert message in capsys.readouterr().err


def test_debug_shows_where_an_error_comes_from(make: Make) -> None:
    with pytest.raises(RuntimeError, match="404"):
        run(make(), ["--name", "cub", "--debug"])


class Bar:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def update(self, num_bytes: int) -> None:
        raise self.error

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, ("interrupted: 65536 bytes of cub/images.npy are kept in", "goes on from here")),
        (
            OSError(errno.ENOSPC, "full"),
            1,
            ("the disk is full: 65536 bytes of cub/images.npy are kept in", "make room"),
        ),
    ],
)
def test_an_interrupt_and_a_full_disk_end_the_command_with_one_line(
    site: Any,
    make: Make,
    array_file: bytes,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    words: tuple[str, ...],
) -> None:
    site.put("/cub", {"body": array_file})
    with monkeypatch.context() as patch:
        patch.setattr(download.fetch, "track", lambda **_: Bar(error))
        assert run(make(), ["--name", "cub", "dtd"]) == code
    assert len(lines(capsys.readouterr().err, "download dataset: ", *words)) == 1
    assert [path for path, _ in site.asked] == ["/cub"]
    assert run(make(), ["--name", "cub"]) == 0
    assert site.ranges_asked() == [None, "bytes=65536-"]


def test_two_processes_do_not_write_into_one_folder(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with exclusive(tmp_path / "data"):
        assert run(make(), ["--name", "cub"]) == 1
    assert lines(capsys.readouterr().err, "error", "another download into", "is running")


def test_the_shipped_commands_know_their_names_and_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dataset.main(["--name", "cub", "mnist", "--list"]) == 0
    assert len(lines(capsys.readouterr().out, "dropbox", "cub/")) == 4
    assert checkpoint.main(["--list"]) == 0
    assert len(lines(capsys.readouterr().out, "model_best.pth.tar: not there")) == 14
    assert preprocessed.main(["--dir_path", str(tmp_path), "--verify"]) == 1
    assert capsys.readouterr().out == "preprocessed.zip: missing\n"
    assert list(tmp_path.iterdir()) == []


def test_stanford_cars_says_that_torchvision_cannot_help_and_what_to_do() -> None:
    text = load_manifest(REPOSITORY / "download" / "datasets.yaml").by_hand["stanford_cars"]
    assert "torchvision cannot fetch it" in text
    assert "a folder of class folders works" in text


@pytest.mark.parametrize("name", sorted(TORCHVISION_SETS))
def test_addresses_shown_for_torchvision_sets_are_those_that_torchvision_uses(name: str) -> None:
    from torchvision import datasets

    known = TORCHVISION_SETS[name]
    cls = getattr(datasets, known.class_name)
    own = {
        "CIFAR10": lambda: {cls.url},
        "CIFAR100": lambda: {cls.url},
        "MNIST": lambda: {mirror + file for mirror in cls.mirrors for file, _ in cls.resources},
        "SVHN": lambda: {cls.split_list[part["split"]][0] for part in known.parts},
        "FGVCAircraft": lambda: {cls._URL},
        "OxfordIIITPet": lambda: {url for url, _ in cls._RESOURCES},
        "DTD": lambda: {cls._URL},
    }[known.class_name]()
    assert own >= set(known.urls)
    assert {url.rsplit("/", 1)[1] for url in own} == {url.rsplit("/", 1)[1] for url in known.urls}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def test_a_torchvision_set_that_is_there_is_verified_and_not_fetched(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = make(mnist=TORCHVISION_SETS["mnist"])
    assert run(command, ["--name", "mnist", "--verify"]) == 1
    assert "mnist: missing or damaged: Dataset not found" in capsys.readouterr().out
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(np.zeros((2, 28, 28))))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(2)))
    assert run(command, ["--name", "mnist", "--verify"]) == 0
    assert run(command, ["--name", "mnist"]) == 0
    assert "mnist: fetched through torchvision.datasets.MNIST" in capsys.readouterr().out


def test_archives_of_a_torchvision_set_are_taken_from_hand(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = make(pets=TORCHVISION_SETS["pets"])
    hand = tmp_path / "hand"
    hand.mkdir()
    (hand / "images.tar.gz").write_bytes(b"1")
    assert run(command, ["--name", "pets", "--from", str(hand)]) == 1
    assert lines(capsys.readouterr().err, "error", "annotations.tar.gz is not among the files fetched by hand")
    (hand / "annotations.tar.gz").write_bytes(b"2")
    seen = {}

    def open_set(known: TorchvisionSet, root: Path, *, download: bool) -> None:
        seen.update({path.name: path.read_bytes() for path in (root / known.folder).iterdir()})

    monkeypatch.setattr(torchvision_sets, "_open", open_set)
    assert run(command, ["--name", "pets", "--from", str(hand)]) == 0
    assert seen == {"images.tar.gz": b"1", "annotations.tar.gz": b"2"}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (URLError("no route"), ("could not be fetched through torchvision from https://www", "no route", "--from DIR")),
        (EOFError("ended early"), ("an archive is damaged (ended early): delete",)),
    ],
)
def test_a_failure_of_torchvision_is_one_line(
    make: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    words: tuple[str, ...],
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torchvision_sets, "_open", fail)
    assert run(make(pets=TORCHVISION_SETS["pets"]), ["--name", "pets"]) == 1
    assert len(lines(capsys.readouterr().err, "download dataset: error: pets", *words)) == 1


@pytest.mark.parametrize("name", ["dataset", "checkpoint", "preprocessed", "features"])
def test_a_command_runs_by_its_path(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = REPOSITORY / "download" / f"{name}.py"
    elsewhere = [path for path in sys.path if Path(path).resolve() != REPOSITORY]
    monkeypatch.setattr(sys, "path", [str(script.parent), *elsewhere])  # as Python sets it for a script
    monkeypatch.setattr(sys, "argv", [str(script), "--name", "x"])
    for module in [module for module in sys.modules if module.split(".")[0] == "download"]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 2
    assert f"python -m download.{name}: error: unknown name 'x'" in capsys.readouterr().err
