"""The official accuracies become our table: read safely, compared with what the benchmark's own package answers."""

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.spaces.nasbench201 import NasBench201Space
from common.spaces.nasbench201_table import COLUMNS, TABLE_PATH, Column, load_table
from download import nasbench201
from download.fetch import Fetcher
from download.manifest import load_manifest
from download.nasbench201_official import read_official, to_table

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nas_201_api import ArchResults, NASBench201API, ResultsCount

SPACE = NasBench201Space()
FILE = "NAS-Bench-201-v1_1-096897.pth"
EVALUATED = {  # training -> parts evaluated after every epoch, and after the last one only
    "cifar10-valid": (["x-valid"], ["ori-test"]),
    "cifar10": (["ori-test"], []),
    "cifar100": (["ori-test"], ["x-valid", "x-test"]),
    "ImageNet16-120": (["ori-test"], ["x-valid", "x-test"]),
}
Content = dict[str, Any]


def trial(random: np.random.Generator, training: str, text: str, seed: int, epochs: int) -> ResultsCount:
    """One training of a cell, recorded by the package."""

    def curve() -> dict[int, float]:
        return {epoch: round(float(value), 3) for epoch, value in enumerate(random.uniform(0, 100, epochs))}

    config = {"channel": 16, "num_cells": 5, "arch_str": text, "class_num": 10}
    result = ResultsCount(
        training, None, curve(), curve(), np.float64(1.07), np.float64(153.3), config, seed, epochs, None
    )
    result.update_train_info(curve(), curve(), curve(), curve())
    always, last = EVALUATED[training]
    for part in always:
        result.update_OLD_eval(part, curve(), curve())
    for part in last:
        final = {epochs - 1: np.float64(random.uniform(0, 100))}  # NumPy scalars, as averages over batches are
        result.update_OLD_eval(part, final, final)
    result.update_latency([0.01, 0.02])
    return result


def record(random: np.random.Generator, index: int, text: str, epochs: int, num_trials: int) -> Content:
    """All trainings of a cell of one length."""
    results = ArchResults(index, text)
    for training in EVALUATED:
        for seed in (888, 777, 999)[:num_trials]:
            results.update(training, seed, trial(random, training, text, seed, epochs))
    return results.state_dict()


def content(num: int = 5) -> Content:
    """What the official file holds, for a few cells."""
    random = np.random.default_rng(0)
    texts = [SPACE.format(cell) for cell in SPACE.sample(num, torch.Generator().manual_seed(3))]
    infos = {
        index: {
            "full": record(random, index, text, 200, 1 + index % 3),
            "less": record(random, index, text, 12, 1),
        }
        for index, text in enumerate(texts)
    }
    return {"meta_archs": texts, "arch2infos": infos, "evaluated_indexes": {*range(num)}}


def whole() -> Content:
    """All 15,625 cells in an order of their own; records of five templates stand for those of all."""
    templates = content()["arch2infos"]
    order = torch.randperm(15_625, generator=torch.Generator().manual_seed(1)).tolist()
    cells = SPACE.all()
    texts = [SPACE.format(cells[position]) for position in order]
    infos = {
        index: {run: templates[index % 5][run] | {"arch_str": text} for run in ("full", "less")}
        for index, text in enumerate(texts)
    }
    return {"meta_archs": texts, "arch2infos": infos, "evaluated_indexes": {*range(15_625)}}


@pytest.fixture(scope="module")
def few() -> Content:
    return content()


@pytest.fixture(scope="module")
def all_cells() -> Content:
    return whole()


def saved(path: Path, value: object, *, zipped: bool = False) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)  # the official file is of the older form
    return path


