import sys

import pytest
import torch
import torch.nn.functional as F

from tans import approximate
from tans.approximate import FaissIndex, has_faiss, make_index
from tans.retrieve import ExactIndex

needs_faiss = pytest.mark.skipif(not has_faiss(), reason="FAISS is an extra: pip install -e .[faiss]")


def clustered(num: int, width: int = 32) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    centres = torch.randn(50, width, generator=draws)
    chosen = centres[torch.randint(50, (num,), generator=draws)]
    return F.normalize(chosen + 0.3 * torch.randn(num, width, generator=draws), dim=1)


@needs_faiss
def test_the_finalists_are_nearly_those_of_the_exact_search() -> None:
    vectors, queries = clustered(20_000), clustered(64)
    index, exact = FaissIndex([vectors[:7000], vectors[7000:]]), ExactIndex([vectors])
    products, places = index.search(queries, 10)
    _, best = exact.search(queries, 10)
    hits = sum(len({*one} & {*two}) for one, two in zip(places.tolist(), best.tolist(), strict=True))
    assert hits / 640 >= 0.95
    torch.testing.assert_close(products, torch.einsum("qd,qkd->qk", queries, vectors[places]))


@needs_faiss
def test_bounds_are_never_broken_and_few_allowed_ones_are_found_exactly() -> None:
    vectors, queries = clustered(5000), clustered(5)
    index, exact = FaissIndex([vectors]), ExactIndex([vectors])
    for num_allowed in (2000, 12):
        mask = torch.zeros(5000, dtype=torch.bool)
        mask[torch.randperm(5000, generator=torch.Generator().manual_seed(1))[:num_allowed]] = True
        places = index.search(queries, 10, mask)[1]
        assert mask[places].all()
    assert torch.equal(places, exact.search(queries, 10, mask)[1])


def test_small_zoos_and_machines_without_faiss_are_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(100)
    assert isinstance(make_index([vectors], torch.device("cpu")), ExactIndex)
    monkeypatch.setattr(approximate, "MOST_EXACT", 10)
    monkeypatch.setattr(approximate, "has_faiss", lambda: False)
    assert isinstance(make_index([vectors], torch.device("cpu")), ExactIndex)


def test_a_missing_faiss_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(RuntimeError, match=r"pip install -e \.\[faiss\]"):
        FaissIndex([clustered(100)])
