"""Tables that a search step leaves: every evaluation, and those that no other beats in accuracy and cost."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from common.experiment.files import write_text
from common.store.records import Record
from mfkd.evaluations import Fidelity

_COLUMNS = (
    *("worker_id", "performance", "desc", "index", "architecture"),
    *("fidelity", "macs", "num_params", "seconds", "seed"),
)


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One evaluation as tables show it.

    Attributes:
        point: index in the space.
        fidelity: of the training.
        record: what was measured.
        description: of the network.
    """

    point: int
    fidelity: Fidelity
    record: Record
    description: dict[str, Any]


def pareto(accuracy: ArrayLike, macs: ArrayLike) -> list[int]:
    """Rows that no other row beats, from cheap to accurate; of equal rows the first.

    Args:
        accuracy: (N,), more is better.
        macs: (N,), less is better.
    """
    accuracies, costs = np.asarray(accuracy, np.float64), np.asarray(macs, np.float64)
    order = np.lexsort((-accuracies, costs))
    best_before = np.maximum.accumulate(np.concatenate([[-np.inf], accuracies[order]]))[:-1]
    kept: list[int] = order[accuracies[order] > best_before].tolist()
    return kept


def write_tables(folder: Path, evaluated: Sequence[Evaluated]) -> list[int]:
    """Write `output.csv` with every evaluation in its order, and `pareto_front.csv` with some of its rows.

    The columns are those of Vega (`performance` is the accuracy in [0, 1]), and what we know besides.

    Returns:
        Rows on the front.
    """
    front = pareto([one.record.final_accuracy for one in evaluated], [one.record.macs for one in evaluated])
    rows = [_row(number, one) for number, one in enumerate(evaluated, 1)]
    write_text(folder / "output.csv", _csv(rows))
    write_text(folder / "pareto_front.csv", _csv([rows[row] for row in front]))
    return front


def _row(number: int, one: Evaluated) -> list[Any]:
    record = one.record
    return [
        *(number, record.final_accuracy, json.dumps(one.description), one.point, record.architecture),
        *(one.fidelity, record.macs, record.num_params, round(record.seconds, 3), record.seed),
    ]


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
    return text.getvalue()
