"""Reading the published evaluations, and searches on them."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from mfkd.algorithms import mfkd1
from mfkd.config import Mfkd1Config
from mfkd.evaluations import Evaluation
from mfkd.tables import FULL, EvaluationTable, Setting, load_tables

HEADER = "dataset,space,arch,method,part,valid_acc,test_acc,wall_time_s\n"
ARCHS = (
    "space,arch,channels,repetitions\n"
    "mobilenet,0,16 32 64 128 184 320 440 536,4 1 4 4 2 1 2 2\n"
    "mobilenet,1,16 40 56 96 192 208 280 352,2 1 1 4 2 3 1 2\n"
)
ROWS = (
    "cifar100,mobilenet,1,kd,27,0.136633,0.5,12.5\n"
    "cifar100,mobilenet,0,kd,27,0.2,0.4,10\n"
    "cifar100,mobilenet,0,nokd,1,0.7,0.6,100\n"
)


def write(root: Path, rows: str = ROWS, header: str = HEADER) -> Path:
    (root / "mfkd").mkdir(parents=True)
    (root / "mfkd" / "mfkd_archs.csv").write_text(ARCHS)
    (root / "mfkd" / "mfkd_benchmark.csv.gz").write_bytes(gzip.compress((header + rows).encode()))
    return root


def test_values_stand_where_their_networks_and_settings_say(tmp_path: Path) -> None:
    table = load_tables(write(tmp_path))["cifar100", "mobilenet"]
    cheap, full = table.at(Setting("kd", 27)), table.at(FULL)
    # 0.136633 is a third of 1/10,000 that was rounded
    np.testing.assert_allclose(cheap.valid, [0.2, 0.40990 / 3], atol=1e-15)
    np.testing.assert_allclose((cheap.test, cheap.seconds), [[0.4, 0.5], [10, 12.5]])
    np.testing.assert_allclose((full.valid, full.test, full.seconds), [[0.7, np.nan], [0.6, np.nan], [100, np.nan]])
    features = table.domain.features([0, 1])
    assert features.shape == (2, 16)
    assert sorted(np.abs(features[0])) == [0.0] * 5 + [1.0] * 11


def test_a_table_answers_a_search_and_counts_its_seconds(tmp_path: Path) -> None:
    table = load_tables(write(tmp_path))["cifar100", "mobilenet"]
    evaluate = table.evaluate(Setting("kd", 27))
    assert evaluate([1, 0], "low") == [pytest.approx(0.1366333333), 0.2]
    assert evaluate([0], "high") == [0.7]
    made = [Evaluation(1, "low", 0.1), Evaluation(0, "low", 0.2), Evaluation(0, "high", 0.7)]
    assert table.seconds(made, Setting("kd", 27)) == 122.5
    assert mfkd1(table.domain, evaluate, Mfkd1Config(max_samples=2)).choice.point == 0


def test_what_was_not_trained_is_said(tmp_path: Path) -> None:
    table = load_tables(write(tmp_path))["cifar100", "mobilenet"]
    with pytest.raises(ValueError, match=r"no evaluations of nst 1/9; it has kd 1/27, nokd 1/1"):
        table.at(Setting("nst", 9))
    with pytest.raises(ValueError, match=r"network 1 was not trained with .*nokd"):
        table.evaluate(Setting("kd", 27))([0, 1], "high")


def test_the_files_are_found_in_the_root_or_beside_it(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images").mkdir()
    assert load_tables(tmp_path / "images").keys() == load_tables(tmp_path).keys()
    with pytest.raises(FileNotFoundError, match=r"mfkd_benchmark\.csv\.gz.*point NAS_DATA or --data-root"):
        load_tables(tmp_path / "nowhere" / "at_all")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("cifar100,mobilenet,0,kd,27,20.5,0.4,10\n", "accuracy outside"),
        ("cifar100,mobilenet,0,kd,27,nan,0.4,10\n", "accuracy outside"),
        ("cifar100,mobilenet,0,kd,27,0.5,0.4,-1\n", "negative time"),
        ("cifar100,mobilenet,0,kd,27,0.2,0.4,10\n" * 2, "twice"),
        ("cifar100,mobilenet,2,kd,27,0.2,0.4,10\n", "not among the 2"),
        ("cifar100,mobilenet,-1,kd,27,0.2,0.4,10\n", "not among the 2"),
        ("cifar100,mobilenet,0,kd,27,0.2,0.4\n", "damaged"),
        ("cifar100,mobilenet,0,kd,all,0.2,0.4,10\n", "damaged"),
        ("cifar100,vgg,0,kd,27,0.2,0.4,10\n", "space 'vgg'; known are mobilenet, shufflenet"),
    ],
)
def test_damaged_rows_are_refused_by_file(tmp_path: Path, rows: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"mfkd_benchmark.csv.gz .*{reason}"):
        load_tables(write(tmp_path, rows))


def test_other_files_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path, header="a,b,c\n")
    with pytest.raises(ValueError, match="the columns are not dataset, space"):
        load_tables(root)
    file = root / "mfkd" / "mfkd_benchmark.csv.gz"
    whole = gzip.compress((HEADER + ROWS).encode())
    for content in (b"no archive", whole[:-12], whole[:30] + b"\0\0\0\0" + whole[34:]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"mfkd_benchmark\.csv\.gz is damaged"):
            load_tables(root)


@pytest.mark.data
def test_all_published_evaluations_are_there(tables: dict[tuple[str, str], EvaluationTable]) -> None:
    sizes = {key: table.domain.size for key, table in tables.items()}
    assert sizes == {("cifar100", "mobilenet"): 100, ("cifar100", "shufflenet"): 300, ("imagenet", "mobilenet"): 100}
    counted = [np.isfinite(m.valid).sum() for table in tables.values() for m in table.measurements.values()]
    assert sum(counted) == 12_611
    methods = ["attention", "correlation", "crd", "hint", "kd", "nokd", "nst", "pkt", "similarity", "vid"]
    expected = {Setting(method, part) for method in methods for part in (27, 9, 3)} | {FULL}
    for space in ("mobilenet", "shufflenet"):
        assert set(tables["cifar100", space].measurements) == expected
    imagenet = tables["imagenet", "mobilenet"]
    assert set(imagenet.measurements) == {Setting("kd", 27), Setting("nokd", 27), FULL}
    assert np.isfinite(imagenet.at(FULL).valid).sum() == 11
