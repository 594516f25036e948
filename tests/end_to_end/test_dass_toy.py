import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from toy import RESOLUTION, Finished, Toy, contents, ended, records_of

from common.data.tasks import open_task
from common.experiment.files import load_state
from common.kd.evaluate import evaluate as measure
from common.spaces.resnet import ResNetSpace
from dass.database import load_database, load_table
from dass.networks import load_network
from dass.predictor import load_predictor

SPACE = ResNetSpace(teacher_widths=(16, 32, 48, 64), max_depth=2)
OWN_TEACHER = "exp/dass/train-teacher/folder_own"
FLOOR = 0.85


@pytest.fixture(scope="module")
def distilled(toy: Toy) -> Finished:
    """The pick of the search, trained from two seeds."""
    return toy.do("distill", "--data", "images/own")


@pytest.fixture(scope="module")
def evaluated(toy: Toy) -> Finished:
    """The ranking, compared with students that were really trained."""
    return toy.do(
        *("evaluate", "--tasks", "images/own", "--predictor", "meta/predictor.safetensors"),
        *("--database", "collect/database", "--out", "evaluate"),
    )


def shown(page: Path) -> str:
    """Text of a page without its tags."""
    return re.sub(r"<[^>]+>", " ", page.read_text())


def test_a_database_holds_a_teacher_and_students_of_every_task(toy: Toy) -> None:
    tables = load_database(toy.folder / "collect/database")
    assert list(tables) == ["digits/0-4", "folder:turned"]
    for table in tables.values():
        assert table.num_students == len(set(table.architectures)) == 4
        assert table.teacher_best_accuracy >= FLOOR > 0.5 > table.teacher_initial_accuracy
        assert table.best_accuracy.mean() > table.initial_accuracy.mean() + 0.1, "distillation teaches"
        assert torch.equal(table.best_accuracy, table.seed_best_accuracy.mean(1))
        assert (table.final_accuracy <= table.best_accuracy).all()
    pools = [set(table.architectures) for table in tables.values()]
    assert not pools[0] & pools[1], "every task has a pool of its own"
    assert len(records_of(toy.folder / "collect")) == 8
    assert not list((toy.folder / "collect/scratch").glob("*.pt")), "unfinished states are cleared away"


def test_a_database_says_what_its_result_says(toy: Toy) -> None:
    tables, result = load_database(toy.folder / "collect/database"), toy.result("collect")["tasks"]
    assert set(tables) == set(result)
    for task, table in tables.items():
        measured = table.best_accuracy.numpy()
        assert result[task]["teacher"] == table.teacher_best_accuracy
        assert result[task]["mean"] == pytest.approx(measured.mean(), abs=1e-6)
        assert result[task]["std"] == pytest.approx(measured.std(ddof=1), abs=1e-6)
        assert result[task]["best"] == pytest.approx(measured.max(), abs=1e-6)


def test_a_teacher_is_as_good_as_its_file_says(toy: Toy) -> None:
    teacher = load_network(toy.folder / OWN_TEACHER / "teacher.safetensors")
    task = open_task(toy.folder / "images/own", resolution=RESOLUTION)
    _, accuracy = measure(teacher.network, task, device=torch.device("cpu"))
    assert accuracy == pytest.approx(teacher.best_accuracy, abs=1e-6)
    assert teacher.best_accuracy == toy.result(OWN_TEACHER)["best_accuracy"] >= FLOOR
    assert f"{100 * accuracy:.1f}" in shown(toy.folder / OWN_TEACHER / "report.html")


