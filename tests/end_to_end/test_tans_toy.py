import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from renderings import RENDERINGS
from test_kill_and_resume import kill
from toy import Toy, wait_for

from common.data.tasks import open_task
from common.kd.evaluate import evaluate as measure
from tans.beginnings import WAYS
from tans.finetuned import load_finetuned
from tans.networks import load_network
from tans.zoo import Zoo, open_zoo
from tans.zoo_verify import verify

UNSEEN = ("--data", "images/unseen")
SEARCH, FINETUNE = "exp/tans/search/folder_unseen", "exp/tans/finetune/folder_unseen"
EACH, SOURCES = 5, 4


def rows_of(zoo: Zoo) -> list[tuple[object, ...]]:
    rows = zoo.networks()
    vectors = zoo.functional([row.id for row in rows])
    return sorted(
        (row.dataset, row.key, row.accuracy, row.num_params, row.macs, tuple(vector.tolist()), zoo.norms(row.id))
        for row, vector in zip(rows, vectors, strict=True)
    )


def shown(page: Path) -> str:
    """Text of a page without its tags."""
    return re.sub(r"<[^>]+>", " ", page.read_text())


def test_a_zoo_holds_networks_that_were_really_trained(menagerie: Toy) -> None:
    with open_zoo(menagerie.folder / "zoo") as zoo:
        rows = zoo.networks()
        assert len(rows) == SOURCES * EACH
        assert len({(row.dataset, row.key) for row in rows}) == len(rows)
        assert sum(row.accuracy for row in rows) / len(rows) > 0.3, "chance is 0.2"
        assert all(row.is_recalibrated and row.num_evaluated == 150 for row in rows)
        assert verify(zoo, num_recomputed=8) == []
        row = rows[7]
        task = open_task(menagerie.folder / "images" / row.dataset.removeprefix("folder:"), resolution=16)
        _, accuracy = measure(load_network(zoo, row), task, device=torch.device("cpu"))
    assert accuracy == pytest.approx(row.accuracy, abs=1e-6)
    page = shown(menagerie.folder / "build/report.html")
    assert all(f"folder:{name}-" in page for name in RENDERINGS)


def test_a_killed_building_goes_on_to_the_same_networks_with_more_workers(menagerie: Toy) -> None:
    names = ("grey-low", "red-low")
    argv = ("--sources", *(f"images/{name}" for name in names), "--base-file", "build/base.safetensors")
    argv = (*argv, "--zoo", "killed", "--out", "killed-run")
    process = menagerie.start("build-zoo", *argv)

    def some() -> bool:
        if not (menagerie.folder / "killed/zoo.db").exists():
            return False
        with open_zoo(menagerie.folder / "killed") as zoo:
            return len(zoo) >= EACH

    wait_for(process, some)
    kill(process, menagerie.folder / "killed-run")
    workers = ("--workers.backend", "spawn", "--workers.num", 2, "--workers.threads", 1)
    menagerie.do_alone("build-zoo", *argv, *workers)
    with open_zoo(menagerie.folder / "zoo") as whole, open_zoo(menagerie.folder / "killed") as killed:
        expected = [row for row in rows_of(whole) if row[0] in {f"folder:{name}" for name in names}]
        assert len(killed) == len(expected) == 2 * EACH
        assert rows_of(killed) == expected
        assert verify(killed, num_recomputed=4) == []


def test_a_zoo_that_grows_along_the_fronts_is_full_and_measured_in_rounds(menagerie: Toy) -> None:
    line = ("--sources", "images/grey-low", "images/red-high", "--base-file", "build/base.safetensors")
    growth = ("--growth.kind", "pareto", "--growth.initial", 1, "--growth.batch", 3, "--growth.num-candidates", 40)
    quick = ("--own.recipe.epochs", 1, "--own.recipe.epoch-images", 64, "--growth.least-gain", 0)
    menagerie.do("build-zoo", *line, *growth, *quick, "--num-networks", 3, "--zoo", "grown", "--out", "grown-run")
    with open_zoo(menagerie.folder / "grown") as zoo:
        rounds = [row.round for row in zoo.networks()]
    assert {number: rounds.count(number) for number in sorted({*rounds})} == {0: 2, 1: 3, 2: 1}


def test_unseen_images_of_the_sources_find_their_networks(menagerie: Toy) -> None:
    result = menagerie.result("meta")
    assert result["measures"]["recall_1"] > 1.5 * result["chance"]["recall_1"]
    assert result["measures"]["mean_rank"] < result["chance"]["mean_rank"] - 0.5
    assert "folder:grey-low" in shown(menagerie.folder / "meta/report.html")


def test_a_search_returns_the_nearest_networks(menagerie: Toy) -> None:
    result = menagerie.result(SEARCH)
    cosines = [one["cosine"] for one in result["retrieved"]]
    assert len(cosines) == 10
    assert cosines == sorted(cosines, reverse=True)
    best = max(result["retrieved"], key=lambda one: one["predicted"])
    assert [one["id"] for one in result["chosen"]] == [best["id"]]
    assert not result["seen"]
    assert f"network {best['id']}" in shown(menagerie.folder / SEARCH / "report.html")


