"""What a user can get wrong: one line that names it and says what would work, and an exit code."""

import errno
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from toy import Finished, Toy, contents, ended, records_of, write_digits

from common.experiment.files import save_state
from common.store.weights import load_weights, save_weights
from dass.predictor import load_predictor, save_predictor

TEACHER = "exp/dass/train-teacher/folder_own/teacher.safetensors"
PREDICTOR = ("--predictor", "meta/predictor.safetensors")
OWN = ("--data", "images/own")
SMALLEST = "16_32_48_64"


def search(toy: Toy, *argv: object) -> Finished:
    """A search of the user's pictures; later flags win."""
    return toy.run("search", *OWN, *PREDICTOR, "--teacher.file", TEACHER, "--out", "bad", *argv)


def distill(toy: Toy, *argv: object) -> Finished:
    """A distillation of the smallest student, into a folder of its own unless one is given; later flags win."""
    anew = () if "--out" in argv else ("--out", "bad-distill", "--restart")
    return toy.run("distill", *OWN, "--arch", SMALLEST, "--teacher.file", TEACHER, *anew, *argv)


@pytest.fixture
def altered(toy: Toy, tmp_path: Path) -> Callable[..., Path]:
    """Copies a weights file, with some tensors replaced; its checksum is right."""

    def alter(source: str, **tensors: torch.Tensor) -> Path:
        weights, metadata = load_weights(toy.folder / source)
        metadata.pop("format")
        target = tmp_path / "altered" / Path(source).name
        save_weights(target, weights | tensors, metadata)
        return target

    return alter


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("./nowhere", ("nowhere", "folder of class folders")),
        ("images/nowhere", ("images/nowhere", "folder of class folders")),
        ("empty", ("empty is empty", "a folder of images for each class")),
        ("lonely", ("lonely has one class only (digit 1)", "at least two")),
        ("single", ("one image in all", "at least two in each class")),
        ("loose", ("loose holds images but no class folders", "CLASS/")),
        ("hollow", ("hollow: no image that can be read in class digit 1", "add some or drop it")),
        ("digitz", ("unknown dataset 'digitz'", "did you mean digits?")),
        ("cub", ("cub is not in", "python -m download.dataset --name cub")),
        ("digits/3", ("digits/3", "digits/0-9")),
        ("digits/7-12", ("digits/7-12", "within 0-9")),
    ],
)
def test_data_that_cannot_be_learned_from(data: str, says: tuple[str, ...], toy: Toy) -> None:
    (toy.folder / "empty").mkdir(exist_ok=True)
    write_digits(toy.folder / "lonely", "1", per_class=3)
    write_digits(toy.folder / "single", "1", per_class=1)
    (toy.folder / "loose").mkdir(exist_ok=True)
    shutil.copy(toy.folder / "single/digit 1/000.png", toy.folder / "loose")
    write_digits(toy.folder / "hollow", "01", per_class=2)
    for image in (toy.folder / "hollow/digit 1").iterdir():
        image.write_bytes(b"no image")
    line = toy.run("train-teacher", "--data", data, "--out", "bad-data").error(1)
    for words in says:
        assert words in line, line
    assert not (toy.folder / "bad-data").exists(), "nothing is begun"


