import csv
import re
import shutil
import signal
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from test_kill_and_resume import kill
from toy import ROOT, Finished, Toy, contents, ended, records_of, wait_for

from common.data.tasks import open_task
from common.experiment.config import parse_config
from common.features.cache import features_of
from common.features.extractors import load_extractor
from common.kd.evaluate import evaluate as measure
from common.spaces.nasbench201 import NasBench201Space, positions
from common.spaces.nasbench201_classes import canonical_text, is_connected
from metad2a.artifacts import load_pair
from metad2a.database import load_database
from metad2a.meta_train import DATABASE, MetaTrainConfig
from metad2a.networks import load_network
from metad2a.ranking import draw_to_score
from metad2a.scoring import score_archs

SPACE = NasBench201Space(channels=4, cells_per_stage=1)
SEARCH, TRAIN = "exp/metad2a/search/folder_own", "exp/metad2a/train/folder_own"
OWN = ("--data", "images/own")
TABLE = ROOT.parent / "shared/data/nasbench201/nasbench201.csv.gz"
FLOOR = 0.8


@pytest.fixture(scope="module")
def trained(cells: Toy) -> Finished:
    """The pick of the search, trained from two seeds, and two random cells."""
    return cells.do("train", *OWN)


def shown(page: Path) -> str:
    """Text of a page without its tags."""
    return re.sub(r"<[^>]+>", " ", page.read_text())


def metrics(run: Path) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            found.setdefault((row["split"], row["name"]), []).append(float(row["value"]))
    return found


def test_a_database_holds_cells_that_were_really_trained(cells: Toy) -> None:
    database = load_database(cells.folder / "collect/database.safetensors")
    assert database.sources == ("digits", "images/turned")
    assert database.space_name == SPACE.name
    records = {(task, text): final for _, task, _, text, *_, final in map(record, records_of(cells.folder / "collect"))}
    assert len(records) == database.num_rows == 6 * 4 + 2 * 3
    learned, selecting = database.rows(valid=False), database.rows(valid=True)
    assert not {*database.archs(learned)} & {*database.archs(selecting)}
    for row, cell in enumerate(database.archs(torch.arange(database.num_rows))):
        task = database.tasks[int(database.task_index[row])]
        assert float(database.accuracy[row]) == pytest.approx(records[task.id, SPACE.format(cell)], abs=1e-6)
        assert 2 <= len(task.classes) <= 3
    chance = torch.tensor([1 / len(database.tasks[i].classes) for i in database.task_index.tolist()])
    assert (database.accuracy - chance).mean() > 0.1, "training teaches"


def record(row: tuple[object, ...]) -> tuple[object, str, object, str, float]:
    """Row id, task, space, architecture and final accuracy of a stored record."""
    number, task, space, architecture, _, _, _, final, *_ = row
    return number, str(task), space, str(architecture), float(final)  # type: ignore[arg-type]


def test_a_database_says_what_its_result_says(cells: Toy) -> None:
    database, result = load_database(cells.folder / "collect/database.safetensors"), cells.result("collect")
    for place, name in enumerate(database.sources):
        found = database.accuracy[database.source_index() == place].numpy()
        assert result["sources"][name]["num_labels"] == len(found)
        assert result["sources"][name]["mean"] == pytest.approx(found.mean(), abs=1e-6)
        assert result["sources"][name]["best"] == pytest.approx(found.max(), abs=1e-6)


@pytest.mark.parametrize("model", ["generator", "predictor"])
def test_meta_training_learns_and_knows_what_it_learned_from(model: str, cells: Toy) -> None:
    run = cells.folder / "pair" / model
    losses = metrics(run)["train", "loss"]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    artifact = getattr(load_pair(cells.folder / "pair"), model)
    assert artifact.sources == ("digits", "folder:turned")
    assert artifact.extractor.startswith("random-")
    assert (artifact.space_name, artifact.num_sample) == (SPACE.name, 5)
    database = load_database(cells.folder / "collect/database.safetensors")
    rows = database.best_rows(2 if model == "generator" else 99, valid=False)
    assert artifact.training_cells.tolist() == sorted({*positions(database.archs(rows)).tolist()})
    assert shown(run / "report.html").count("digits") > 0


def test_the_predictor_keeps_its_best_validation_and_the_generator_its_last(cells: Toy) -> None:
    scores = metrics(cells.folder / "pair/predictor")["valid", "score"]
    kept = cells.result("pair/predictor")["valid"]
    assert len(scores) == 20
    assert kept["score"] == max(scores)
    assert kept["epoch"] == 1 + scores.index(max(scores))
    found = metrics(cells.folder / "pair/generator")
    assert len(found["valid", "validity"]) == 4
    assert cells.result("pair/generator")["valid"]["validity"] == found["valid", "validity"][-1] >= FLOOR


