"""The published evaluations, for tests marked `data`, and a small space that every search can be tried on."""

from pathlib import Path

import numpy as np
import pytest

from mfkd.domain import ProductDomain
from mfkd.tables import EvaluationTable, load_tables

PAIR = np.array([-1.0, 1.0])
QUARTET = np.array([-3.0, -1.0, 1.0, 3.0]) / np.sqrt(5)


@pytest.fixture(scope="session")
def tables(data_root: Path) -> dict[tuple[str, str], EvaluationTable]:
    return load_tables(data_root)


@pytest.fixture(scope="session")
def four_layers() -> ProductDomain:
    """Layers 0 to 3 of the published space: 4,096 points of 8 features."""
    return ProductDomain((PAIR, QUARTET) * 4)


@pytest.fixture(scope="session")
def seven_layers() -> ProductDomain:
    """The published space: 2,097,152 points of 14 features."""
    return ProductDomain((PAIR, QUARTET) * 7)
