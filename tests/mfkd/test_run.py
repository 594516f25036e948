"""Whole pipelines on the digits of scikit-learn: trained for a few steps, so that nothing is claimed of accuracies."""

import csv
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pipelines as files
import pytest
import torch

import mfkd.training
from common.experiment.config import UsageError
from common.experiment.files import read_json
from common.store.weights import load_weights
from mfkd.__main__ import STEPS, name_file
from mfkd.config import Mfkd1Config
from mfkd.evaluations import Fidelity
from mfkd.models import teacher_of
from mfkd.pipeline import SearchStep, read_pipeline
from mfkd.run import RunConfig, run_file
from mfkd.train_teacher import TrainTeacherConfig, train_teacher
from mfkd.training import Place, PointJob, Setting, train_point

KD = {"type": "KDLoss", "params": {"T": 4, "alpha": 0.9}}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    file = files.write(folder / "teacher.yml", files.teacher())
    return train_teacher(TrainTeacherConfig(file=file, out=folder / "run", gpu="cpu"))


def tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    """All rows of all tables, times aside."""
    found = {}
    for path in sorted(folder.glob("output/*/*.csv")):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found[str(path.relative_to(folder))] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return found


def two_steps(teacher: Path) -> dict[str, Any]:
    low = files.search(files.MFKD2, files.distilled(teacher, {"type": "NSTLoss"}))
    high = files.search(files.MFKD2, files.labels(), dataset=files.digits(0.2))
    return {"pipeline": ["low", "high", "last"], "low": low, "high": high, "last": files.final()}


def test_algorithm_1_searches_distils_and_trains_the_network_it_predicts(tmp_path: Path, teacher: Path) -> None:
    content = {
        "pipeline": ["nas", "last"],
        "nas": files.search(files.MFKD1, files.distilled(teacher, KD)),
        "last": files.final(),
    }
    folder = tmp_path / "run"
    run_file(RunConfig(file=files.write(tmp_path / "one.yml", content), out=folder, gpu="cpu"))
    search, last = read_json(folder / "result.json")["steps"]
    winner = search["winner"]
    assert (search["algorithm"], search["fidelity"], search["loss"]) == ("MFKD1", "low", "kd")
    assert len(search["evaluations"]) == files.MFKD1["max_samples"]
    measured = {one["index"]: one["accuracy"] for one in search["evaluations"]}
    assert winner["accuracy"] == measured.get(winner["index"]), "what was not trained has no accuracy"
    assert winner["prediction"]["std"] > 0
    assert read_json(folder / "best_model") == {"space": search["space"], "index": winner["index"]}
    assert read_json(folder / "best_model_desc.json") == last["models"][0]["model"]
    assert last["models"][0]["architecture"] == winner["architecture"]
    assert last["models"][0]["macs"] == winner["macs"]
    page = (folder / "report.html").read_text()
    for words in ("Search path", "95 % interval", "Pareto front", "Trained networks", winner["architecture"]):
        assert words in page
    weights, about = load_weights(folder / last["models"][0]["weights"])
    assert sum(t.numel() for n, t in weights.items() if n.endswith(("weight", "bias"))) == winner["num_params"]
    assert json.loads(about["model"]) == last["models"][0]["model"]
    found = tables(folder)["output/nas/output.csv"]
    assert [int(row["index"]) for row in found] == [*measured]
    assert [float(row["performance"]) for row in found] == [*measured.values()]


