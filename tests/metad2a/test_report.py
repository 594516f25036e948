"""The pages of the MetaD2A steps: complete, escaped, and honest about what a number is."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from common.report import Curve
from common.report.facts import DatasetFacts, PredictionFacts, RunFacts
from metad2a.benchmark import RankedAccuracies
from metad2a.report import evaluate_page, meta_train_page, search_page, train_page
from metad2a.report_inputs import (
    ArchFacts,
    EvaluateFacts,
    MetaTrainFacts,
    MethodFacts,
    SearchFacts,
    SourceFacts,
    TrainedArch,
    TrainFacts,
)

EVIL = "<script>"
EDGES = ((0, 1, "nor_conv_3x3"), (0, 2, "none"), (1, 2, "skip_connect"), (0, 3, "avg_pool_3x3"), (1, 3, "none"))
CELL = ArchFacts(
    text="|nor_conv_3x3~0|+|...|",
    edges=(*EDGES, (2, 3, "nor_conv_1x1")),
    num_params=1_073_466,
    macs=153_272_960,
    is_connected=True,
    score=3.0614,
    index=6111,
    accuracy=0.943733,
    rank=1,
)
JUDGED = RankedAccuracies(top1=0.9402, best_of_top=0.9437, mean_of_top=0.9361, mean=0.9268, spearman=0.641)
COMMANDS = {"Repeat this run": "python -m metad2a search --data 'my birds'"}


class Words(HTMLParser):
    """The visible text of a page, and whether its tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.is_balanced = True
        self.parts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        self.is_balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.parts.append(data)


def read(document: str) -> str:
    """Text of a page, which must be whole, and must neither fetch nor run anything."""
    words = Words()
    words.feed(document)
    assert words.is_balanced
    assert not words.open
    assert not re.search(r"<script|src=\"http|href=\"http|url\(http", document)
    return " ".join(" ".join(words.parts).split())


def dataset(name: str = "birds") -> DatasetFacts:
    random = torch.Generator().manual_seed(0)
    return DatasetFacts(
        name=name,
        description="packed",
        class_names=["hen", EVIL],
        num_train=80,
        num_evaluation=20,
        resolution=32,
        images=torch.randint(0, 256, (6, 3, 32, 32), generator=random, dtype=torch.uint8),
        labels=torch.tensor([0, 1] * 3),
    )


def search_facts() -> SearchFacts:
    return SearchFacts(
        dataset=dataset(),
        scores=torch.linspace(3.0614, 1, 40),
        costs=list(range(1_000_000, 1_000_040)),
        cells=[CELL, replace(CELL, score=2.9, accuracy=0.9, index=7, rank=7_777)],
        chosen=[0, 3],
        measures={
            "num_graphs": 812,
            "validity": 0.995,
            "uniqueness": 0.443,
            "novelty": 0.828,
            "canonical": 0.986,
            "distinct_classes": 38,
        },
        seed=5,
        table=JUDGED,
        table_note="test accuracy on cifar10 after 200 epochs, from the benchmark's table",
        accuracies=torch.linspace(0.94, 0.8, 40),
        pair={"Learned from": "cifar100, tiny_imagenet"},
        seconds={"generating": 0.31, "scoring": 0.07},
        commands=COMMANDS,
    )


def test_a_search_page_says_what_is_known_and_by_whom() -> None:
    text = read(search_page(search_facts()))
    for words in (
        "1.07 M parameters",
        "153 M MACs",
        "94.37 %",
        "6,111",
        "1 of all cells",
        "7,777",
        "Rank 2: 1.07 M parameters, 90.00 % in the table.",
        "cifar100, tiny_imagenet",
        "0.31 s",
        "my birds",
    ):
        assert words in text, words
    for words in ("Top-1 94.02 %", "Best of the top 30 (oracle) 94.37 %", "picked by these test accuracies", "0.641"):
        assert words in text, words
    for words in ("99.5 %", "44.3 %", "82.8 %", "98.6 %", "812, until 40 distinct", "38 of 40 cells"):
        assert words in text, words
    assert "It is not an accuracy" in text
    assert EVIL in text


def test_a_search_page_without_a_table_says_why() -> None:
    facts = replace(
        search_facts(),
        table=None,
        accuracies=None,
        table_note="the benchmark's table does not know birds",
        cells=[replace(CELL, accuracy=None, index=None, rank=None)],
        chosen=[0],
    )
    text = read(search_page(facts))
    assert "the benchmark's table does not know birds" in text
    assert "94.37" not in text
    assert "in the benchmark" not in text
    assert "The next ones" not in text


