import csv
import json
from pathlib import Path

import numpy as np
import pytest

from common.store.records import Record
from mfkd.outputs import Evaluated, pareto, write_tables


def evaluated(point: int, accuracy: float, macs: int) -> Evaluated:
    record = Record(
        task="made",
        space="made",
        architecture=f"net{point}",
        recipe="r",
        seed=7,
        best_accuracy=1.0,
        final_accuracy=accuracy,
        initial_accuracy=0.1,
        final_loss=1.0,
        num_params=10,
        macs=macs,
        seconds=1.5,
    )
    return Evaluated(point=point, fidelity="low", record=record, description={"custom": {"type": "made"}})


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_other_beats(seed: int) -> None:
    random = np.random.default_rng(seed)
    accuracy, macs = random.integers(0, 6, 15) / 5, random.integers(1, 6, 15)
    points = list(zip(accuracy.tolist(), macs.tolist(), strict=True))
    wanted = {(a, m) for a, m in points if not any((b >= a and n <= m) and (b, n) != (a, m) for b, n in points)}
    front = pareto(accuracy, macs)
    assert {points[row] for row in front} == wanted
    assert len(front) == len(wanted), "equal rows are there once"
    assert [points[row][1] for row in front] == sorted(m for _, m in wanted)


def test_tables_have_every_evaluation_and_the_front(tmp_path: Path) -> None:
    rows = [evaluated(5, 0.5, 200), evaluated(3, 0.4, 300), evaluated(9, 0.3, 100)]
    assert write_tables(tmp_path, rows) == [2, 0]
    with (tmp_path / "output.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["worker_id"], row["index"], float(row["performance"]), row["macs"]) for row in table] == [
        ("1", "5", 0.5, "200"),
        ("2", "3", 0.4, "300"),
        ("3", "9", 0.3, "100"),
    ]
    assert json.loads(table[0]["desc"]) == {"custom": {"type": "made"}}
    with (tmp_path / "pareto_front.csv").open(newline="") as file:
        assert [row["index"] for row in csv.DictReader(file)] == ["9", "5"]