def test_a_damaged_image_is_named_and_left_out(toy: Toy) -> None:
    folder = write_digits(toy.folder / "scratched", "01", per_class=30)
    whole = (folder / "digit 0/007.png").read_bytes()
    (folder / "digit 0/007.png").write_bytes(whole[: len(whole) // 2])
    (folder / "digit 1/003.png").write_bytes(b"")
    done = toy.do("train-teacher", "--data", "scratched", "--recipe.epochs", 1, "--out", "scratched-teacher")
    assert "damaged image left out: scratched/digit 0/007.png" in done.err.replace(str(toy.folder) + "/", "")
    assert "scratched/digit 1/003.png" in done.err
    assert "scratched: 2 of 60 images are damaged and left out" in done.err
    assert 0 <= toy.result("scratched-teacher")["best_accuracy"] <= 1


def test_a_batch_larger_than_the_training_part(toy: Toy) -> None:
    write_digits(toy.folder / "few", "01", per_class=5)
    line = toy.run("train-teacher", "--data", "few", "--out", "few-teacher").error(1)
    assert "folder:few has 8 training images, fewer than a batch of 16: give --recipe.batch-size 8 or less" in line
    toy.do("train-teacher", "--data", "few", "--out", "few-fits", "--recipe.batch-size", 8, "--recipe.epochs", 1)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--resolution", 20), ("resolution 20", "multiple of 8", "32")),
        (("--resolution", 0), ("resolution 0", "multiple of 8")),
        (("--resolution", "big"), ("--resolution", "big")),
        (("--num-candidate", 9), ("--num-candidate", "did you mean --num-candidates?")),
        (("--space.max-dept", 9), ("--space.max-dept", "did you mean --space.max-depth?")),
        (("--top-k", 0), ("top_k is 0", "1 to num_candidates")),
        (("--gpu", "warp"), ("warp", "cpu")),
        (("--teacher.recipe.loss", "magic"), ("--teacher.recipe.loss", "magic", "kd")),
        (("--config", "nowhere.yaml"), ("nowhere.yaml", "No such file")),
    ],
)
def test_flags_that_mean_nothing(argv: tuple[object, ...], says: tuple[str, ...], toy: Toy) -> None:
    line = search(toy, *argv).error(2)
    for words in says:
        assert words in line, line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("search: {num_candidate: 9}", ("bad.yaml: unknown key 'num_candidate'", "did you mean num_candidates?")),
        ("search: {space: {max_dept: 2}}", ("bad.yaml: unknown key 'space.max_dept'", "did you mean space.max_depth?")),
        ("search: {num_candidates: many}", ("bad.yaml: num_candidates is 'many'", "a whole number")),
        ("search: {space: deep}", ("bad.yaml: space is 'deep'", "fields by name")),
        ("search: {space: {teacher_widths: [16, 32]}}", ("space: teacher_widths (16, 32): four stages are needed",)),
        ("search: [1, 2", ("bad.yaml is not valid YAML",)),
        ("- search", ("bad.yaml holds a list, not fields by name",)),
    ],
)
def test_config_files_that_mean_nothing(text: str, says: tuple[str, ...], toy: Toy) -> None:
    (toy.folder / "bad.yaml").write_text(text)
    line = search(toy, "--config", "bad.yaml").error(2)
    for words in says:
        assert words in line, line


@pytest.mark.parametrize(
    ("arch", "says"),
    [
        ("16_32_48", ("3 stages", "4")),
        ("16_32_48_60", ("60",)),
        ("17_32_48_64", ("17",)),
        ("16-16-16_32_48_64", ("3", "2")),
        ("sixteen_32_48_64", ("sixteen",)),
        ("", ("''",)),
    ],
)
def test_architectures_that_are_none_of_the_space(arch: str, says: tuple[str, ...], toy: Toy) -> None:
    line = distill(toy, "--arch", arch).error(2)
    for words in says:
        assert words in line, line


def test_bounds_that_no_student_satisfies(toy: Toy) -> None:
    line = search(toy, "--max-params", 1000).error(2)
    assert "no student satisfies max_params 1000" in line
    smallest = int(line.split(" has ")[1].split(" parameters")[0].replace(",", ""))
    assert search(toy, "--max-params", smallest - 1).error(2)
    found = search(toy, "--max-params", smallest, "--top-k", 1)
    assert found.code == 0, found.err
    assert toy.result("bad")["chosen"][0]["num_params"] == smallest


def test_the_student_of_a_search_that_never_was(toy: Toy) -> None:
    line = toy.run("distill", "--data", "digits/5-9", "--out", "never-searched").error(2)
    assert "python -m dass search --data digits/5-9" in line
    assert "--arch" in line


@pytest.mark.parametrize("file", ["timm:resnet18", "timm:resnet18@nowhere.safetensors"])
def test_a_teacher_that_students_cannot_take_weights_from(file: str, toy: Toy) -> None:
    line = search(toy, "--teacher.file", file).error(2)
    assert file in line
    assert "python -m dass train-teacher" in line


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--space.max-depth", 3), ("resnet-16-32-48-64x2", "at 16 px", "resnet-16-32-48-64x3", "--predictor")),
        (("--resolution", 32), ("at 16 px", "at 32 px", "--predictor")),
    ],
)
def test_a_predictor_of_something_else(argv: tuple[object, ...], says: tuple[str, ...], toy: Toy) -> None:
    for step, more in (("search", OWN), ("evaluate", ("--tasks", "images/own", "--database", "None"))):
        line = toy.run(step, *more, *PREDICTOR, *argv, "--out", "bad").error(2)
        assert "meta/predictor.safetensors was meta-trained on" in line
        for words in says:
            assert words in line, line


