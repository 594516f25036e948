"""What a user of mfkd can get wrong: one line that names it and says what would work, and an exit code."""

import json
from pathlib import Path

import pipelines as files
import pytest
import torch
from toy import Finished, Toy, write_digits

from common.experiment.files import save_state
from common.spaces.mobilenet_v2 import MobileNetV2Space

OWN = ("--data", "images/own")
WIDTHS = ("8,16", "8,16", "16,24", "16,24", "24,32", "24,32")


def search(toy: Toy, *argv: object) -> Finished:
    """A search of the user's pictures; later flags win."""
    return toy.run("search", *OWN, "--out", "bad", "--restart", *argv)


def run_file(toy: Toy, content: dict[str, object], *argv: object) -> Finished:
    file = files.write(toy.folder / "bad.yml", content)
    return toy.run("run", file, "--out", "bad-run", "--restart", *argv, preset=False)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("digitz", ("unknown dataset 'digitz'", "did you mean digits?")),
        ("images/nowhere", ("images/nowhere", "folder of class folders")),
        ("cifar10", ("cifar10 is not in nowhere", "python -m download.dataset --name cifar10")),
        ("hollow", ("no image that can be read in class digit 1",)),
        ("lonely", ("one class only",)),
        ("digits/7-12", ("digits/7-12", "within 0-9")),
    ],
)
def test_datasets_that_nothing_can_be_trained_on(data: str, says: tuple[str, ...], networks: Toy) -> None:
    write_digits(networks.folder / "hollow", "01", per_class=4)
    for image in (networks.folder / "hollow/digit 1").iterdir():
        image.write_bytes(b"no image")
    write_digits(networks.folder / "lonely", "0", per_class=4)
    line = networks.run("search", "--data", data, "--data-root", "nowhere", "--out", "bad-data").error(1)
    for words in says:
        assert words in line, line
    assert not (networks.folder / "bad-data/result.json").exists()


def test_too_few_images_for_a_batch_say_so(networks: Toy) -> None:
    line = search(networks, "--low.portion", "0.01").error(1)
    assert "leave nothing for" in line or "batch" in line, line


def test_a_teacher_of_another_architecture(networks: Toy, tmp_path: Path) -> None:
    other = MobileNetV2Space(first_stride=2, last_channel=96)
    file = tmp_path / "other.pth"
    torch.save(other.build(other.teacher, 5, 16).state_dict(), file)
    line = search(networks, "--teacher.file", file).error(1)
    assert f"{file} does not hold the weights of the teacher 16x1_24x2" in line, line
    assert "train a teacher for this space and number of classes" in line
    more = MobileNetV2Space(first_stride=2, last_channel=64)
    torch.save(more.build(more.teacher, 7, 16).state_dict(), file)
    assert "classifier.1." in search(networks, "--teacher.file", file).error(1)


def test_a_teacher_that_is_damaged_not_there_or_full_of_code(networks: Toy, tmp_path: Path) -> None:
    assert "there is no teacher nowhere.safetensors" in search(networks, "--teacher.file", "nowhere.safetensors").error(
        1
    )
    (tmp_path / "half.safetensors").write_bytes(b"\x10")
    assert "half.safetensors" in search(networks, "--teacher.file", tmp_path / "half.safetensors").error(1)
    save_state(tmp_path / "list.pth", {"weights": 1})
    assert "no bare state dict" in search(networks, "--teacher.file", tmp_path / "list.pth").error(1)


@pytest.mark.parametrize(
    ("last", "says"),
    [
        ("wide,40", "space.channels has 'wide,40': whole numbers with commas between them"),
        ("", "space.channels has '': whole numbers"),
        ("32,32", "equal options"),
        ("0,8", "positive integers are needed"),
    ],
)
def test_options_that_no_network_has(last: str, says: str, networks: Toy) -> None:
    line = search(networks, "--space.channels", *WIDTHS, last).error(2)
    assert says in line, line


def test_stages_that_are_missing(networks: Toy) -> None:
    assert "seven of each are needed" in search(networks, "--space.channels", *WIDTHS).error(2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["many", 16], "many"),
        ([], "has no options; give at least one"),
    ],
)
def test_pipeline_files_with_options_that_are_no_numbers_or_none(
    options: list[object], says: str, networks: Toy
) -> None:
    content = {"pipeline": ["nas"], "nas": files.search(files.MFKD1, files.labels())}
    content = json.loads(json.dumps(content))
    content["nas"]["search_space"]["custom"]["layer_3"]["channels"] = options  # type: ignore[index]
    line = run_file(networks, content).error(2)
    assert "nas.search_space.custom" in line, line
    assert says in line, line