def test_an_interrupted_run_goes_on_and_ends_like_a_whole_one(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = files.write(tmp_path / "two.yml", two_steps(teacher))
    whole, broken = (RunConfig(file=file, out=tmp_path / name, gpu="cpu") for name in ("whole", "broken"))
    run_file(whole)
    trained: list[int] = []
    original: Callable[..., Any] = mfkd.training.train

    def counted(*args: Any, **kwargs: Any) -> Any:
        trained.append(kwargs["seed"])
        if len(trained) == 5:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(mfkd.training, "train", counted)
    with pytest.raises(KeyboardInterrupt):
        run_file(broken)
    run_file(broken)
    assert len(trained) == 3 + 3 + 1 + 1, "only the training that was interrupted is begun twice"
    assert tables(tmp_path / "broken") == tables(tmp_path / "whole")
    low, high, last = read_json(tmp_path / "broken/result.json")["steps"]
    assert high["evaluations"][0]["index"] == low["winner"]["index"], "high fidelity starts from the low one's winner"
    assert high["winner"]["accuracy"] == max(one["accuracy"] for one in high["evaluations"])
    assert (low["fidelity"], high["fidelity"]) == ("low", "high")
    first, second = (load_weights(tmp_path / name / last["models"][0]["weights"])[0] for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not list((tmp_path / "broken/scratch").iterdir())
    run_file(broken)
    assert len(trained) == 8, "a finished run is not done again"


def test_a_changed_pipeline_needs_another_folder(tmp_path: Path) -> None:
    content = {"pipeline": ["last"], "last": files.teacher()["teacher_train"]}
    cfg = RunConfig(file=files.write(tmp_path / "one.yml", content), out=tmp_path / "run", gpu="cpu")
    run_file(cfg)
    content["last"]["trainer"]["seed"] = 8
    files.write(tmp_path / "one.yml", content)
    with pytest.raises(UsageError, match="before it was changed"):
        run_file(cfg)
    run_file(replace(cfg, restart=True))
    assert read_json(tmp_path / "run/result.json")["steps"][0]["models"][0]["accuracy"] >= 0


def test_evaluations_do_not_depend_on_their_order_nor_on_the_process(tmp_path: Path, teacher: Path) -> None:
    file = files.write(tmp_path / "two.yml", two_steps(teacher))
    step = read_pipeline(file, folder=None, default=tmp_path).steps[0]
    assert isinstance(step, SearchStep)

    def job(point: int, fidelity: Fidelity = "low") -> PointJob:
        place = Place(data_root=None, data_seed=0, gpu="cpu", scratch=tmp_path)
        parts = {"place": place, "images": step.images, "space": step.space, "training": step.training}
        sent = PointJob(setting=Setting(**parts, fidelity=fidelity, teacher="t"), point=point)
        received: PointJob = pickle.loads(pickle.dumps(sent))  # as a worker gets it
        assert received == sent
        return received

    def losses(jobs: list[PointJob]) -> dict[str, float]:
        found = {one.key: train_point(one).final_loss for one in jobs}
        for one in jobs:
            one.checkpoint.unlink()
        return found

    forwards = losses([job(3), job(9000), job(3, "high")])
    assert losses([job(9000), job(3)]) == {key: forwards[key] for key in ("low/9000", "low/3")}
    assert forwards["high/3"] != forwards["low/3"], "every fidelity has its own seeds"


def test_classes_that_are_not_those_of_the_dataset_stop_a_run_before_it_begins(tmp_path: Path, teacher: Path) -> None:
    for path, message in (
        (
            ("search_space", "custom", "num_classes"),
            r"low\.search_space\.custom\.num_classes is 100, but digits has 10",
        ),
        (("trainer", "teacher_num_classes"), r"low\.trainer\.teacher_num_classes is 100, but digits has 10 classes"),
    ):
        content = json.loads(json.dumps(two_steps(teacher)))
        section = content["low"]
        for name in path[:-1]:
            section = section[name]
        section[path[-1]] = 100
        with pytest.raises(UsageError, match=message):
            run_file(RunConfig(file=files.write(tmp_path / "bad.yml", content), out=tmp_path / "run", gpu="cpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.data
def test_the_published_file_whose_classes_are_wrong_is_refused(tmp_path: Path, data_root: Path) -> None:
    file = tmp_path / "mfkd2.yml"
    file.write_text(files.OLD_DIALECT.replace("CLASSES", "10"))
    with pytest.raises(UsageError, match=r"is 10, but cifar100 has 100 classes: give 100"):
        run_file(RunConfig(file=file, out=tmp_path / "run", gpu="cpu", data_root=data_root))


def test_a_missing_teacher_stops_a_run_before_it_begins(tmp_path: Path) -> None:
    file = files.write(tmp_path / "two.yml", two_steps(tmp_path / "none.safetensors"))
    with pytest.raises(FileNotFoundError, match="python -m mfkd train-teacher"):
        run_file(RunConfig(file=file, out=tmp_path / "run", gpu="cpu"))


def test_a_search_on_test_images_is_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    search = files.search(files.MFKD1, files.labels(), dataset={**files.digits(), "compat_val": "test"})
    file = files.write(tmp_path / "test.yml", {"pipeline": ["nas"], "nas": search})
    run_file(RunConfig(file=file, out=tmp_path / "run", gpu="cpu"))
    assert "the search goes by test images" in caplog.text
    assert "went by test images" in (tmp_path / "run/report.html").read_text()
    assert read_json(tmp_path / "run/result.json")["steps"][0]["task"].endswith("test")


def test_a_teacher_is_one_network_that_learns_from_labels(tmp_path: Path, teacher: Path) -> None:
    assert teacher.name == "teacher.safetensors"
    result = read_json(teacher.parent / "result.json")["steps"][0]["models"][0]
    content = files.teacher()
    step = read_pipeline(files.write(tmp_path / "t.yml", content), folder=None, default=tmp_path).steps[0]
    assert not isinstance(step, SearchStep)
    assert step.model is not None
    assert result["architecture"] == teacher_of(step.model.space).text
    content["teacher_train"]["trainer"] = files.distilled(teacher, KD)
    with pytest.raises(UsageError, match="a teacher learns from labels"):
        train_teacher(TrainTeacherConfig(file=files.write(tmp_path / "t.yml", content), out=tmp_path / "run"))
    with pytest.raises(UsageError, match="a teacher is one step"):
        train_teacher(TrainTeacherConfig(file=files.write(tmp_path / "t.yml", two_steps(teacher)), out=tmp_path))


def test_a_file_may_stand_alone_behind_the_step() -> None:
    assert name_file("run", ["a.yml", "--gpu", "cpu"]) == ["--file", "a.yml", "--gpu", "cpu"]
    assert name_file("run", ["--file", "a.yml"]) == ["--file", "a.yml"]
    assert name_file("search", ["digits"]) == ["digits"]
    assert {"run", "train-teacher", "search", "distill"} <= {*STEPS}
    assert Mfkd1Config().seed == 7
