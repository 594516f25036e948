"""The predictor: its sizes, scores of pairs and of all combinations, and what it learns in place of accuracies."""

import csv
import gzip
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.graphs import DagBatch
from common.spaces.nasbench201 import NasBench201Space
from metad2a.predictor import Normaliser, Predictor, PredictorSizes, new_predictor

SMALL = PredictorSizes(hidden_dim=20, embedding_dim=8, feature_dim=24)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cells(num: int) -> DagBatch:
    space = NasBench201Space()
    return space.graphs(space.sample(num, draws()))


@pytest.fixture
def predictor() -> Predictor:
    return new_predictor(SMALL, seed=0)


@pytest.fixture
def features() -> Tensor:
    return torch.rand(6, 3, 4, 24, generator=draws())


@pytest.mark.parametrize(("num_types", "max_nodes", "expected"), [(7, 8, 3_438_105), (29, 22, 3_534_361)])
def test_it_has_the_weights_that_the_released_one_uses(num_types: int, max_nodes: int, expected: int) -> None:
    predictor = new_predictor(PredictorSizes(num_types=num_types, max_nodes=max_nodes), seed=0)
    assert sum(weight.numel() for weight in predictor.parameters()) == expected


def test_gradients_reach_every_weight(predictor: Predictor, features: Tensor) -> None:
    scores = predictor.score(predictor.encode_sets(features), predictor.encode_graphs(cells(6)))
    scores.square().sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in predictor.parameters())


def test_a_score_is_the_published_formula_of_set_then_graph(predictor: Predictor) -> None:
    sets, graphs = torch.randn(4, 8, generator=draws()), torch.randn(4, 8, generator=draws(1))
    hidden = torch.tanh(torch.cat([sets, graphs], 1) @ predictor.head_hidden.weight.T + predictor.head_hidden.bias)
    expected = hidden @ predictor.head_output.weight[0] + predictor.head_output.bias
    torch.testing.assert_close(predictor.score(sets, graphs), expected)


@torch.no_grad()
def test_all_combinations_have_the_scores_of_their_pairs(predictor: Predictor, features: Tensor) -> None:
    sets, graphs = predictor.encode_sets(features), predictor.encode_graphs(cells(9))
    found = predictor.score(sets[:, None], graphs)
    assert found.shape == (6, 9)
    for row in range(6):
        torch.testing.assert_close(found[row], predictor.score(sets[row].expand(9, -1), graphs), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_score_depends_on_no_other_pair(predictor: Predictor, features: Tensor) -> None:
    graphs = cells(6)
    together = predictor.score(predictor.encode_sets(features), predictor.encode_graphs(graphs))
    for row in range(6):
        rows = slice(row, row + 1)
        alone = predictor.score(predictor.encode_sets(features[rows]), predictor.encode_graphs(graphs[rows]))
        torch.testing.assert_close(together[rows], alone, rtol=0, atol=1e-6)


@torch.no_grad()
def test_padded_classes_do_not_change_the_vector_of_a_set(predictor: Predictor, features: Tensor) -> None:
    found = predictor.encode_sets(features, torch.tensor([3, 2, 1, 3, 2, 1]))
    torch.testing.assert_close(found[1:2], predictor.encode_sets(features[1:2, :2]), rtol=0, atol=1e-6)


def test_a_normaliser_is_the_released_target_and_its_inverse() -> None:
    percent = torch.tensor([71.2, 65.0, 80.4, 74.8], dtype=torch.float64)
    normaliser = Normaliser.of(percent / 100)
    released = (percent - percent.mean()) / percent.std() / 100  # its accuracies are percentages
    torch.testing.assert_close(normaliser.scores(percent / 100), released)
    torch.testing.assert_close(normaliser.accuracies(released), percent / 100)
    assert normaliser.mean == pytest.approx(0.7285)


@pytest.mark.data
def test_the_published_database_has_the_published_mean_and_deviation(data_root: Path) -> None:
    rows = gzip.decompress((data_root.parent / "nasbench201" / "meta_database_predictor.csv.gz").read_bytes())
    table = [row for row in csv.DictReader(rows.decode().splitlines()) if row["split"] == "train"]
    normaliser = Normaliser.of(torch.tensor([float(row["accuracy"]) for row in table]) / 100)
    assert (len(table), round(normaliser.mean, 6), round(normaliser.deviation, 6)) == (4230, 0.715715, 0.066932)


@pytest.mark.parametrize("accuracies", [[0.5, 0.5, 0.5], [0.5]])
def test_accuracies_that_are_all_equal_cannot_be_normalised(accuracies: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two rows of different accuracy"):
        Normaliser.of(torch.tensor(accuracies))


@torch.no_grad()
def test_mixed_precision_gives_nearly_the_same(predictor: Predictor, features: Tensor) -> None:
    graphs = cells(6)
    expected = predictor.score(predictor.encode_sets(features), predictor.encode_graphs(graphs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = predictor.score(predictor.encode_sets(features), predictor.encode_graphs(graphs))
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.02)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = (new_predictor(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head_hidden.weight"], third["head_hidden.weight"])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@torch.no_grad()
def test_a_gpu_gives_the_same_scores(predictor: Predictor, features: Tensor) -> None:
    graphs, cuda = cells(6), torch.device("cuda")
    on_cpu = predictor.score(predictor.encode_sets(features), predictor.encode_graphs(graphs))
    predictor.to(cuda)
    on_gpu = predictor.score(predictor.encode_sets(features.to(cuda)), predictor.encode_graphs(graphs.to(cuda)))
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-4)