def test_a_teacher_of_other_classes_or_pixels(toy: Toy, altered: Callable[..., Path]) -> None:
    line = distill(toy, "--resolution", 24).error(2)
    assert "was trained on 16 px images: give --resolution 16 instead of 24" in line
    line = search(toy, "--teacher.file", "collect/teachers/digits_0-4.safetensors").error(2)
    assert "knows other classes (0, 1, 2, ... of digits/0-4) than folder:own" in line
    line = search(toy, "--data", "digits").error(2)
    assert "has 5 classes, digits has 10" in line


def test_folders_of_one_name_do_not_share_a_teacher(toy: Toy) -> None:
    write_digits(toy.folder / "elsewhere/own", "01234", per_class=6)
    line = toy.run("search", "--data", "elsewhere/own", *PREDICTOR, "--out", "bad").error(2)
    assert TEACHER in line
    assert "--teacher.file" in line


def test_tasks_of_one_name_do_not_share_a_table(toy: Toy) -> None:
    write_digits(toy.folder / "elsewhere/turned", "01234", per_class=6)
    line = toy.run("collect", "--tasks", "images/turned", "elsewhere/turned", "--out", "bad-collect").error(2)
    assert "folder:turned" in line
    assert not (toy.folder / "bad-collect/teachers").exists()


def test_a_mistyped_task_is_found_before_the_first_training(toy: Toy) -> None:
    line = toy.run("collect", "--tasks", "digits/0-4", "digitz", "--out", "bad-collect").error(1)
    assert "did you mean digits?" in line
    assert not (toy.folder / "bad-collect/teachers").exists()


def test_a_database_with_a_map_that_is_not_finite(toy: Toy, altered: Callable[..., Path]) -> None:
    maps = load_weights(toy.folder / "collect/database/digits_0-4.safetensors")[0]["actmap"]
    maps[2, 0, 0, 0] = torch.nan
    folder = altered("collect/database/digits_0-4.safetensors", actmap=maps).parent
    shutil.copy(toy.folder / "collect/database/folder_turned.safetensors", folder)
    line = toy.run("meta-train", "--database", folder, "--out", "bad-meta").error(1)
    assert "digits/0-4: actmap is not finite in row 2; train those students again" in line


def test_no_database(toy: Toy) -> None:
    line = toy.run("meta-train", "--database", "images", "--out", "bad-meta").error(1)
    assert "in images: make some with `python -m dass collect`" in line


def test_a_task_that_the_database_does_not_have(toy: Toy) -> None:
    argv = ("--database", "collect/database", "--out", "bad-meta", "--meta-valid-tasks", "cub")
    assert "no task cub in the database; it has digits/0-4, folder:turned" in toy.run("meta-train", *argv).error(1)


@pytest.mark.parametrize("step", ["search", "distill"])
def test_a_teacher_with_weights_that_are_not_finite(step: str, toy: Toy, altered: Callable[..., Path]) -> None:
    file = altered(TEACHER, **{"layer2.0.conv1.weight": torch.full((32, 16, 3, 3), torch.nan)})
    run = {"search": search, "distill": distill}[step]
    line = run(toy, "--teacher.file", file, "--out", "bad-nan").error(1)
    assert f"{file}: layer2.0.conv1.weight is not finite" in line
    assert "train it again" in line


def test_a_predictor_with_weights_that_are_not_finite(toy: Toy, tmp_path: Path) -> None:
    artifact = load_predictor(toy.folder / "meta/predictor.safetensors")
    with torch.no_grad():
        next(artifact.predictor.parameters()).fill_(torch.nan)
    save_predictor(tmp_path / "nan.safetensors", artifact)
    assert "not finite" in search(toy, "--predictor", tmp_path / "nan.safetensors").error(1)


@pytest.mark.parametrize(
    ("flag", "file"), [("--predictor", "meta/predictor.safetensors"), ("--teacher.file", TEACHER)], ids=str
)
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "another"])
def test_files_that_are_damaged_or_foreign(flag: str, file: str, damage: str, toy: Toy, tmp_path: Path) -> None:
    whole = (toy.folder / file).read_bytes()
    bad = tmp_path / "bad.safetensors"
    if damage == "pickle":
        torch.save({"state_dict": {}}, bad)
    else:
        other = "collect/database/digits_0-4.safetensors"
        parts = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"<html>gone</html>"}
        bad.write_bytes(parts.get(damage, (toy.folder / other).read_bytes()))
    line = search(toy, flag, bad).error(1)
    assert str(bad) in line
    way_out = {"--predictor": "meta-train", "--teacher.file": "train-teacher"}[flag]
    assert (way_out if damage == "another" else "write or download it anew") in line
    missing = search(toy, flag, tmp_path / "gone.safetensors").error(1)
    assert f"{tmp_path}/gone.safetensors" in missing


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_a_training_state_that_is_damaged_or_of_another_run(damage: str, toy: Toy) -> None:
    out = toy.folder / f"bad-state-{damage}"
    state = out / "checkpoint/seed1.pt"
    argv = ("--seeds", 1, "--recipe.epochs", 1, "--out", out.name)
    if damage == "foreign":
        save_state(state, {"run": {"task": "another"}, "step": 3, "seconds": 1.0, "learners": []})
    else:
        state.parent.mkdir(parents=True)
        state.write_bytes(b"PK\x03\x04 and then the power went")
    line = distill(toy, *argv).error(1)
    assert f"bad-state-{damage}/checkpoint/seed1.pt" in line
    assert "delete it" in line
    state.unlink()
    assert distill(toy, *argv).code == 0, "what the line advises works"


