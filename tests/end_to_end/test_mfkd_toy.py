"""MFKD on a user's own pictures, as small as it gets: teacher, both fidelities, final training, comparisons."""

import csv
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from test_kill_and_resume import kill
from toy import Finished, Toy, contents, records_of, wait_for

from common.data.tasks import open_task
from common.kd.evaluate import evaluate as measure
from common.meta.ranking import kendall
from common.spaces.mobilenet_v2 import MobileNetV2Space
from mfkd.models import load_into, teacher_of

SEARCH, DISTILL = "exp/mfkd/search/folder_own", "exp/mfkd/distill/folder_own"
OWN = ("--data", "images/own")
SPACE = MobileNetV2Space(
    channels=((8, 16), (8, 16), (16, 24), (16, 24), (24, 32), (24, 32), (32, 40)),
    repetitions=(1, 1, (1, 2), 1, (1, 2), 1, 1),
    first_stride=2,
    last_channel=64,
)
FLOOR = 0.6
"""Test accuracy on five classes; chance is 0.2."""


@pytest.fixture(scope="module")
def distilled(networks: Toy) -> Finished:
    """The network that was found, from two seeds, and a random one."""
    return networks.do("distill", *OWN)


def shown(page: Path) -> str:
    """Text of a page without its tags."""
    return re.sub(r"<[^>]+>", " ", page.read_text())


def evaluations(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for step in result["steps"] for one in step["evaluations"]]


def test_a_search_trains_its_teacher_and_goes_from_low_to_high_fidelity(networks: Toy) -> None:
    low, high = networks.result(SEARCH)["steps"]
    assert [one["fidelity"] for one in low["evaluations"]] == ["low"] * 4
    assert [one["fidelity"] for one in high["evaluations"]] == ["high"] * 3
    assert (low["loss"], high["loss"]) == ("nst", "ce")
    assert high["evaluations"][0]["index"] == low["winner"]["index"]
    assert high["winner"]["accuracy"] == max(one["accuracy"] for one in high["evaluations"])
    for step in (low, high):
        assert len({one["index"] for one in step["evaluations"]}) == len(step["evaluations"]), "no point twice"
        assert step["num_points"] == SPACE.size() == 512
    (chosen,) = networks.result(SEARCH)["chosen"]
    assert SPACE.index(SPACE.parse(chosen["arch"])) == chosen["index"]
    (teacher,) = networks.folder.glob("exp/mfkd/train-teacher/folder_own-*/teacher.safetensors")
    task = open_task(networks.folder / "images/own", resolution=16)
    model = teacher_of(SPACE)
    network = load_into(model.build(task.num_classes, 16, 1), teacher, "the teacher")
    found = measure(network, task, device=torch.device("cpu"))[1]
    assert found == pytest.approx(teacher_result(networks)["accuracy"], abs=1e-6)
    assert found > 0.3, "chance is 0.2"


def teacher_result(networks: Toy) -> dict[str, Any]:
    (folder,) = networks.folder.glob("exp/mfkd/train-teacher/folder_own-*")
    found: dict[str, Any] = networks.result(str(folder.relative_to(networks.folder)))["steps"][0]["models"][0]
    return found


def test_costs_of_a_search_add_up(networks: Toy) -> None:
    """Images times three forward passes of the student, and one of the teacher where it is distilled."""
    result = networks.result(SEARCH)
    teacher = SPACE.cost(SPACE.teacher, 5, 16).macs
    low, high = result["steps"]
    assert low["training_macs"] == sum(4 * 128 * (3 * one["macs"] + teacher) for one in low["evaluations"])
    assert high["training_macs"] == sum(3 * 256 * 3 * one["macs"] for one in high["evaluations"])
    assert result["training_macs"] == low["training_macs"] + high["training_macs"]


