"""Pages of the steps: what a reader looks for is on them."""

import re

import numpy as np
import pytest

from common.report import Curve
from common.report.facts import RunFacts
from dna.archs import PUBLISHED, format_arch
from dna.drawing import network_drawing, rating_spread
from dna.potentials import METRICS, Potential
from dna.report import evaluate_page, meta_train_page, rate_page, search_page
from dna.report_inputs import (
    EvaluateFacts,
    FoundFacts,
    MetaTrainFacts,
    Ranking,
    RateFacts,
    SearchFacts,
    TrainedFacts,
)

ARCH = PUBLISHED["DNA_a"]
RATINGS = [[np.linspace(0.4, 0.6, 6)] for _ in range(6)]
FOUND = FoundFacts(arch=ARCH, rating=2.4, ratings=(0.4,) * 6, macs=335_141_728, official_macs=1, num_params=4_243_318)


def shown(page: str) -> str:
    return re.sub(r"<[^>]+>", " ", page)


def test_a_drawing_has_a_bar_for_every_layer() -> None:
    (axes,) = network_drawing(ARCH).axes
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [width for width, ops in zip(ARCH.widths, ARCH.ops, strict=True) for _ in ops]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:3] == ["x3, 5x5", "x3, 3x3", "x6, 3x3"]


def test_the_chosen_path_is_marked_among_the_ratings_of_its_block() -> None:
    figure = rating_spread({"stage 0": RATINGS[0][0], "stage 1": RATINGS[1][0]}, {"stage 1": 0.44})
    (marks,) = [c for c in figure.axes[0].collections if c.get_gid() == "marked"]
    assert np.asarray(marks.get_offsets()).tolist() == [[0.44, 1.0]]


def test_a_search_page_shows_the_network_the_front_and_the_bound() -> None:
    page = search_page(
        SearchFacts(
            data="birds",
            bounds={"macs": 340_000_000},
            networks=[FOUND, FOUND],
            front=[(300_000_000, 2.6), (335_141_728, 2.4)],
            random=[(320_000_000, 2.9), (500_000_000, 2.8)],
            ratings=RATINGS,
            seconds=0.01,
            commands={"Repeat this run": "python -m dna search"},
        )
    )
    text = shown(page)
    assert format_arch(ARCH) in text
    assert "macs at most 340,000,000" in text
    assert "335,141,728" in text
    assert page.count("<svg") == 3


def test_pages_of_the_supernet_and_its_ratings() -> None:
    curves = {f"stage{stage}": Curve([9, 19], [1.0, 0.5]) for stage in range(6)}
    page = meta_train_page(
        MetaTrainFacts(dataset="birds", teacher="b7", num_params=10**6, training=curves, validation=curves)
    )
    assert "6 blocks with 1.00 M parameters learned from b7" in shown(page)
    draws = np.random.default_rng(0)
    potential = Potential(metrics={name: draws.random(6) for name in METRICS})
    rated = rate_page(RateFacts(dataset="birds", num_images=64, potentials=[[potential, potential]] * 6))
    assert "All 72 paths of the blocks, rated on 64 images" in shown(rated)
    assert "stage 3, cell 1" in shown(rated)


@pytest.mark.parametrize("better", [0, 1])
def test_an_evaluation_says_how_many_random_networks_are_better(better: int) -> None:
    def trained(name: str, accuracy: float) -> TrainedFacts:
        runs = [RunFacts(seed=seed, best_accuracy=accuracy, final_accuracy=accuracy) for seed in (1, 2)]
        return TrainedFacts(name=name, network=FOUND, runs=runs)

    facts = EvaluateFacts(
        dataset="birds",
        found=trained("found", 0.5),
        equal=[trained("equal1", 0.4 + 0.2 * better), trained("equal2", 0.3)],
        spread=[trained("spread1", 0.2)],
        rankings=[Ranking("rating, all (4)", 0.67, 0.8)],
    )
    text = shown(evaluate_page(facts))
    assert f"of 2 random networks of the same cost, trained the same way, {better} are better" in " ".join(text.split())
    assert "0.67" in text