def test_a_search_proposes_distinct_cells_and_ranks_them_by_their_scores(cells: Toy) -> None:
    result = cells.result(SEARCH)
    scores, found = np.array(result["scores"]), result["candidates"]
    assert len({*found}) == len(scores) == 40
    assert np.isfinite(scores).all()
    assert len({*scores}) > 30
    best = np.argsort(-scores, kind="stable")[:3]
    assert [cell["arch"] for cell in result["chosen"]] == [found[i] for i in best]
    assert [cell["score"] for cell in result["chosen"]] == scores[best].tolist()
    for cell in result["chosen"]:
        cost = SPACE.cost(SPACE.parse(cell["arch"]), 5, 32)
        assert (cell["num_params"], cell["macs"]) == (cost.num_params, cost.macs)
        assert cell["arch"] in shown(cells.folder / SEARCH / "report.html")
    assert not result["seen"]
    assert result["table"] is None
    assert "no NAS-Bench-201 table" in result["table_note"]


def test_a_search_counts_what_came_out_of_the_generator(cells: Toy) -> None:
    result, pair = cells.result(SEARCH), load_pair(cells.folder / "pair")
    measures, found = result["measures"], [SPACE.parse(text) for text in result["candidates"]]
    assert measures["num_graphs"] % 50 == 0
    assert FLOOR <= measures["validity"] <= 1
    assert measures["distinct_classes"] == len({canonical_text(cell) for cell in found})
    known = {*pair.generator.training_cells.tolist()}
    assert measures["novelty"] == pytest.approx(np.mean([place not in known for place in positions(found).tolist()]))


def test_scores_of_a_search_are_those_of_the_predictor_on_the_cached_features(cells: Toy) -> None:
    pair, result = load_pair(cells.folder / "pair"), cells.result(SEARCH)
    features = features_of(
        cells.folder / "images/own",
        extractor=load_extractor("random"),
        device=torch.device("cpu"),
        cache=None,
        max_per_class=20,
    )
    sets = draw_to_score(pair, features, 10, 0)
    found = score_archs(pair.predictor.model, sets, SPACE, [SPACE.parse(text) for text in result["candidates"]])
    assert found.tolist() == pytest.approx(result["scores"], abs=1e-5)
    assert list((cells.folder / "exp/features").glob("folder_own-random-*-20-0.safetensors"))


def test_the_pick_is_trained_as_its_files_say(cells: Toy, trained: Finished) -> None:
    result, folder = cells.result(TRAIN), cells.folder / TRAIN
    assert result["arch"] == cells.result(SEARCH)["chosen"][0]["arch"]
    task = open_task(cells.folder / "images/own", resolution=16)
    for seed, name in zip(("1", "2"), result["weights"], strict=True):
        network = load_network(folder / name)
        assert network.arch == SPACE.parse(result["arch"])
        _, accuracy = measure(network.network, task, device=torch.device("cpu"))
        assert accuracy == pytest.approx(network.final_accuracy, abs=1e-6)
        assert network.final_accuracy == result["final_accuracy"]["seeds"][seed] > network.initial_accuracy + 0.2
    values = [*result["final_accuracy"]["seeds"].values()]
    half = stats.t.ppf(0.975, 1) * statistics.stdev(values) / 2**0.5
    assert result["final_accuracy"]["mean"] == pytest.approx(np.mean(values))
    assert result["final_accuracy"]["interval"] == pytest.approx(half)
    assert f"{100 * np.mean(values):.2f} %" in trained.out
    assert f"{100 * values[0]:.2f} %" in shown(folder / "report.html")


def test_random_cells_are_trained_beside_the_pick(cells: Toy, trained: Finished) -> None:
    result = cells.result(TRAIN)
    others = [SPACE.parse(cell["arch"]) for cell in result["random"]]
    assert len({*others, SPACE.parse(result["arch"])}) == 3
    assert all(map(is_connected, others))
    values = [cell["final_accuracy"] for cell in result["random"]]
    first = result["final_accuracy"]["seeds"]["1"]
    assert result["place"] == 1 + sum(value > first for value in values)
    assert f"place {result['place']} of 3" in trained.out
    for place, value in enumerate(values, start=1):
        file = cells.folder / TRAIN / f"cell-random{place}-seed1.safetensors"
        assert load_network(file).final_accuracy == value