def test_meta_training_learns_and_keeps_its_best_validation(toy: Toy) -> None:
    artifact, result = load_predictor(toy.folder / "meta/predictor.safetensors"), toy.result("meta")
    assert all(torch.isfinite(value).all() for value in artifact.predictor.state_dict().values())
    assert artifact.score == result["valid"]["score"] == result["valid"]["spearman"]["folder:turned"]
    last = load_state(toy.folder / "meta/checkpoint/last.pt")["objects"]["learner"]
    sizes = torch.cat([value.flatten() for name, value in last.items() if name.startswith("_step_sizes")])
    assert sizes.min() < 0.005 < sizes.max(), "step sizes are learned, each on its own"
    rows = [line.split(",") for line in (toy.folder / "meta/metrics.csv").read_text().splitlines()[1:]]
    scores = [float(value) for _, split, name, value in rows if (split, name) == ("valid", "spearman")]
    assert len(scores) == 5
    assert max(scores) == artifact.score
    losses = [float(value) for _, split, name, value in rows if (split, name) == ("train", "loss")]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


def test_a_search_ranks_an_unseen_folder_by_finite_scores(toy: Toy) -> None:
    folder = toy.folder / "exp/dass/search/folder_own"
    result = toy.result("exp/dass/search/folder_own")
    scores = np.array(result["scores"])
    assert len(set(result["candidates"])) == len(scores) == 30
    assert np.isfinite(scores).all()
    assert len(set(scores)) > 20
    best = np.argsort(-scores, kind="stable")[:3]
    assert [result["candidates"][index] for index in best] == [student["arch"] for student in result["chosen"]]
    assert [student["score"] for student in result["chosen"]] == scores[best].tolist()
    for student in result["chosen"]:
        cost = SPACE.cost(SPACE.parse(student["arch"]), 5, RESOLUTION)
        assert (student["num_params"], student["macs"]) == (cost.num_params, cost.macs)
        assert student["arch"] in shown(folder / "report.html")


def test_the_pick_learns_from_its_teacher(toy: Toy, distilled: Finished) -> None:
    result, folder = toy.result("exp/dass/distill/folder_own"), toy.folder / "exp/dass/distill/folder_own"
    assert result["arch"] == toy.result("exp/dass/search/folder_own")["chosen"][0]["arch"]
    task = open_task(toy.folder / "images/own", resolution=RESOLUTION)
    for seed, name in zip(("1", "2"), result["weights"], strict=True):
        student = load_network(folder / name)
        assert student.arch == SPACE.parse(result["arch"])
        _, accuracy = measure(student.network, task, device=torch.device("cpu"))
        assert accuracy == pytest.approx(student.best_accuracy, abs=1e-6)
        assert student.best_accuracy == result["best_accuracy"]["seeds"][seed]
        assert student.best_accuracy > student.initial_accuracy + 0.2
    for measured in (result[f"{name}_accuracy"] for name in ("best", "final", "initial")):
        values = np.array(list(measured["seeds"].values()))
        assert measured["mean"] == pytest.approx(values.mean())
        assert measured["std"] == pytest.approx(values.std(ddof=1))
    assert f"{100 * result['final_accuracy']['mean']:.2f}" in distilled.out
    assert f"{100 * result['best_accuracy']['mean']:.1f}" in shown(folder / "report.html")


def test_an_evaluation_says_what_its_table_says(toy: Toy, evaluated: Finished) -> None:
    table = load_table(toy.folder / "evaluate/tables/folder_own.safetensors")
    result = toy.result("evaluate")
    found = result["tasks"]["folder:own"]
    measured = np.array(found["measured"])
    assert measured == pytest.approx(table.best_accuracy.numpy())
    rankers = {
        "DaSS": found["scores"],
        "parameters": table.num_params,
        "MACs": table.macs,
        "zero-shot accuracy": table.initial_accuracy,
    }
    for name, values in rankers.items():
        rho = stats.spearmanr(np.asarray(values, dtype=np.float64), measured).statistic
        tau = stats.kendalltau(np.asarray(values, dtype=np.float64), measured).statistic
        assert found["correlations"][name]["spearman"] == pytest.approx(rho, abs=1e-6), name
        assert found["correlations"][name]["kendall"] == pytest.approx(tau, abs=1e-6), name
        assert result["mean_spearman"][name] == found["correlations"][name]["spearman"]
    noise = stats.spearmanr(*table.seed_best_accuracy.numpy().T).statistic
    assert found["correlations"]["label noise (two seeds)"]["spearman"] == pytest.approx(noise, abs=1e-6)
    assert found["chosen"]["arch"] == table.architectures[int(np.argmax(found["scores"]))]
    assert found["pool"]["median"] == pytest.approx(np.median(measured), abs=1e-6)
    assert f"{found['correlations']['DaSS']['spearman']:.3f}" in evaluated.out


