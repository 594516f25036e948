"""The pages of the DaSS steps: complete, escaped, and honest about what a number is."""

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest
import torch

from common.report import Curve
from dass.report import distill_page, evaluate_page, meta_train_page, search_page, teacher_page
from dass.report_inputs import (
    Correlation,
    DatasetFacts,
    DistillFacts,
    EvaluateFacts,
    MetaTrainFacts,
    NetworkFacts,
    PredictionFacts,
    RankingFacts,
    RunFacts,
    SearchFacts,
    StudentRuns,
    TaskFacts,
    TeacherFacts,
)

EVIL = "<script>"
TEACHER = NetworkFacts(
    name="resnet42",
    architecture="32-32_64-64",
    num_params=7_467_336,
    macs=1_456_875_520,
    widths=((32, 32), (64, 64)),
    accuracy=0.8123,
)
STUDENT = NetworkFacts(
    name="student",
    architecture="18-32_36",
    num_params=3_358_786,
    macs=415_762_432,
    widths=((18, 32), (36,)),
    score=0.4321,
)
COMMANDS = {"Again:": "python -m dass search --data 'my birds'"}


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


def words(document: str) -> str:
    """Visible text of a page that is well-formed, self-contained and free of scripts."""
    parser = Words()
    parser.feed(document)
    parser.close()
    assert parser.is_balanced
    assert parser.open == []
    assert "<script" not in document
    assert "http" not in document.replace("http-equiv", "")
    return " ".join(" ".join(parser.parts).split())


def dataset() -> DatasetFacts:
    images = torch.randint(0, 256, (12, 3, 16, 16), dtype=torch.uint8)
    return DatasetFacts(
        name="my birds",
        description="own images",
        class_names=("heron", EVIL, "wren"),
        num_train=1200,
        num_evaluation=345,
        resolution=64,
        images=images,
        labels=torch.arange(12) % 3,
    )


def search_facts() -> SearchFacts:
    other = replace(STUDENT, architecture="16_64", num_params=823_224, score=0.4)
    return SearchFacts(
        dataset=dataset(),
        teacher=TEACHER,
        scores=torch.tensor([0.4, 0.4321, 0.1]),
        num_params=[823_224, 3_358_786, 4_000_000],
        macs=torch.tensor([96_151_552, 415_762_432, 500_000_000]),
        chosen=[1, 0],
        students=[STUDENT, other],
        seed=17,
        max_params=5_000_000,
        teacher_error=(1.9, 0.93),
        predictor={"Meta-trained on": "tiny_imagenet/0"},
        seconds={"probing": 23.1},
        commands=COMMANDS,
    )


def run(seed: int, final: float, best: float) -> RunFacts:
    curve = Curve([5, 10], [0.3, final])
    return RunFacts(
        seed=seed,
        best_accuracy=best,
        final_accuracy=final,
        initial_accuracy=0.2,
        seconds=75,
        accuracies=curve,
        losses=curve,
    )


def distill_facts() -> DistillFacts:
    runs = [run(1, 0.70, 0.71), run(2, 0.72, 0.75), run(3, 0.74, 0.76)]
    return DistillFacts(
        dataset=dataset(),
        teacher=TEACHER,
        teacher_run=run(0, 0.80, 0.82),
        students=[StudentRuns(network=STUDENT, runs=runs)],
        settings={"Temperature": "6"},
        commands=COMMANDS,
    )


def evaluate_facts() -> EvaluateFacts:
    ranking = RankingFacts(
        dataset="cub",
        predicted=[0.9, 0.2, 0.5, 0.1],
        measured=torch.tensor([0.6, 0.7, 0.4, 0.1]),
        correlations={"DaSS": Correlation(spearman=0.6, kendall=0.333), "MACs": Correlation(spearman=-0.2)},
        chosen=0,
        ceiling=Correlation(spearman=0.85, kendall=0.7),
        teacher_accuracy=0.8,
    )
    other = replace(ranking, dataset="dtd", correlations={"DaSS": Correlation(spearman=0.4)}, ceiling=None)
    return EvaluateFacts(datasets=[ranking, other], predictor={"File": "predictor.safetensors"}, commands=COMMANDS)


@cache
def search_document() -> str:
    return search_page(search_facts())


@cache
def evaluate_document() -> str:
    return evaluate_page(evaluate_facts())


def meta_train_facts() -> MetaTrainFacts:
    return MetaTrainFacts(
        losses=Curve([0, 1, 2], [1.5, 0.2, 0.01]),
        validation={"tiny_imagenet/8": Curve([0, 2], [-1.0, 0.5]), "tiny_imagenet/9": Curve([0, 2], [0.1, 0.7])},
        kept=(2, 0.6),
        database=[
            TaskFacts(name="tiny_imagenet/0", role="meta-train", teacher_accuracy=0.66, accuracies=[0.4, 0.5, 0.9])
        ],
        settings={"Episodes": "1000"},
        num_undefined=1,
        commands=COMMANDS,
    )


def test_the_search_page_says_what_was_asked_and_what_came_out() -> None:
    text = words(search_document())
    for shown in (
        "Of 3 candidates", "3.36 M parameters and 416 M MACs, 45 % and 29 % of the teacher's",
        "my birds: own images", "1,200 for training, 345 for evaluation, 64 x 64 pixels", "81.2 %", "3, seed 17",
        "at most 5.00 M parameters", "0.4321", "18-32_36", "823 k", "1.9 before, 0.93 after", "Time: probing 23 s",
        "tiny_imagenet/0", "2 of 2, 1 of 2", "3,358,786 of 7,467,336", "python -m dass search --data 'my birds'",
    ):  # fmt: skip
        assert shown in text


