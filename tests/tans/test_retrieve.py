from pathlib import Path

import pytest
import torch

from tans.retrieve import Bounds, ExactIndex, Infeasible, feasible, select
from tans.vectors import read_rows, write_rows
from tans.zoo import open_zoo


def brute_force(vectors: torch.Tensor, query: torch.Tensor, num: int, mask: torch.Tensor) -> list[int]:
    scores = [float(query @ vectors[i]) if mask[i] else -float("inf") for i in range(len(vectors))]
    return sorted(range(len(vectors)), key=lambda i: -scores[i])[: min(num, int(mask.sum()))]


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.04])
def test_the_index_finds_what_brute_force_finds(chunk: int, share: float) -> None:
    draws = torch.Generator().manual_seed(int(100 * share) + chunk)
    vectors = torch.randn(120, 16, generator=draws)
    queries = torch.randn(4, 16, generator=draws)
    mask = torch.rand(120, generator=draws) < share
    index = ExactIndex([vectors[:50], vectors[50:]], chunk=chunk)
    for rows in (queries, queries[:1]):
        scores, places = index.search(rows, 10, mask)
        for place, query in enumerate(rows):
            assert places[place].tolist() == brute_force(vectors, query, 10, mask)
        torch.testing.assert_close(scores, torch.einsum("qd,qkd->qk", rows, vectors[places]))


def test_the_index_searches_mapped_files(tmp_path: Path) -> None:
    vectors = torch.randn(40, 8)
    write_rows(tmp_path, "m", 0, vectors.numpy())
    scores, places = ExactIndex(read_rows(tmp_path, "m", 40)).search(vectors[5:6], 1)
    assert places.tolist() == [[int((vectors @ vectors[5]).argmax())]]
    assert scores.shape == (1, 1)


def test_a_zoo_of_one_network_can_be_searched() -> None:
    assert ExactIndex([torch.ones(1, 4)]).search(torch.ones(1, 4), 10)[1].tolist() == [[0]]
    with pytest.raises(ValueError, match="at least one vector"):
        ExactIndex([torch.ones(0, 4)])
    with pytest.raises(ValueError, match="0 vectors"):
        ExactIndex([torch.ones(1, 4)]).search(torch.ones(1, 4), 1, torch.tensor([False]))


def test_bounds_count_the_new_classifier_and_are_never_broken(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        table, rows = zoo.table(), zoo.networks()
    costs = [row.num_params + row.head(40) for row in rows]
    for bound in sorted(costs):
        mask = feasible(table, Bounds(max_params=bound), 40)
        assert mask.tolist() == [cost <= bound for cost in costs]
    both = feasible(table, Bounds(max_params=sorted(costs)[6], max_macs=int(table.macs.median()) + 128 * 40), 40)
    assert 0 < int(both.sum()) < len(rows)


def test_an_infeasible_bound_says_which_it_is(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        table = zoo.table()
    smallest = int((table.num_params + 129 * 3).min())
    with pytest.raises(Infeasible, match=rf"--bounds.max-params {smallest - 1:,} leaves 0 of 12; the smallest has"):
        feasible(table, Bounds(max_params=smallest - 1, max_macs=10**9), 3)
    with pytest.raises(Infeasible, match="max-latency-ms"):
        feasible(table, Bounds(max_latency_ms=5.0), 3)
    with pytest.raises(ValueError, match="max_macs is 0"):
        Bounds(max_macs=0)


def test_selections_are_the_highest_prediction_the_nearest_and_the_released_list() -> None:
    predicted = [0.4, 0.9, 0.2, 0.7, 0.8]
    assert select(predicted, "predictor") == [1]
    assert select(predicted, "top1") == [0]
    assert select(predicted, "official") == [0, 3, 4, 1]
    assert select([0.9, 0.1, 0.5], "official") == [0, 1, 2]
    assert select([0.9], "official") == [0]
    with pytest.raises(ValueError, match="nothing is retrieved"):
        select([], "top1")