def test_a_dimension_of_one_option_is_searched_like_the_others(networks: Toy) -> None:
    content = {"pipeline": ["nas"], "nas": files.search(files.MFKD1, files.labels())}
    content = json.loads(json.dumps(content))
    content["nas"]["search_space"]["custom"]["layer_3"]["channels"] = [16]  # type: ignore[index]
    done = run_file(networks, content)
    assert done.code == 0, done.err
    assert "of 8,192 networks" in done.out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--init-low", "5"), "init_low is 5: 1 to num_low (4) are possible"),
        (("--num-high", "1"), "init_high is 2: 1 to num_high (1) are possible"),
        (("--algorithm", "mfkd1", "--num-low", "1"), "num_low is 1: a process needs at least 2 evaluations"),
        (("--algorithm", "mf_kd", "--init-high", "5", "--num-high", "6"), "init_high is 5: 1 to 4 are possible"),
        (("--algorithm", "mf_kd", "--gp", "legacy"), "mf_kd has the process 'wellposed' alone"),
        (("--kappa", "-1"), "kappa is -1.0: 0 or more is needed"),
        (("--low.portion", "0"), "portion is 0.0: a part in (0, 1] is needed"),
        (("--resolution", "0"), "resolution is 0"),
        (("--teacher.recipe.loss", "kd"), "a teacher learns from labels"),
        (("--num-lou", "3"), "did you mean --num-low?"),
        (("--config", "nowhere.yaml"), "cannot read the config file nowhere.yaml"),
    ],
)
def test_numbers_that_do_not_go_together(flags: tuple[str, ...], says: str, networks: Toy) -> None:
    line = search(networks, *flags).error(2)
    assert says in line, line


def test_more_samples_than_init_samples_in_a_pipeline_file(networks: Toy) -> None:
    algorithm = {"type": "MFKD2", "init_samples": 5, "max_samples": 3}
    line = run_file(networks, {"pipeline": ["nas"], "nas": files.search(algorithm, files.labels())}).error(2)
    assert "nas.search_algorithm: init_samples is 5: 1 to max_samples (3) are possible" in line, line


def test_a_training_that_diverges_is_no_accuracy(networks: Toy) -> None:
    done = search(networks, "--low.recipe.learning-rate", "1e9", "--algorithm", "mfkd1")
    assert done.code == 1
    line = done.lines()[-1]
    assert line.startswith("mfkd search: error: 4 of 4 jobs failed: low/"), line
    assert "is not finite" in line
    assert "try a lower --recipe.learning-rate" in line
    assert not (networks.folder / "bad/result.json").exists()


def test_a_best_model_of_another_space_is_not_read(networks: Toy) -> None:
    """The released code starts from whatever file of this name lies there."""
    folder = networks.folder / "stale"
    folder.mkdir()
    (folder / "best_model").write_text(json.dumps({"space": "another", "index": 3}))
    (folder / "best_model_desc.json").write_text("{}")
    networks.do("search", *OWN, "--out", "stale", "--algorithm", "mfkd1")
    fresh = networks.folder / "fresh"
    networks.do("search", *OWN, "--out", "fresh", "--algorithm", "mfkd1")
    assert (folder / "best_model").read_bytes() == (fresh / "best_model").read_bytes()
    assert (folder / "best_model_desc.json").read_bytes() == (fresh / "best_model_desc.json").read_bytes()


def test_distilling_without_a_search_or_after_one_of_another_space(networks: Toy) -> None:
    line = networks.run("distill", "--data", "images/turned").error(2)
    assert "python -m mfkd search --data images/turned" in line
    line = networks.run("distill", *OWN, "--space.last-channel", "32", "--out", "bad-distill").error(2)
    assert "is of a search of another space" in line
    line = networks.run("distill", *OWN, "--arch", "8x1_8x1", "--out", "bad-distill").error(2)
    assert "8x1_8x1" in line


def test_a_pipeline_file_beside_settings_that_it_says_itself(networks: Toy) -> None:
    file = files.write(networks.folder / "teacher.yml", files.teacher())
    line = networks.run("train-teacher", file, "--resolution", "8", preset=False).error(2)
    assert "resolution is given beside the pipeline file" in line


def test_a_benchmark_without_its_table(networks: Toy) -> None:
    line = networks.run("benchmark", "--data-root", "nowhere", preset=False).error(1)
    assert "there is no NAS-Bench-201 table" in line
    assert "python -m download.nasbench201" in line