def test_the_same_seed_gives_the_same_bytes(cells: Toy, trained: Finished, tmp_path: Path) -> None:
    cells.do("collect", "--out", tmp_path / "collect")
    for model in ("generator", "predictor"):
        data = ("--database", tmp_path / "collect/database.safetensors", "--features.cache", tmp_path / "features")
        cells.do("meta-train", "--model", model, *data, "--out", tmp_path / "pair" / model)
        assert contents(tmp_path / "pair", f"{model}/*.safetensors") == contents(
            cells.folder / "pair", f"{model}/*.safetensors"
        )
    assert contents(tmp_path / "collect", "database*") == contents(cells.folder / "collect", "database*")
    cells.do("search", *OWN, "--pair", tmp_path / "pair", "--out", tmp_path / "search")
    again, first = (cells.result(run) for run in (str(tmp_path / "search"), SEARCH))
    assert (again["candidates"], again["scores"]) == (first["candidates"], first["scores"])
    cells.do("train", *OWN, "--arch", first["chosen"][0]["arch"], "--out", tmp_path / "train")
    assert contents(tmp_path / "train", "cell-*") == contents(cells.folder / TRAIN, "cell-*")
    other = cells.do("search", *OWN, "--pair", "pair", "--seed", 1, "--out", tmp_path / "other")
    assert cells.result(str(tmp_path / "other"))["candidates"] != first["candidates"], other.out