def test_bounds_are_kept_and_impossible_ones_explained(menagerie: Toy) -> None:
    every = [one["num_params"] for one in menagerie.result(SEARCH)["retrieved"]]
    bound = sorted(every)[3]
    menagerie.do("search", *UNSEEN, "--bounds.max-params", bound, "--out", "bounded")
    found = menagerie.result("bounded")
    assert all(one["num_params"] <= bound for one in found["retrieved"])
    assert found["num_feasible"] < SOURCES * EACH
    error = menagerie.run("search", *UNSEEN, "--bounds.max-macs", 1000, "--out", "no").error(2)
    said = "no network of the zoo is within the bounds: --bounds.max-macs 1,000 leaves 0 of 20"
    assert error.startswith(f"tans search: error: {said}")
    assert "--debug" not in error


def test_released_selections_are_there(menagerie: Toy) -> None:
    for selection, num in (("top1", 1), ("official", (3, 4))):
        menagerie.do("search", *UNSEEN, "--select", selection, "--out", f"select-{selection}")
        chosen = menagerie.result(f"select-{selection}")["chosen"]
        assert chosen[0] == menagerie.result(f"select-{selection}")["retrieved"][0]
        assert len(chosen) in (num if isinstance(num, tuple) else (num,))


def test_fine_tuning_trains_what_was_found_and_beats_scratch(menagerie: Toy) -> None:
    done = menagerie.do("finetune", *UNSEEN)
    result = menagerie.result(FINETUNE)
    chosen = menagerie.result(SEARCH)["chosen"][0]
    assert result["networks"][0]["id"] == chosen["id"]
    ours, scratch = (result["accuracies"][name] for name in (f"network{chosen['id']}", "scratch"))
    assert ours["mean"] > scratch["mean"]
    assert set(ours["seeds"]) == {"1", "2"}
    task = open_task(menagerie.folder / "images/unseen", resolution=16)
    for seed in (1, 2):
        trained = load_finetuned(menagerie.folder / FINETUNE / f"network{chosen['id']}-seed{seed}.safetensors")
        _, accuracy = measure(trained.network, task, device=torch.device("cpu"))
        assert accuracy == pytest.approx(ours["seeds"][str(seed)], abs=1e-6)
    assert "from scratch" in shown(menagerie.folder / FINETUNE / "report.html") or "fresh weights" in shown(
        menagerie.folder / FINETUNE / "report.html"
    )
    assert f"network{chosen['id']}:" in done.out
    again = menagerie.do("finetune", *UNSEEN)
    assert "is finished; --restart trains anew" in again.out


def test_a_teacher_makes_it_distillation(menagerie: Toy) -> None:
    from common.store.weights import save_weights

    teacher = timm.create_model("test_resnet", num_classes=5)
    save_weights(menagerie.folder / "teacher.safetensors", teacher.state_dict(), {"kind": "teacher"})
    argv = ("--teacher", "timm:test_resnet@teacher.safetensors", "--seeds", 1, "--no-scratch", "--out", "distilled")
    menagerie.do("finetune", *UNSEEN, *argv)
    name = menagerie.result("distilled")["weights"][0]
    notes = load_finetuned(menagerie.folder / "distilled" / name).notes
    assert notes["recipe"]["loss"] == "kd"
    assert notes["teacher"] == "timm:test_resnet@teacher.safetensors"


def test_an_evaluation_trains_all_ways_to_begin_and_goes_on(menagerie: Toy) -> None:
    argv = ("--data", "images/unseen", "--out", "evaluation")
    menagerie.do("evaluate", *argv)
    result = menagerie.result("evaluation")
    trials = result["trials"]["images/unseen"]
    assert len(trials) == 2
    for trial in trials:
        assert set(trial["ways"]) == set(WAYS)
        assert all(len(way["curve"]) == 2 for way in trial["ways"].values())
        assert trial["ways"]["scratch"]["network"] == trial["ways"]["retrieved"]["network"]
        assert trial["ways"]["unrelated"]["dataset"] != trial["ways"]["retrieved"]["dataset"]
    mean = sum(trial["ways"]["retrieved"]["curve"][1] for trial in trials) / 2
    assert result["mean"]["2"]["retrieved"] == pytest.approx(mean)
    (menagerie.folder / "evaluation/result.json").unlink()
    (menagerie.folder / "evaluation/checkpoint/images_unseen-seed1.json").unlink()
    menagerie.do("evaluate", *argv)
    assert menagerie.result("evaluation") == result