def test_the_search_page_never_presents_the_score_as_an_accuracy() -> None:
    document = search_document()
    assert "It is not a calibrated accuracy" in words(document)
    assert "for ranking, not an accuracy" in words(document)
    assert "43.2 %" not in document


def test_class_names_from_folders_are_escaped() -> None:
    document = search_document()
    assert EVIL not in document
    assert "<script> (4)" in words(document)


def test_the_chosen_student_is_the_marked_row() -> None:
    marked = re.findall(r'<tr class="marked">(.*?)</tr>', search_document())
    assert len(marked) == 1
    assert "18-32_36" in marked[0]


@pytest.mark.parametrize("students", [[], [STUDENT]])
def test_a_search_page_needs_the_facts_of_each_chosen_student(students: list[NetworkFacts]) -> None:
    with pytest.raises(ValueError, match=f"2 indices for {len(students)} students"):
        search_page(replace(search_facts(), students=students))


def test_a_search_page_without_pictures_widths_or_bounds_leaves_their_parts_out() -> None:
    facts = search_facts()
    bare = replace(STUDENT, widths=())
    plain = replace(
        facts, dataset=replace(facts.dataset, images=None), students=[bare, bare], max_params=None, commands={}
    )
    text = words(search_page(replace(plain, teacher_error=None)))
    assert "Bounds none" in text
    for left_out in ("Sample images", "beside its teacher", "Repeat it", "Squared error"):
        assert left_out not in text


def test_a_search_over_many_candidates_stays_a_small_page() -> None:
    num = 10_000
    facts = replace(search_facts(), scores=torch.rand(num), num_params=torch.rand(num), macs=torch.rand(num))
    assert len(search_page(facts)) < 1_500_000


def test_the_distill_page_shows_both_accuracies_of_each_seed_and_their_spread() -> None:
    text = words(distill_page(distill_facts()))
    for shown in (
        "final accuracy 72.0 \N{PLUS-MINUS SIGN} 2.0 % (mean and standard deviation over seeds 1, 2, 3)",
        "teacher 80.0 %",
        "student 2 72.0 % 75.0 % 20.0 % 1 min 15 s", "resnet42 0 80.0 % 82.0 %", "74.0 \N{PLUS-MINUS SIGN} 2.6 %",
        "Best accuracy is the highest", "Final accuracy is that of the last epoch", "2.2 x", "45 %", "29 %",
    ):  # fmt: skip
        assert shown in text


def test_predictions_are_sorted_into_right_and_wrong() -> None:
    logits = torch.tensor([[4.0, 0, 0], [4.0, 0, 0], [0, 0, 4.0]])
    shown = PredictionFacts(images=dataset().images[:3], labels=torch.tensor([0, 2, 2]), logits=logits)  # type: ignore[index]
    text = words(distill_page(replace(distill_facts(), predictions=shown)))
    assert "Right: 2 of 3 images" in text
    assert "Wrong: 1 of 3 images" in text
    assert "heron, 96 %; it is wren" in text
    assert "wren, 96 %" in text


def test_a_student_without_a_single_mistake_has_a_page_too() -> None:
    shown = PredictionFacts(images=dataset().images[:1], labels=torch.tensor([0]), logits=torch.tensor([[1.0, 0, 0]]))  # type: ignore[index]
    assert "Wrong: 0 of 1 images" in words(distill_page(replace(distill_facts(), predictions=shown)))


def test_a_teacher_that_was_trained_elsewhere_shows_its_measured_accuracy() -> None:
    text = words(distill_page(replace(distill_facts(), teacher_run=None)))
    assert "teacher 81.2 %" in text
    assert "resnet42 81.2 %" in text


def test_the_evaluate_page_sets_the_method_beside_the_simple_rankings() -> None:
    text = words(evaluate_document())
    for shown in (
        "DaSS orders the trained students of 2 datasets with a mean Spearman correlation of 0.500 (8 networks in all)",
        "DaSS 0.600 0.400 0.500", "MACs -0.200 - -0.200", "label-noise ceiling 0.850 - 0.850", "DaSS 0.333 - 0.333",
        "cub: Spearman 0.600 over 4 networks",
    ):  # fmt: skip
        assert shown in text


def test_the_pick_is_compared_with_the_pool_it_came_from() -> None:
    assert "cub 60.0 % 45.0 % 50.0 % 70.0 % 2 of 4" in words(evaluate_document())


def test_the_meta_train_page_names_the_kept_checkpoint_and_the_database() -> None:
    text = words(meta_train_page(meta_train_facts()))
    for shown in (
        "The checkpoint of episode 2 was kept: mean Spearman correlation 0.600", "Undefined validations 1",
        "tiny_imagenet/0 meta-train 3 66.0 % 40.0 % 50.0 % 90.0 %", "Episodes 1000",
    ):  # fmt: skip
        assert shown in text


def test_the_teacher_page_shows_both_accuracies_and_the_cost() -> None:
    facts = TeacherFacts(dataset=dataset(), teacher=TEACHER, run=run(0, 0.80, 0.82), commands=COMMANDS)
    text = words(teacher_page(facts))
    for shown in ("80.0 % after its last epoch and 82.0 % at its best", "7.47 M (7,467,336)", "1.46 G", "1 min 15 s"):
        assert shown in text
    assert "Settings" not in text


def test_equal_facts_give_equal_pages() -> None:
    assert evaluate_page(evaluate_facts()) == evaluate_document()