def test_a_search_page_leaves_out_what_is_not_known() -> None:
    measures = {**search_facts().measures, "novelty": None}
    text = read(search_page(replace(search_facts(), measures=measures)))
    assert "Novelty" not in text
    assert "Validity" in text


def test_a_cell_that_learns_nothing_is_said_to() -> None:
    facts = search_facts()
    page = search_page(replace(facts, cells=[replace(CELL, is_connected=False), facts.cells[1]]))
    assert "no path leads from its input to its output" in read(page)


def test_a_search_page_needs_one_place_a_cell() -> None:
    with pytest.raises(ValueError, match="3 places for 2 cells"):
        search_page(replace(search_facts(), chosen=[0, 1, 2]))


@pytest.mark.parametrize("model", ["generator", "predictor"])
def test_a_meta_training_page_shows_its_course(model: str) -> None:
    measure = {"generator": "validity", "predictor": "spearman"}[model]
    facts = MetaTrainFacts(
        model=model,
        losses=Curve(range(20), [10 / (1 + step) for step in range(20)]),
        validation={measure: Curve([9, 19], [0.5, 0.9]), "loss": Curve([9, 19], [5.0, 4.0])},
        kept={measure: 0.9, "epoch": 2, "score": 0.9},
        sources=[SourceFacts(name="cifar100", num_tasks=110, accuracies=torch.linspace(0.01, 0.73, 50))],
        settings={"latent dim": "56"},
        commands=COMMANDS,
    )
    text = read(meta_train_page(facts))
    for words in (f"Meta-training of the {model}", "epoch 2", f"{measure} 0.900", "cifar100", "110", "73.0 %", "56"):
        assert words in text, words
    assert "Nothing was held out" in read(meta_train_page(replace(facts, kept={}, validation={})))


def test_an_evaluation_page_has_every_way_to_choose() -> None:
    facts = EvaluateFacts(
        dataset="cifar10, reduced",
        methods=[
            MethodFacts(name="MetaD2A", results=[JUDGED, replace(JUDGED, top1=0.9442)], note="ours"),
            MethodFacts(name="all, by parameters", results=[replace(JUDGED, top1=0.9376)], note="cheap"),
        ],
        measures={"validity": [0.99, 0.97], "seconds": [0.5, 0.7], "distinct_classes": [450.0, 460.0]},
        spearman_all=[0.93, 0.95],
        predicted=torch.linspace(0, 3, 100),
        accuracies=torch.linspace(0.1, 0.9437, 100),
        seeds=(0, 1),
        table_note="test accuracy on cifar10 after 200 epochs",
        pair={"Labels": "table"},
        commands=COMMANDS,
    )
    text = read(evaluate_page(facts))
    for words in (
        "94.22 %",
        "94.37 %",
        "94.22 +- 0.28 %",
        "93.76 %",
        "0.940 +- 0.014",
        "98.0",
        "455.0",
        "ours",
        "cheap",
    ):
        assert words in text, words


def run(seed: int, final: float) -> RunFacts:
    curve = Curve([1, 2], [final / 2, final])
    return RunFacts(seed=seed, best_accuracy=final, final_accuracy=final, initial_accuracy=0.5, accuracies=curve)


def train_facts() -> TrainFacts:
    return TrainFacts(
        dataset=dataset(),
        chosen=TrainedArch(name="chosen", arch=CELL, runs=[run(777, 0.8), run(888, 0.9)]),
        random=[TrainedArch(name=f"random {i}", arch=CELL, runs=[run(777, 0.6 + i / 10)]) for i in (1, 3)],
        interval=0.0123,
        predictions=PredictionFacts(
            images=dataset().images[:2],  # type: ignore[index]
            labels=torch.tensor([0, 1]),
            logits=torch.tensor([[2.0, 0.0], [1.0, 0.0]]),
        ),
        settings={"epochs": "12"},
        commands=COMMANDS,
    )


def test_a_training_page_gives_the_last_epochs_with_their_interval_and_the_place_among_random_cells() -> None:
    text = read(train_page(train_facts()))
    for words in ("85.00 +- 1.23 %", "2 seeds and 95 % interval", "place 2 of 3", "90.00 %", "random 3", "hen, 73 %"):
        assert words in text, words


def test_a_training_page_of_one_seed_and_no_random_cell_is_shorter() -> None:
    facts = replace(
        train_facts(),
        chosen=TrainedArch(name="chosen", arch=CELL, runs=[run(777, 0.8)]),
        random=[],
        interval=None,
        predictions=None,
    )
    text = read(train_page(facts))
    assert "reaches 80.00 % after the last epoch" in text
    assert "Beside random cells" not in text
    assert "interval" not in text