@pytest.fixture(scope="module")
def official(all_cells: Content, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of all cells, of which one was not trained on CIFAR-100 for 12 epochs."""
    less = all_cells["arch2infos"][7]["less"]
    seeds = {training: found for training, found in less["dataset_seed"].items() if training != "cifar100"}
    spoilt = all_cells["arch2infos"][7] | {"less": less | {"dataset_seed": seeds}}
    value = all_cells | {"arch2infos": all_cells["arch2infos"] | {7: spoilt}}
    return saved(tmp_path_factory.mktemp("official") / FILE, value)


def answer(api: NASBench201API, index: int, column: Column) -> float:
    """Percentage that the package gives for a cell."""
    name = {"imagenet16_120": "ImageNet16-120"}.get(column.dataset, column.dataset)
    part = "valid-accuracy" if column.split == "valid" else "test-accuracy"
    training = "cifar10-valid" if (name, column.split) == ("cifar10", "valid") else name
    return float(api.get_more_info(index, training, hp=str(column.epochs), is_random=False)[part])


@pytest.mark.parametrize("zipped", [False, True])
def test_the_safe_reader_gives_what_the_package_wrote(few: Content, tmp_path: Path, zipped: bool) -> None:
    read = read_official(saved(tmp_path / FILE, few, zipped=zipped))
    assert read == few
    assert isinstance(read["arch2infos"][0]["full"]["all_results"]["cifar10", 888]["params"], np.float64)


def test_the_table_says_what_the_package_says(all_cells: Content) -> None:
    rows = [0, 1, 2, 3, 4, 15_623, 15_624]
    part = {
        "meta_archs": [all_cells["meta_archs"][row] for row in rows],
        "arch2infos": {place: all_cells["arch2infos"][row] for place, row in enumerate(rows)},
        "evaluated_indexes": rows,
    }
    api = NASBench201API(part, verbose=False)
    table = to_table(all_cells)
    assert [*table.columns] == [*COLUMNS]
    for place, row in enumerate(rows):
        assert SPACE.format(table.cells[row]) == api.arch(place)
        for column in COLUMNS:
            expected = answer(api, place, column) / 100
            assert float(table.columns[column][row]) == pytest.approx(expected, abs=1e-7), (row, column)


def test_the_command_makes_the_table_that_is_found_in_the_data_root(
    official: Path, all_cells: Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nasbench201.main(["--from", str(official), "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    left_out = "; not in the file: cifar100_test_12, cifar100_val_12"
    assert captured.out == f"{tmp_path / TABLE_PATH}: 15625 cells{left_out}\n"
    assert f"reading {official}, which takes about" in captured.err
    table = load_table(tmp_path)
    expected = to_table(all_cells)
    assert table.cells == expected.cells
    assert {*expected.columns} - {*table.columns} == {Column("cifar100", split, 12) for split in ("test", "valid")}
    for column, values in table.columns.items():  # written with 4 decimals of a percentage
        torch.testing.assert_close(values, expected.columns[column], rtol=0, atol=6e-7)


def test_a_table_that_is_there_is_not_overwritten(
    few: Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / TABLE_PATH).parent.mkdir()
    (tmp_path / TABLE_PATH).write_bytes(b"mine")
    path = saved(tmp_path / FILE, few)
    assert nasbench201.main(["--from", str(path), "--out", str(tmp_path)]) == 1
    assert "nasbench201.csv.gz is there already: delete it, or say another folder with --out" in capsys.readouterr().err
    assert (tmp_path / TABLE_PATH).read_bytes() == b"mine"


def drop(*keys: Any) -> Callable[[Content], Content]:
    """Content without the entry that the keys lead to; what is not on the way is shared."""

    def without(value: Any, path: tuple[Any, ...]) -> Any:
        if len(path) == 1:
            return {key: item for key, item in value.items() if key != path[0]}
        return value | {path[0]: without(value[path[0]], path[1:])}

    return lambda value: without(value, keys)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda c: c, "5 cells are there instead of 15625", id="few cells"),
        pytest.param(drop("arch2infos", 3), "1 of 5 cells have no results, the first is 3", id="no results"),
        pytest.param(
            drop("arch2infos", 3, "full"), r"another form than .*pth \(KeyError: 'full'\)", id="no 200 epochs"
        ),
        pytest.param(drop("arch2infos", 0, "less", "all_results"), "KeyError: 'all_results'", id="no trials"),
        pytest.param(
            drop("arch2infos", 0, "full", "all_results", ("cifar10", 888)),
            r"KeyError: \('cifar10', 888\)",
            id="one less",
        ),
        pytest.param(lambda c: c | {"arch2infos": [1, 2]}, "another form than", id="a list"),
        pytest.param(lambda c: c | {"meta_archs": ["|none~0|", *c["meta_archs"][1:]]}, "is malformed", id="text"),
        pytest.param(
            lambda c: c | {"meta_archs": c["meta_archs"][::-1]}, "results of '.*' stand where those of", id="order"
        ),
    ],
)
def test_content_of_another_form_is_refused_in_one_line(
    few: Content, spoil: Callable[[Content], Content], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / FILE, spoil(few))
    with pytest.raises(ValueError, match=reason):
        to_table(spoil(few))
    assert nasbench201.main(["--from", str(path), "--out", str(tmp_path)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"download nasbench201: error: {path}: ")
    assert not (tmp_path / TABLE_PATH).exists()


class Trap:
    """Leaves a mark where a reader runs what a file says."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [False, True])
def test_nothing_in_a_file_is_run(
    few: Content, tmp_path: Path, zipped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / FILE, few | {"evaluated_indexes": Trap(tmp_path / "sprung")}, zipped=zipped)
    assert nasbench201.main(["--from", str(path), "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{path} holds objects of posix.mkdir, which are not made" in error
    assert not (tmp_path / "sprung").exists()


def test_objects_of_the_package_are_refused_since_the_official_file_has_none(few: Content, tmp_path: Path) -> None:
    path = saved(tmp_path / FILE, few | {"evaluated_indexes": ArchResults(0, few["meta_archs"][0])})
    with pytest.raises(RuntimeError, match=r"holds objects of nas_201_api.api_utils.ArchResults, which are not"):
        read_official(path)


@pytest.mark.parametrize(
    "data", [b"", b"<html>gone</html>", b"PK\x03\x04 and no more", pickle.dumps([1, 2], protocol=2)]
)
def test_other_files_are_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(RuntimeError, match="is damaged") as caught:
        read_official(tmp_path / FILE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused_in_one_line(few: Content, tmp_path: Path, share: float) -> None:
    path = saved(tmp_path / FILE, few)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(RuntimeError, match="is damaged") as caught:
        read_official(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [[1, 2], {"meta_archs": []}, torch.zeros(3)])
def test_files_that_hold_something_else_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(
        RuntimeError, match="is not the official file of NAS-Bench-201, which has meta_archs and arch2in"
    ):
        read_official(saved(tmp_path / FILE, value))


def test_a_missing_file_and_wrong_usage_have_their_exit_codes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nasbench201.main(["--from", str(tmp_path / "no.pth"), "--out", str(tmp_path)]) == 1
    assert f"error: there is no file {tmp_path / 'no.pth'}" in capsys.readouterr().err
    assert nasbench201.main(["--frm", "x"]) == 2
    assert nasbench201.main(["--help"]) == 0
    assert "33 GB of memory" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        nasbench201.main(["--from", str(tmp_path / "no.pth"), "--out", str(tmp_path), "--debug"])


def test_the_manifest_lists_the_official_file() -> None:
    manifest = load_manifest(nasbench201.MANIFEST)
    (entry,) = manifest.entries
    assert entry.target == FILE
    assert all("16Y0UwGisiouVRxW-W5hEtbxmcHw_0hF_" in url for url in entry.urls)
    assert "python -m download.nasbench201 --from FILE" in manifest.by_hand["nasbench201"]


@pytest.fixture
def served(site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A manifest whose address is that of the test's server."""
    text = nasbench201.MANIFEST.read_text().split("      urls:")[0]
    changed = f'{text}      urls: ["{site.url}/file"]\n      size: null\n      sha256: null\n'
    (tmp_path / "manifest.yaml").write_text(changed)
    monkeypatch.setattr(nasbench201, "MANIFEST", tmp_path / "manifest.yaml")
    return site


def test_without_a_file_the_official_one_is_fetched_once(
    served: Any, fetcher: Fetcher, few: Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = saved(tmp_path / "few.pth", few).read_bytes()
    served.put("/file", {"body": body})
    for told in (f"{FILE}: {len(body) / 1e6:.3f} MB from {served.url}/file, SHA-256", f"{FILE}: is there already"):
        assert nasbench201.main(["--out", str(tmp_path)], fetcher) == 1
        captured = capsys.readouterr()
        assert captured.out.startswith(told)
        assert "error: " in captured.err
        assert "5 cells are there instead of 15625" in captured.err  # the file that came was read
    assert len(served.asked) == 1
    assert (tmp_path / "nasbench201" / FILE).read_bytes() == body


def test_a_page_instead_of_the_file_ends_in_what_to_do_by_hand(
    served: Any, fetcher: Fetcher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served.put("/file", {"body": b"<!doctype html><p>too large to scan</p>", "content_type": "text/html"})
    assert nasbench201.main(["--out", str(tmp_path)], fetcher) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "sent an HTML page instead of the file" in error
    assert "by hand: fetch NAS-Bench-201-v1_1-096897.pth in a browser" in error
    assert "--from FILE" in error
