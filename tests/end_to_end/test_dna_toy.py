import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from test_kill_and_resume import kill
from toy import Finished, Toy, contents, records_of, wait_for

from common.data.tasks import open_task
from common.kd.evaluate import evaluate as measure
from common.report.facts import read_curves
from dna.archs import parse_arch, parse_skeleton, timm_definition
from dna.artifacts import load_supernet
from dna.costs import network_costs
from dna.evaluate import rating_of
from dna.official_files import read_checkpoint
from dna.potentials import load, read_official, read_pool
from dna.search import read_ratings
from dna.space import BlockSpace

OWN = ("--data", "images/own")
RUNS = {step: f"exp/dna/{step}/folder_own" for step in ("train-teacher", "meta-train", "rate", "search", "retrain")}


def shown(page: Path) -> str:
    """Text of a page without its tags."""
    return re.sub(r"<[^>]+>", " ", page.read_text())


@pytest.fixture(scope="module")
def trained(blocks: Toy) -> Finished:
    """The network that was found, trained from two seeds."""
    return blocks.do("retrain", *OWN)


def test_every_block_comes_nearer_to_the_teacher_on_images_that_it_has_not_seen(blocks: Toy) -> None:
    run = blocks.folder / RUNS["meta-train"]
    curves = read_curves(run)
    names = [f"stage{stage}" for stage in range(6)] + ["stage1.1"]
    for name in names:
        losses = curves["train", f"{name}/loss"].values
        assert len(losses) == 4
        assert losses[-1] < losses[0], name
        assert len(curves["valid", f"{name}/loss"].values) == 2
    assert blocks.result(RUNS["meta-train"])["losses"].keys() == {*names}
    trained = load_supernet(run / "supernet.safetensors")
    assert (trained.task, trained.resolution, trained.hold_out) == ("folder:own", 16, 60)
    assert trained.teacher_digest == blocks.result(RUNS["meta-train"])["teacher_digest"]


def test_ratings_are_kept_in_our_form_and_in_the_released_one(blocks: Toy) -> None:
    folder = blocks.folder / RUNS["rate"]
    stems = ["0", "1", "1-cell1", "2", "3", "4", "5"]
    for stem in stems:
        ours, official = load(folder / f"potential-{stem}.npz"), read_official(folder / f"potential-{stem}.yaml")
        assert ours.num_layers == (2 if stem == "1-cell1" else 1)
        assert all((ours.metrics[name] == official.metrics[name]).all() for name in ours.metrics)
        assert np.isfinite(ours.rating()).all()
        assert (ours.rating() > 0).all()
        assert read_pool(folder / f"modelpool-{stem}.yaml", ours.num_layers) == ours.top_index[:3].tolist()
    assert blocks.result(RUNS["rate"])["num_paths"] == 6 * 6 + 36
    assert len(list(folder.glob("potential-*.npz"))) == len(stems)


def test_the_network_that_was_found_has_the_best_sum_of_ratings(blocks: Toy) -> None:
    result = blocks.result(RUNS["search"])
    rated = read_ratings(blocks.folder / RUNS["rate"], load_supernet_space(blocks))
    best = sum(min(float(cell.losses.min()) for cell in stage) for stage in rated)
    first, second = result["chosen"]
    assert first["rating"] == pytest.approx(best)
    assert second["rating"] >= first["rating"]
    arch, skeleton = parse_arch(first["arch"]), parse_skeleton(result["skeleton"])
    assert rating_of(arch, rated) == first["ratings"]
    assert first["timm"] == timm_definition(arch, skeleton)
    costs = network_costs(arch, 5, 16, skeleton)
    assert (first["macs"], first["num_params"]) == (int(costs.macs), int(costs.num_params))
    assert first["arch"] in shown(blocks.folder / RUNS["search"] / "report.html")


def load_supernet_space(blocks: Toy) -> BlockSpace:
    return load_supernet(blocks.folder / RUNS["meta-train"] / "supernet.safetensors").space