def test_a_state_of_meta_training_that_is_damaged(toy: Toy) -> None:
    argv = ("--database", "collect/database", "--out", "bad-last", "--num-episodes", 10)
    toy.do("meta-train", *argv)
    last = toy.folder / "bad-last/checkpoint/last.pt"
    (toy.folder / "bad-last/result.json").unlink()
    last.write_bytes(last.read_bytes()[:1000])
    line = toy.run("meta-train", *argv).error(1)
    assert "bad-last/checkpoint/last.pt is damaged" in line
    assert "previous.pt" in line
    assert "--restart" in line
    last.unlink()
    assert "going on from step" in toy.do("meta-train", *argv).err


def test_a_folder_with_a_run_of_other_settings(toy: Toy) -> None:
    argv = ("--database", "collect/database", "--out", "meta")
    line = toy.run("meta-train", *argv, "--num-episodes", 7).error(2)
    assert "num_episodes is 40 there and 7 here" in line
    assert "--out" in line
    assert "--restart" in line
    assert "holds a run of dass meta-train, not of dass distill" in distill(toy, "--out", "meta").error(2)


def test_a_full_disk_ends_a_distillation_that_goes_on_later(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    out = toy.folder / "full-distill"
    argv = ("--seeds", 1, 2, 3, "--recipe.epochs", 1, "--out", out.name)
    trained: list[str] = []
    real = os.fsync

    def full_after_one_student(descriptor: int) -> None:
        trained[:] = contents_or_none(out)
        if trained:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("common.experiment.files.os.fsync", full_after_one_student)
        stopped = distill(toy, *argv)
    line = stopped.error(1)
    assert "the disk is full while writing" in line
    assert "the same command goes on" in line
    assert "seed 3" not in stopped.err, "what comes after would fail too"
    kept = out / "student-seed1.safetensors"
    assert trained == [kept.name]
    before = kept.stat().st_mtime_ns
    assert distill(toy, *argv).code == 0
    assert kept.stat().st_mtime_ns == before
    assert len(contents(out, "student-seed*.safetensors")) == 3


def contents_or_none(folder: Path) -> list[str]:
    """Names of the students that are there."""
    return sorted(path.name for path in folder.glob("student-seed*.safetensors"))


def test_a_full_disk_keeps_the_records_of_a_collection(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    out = toy.folder / "full-collect"
    argv = ("--tasks", "images/turned", "--out", out.name)
    (out / "teachers").mkdir(parents=True)
    shutil.copy(toy.folder / "collect/teachers/images_turned.safetensors", out / "teachers")
    real = os.fsync

    def full_after_two_records(descriptor: int) -> None:
        if len(records_of(out)) >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("common.experiment.files.os.fsync", full_after_two_records)
        assert "the disk is full" in toy.run("collect", *argv).error(1)
    kept = records_of(out)
    assert len(kept) == 2
    toy.do("collect", *argv)
    assert records_of(out)[:2] == kept
    assert contents(out, "database/folder_turned*") == contents(toy.folder / "collect", "database/folder_turned*")


def test_a_file_that_may_not_grow_ends_in_one_line(toy: Toy) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    argv = ("--database", "collect/database", "--out", "full-meta")
    line = ended(toy.start("meta-train", *argv, preexec_fn=small_files)).error(1)
    assert "full-meta/checkpoint/" in line
    assert "File too large" in line
    assert not list((toy.folder / "full-meta/checkpoint").glob(".*")), "no half file is left"
    toy.do("meta-train", *argv)
    assert contents(toy.folder / "full-meta", "predictor*") == contents(toy.folder / "meta", "predictor*")