def test_a_network_of_the_users_own_is_added_once_and_found_again(menagerie: Toy) -> None:
    shutil.copytree(menagerie.folder / "zoo", menagerie.folder / "mine")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=5)
    safetensors.torch.save_file(network.state_dict(), menagerie.folder / "own.safetensors")
    argv = ("--network", "timm:test_resnet", "--weights", "own.safetensors", "--zoo", "mine")
    first = menagerie.do("zoo add", *argv, "--data", "images/unseen").out
    assert f"network {SOURCES * EACH + 1}:" in first
    assert "(it was there already)" in menagerie.do("zoo add", *argv, "--data", "images/unseen").out
    with open_zoo(menagerie.folder / "mine") as zoo:
        row = zoo.network(SOURCES * EACH + 1)
        num_head = sum(parameter.numel() for parameter in network.get_classifier().parameters())
        assert row.num_params == sum(parameter.numel() for parameter in network.parameters()) - num_head
        assert verify(zoo, num_recomputed=SOURCES * EACH + 1) == []
        loaded, pixels = load_network(zoo, row), torch.rand(2, 3, 16, 16)
        normalised = (pixels - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)) / torch.tensor(
            (0.229, 0.224, 0.225)
        ).view(3, 1, 1)
        with torch.no_grad():
            torch.testing.assert_close(loaded(2 * pixels - 1), network.eval()(normalised), atol=1e-4, rtol=1e-4)
    assert "timm:test_resnet" in menagerie.run("zoo show", "--network", 21, "--zoo", "mine", preset=False).out
    wrong = ("--network", "timm:test_resnet", "--weights", "own.safetensors", "--zoo", "mine", "--data", "digits")
    assert "has 5 outputs, and digits has 10 classes" in menagerie.run("zoo add", *wrong).error(2)
    other = ("--network", "timm:resnet18", "--weights", "own.safetensors", "--zoo", "mine", *UNSEEN)
    assert "the weights are not of timm:resnet18" in menagerie.run("zoo add", *other).error(2)
    argv = ("--networks", 21, "--zoo", "mine", "--seeds", 1, "--out", "own-tuned")
    menagerie.do("finetune", *UNSEEN, *argv)
    assert set(menagerie.result("own-tuned")["accuracies"]) == {"network21", "scratch"}


def test_a_damaged_zoo_is_named_by_verify_and_by_whoever_needs_the_file(menagerie: Toy) -> None:
    shutil.copytree(menagerie.folder / "zoo", menagerie.folder / "broken")
    assert "are whole" in menagerie.run("zoo verify", "--zoo", "broken", preset=False).out
    victim = next((menagerie.folder / "broken/supernets").glob("folder_3a_red-low*"))
    victim.unlink()
    done = menagerie.run("zoo verify", "--zoo", "broken", preset=False)
    assert f"{victim.name} is missing" in done.out
    assert "broken has 1 problem, see above" in done.error(1)
    with open_zoo(menagerie.folder / "broken") as zoo:
        number = next(row.id for row in zoo.networks() if row.dataset == "folder:red-low")
    argv = ("--networks", number, "--zoo", "broken", "--out", "from-broken")
    assert victim.name in menagerie.run("finetune", *UNSEEN, *argv).error(1)


def test_what_a_zoo_holds_is_listed(menagerie: Toy) -> None:
    every = menagerie.run("zoo list", "--zoo", "zoo", preset=False).out
    assert "result: 20 networks in zoo (mobilenet_v3-w0.1-stride1, 16 px" in every
    one = menagerie.run("zoo list", "--zoo", "zoo", "--dataset", "folder:red-low", preset=False).out
    assert "result: 5 networks" in one
    assert "has no networks of cats" in menagerie.run(
        "zoo list", "--zoo", "zoo", "--dataset", "cats", preset=False
    ).error(1)


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("search --data images/unseen --zoo nowhere", 1, "there is no zoo in nowhere"),
        ("search --data nosuch", 1, "unknown dataset 'nosuch'"),
        ("search --data images/unseen --features.extractor random", 2, "the zoo sees datasets through compact"),
        ("search --data images/unseen --num-retrieved 0", 2, "num_retrieved is 0"),
        ("search --query nosuch", 2, "zoo has no features of nosuch"),
        ("finetune --data digits", 2, "which network? Run `python -m tans search --data digits` first"),
        ("finetune --data images/unseen --networks 999 --out x1", 2, "has no network 999"),
        ("meta-train --zoo nowhere --out x2", 1, "there is no zoo in nowhere"),
        ("meta-train --learning.stepz 5", 2, "unknown flag --learning.stepz"),
        ("build-zoo --sources images/nosuch --out x3 --zoo x3zoo", 1, "images/nosuch"),
        ("build-zoo --resolution 15 --out x4 --zoo x4zoo", 2, "15"),
        ("build-zoo --width-mult 0.5 --out x5", 2, "functional_dim is 256"),
        ("build-zoo --functional-dim 300 --out x6", 2, "is a zoo with other settings (functional_dim is 256 there"),
        ("evaluate --data images/unseen --budgets 1 50", 2, "are not within the 2 epochs"),
        ("finetune --data images/unseen --recipe.loss kd", 2, "loss kd needs a teacher"),
    ],
)
def test_wrong_usage_ends_in_one_clear_line(line: str, code: int, message: str, menagerie: Toy) -> None:
    step, *argv = line.split()
    assert message in menagerie.run(step, *argv).error(code)