def test_a_budget_is_kept_and_the_front_ends_at_the_optimum(blocks: Toy) -> None:
    free = blocks.result(RUNS["search"])
    macs = [point["macs"] for point in free["front"]]
    assert macs == sorted(macs)
    assert free["front"][-1]["rating"] == pytest.approx(free["chosen"][0]["rating"])
    middle = free["front"][len(macs) // 2]
    blocks.do("search", *OWN, "--budget.macs", middle["macs"], "--out", "bounded")
    found = blocks.result("bounded")["chosen"][0]
    assert found["rating"] == pytest.approx(middle["rating"])
    assert found["bounded"] == {"macs": found["macs"]}
    fast = ("--budget.seconds", 10, "--budget.num-params", found["num_params"], "--timing.repeats", 1)
    blocks.do("search", *OWN, *fast, "--out", "timed")
    timed = blocks.result("timed")["chosen"][0]
    assert timed["num_params"] <= found["num_params"]
    assert 0 < timed["bounded"]["nanoseconds"] < 10e9
    assert json.loads((blocks.folder / "timed/latency.json").read_text())["format"] == 1


def test_the_network_is_trained_as_its_file_says(blocks: Toy, trained: Finished) -> None:
    result, task = blocks.result(RUNS["retrain"]), open_task(blocks.folder / "images/own", resolution=16)
    assert result["arch"] == blocks.result(RUNS["search"])["chosen"][0]["arch"]
    for seed, name in zip(("1", "2"), result["weights"], strict=True):
        found = read_checkpoint(blocks.folder / RUNS["retrain"] / name)
        _, accuracy = measure(found.network(), task, device=torch.device("cpu"))
        assert accuracy == pytest.approx(result["final_accuracy"]["seeds"][seed], abs=1e-6)
        assert accuracy > float(found.notes["initial_accuracy"]) + 0.2
    assert f"final accuracy {100 * result['final_accuracy']['mean']:.2f}" in trained.out


def test_a_trained_network_can_be_validated(blocks: Toy, trained: Finished) -> None:
    file = blocks.folder / RUNS["retrain"] / blocks.result(RUNS["retrain"])["weights"][0]
    flags = ("--checkpoint", file, "--resolution", 16, "--crop-pct", 1.0, "--part", "test")
    blocks.do("validate", *OWN, *flags, "--out", "validated")
    found = blocks.result("validated")
    assert found["arch"] == blocks.result(RUNS["retrain"])["arch"]
    assert found["top1_accuracy"] > 0.4


def test_learning_from_the_teacher_changes_the_network(blocks: Toy, trained: Finished) -> None:
    flags = ("--recipe.loss", "kd", "--seeds", "1", "--recipe.epochs", "6")
    blocks.do("retrain", *OWN, *flags, "--out", "taught")
    first = blocks.result(RUNS["retrain"])["final_accuracy"]["seeds"]["1"]
    taught = blocks.result("taught")["final_accuracy"]["seeds"]["1"]
    assert taught > 0.3, "five classes"
    assert contents(blocks.folder / "taught", "network-seed1*") != contents(
        blocks.folder / RUNS["retrain"], "network-seed1*"
    ), (first, taught)


def test_the_found_network_is_compared_with_others_that_are_trained_alike(blocks: Toy) -> None:
    blocks.do("evaluate", *OWN, "--out", "evaluated")
    result = blocks.result("evaluated")
    names = [entry["name"] for entry in result["networks"]]
    assert names == ["found", "equal1", "equal2", "spread1"]
    found, *equal = result["networks"][:3]
    assert all(abs(entry["macs"] - found["macs"]) <= 0.3 * found["macs"] for entry in equal)
    assert len({entry["arch"] for entry in result["networks"]}) == 4
    assert [len(entry["seeds"]) for entry in result["networks"]] == [2, 2, 2, 1]
    assert result["place"] == 1 + sum(entry["accuracy"] > found["accuracy"] for entry in equal)
    assert len(records_of(blocks.folder / "evaluated")) == 7
    assert {*result["rankings"]} == {
        f"{score}, {which}" for score in ("rating", "MACs", "parameters") for which in ("all (4)", "equal cost (3)")
    }


def test_the_same_seed_gives_the_same_bytes_in_another_schedule_and_after_a_kill(blocks: Toy) -> None:
    run = blocks.folder / "killed"
    flags = (*OWN, "--distill.schedule", "sequential", "--out", run.name)
    process = blocks.start("meta-train", *flags)
    wait_for(process, lambda: (run / "checkpoint/previous.pt").exists())
    kill(process, run)
    again = blocks.do("meta-train", *flags)
    assert "going on from step " in again.err
    ours = load_supernet(run / "supernet.safetensors").weights
    theirs = load_supernet(blocks.folder / RUNS["meta-train"] / "supernet.safetensors").weights
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    blocks.do("rate", *OWN, "--supernet", run / "supernet.safetensors", "--out", "rated")
    assert contents(blocks.folder / "rated", "potential-*") == contents(blocks.folder / RUNS["rate"], "potential-*")


@pytest.mark.parametrize("step", ["train-teacher", "meta-train", "search", "rate"])
def test_a_finished_run_does_nothing_when_it_is_started_again(step: str, blocks: Toy) -> None:
    def state() -> dict[str, int]:
        files = (path for path in (blocks.folder / RUNS[step]).rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = state()
    if step != "rate":
        assert "is finished" in blocks.do(step, *OWN).out
    else:
        blocks.do(step, *OWN, "--debug")
    assert state() == before
