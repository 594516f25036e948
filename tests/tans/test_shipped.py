import shutil
from pathlib import Path

import pytest
import torch

from tans.features import Features
from tans.retrieve import Bounds
from tans.search import open_searcher
from tans.shipped import SHIPPED_ZOO
from tans.zoo import open_zoo
from tans.zoo_verify import verify

MOST_BYTES = 10_000_000


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that no test touches what is shipped."""
    return Path(shutil.copytree(SHIPPED_ZOO, tmp_path_factory.mktemp("shipped") / "zoo"))


def test_the_shipped_zoo_is_whole_and_as_large_as_it_should_be(shipped: Path) -> None:
    assert sum(path.stat().st_size for path in shipped.rglob("*") if path.is_file()) <= MOST_BYTES
    with open_zoo(shipped) as zoo:
        assert verify(zoo, num_recomputed=6) == []
        counts = [row.dataset for row in zoo.networks()]
    assert len({*counts}) >= 12
    assert min(counts.count(name) for name in counts) >= 20


def test_the_shipped_encoders_find_the_datasets_of_unseen_images(shipped: Path) -> None:
    with open_zoo(shipped) as zoo:
        searcher = open_searcher(zoo, None, torch.device("cpu"))
        for name, row in zoo.queries("test").items():
            found = searcher.search(row.mean, 10, "predictor", Bounds(), 10)
            assert found.rows[0].dataset == name
            assert found.rows[found.chosen[0]].dataset == name


def test_the_shipped_zoo_serves_a_dataset_that_needs_no_download(shipped: Path, tmp_path: Path) -> None:
    features = Features(extractor="compact", max_per_class=20, cache=tmp_path)
    extractor = features.load()
    device = torch.device("cpu")
    with open_zoo(shipped) as zoo:
        assert zoo.settings.extractor == extractor.id
        searcher = open_searcher(zoo, None, device)
        found = features.of("digits", extractor, data_root=None, device=device, part="train", seed=0)
        result = searcher.search(found.features.mean(0), 10, "predictor", Bounds(max_params=100_000), 10)
    assert len(result.rows) == 10
    assert all(row.num_params + row.head(10) <= 100_000 for row in result.rows)