@pytest.mark.parametrize(
    ("argv", "folder"),
    [
        (["collect", "--out", "collect"], "collect"),
        (
            [
                "meta-train",
                "--model",
                "predictor",
                "--database",
                "collect/database.safetensors",
                "--out",
                "pair/predictor",
            ],
            "pair/predictor",
        ),
        (["train", "--data", "images/own"], TRAIN),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_finished_run_does_nothing_when_it_is_started_again(
    argv: list[str], folder: str, cells: Toy, trained: Finished
) -> None:
    def state() -> dict[str, int]:
        files = (path for path in (cells.folder / folder).rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = state()
    assert "is finished" in cells.do(*argv).out
    assert state() == before


def test_a_killed_collection_goes_on(cells: Toy) -> None:
    run = cells.folder / "killed-collect"
    process = cells.start("collect", "--out", run.name)
    wait_for(process, lambda: len(records_of(run)) >= 2)
    kill(process, run)
    kept = records_of(run)
    assert 2 <= len(kept) < 30
    cells.do("collect", "--out", run.name)
    assert records_of(run)[: len(kept)] == kept, "times included: nothing was done twice"
    assert contents(run, "database*") == contents(cells.folder / "collect", "database*")


@pytest.mark.parametrize("model", ["generator", "predictor"])
def test_a_killed_meta_training_goes_on(model: str, cells: Toy) -> None:
    whole, run = cells.folder / f"whole-{model}", cells.folder / f"killed-{model}"
    long = ("--model", model, "--database", "collect/database.safetensors", f"--{model}.epochs", 60)
    long = (*long, f"--{model}.validate-every", 5)
    cells.do("meta-train", *long, "--out", whole.name)
    process = cells.start("meta-train", *long, "--out", run.name)
    wait_for(process, lambda: (run / "checkpoint/previous.pt").exists())
    kill(process, run)
    again = cells.do("meta-train", *long, "--out", run.name)
    assert "going on from step " in again.err
    for pattern in (f"{model}.safetensors", "metrics.csv", "result.json"):
        assert contents(run, pattern) == contents(whole, pattern)


def test_a_killed_training_goes_on(cells: Toy, trained: Finished) -> None:
    run, arch = cells.folder / "killed-train", cells.result(TRAIN)["arch"]
    process = cells.start("train", *OWN, "--arch", arch, "--out", run.name)
    first = run / "cell-chosen-seed1.safetensors"
    wait_for(process, first.exists)
    kill(process, run)
    written = first.stat().st_mtime_ns
    cells.do("train", *OWN, "--arch", arch, "--out", run.name)
    assert first.stat().st_mtime_ns == written, "the first cell is not trained twice"
    for pattern in ("cell-*", "result.json", "metrics.csv"):
        assert contents(run, pattern) == contents(cells.folder / TRAIN, pattern)


def test_an_interrupted_collection_says_so(cells: Toy) -> None:
    run = cells.folder / "interrupted-collect"
    process = cells.start("collect", "--out", run.name)
    wait_for(process, lambda: len(records_of(run)) >= 1)
    process.send_signal(signal.SIGTERM)
    stopped = ended(process, seconds=60)
    assert stopped.code == 130, stopped.err
    assert stopped.lines() == ["metad2a collect: interrupted; the same command goes on from here"]


def test_lines_of_the_release_run_as_they_are(cells: Toy) -> None:
    line = (
        "--gpu cpu --model generator --hs 24 --nz 24 --test --load-epoch 400 --num-gen-arch 30 --data-name images/own"
    )
    ours = "--config toy.yaml --pair pair --out released --threads 1"
    assert ended(cells.start_line(f"{line} {ours}")).code == 0
    result = cells.result("released")
    assert len(result["candidates"]) == 30
    assert result["candidates"] == cells.result(SEARCH)["candidates"][:30]


def test_features_that_were_imported_take_the_place_of_images(cells: Toy, tmp_path: Path) -> None:
    for name in ("generator", "predictor"):
        shutil.copy(cells.folder / "pair" / name / f"{name}.safetensors", tmp_path)
    classes = [torch.rand(6, 512) for _ in range(4)]
    torch.save([[values] for values in classes], tmp_path / "svhnbylabel.pt")
    cells.do("import-official", "--source", tmp_path, "--out", "imported")
    refused = cells.run("search", "--pair", tmp_path, "--data", "svhn", "--features.imported", "imported/features")
    assert "these are of resnet18-imagenet: give --features.extractor random" in refused.error(2)


def test_the_default_database_is_where_the_scripts_look_for_it() -> None:
    assert str(DATABASE) in (ROOT / "script/run_meta_train.sh").read_text()
    preset = ["--config", str(ROOT / "configs/metad2a/cpu.yaml")]
    names = ("collect", "meta-train", "search", "train", "evaluate")
    config = parse_config(MetaTrainConfig, preset, program="metad2a", step="meta-train", steps=names)
    assert config.database == DATABASE


@pytest.mark.data
def test_labels_of_the_table_carry_over_to_a_set_that_was_never_seen(
    cells: Toy, data_root: Path, tmp_path: Path
) -> None:
    root = ("--data-root", data_root)
    drawing = ("--drawing.num-tasks", 20, "--drawing.max-classes", 5, "--drawing.num-cells", 100)
    database = ("--drawing.num-valid-cells", 100, "--labels", "table", "--sources", "cifar10", *root)
    cells.do("collect", *database, *drawing, "--out", tmp_path / "collect")
    learned = load_database(tmp_path / "collect/database.safetensors")
    assert (learned.space_name, learned.meta["labels"], learned.meta["epochs"]) == ("nasbench201-16x5", "table", 200)
    data = ("--database", tmp_path / "collect/database.safetensors", *root, "--latent-dim", 32)
    generator = ("--generator.hidden-dim", 32, "--generator.epochs", 20, "--generator.num-targets", 3)
    cells.do("meta-train", *data, *generator, "--out", tmp_path / "pair/generator")
    predictor = ("--predictor.hidden-dim", 64, "--predictor.cells-per-task", 64, "--predictor.target", "source_rank")
    steps = ("--predictor.epochs", 10, "--predictor.epoch-steps", 20)
    cells.do("meta-train", *data, "--model", "predictor", *predictor, *steps, "--out", tmp_path / "pair/predictor")
    evaluated = cells.do(
        *("evaluate", "--data", "tiny_imagenet", "--pair", tmp_path / "pair", *root, "--out", tmp_path / "evaluate"),
        *("--generation.num-generated", 100),
    )
    result = cells.result(str(tmp_path / "evaluate"))
    ours, random = result["methods"]["MetaD2A"], result["methods"]["random, unranked"]
    assert not result["seen"]
    assert result["measures"]["validity"]["mean"] >= 0.9
    assert result["spearman_all"]["mean"] >= 0.6
    assert ours["top1"]["mean"] > random["best_of_top"]["mean"] > random["mean"]["mean"] + 0.05
    assert ours["mean"]["mean"] > random["mean"]["mean"] + 0.03
    assert f"{100 * ours['top1']['mean']:.2f}" in evaluated.out
    assert result["methods"]["all, by parameters"]["top1"]["mean"] == pytest.approx(0.414444, abs=1e-5)
    assert result["best_possible"] == pytest.approx(0.473111, abs=1e-5)
    seen = cells.run("evaluate", "--data", "cifar10", "--pair", tmp_path / "pair", *root, "--out", tmp_path / "seen")
    assert "this is no search on an unseen dataset" in seen.err
    assert "which the pair HAS seen" in seen.out