def test_no_student_of_an_evaluation_is_known_to_the_predictor(toy: Toy, evaluated: Finished) -> None:
    known = {arch for table in load_database(toy.folder / "collect/database").values() for arch in table.architectures}
    pool = load_table(toy.folder / "evaluate/tables/folder_own.safetensors").architectures
    assert len(set(pool)) == 5
    assert not known & set(pool)
    assert len(records_of(toy.folder / "evaluate")) == 10, "five students from two seeds"


def test_the_page_of_an_evaluation_shows_its_numbers(toy: Toy, evaluated: Finished) -> None:
    page, found = shown(toy.folder / "evaluate/report.html"), toy.result("evaluate")["tasks"]["folder:own"]
    for name in ("DaSS", "parameters"):
        assert f"{abs(found['correlations'][name]['spearman']):.2f}" in page
    assert f"{100 * found['chosen']['accuracy']:.1f}" in page


@pytest.mark.parametrize("task", ["images/turned", "digits/0-4"])
def test_a_task_of_the_database_is_not_unseen(task: str, toy: Toy) -> None:
    refused = toy.run(
        *("evaluate", "--tasks", task, "--predictor", "meta/predictor.safetensors"),
        *("--database", "collect/database", "--out", "seen"),
    )
    assert f"{task.replace('images/', 'folder:')}: in the predictor's database" in refused.error(2)


def test_the_same_seed_gives_the_same_bytes(toy: Toy, distilled: Finished, tmp_path: Path) -> None:
    toy.do("collect", "--out", tmp_path / "collect")
    toy.do("meta-train", "--database", tmp_path / "collect/database", "--out", tmp_path / "meta")
    toy.do("search", "--data", "images/own", "--predictor", tmp_path / "meta/predictor.safetensors", "--out", "again")
    teacher = ("--teacher.file", toy.folder / OWN_TEACHER / "teacher.safetensors")
    arch = toy.result("again")["chosen"][0]["arch"]
    toy.do("distill", "--data", "images/own", "--arch", arch, *teacher, "--out", tmp_path / "distill")
    for run, pattern in (("collect", "database/*"), ("collect", "teachers/*"), ("meta", "predictor.safetensors")):
        assert contents(tmp_path / run, pattern) == contents(toy.folder / run, pattern)
    assert toy.result("again")["scores"] == toy.result("exp/dass/search/folder_own")["scores"]
    students = "student-seed*.safetensors"
    first = contents(toy.folder / "exp/dass/distill/folder_own", students)
    assert contents(tmp_path / "distill", students) == first
    assert len(set(first.values())) == 2, "another seed is another student"


@pytest.mark.parametrize(
    ("argv", "folder"),
    [
        (["collect", "--out", "collect"], "collect"),
        (["meta-train", "--database", "collect/database", "--out", "meta"], "meta"),
        (["train-teacher", "--data", "images/own"], OWN_TEACHER),
        (["distill", "--data", "images/own"], "exp/dass/distill/folder_own"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_finished_run_does_nothing_when_it_is_started_again(
    argv: list[str], folder: str, toy: Toy, distilled: Finished
) -> None:
    def state() -> dict[str, int]:
        files = (path for path in (toy.folder / folder).rglob("*") if path.is_file() and path.name != ".lock")
        return {str(path): path.stat().st_mtime_ns for path in files}

    before = state()
    again = toy.do(*argv)
    assert state() == before
    assert again.out


def test_python_dash_m_dass_is_the_same_command(toy: Toy) -> None:
    argv = ("distill", "--data", "images/own", "--arch", "16")
    assert ended(toy.start(*argv)).error(2) == toy.run(*argv).error(2)
