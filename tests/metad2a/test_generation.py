from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from common.features.sets import FeatureSet
from common.graphs import DagBatch
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_classes import canonical_text
from metad2a.artifacts import Pair
from metad2a.generation import Generated, Generation, generate
from metad2a.ranking import draw_to_score, rank
from metad2a.scoring import best_first, score_archs
from metad2a.spaces import VIEWS

SPACE = NasBench201Space()
CELLS = SPACE.all()[:7]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Scripted(nn.Module):
    """Grows the graphs of given cells, over and over; None stands for a graph that is no cell."""

    def __init__(self, cells: list[Cell | None]) -> None:
        super().__init__()
        self.cells, self.grown, self.decoder = cells, 0, self

    def latent(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features[:, 0, 0, :2], features[:, 0, 0, :2]

    def sample(self, mean: Tensor, generator: torch.Generator) -> DagBatch:
        chosen = [self.cells[(self.grown + i) % len(self.cells)] for i in range(len(mean))]
        self.grown += len(mean)
        graphs = SPACE.graphs([cell or CELLS[0] for cell in chosen])
        for row, cell in enumerate(chosen):
            if cell is None:
                graphs.types[row, 3] = 0
        graphs.adjacency[0, 0, 2] = True  # the first of a batch has an edge more and is valid all the same
        return graphs


def grow(cells: list[Cell | None], **plan: int) -> Generated:
    def draw(num: int, random: torch.Generator) -> Tensor:
        return torch.zeros(num, 2, 3, 4)

    return generate(Scripted(cells), draw, Generation(**plan), random(), view=VIEWS["nasbench201"])  # type: ignore[arg-type]


def test_the_first_occurrences_of_distinct_cells_are_kept_until_there_are_enough() -> None:
    a, b, c, d, e, f, _ = CELLS
    found = grow([a, a, None, b, c, b, d, e, f], num_generated=4, draws_per_batch=3)
    assert found.archs == [a, b, c, d]
    assert (found.num_graphs, found.num_valid, found.num_distinct) == (9, 8, 6)
    assert found.validity == 8 / 9
    assert found.uniqueness == 6 / 8
    assert found.num_canonical == 6
    assert found.canonical == 6 / 9


def test_several_graphs_grow_from_one_draw() -> None:
    found = grow([*CELLS], num_generated=7, draws_per_batch=2, graphs_per_draw=3)
    assert found.num_graphs == 12
    assert found.archs == CELLS


def test_novelty_and_functions_are_counted_among_the_kept_cells() -> None:
    found = grow([*CELLS], num_generated=7, draws_per_batch=7)
    assert found.novelty(torch.tensor([2, 6, 900])) == pytest.approx(5 / 7)
    assert found.num_classes == len({canonical_text(cell) for cell in CELLS})


@pytest.mark.parametrize("cells", [[CELLS[0], None], [CELLS[0], CELLS[1], CELLS[1]]], ids=["invalid", "repeated"])
def test_a_generator_without_new_cells_ends_in_a_line(cells: list[Cell | None]) -> None:
    with pytest.raises(
        RuntimeError, match=r"only \d distinct cells came in 40 graphs, .* and 8 were asked for: ask for"
    ):
        grow(cells, num_generated=8, draws_per_batch=10, patience=5)


@pytest.mark.parametrize("changes", [{"num_generated": 0}, {"draws_per_batch": 0}, {"patience": 0}])
def test_a_generation_that_cannot_be_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Generation(**changes)


def test_scores_are_means_over_draws_of_every_pair_alone(make_pair: Callable[..., Pair], tmp_path: Path) -> None:
    model = make_pair(tmp_path).predictor.model
    sets, cells = torch.rand(3, 4, 2, 12), SPACE.sample(1300, random())
    found = score_archs(model, sets, SPACE, cells)
    assert found.shape == (1300,)
    with torch.no_grad():
        for place in (0, 700, 1299):
            graph = model.encode_graphs(SPACE.graphs([cells[place]]))
            alone = torch.stack([model.score(model.encode_sets(one[None]), graph)[0] for one in sets]).mean()
            torch.testing.assert_close(found[place], alone, atol=1e-5, rtol=0)


def test_scores_that_are_not_finite_are_refused(make_pair: Callable[..., Pair], tmp_path: Path) -> None:
    model = make_pair(tmp_path).predictor.model
    with pytest.raises(RuntimeError, match="scores are not finite"):
        score_archs(model, torch.full((2, 4, 2, 12), torch.nan), SPACE, CELLS)


def test_equal_scores_stay_in_their_order() -> None:
    assert best_first(torch.tensor([0.1, 0.5, 0.5, 0.9, 0.1])).tolist() == [3, 1, 2, 0, 4]


def test_a_search_follows_its_seed_and_scores_what_it_generated(
    make_pair: Callable[..., Pair], make_set: Callable[..., FeatureSet], tmp_path: Path
) -> None:
    pair, features = make_pair(tmp_path), make_set("own")
    plan = Generation(num_generated=10, draws_per_batch=50, graphs_per_draw=20, patience=5000)
    options = {"generation": plan, "num_draws": 4, "device": torch.device("cpu")}
    first, again = (rank(pair, features, seed=3, **options) for _ in range(2))  # type: ignore[arg-type]
    other = rank(pair, features, seed=4, **options)  # type: ignore[arg-type]
    assert first.archs == again.archs != other.archs
    assert torch.equal(first.scores, again.scores)
    assert len({*first.archs}) == 10
    assert first.scores[first.order].diff().max() <= 0
    sets = draw_to_score(pair, features, 4, 3)
    assert sets.shape == (4, 4, 3, 12)
    torch.testing.assert_close(score_archs(pair.predictor.model, sets, SPACE, first.archs), first.scores)


def test_more_than_all_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="num_generated is 15626; there are 15,625 cells in all"):
        grow([*CELLS], num_generated=15_626)