def test_tables_metrics_and_page_say_what_the_result_says(networks: Toy) -> None:
    folder = networks.folder / SEARCH
    result = networks.result(SEARCH)
    for step in result["steps"]:
        with (folder / "output" / step["step"] / "output.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [float(row["performance"]) for row in rows] == [one["accuracy"] for one in step["evaluations"]]
        with (folder / "output" / step["step"] / "pareto_front.csv").open() as file:
            front = [int(row["index"]) for row in csv.DictReader(file)]
        assert front == step["pareto_front"]
    page = shown(folder / "report.html")
    for words in ("Search path", "Pareto front", "95 % interval", "The network", result["chosen"][0]["arch"]):
        assert words in page
    assert f"{100 * result['chosen'][0]['accuracy']:.1f} %" in page
    with (folder / "metrics.csv").open() as file:
        logged = [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "accuracy"]
    assert sorted(logged) == sorted(one["accuracy"] for one in evaluations(result))


def test_the_network_is_distilled_from_every_seed_and_beats_the_floor(networks: Toy, distilled: Finished) -> None:
    result = networks.result(DISTILL)
    assert result["arch"] == networks.result(SEARCH)["chosen"][0]["arch"]
    task = open_task(networks.folder / "images/own", resolution=16)
    for name, accuracy in zip(result["weights"], result["final_accuracy"]["seeds"].values(), strict=True):
        network = SPACE.build(SPACE.parse(result["arch"]), task.num_classes, 16)
        load_into(network, networks.folder / DISTILL / name, "the network")
        assert measure(network, task, device=torch.device("cpu"))[1] == pytest.approx(accuracy, abs=1e-6)
    assert result["final_accuracy"]["mean"] > FLOOR
    assert len({*result["final_accuracy"]["seeds"]}) == 2
    assert len(result["random"]) == 1
    assert result["random"][0]["arch"] != result["arch"]
    assert f"test accuracy {100 * result['final_accuracy']['mean']:.2f}" in distilled.out
    assert "What the network says" in shown(networks.folder / DISTILL / "report.html")


def test_a_finished_search_is_not_done_again_and_another_setting_needs_another_folder(networks: Toy) -> None:
    before = contents(networks.folder / SEARCH, "result.json")
    assert "is finished; --restart searches anew" in networks.do("search", *OWN).out
    assert contents(networks.folder / SEARCH, "result.json") == before
    line = networks.run("search", *OWN, "--kappa", "0.7").error(2)
    assert "kappa is 0.5 there and 0.7 here" in line


def test_a_killed_search_goes_on_and_ends_like_the_whole_one(networks: Toy) -> None:
    run = networks.folder / "killed"
    process = networks.start("search", *OWN, "--out", "killed")
    wait_for(process, lambda: len(records_of(run)) >= 2)
    kill(process, run)
    kept = records_of(run)
    assert 2 <= len(kept) < 7
    networks.do("search", *OWN, "--out", "killed")
    assert records_of(run)[: len(kept)] == kept, "times included: nothing was done twice"

    def timeless(folder: str) -> list[tuple[int, float]]:
        return [(one["index"], one["accuracy"]) for one in evaluations(networks.result(folder))]

    assert timeless("killed") == timeless(SEARCH)


@pytest.mark.parametrize("algorithm", ["mfkd1", "mf_kd"])
def test_the_other_algorithms_search_too(algorithm: str, networks: Toy) -> None:
    done = networks.do(
        "search", *OWN, "--algorithm", algorithm, "--out", algorithm, "--num-low", "3", "--init-high", "2",
        "--num-high", "3",
    )  # fmt: skip
    (step,) = networks.result(algorithm)["steps"]
    fidelities = [one["fidelity"] for one in step["evaluations"]]
    if algorithm == "mfkd1":
        assert fidelities == ["low"] * 3
        assert step["winner"]["prediction"]["std"] > 0
        assert "not trained yet" in done.out or "validation" in done.out
    else:
        assert (fidelities.count("high"), step["fidelity"]) == (3, "low and high")
        cheap = {one["index"] for one in step["evaluations"] if one["fidelity"] == "low"}
        assert {one["index"] for one in step["evaluations"] if one["fidelity"] == "high"} <= cheap, "nested designs"
        assert any(one["held_out"] for one in step["evaluations"] if one["fidelity"] == "high")
    assert "Search path" in shown(networks.folder / algorithm / "report.html")


def test_random_search_costs_what_the_method_costs(networks: Toy) -> None:
    (teacher,) = networks.folder.glob("exp/mfkd/train-teacher/folder_own-*/teacher.safetensors")
    done = networks.do("evaluate", *OWN, "--seeds", "3", "--teacher.file", teacher)
    result = networks.result("exp/mfkd/evaluate/folder_own")
    (ours,), (other,) = result["arms"]["mfkd2"], result["arms"]["random search"]
    largest = 3 * 256 * 3 * SPACE.cost(SPACE.largest, 5, 16).macs
    assert ours["macs"] - largest < other["macs"] <= ours["macs"]
    assert other["num_high"] > ours["num_high"] == 3, "what low fidelity costs pays for full trainings"
    assert result["teacher"]["macs"] == 0, "a given teacher cost nothing here"
    assert min(ours["test"], other["test"]) >= 0.1
    assert f"{100 * other['test']:.2f}" in done.out
    assert "Networks found" in shown(networks.folder / "exp/mfkd/evaluate/folder_own/report.html")


def test_losses_are_compared_by_the_rankings_that_they_give(networks: Toy) -> None:
    done = networks.do("correlate", *OWN)
    result = networks.result("exp/mfkd/correlate/folder_own")
    reference = torch.tensor(result["high"], dtype=torch.float64).mean(0)
    assert {*result["low"]} == {"labels only", "KD", "NST"}
    for name, seeds in result["low"].items():
        assert [len(seed) for seed in seeds] == [4, 4]
        taus = [kendall(torch.tensor(seed, dtype=torch.float64), reference) for seed in seeds]
        assert result["kendall"][name] == pytest.approx(taus)
        assert f"{statistics.fmean(taus):.2f}" in done.out
    assert len(records_of(networks.folder / "exp/mfkd/correlate/folder_own")) == 4 * (3 * 2 + 2)
    assert "Rank correlation" in shown(networks.folder / "exp/mfkd/correlate/folder_own/report.html")
