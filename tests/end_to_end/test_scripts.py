import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

from common.spaces.resnet import ResNetSpace
from dass.predictor import PredictorArtifact, PredictorConfig, new_predictor, new_step_sizes, save_predictor
from dass.probe import make_probe
from metad2a.search import search_folder

SCRIPT = Path(__file__).resolve().parents[2] / "script"
SCRIPTS = sorted(path.name for path in SCRIPT.glob("*.sh") if path.name != "common.sh")
RESOLUTION = 16
SPACE = ResNetSpace(teacher_widths=(16, 16, 16, 16), max_depth=2)


def run(script: str, *arguments: str, folder: Path, where: Path = SCRIPT, **environment: str) -> tuple[int, str, str]:
    """Runs a script of ours with the Python of the tests; returns exit code, stdout, stderr."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "NAS_DATA", "CUDA_VISIBLE_DEVICES")}
    variables = {**kept, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **environment}
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, str(where / script), *arguments], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_begins_with_the_usage_line(script: str, tmp_path: Path) -> None:
    code, out, err = run(script, "--help", folder=tmp_path)
    assert (code, err) == (0, "")
    assert out.startswith(f"usage: bash script/{script} ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run_kd.sh", "which GPU? Give cpu, auto or the number of a GPU"),
        ("run_kd.sh digits", "GPU is 'digits': give cpu, auto or the number of a GPU"),
        ("run_kd.sh cpu", "which dataset? Give a name such as digits or cub, or a folder of class folders"),
        ("run_kd.sh cpu digits nosuch", "unknown method 'nosuch': known are dass"),
        ("run_kd.sh cpu digits dass more", "unexpected 'more'"),
        ("run_search.sh nosuch", "unknown method 'nosuch': known are dass"),
        ("run_search.sh cpu dass digits cub --out there", "--out is the folder of one search, and these are 2"),
        ("run_meta_train.sh cpu nosuch", "unknown method 'nosuch': known are dass"),
        ("run_meta_train.sh 0 dass more --seed 1", "unexpected 'more'"),
        ("run_collect.sh nosuch", "unknown method 'nosuch': known are dass"),
        ("run_collect.sh cpu metad2a more", "unexpected 'more'"),
        (
            "run_meta_train.sh cpu metad2a --database there --out here",
            "--out is the folder of one run, and these are two",
        ),
        ("train_teacher.sh", "which GPU? Give cpu, auto or the number of a GPU"),
        ("train_teacher.sh cpu --seed 1", "which dataset? Give a name such as digits or cub, or a folder"),
        ("quickstart.sh cpu digits more", "unexpected 'more'"),
        ("quickstart.sh --seed 1", "no flags here, and there is '--seed'"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_code_two(line: str, message: str, tmp_path: Path) -> None:
    script, *arguments = line.split()
    code, out, err = run(script, *arguments, folder=tmp_path)
    assert (code, out) == (2, "")
    error, usage = err.splitlines()
    assert error.startswith(f"{script.removesuffix('.sh')}: error: {message}")
    assert usage.startswith(f"usage: bash script/{script} ")
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_that_is_not_there_names_the_download(tmp_path: Path) -> None:
    for line in ("train_teacher.sh cpu cub", "run_kd.sh cpu cub"):
        script, *arguments = line.split()
        code, out, err = run(script, *arguments, folder=tmp_path)
        assert (code, out) == (1, "")
        assert "error: cub is not in dataset: run `python -m download.dataset --name cub`" in err.splitlines()[-1]


def test_a_numbered_gpu_is_the_only_one_that_a_step_sees(tmp_path: Path) -> None:
    _, _, err = run("train_teacher.sh", "3", "cub", folder=tmp_path)
    assert f"CUDA_VISIBLE_DEVICES=3 {sys.executable} -m dass train-teacher" in err
    assert "--gpu 0 --data cub" in err


def test_flags_reach_the_step_and_a_preset_of_the_caller_replaces_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("{}\n")
    code, _, err = run("run_meta_train.sh", "cpu", "--config", "mine.yaml", "--n_qq", "5", folder=tmp_path)
    assert code == 2
    assert "-m dass meta-train --config mine.yaml --gpu cpu --config" not in err
    assert "-m dass meta-train --gpu cpu --config mine.yaml --n_qq 5" in err
    assert "dass meta-train: error: unknown flag --n-qq: did you mean --num-queries?" in err or "--n-qq" in err


@pytest.mark.parametrize(("script", "step"), [("run_collect.sh", "collect"), ("run_meta_train.sh", "meta-train")])
def test_without_arguments_the_preset_for_two_cores_and_any_gpu_are_taken(
    script: str, step: str, tmp_path: Path
) -> None:
    code, _, err = run(script, "--", "--no-such-flag", folder=tmp_path)
    assert code == 2
    assert f"-m dass {step} --config {SCRIPT.parent}/configs/dass/cpu.yaml --gpu auto --no-such-flag" in err


def test_both_models_of_metad2a_are_meta_trained_and_a_missing_database_is_collected_first(tmp_path: Path) -> None:
    preset = f"--config {SCRIPT.parent}/configs/metad2a/cpu.yaml --gpu cpu"
    code, _, err = run("run_meta_train.sh", "cpu", "metad2a", "--data-root", "nowhere", folder=tmp_path)
    assert code == 1
    assert "run_meta_train: no database of the default sources yet: collecting first" in err
    assert f"-m metad2a collect {preset} --data-root nowhere" in err
    assert "cifar100 is not in nowhere" in err.splitlines()[-1]
    code, _, err = run("run_meta_train.sh", "cpu", "metad2a", "--database", "there", folder=tmp_path)
    assert code == 1
    assert f"-m metad2a meta-train {preset} --model generator --database there" in err
    assert "there is no database there: make one with" in err.splitlines()[-1]
    code, _, err = run(
        "run_meta_train.sh", "cpu", "metad2a", "--database=there", "--model", "predictor", folder=tmp_path
    )
    assert code == 1
    assert f"-m metad2a meta-train {preset} --database=there --model predictor" in err


def test_a_zoo_of_tans_is_built_where_there_is_none_and_a_search_takes_the_shipped_one(tmp_path: Path) -> None:
    preset = f"--config {SCRIPT.parent}/configs/tans/cpu.yaml --gpu cpu"
    code, _, err = run("run_meta_train.sh", "cpu", "tans", "--data-root", "nowhere", folder=tmp_path)
    assert code == 1
    assert "run_meta_train: no zoo yet: building that of the default sources first" in err
    assert f"-m tans build-zoo {preset} --data-root nowhere" in err
    assert "caltech101 is not in nowhere" in err.splitlines()[-1]
    code, _, err = run("run_kd.sh", "cpu", "digits", "tans", "--networks", "9999", folder=tmp_path)
    assert code == 2
    assert f"-m tans finetune {preset} --data digits --networks 9999" in err
    assert "tans finetune: error:" in err.splitlines()[-1]
    assert "has no network 9999: it has 1 to 240" in err.splitlines()[-1]
    code, out, err = run("run_search.sh", "cpu", "tans", "digits", "--features.max-per-class", "5", folder=tmp_path)
    assert (code, f"-m tans search {preset} --data digits --features.max-per-class 5" in err) == (0, True), err
    assert "result: network " in out


def test_the_cell_of_metad2a_is_searched_and_trained(tmp_path: Path) -> None:
    preset = f"--config {SCRIPT.parent}/configs/metad2a/cpu.yaml --gpu cpu"
    code, _, err = run("run_kd.sh", "cpu", "digits/2-4", "metad2a", "--arch", "none", "--seeds", "1", folder=tmp_path)
    assert code == 2
    assert f"-m metad2a train {preset} --data digits/2-4 --arch none --seeds 1" in err
    assert "metad2a train: error: cell 'none' is malformed" in err.splitlines()[-1]
    code, _, err = run("run_kd.sh", "cpu", "cub", "metad2a", folder=tmp_path)
    assert code == 1
    assert "error: cub is not in dataset" in err.splitlines()[-1]


def test_dna_trains_what_is_missing_first(tmp_path: Path) -> None:
    preset = f"--config {SCRIPT.parent}/configs/dna/cpu.yaml --gpu cpu"
    flags = ["--top-k", "9", "--seed", "x"]
    code, _, err = run("run_search.sh", "cpu", "dna", "digits", *flags, folder=tmp_path)
    assert code == 2
    assert "no supernet of digits yet (exp/dna/meta-train/digits): training it first" in err
    assert "no teacher of digits yet (exp/dna/train-teacher/digits): training it first" in err
    assert f"-m dna train-teacher {preset} --data digits --seed x" in err
    assert "--top-k" not in err
    for step in ("train-teacher", "search"):
        folder = tmp_path / "exp/dna" / step / "digits"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
    code, _, err = run("run_meta_train.sh", "cpu", "dna", "digits", "--distill.no-such", "1", folder=tmp_path)
    assert code == 2
    assert f"-m dna meta-train {preset} --data digits --distill.no-such 1" in err
    assert "train-teacher" not in err
    code, _, err = run("run_kd.sh", "cpu", "digits", "dna", "--recipe.no-such", "1", folder=tmp_path)
    assert code == 2
    assert f"-m dna retrain {preset} --data digits --recipe.no-such 1" in err


def test_the_network_of_mfkd_is_searched_and_distilled(tmp_path: Path) -> None:
    preset = f"--config {SCRIPT.parent}/configs/mfkd/cpu.yaml --gpu cpu"
    code, _, err = run("run_kd.sh", "cpu", "digits/2-4", "mfkd", "--arch", "none", "--seeds", "1", folder=tmp_path)
    assert code == 2
    assert f"-m mfkd distill {preset} --data digits/2-4 --arch none --seeds 1" in err
    assert "mfkd distill: error: architecture 'none' is malformed" in err.splitlines()[-1]
    code, _, err = run("run_kd.sh", "cpu", "cub", "mfkd", folder=tmp_path)
    assert code == 1
    assert "error: cub is not in dataset" in err.splitlines()[-1]
    code, _, err = run("run_search.sh", "cpu", "mfkd", "digits", "--num-lou", "3", folder=tmp_path)
    assert code == 2
    assert f"-m mfkd search {preset} --data digits --num-lou 3" in err
    assert "did you mean --num-low?" in err.splitlines()[-1]


def test_networks_have_a_preset_and_folders_of_their_own(tmp_path: Path) -> None:
    preset = f"--config {SCRIPT.parent}/configs/metad2a/mobilenetv3_cpu.yaml --gpu cpu"
    networks = ("--space", "mobilenetv3")
    code, _, err = run("run_meta_train.sh", "cpu", "metad2a", *networks, "--data-root", "nowhere", folder=tmp_path)
    assert code == 1
    assert f"-m metad2a collect {preset} --space mobilenetv3 --data-root nowhere" in err
    assert "tiny_imagenet is not in nowhere" in err.splitlines()[-1]
    code, _, err = run(
        "run_kd.sh", "cpu", "digits/2-4", "metad2a", "--arch", "k3e3", "--space=mobilenetv3", folder=tmp_path
    )
    assert code == 2
    assert f"-m metad2a train {preset} --data digits/2-4 --arch k3e3 --space=mobilenetv3" in err
    assert "metad2a train: error: architecture 'k3e3'" in err.splitlines()[-1]
    folder = lookup("folder", "metad2a", "search", "digits/2-4", "mobilenetv3", folder=tmp_path).strip()
    assert folder == str(search_folder("digits/2-4", "mobilenetv3"))


def test_a_teacher_is_trained_on_the_cpu(tmp_path: Path) -> None:
    flags = ["--recipe.epochs", "1", "--recipe.epoch-images", "64", "--resolution", "16", "--out", "teacher"]
    code, out, _ = run("train_teacher.sh", "cpu", "digits", *flags, folder=tmp_path)
    assert code == 0
    assert "weights: teacher/teacher.safetensors" in out
    config = yaml.safe_load((tmp_path / "teacher/config.yaml").read_text())
    assert (config["gpu"], config["data"], config["recipe"]["epochs"]) == ("cpu", "digits", 1)
    assert config["recipe"]["batch_size"] == 32, "the rest is the cpu preset's"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a preset of the smallest networks, and a predictor of them that has learned nothing."""
    folder = tmp_path_factory.mktemp("small")
    arch_dim = SPACE.encode([SPACE.teacher]).shape[1]
    predictor = new_predictor(PredictorConfig(hidden_channels=8, out_channels=8, map_channels=16, arch_dim=arch_dim), 0)
    artifact = PredictorArtifact(
        predictor=predictor,
        step_sizes=new_step_sizes(predictor, 0.005),
        space_name=SPACE.code_name,
        resolution=RESOLUTION,
        pr_type="copy_paste_first",
        probe=make_probe(RESOLUTION),
        adapt=True,
        num_inner_updates=1,
        score=None,
        origin="dass",
        notes={},
    )
    save_predictor(folder / "predictor.safetensors", artifact)
    recipe = {"epochs": 1, "epoch_images": 64, "batch_size": 32}
    both = {
        "resolution": RESOLUTION,
        "space": {"teacher_widths": list(SPACE.teacher_widths), "max_depth": SPACE.max_depth},
        "teacher": {"recipe": {"loss": "ce", **recipe}},
    }
    preset = {
        "search": {**both, "predictor": str(folder / "predictor.safetensors"), "num_candidates": 10},
        "distill": {**both, "recipe": recipe, "seeds": [1]},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(preset))
    return folder


def test_search_takes_digits_where_nothing_is_there_and_distillation_takes_what_it_found(small: Path) -> None:
    code, out, err = run("run_search.sh", "cpu", "--config", "small.yaml", folder=small)
    assert code == 0, err
    assert "run_search: datasets: digits" in err
    assert "next: python -m dass distill --data digits" in out
    chosen = json.loads((small / "exp/dass/search/digits/result.json").read_text())["chosen"][0]["arch"]
    code, _, err = run("run_kd.sh", "cpu", "digits", "dass", "--config", "small.yaml", folder=small)
    assert code == 0, err
    assert "-m dass search" not in err
    assert json.loads((small / "exp/dass/distill/digits/result.json").read_text())["arch"] == chosen


def test_a_path_where_the_method_could_stand_is_a_dataset(small: Path) -> None:
    code, _, err = run("run_search.sh", "cpu", "./birds", "--config", "small.yaml", folder=small)
    assert code == 1
    assert "-m dass search" in err
    assert "there is no birds" in err.replace("./", "")


def test_distillation_searches_first_where_no_search_was_done(small: Path) -> None:
    flags = ["--config", "small.yaml", "--data_root", str(small), "--recipe.epochs", "2", "--out", "student"]
    code, _, err = run("run_kd.sh", "cpu", "digits/2-4", *flags, folder=small)
    assert code == 0, err
    ran = [line.partition(" -m dass ")[2] for line in err.splitlines() if " -m dass " in line]
    shared = f"--gpu cpu --data digits/2-4 --config small.yaml --data_root {small}"
    assert ran == [f"search {shared}", f"distill {shared} --recipe.epochs 2 --out student"]
    result = json.loads((small / "student/result.json").read_text())
    assert result["task"] == "digits/2-4"
    assert (small / "exp/dass/search/digits_2-4/result.json").is_file()


def test_a_search_that_fails_ends_the_loop_with_its_exit_code(small: Path) -> None:
    code, out, err = run("run_search.sh", "cpu", "dass", "cub", "digits/5-9", "--config", "small.yaml", folder=small)
    assert (code, out) == (1, "")
    assert "run `python -m download.dataset --name cub`" in err
    assert "digits/5-9" not in err


def lookup(*arguments: str, folder: Path) -> str:
    command = [sys.executable, str(SCRIPT / "lookup.py"), *arguments]
    variables = {**os.environ, "PYTHONPATH": str(SCRIPT.parent)}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=True).stdout


def test_no_unseen_set_is_found_in_an_empty_folder(tmp_path: Path) -> None:
    for method in ("dass", "metad2a", "mfkd"):
        assert lookup("--data-root", str(tmp_path), "present", method, folder=tmp_path).split() == []


@pytest.mark.data
def test_the_unseen_sets_that_are_there_are_found(data_root: Path, tmp_path: Path) -> None:
    found = lookup("--data-root", str(data_root), "present", "dass", folder=tmp_path).split()
    assert found == ["cub", "dtd", "quickdraw", "stanford_cars"]
    found = lookup("--data-root", str(data_root), "present", "metad2a", folder=tmp_path).split()
    assert found == ["cifar10", "cifar100", "mnist"]
    found = lookup("--data-root", str(data_root), "present", "mfkd", folder=tmp_path).split()
    assert found == ["cifar10", "cifar100"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The scripts alone, in a repository without .venv."""
    shutil.copytree(SCRIPT, tmp_path / "clone/script")
    shutil.copytree(SCRIPT.parent / "dass", tmp_path / "clone/dass", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SCRIPT.parent / "pyproject.toml", tmp_path / "clone")
    return tmp_path / "clone"


@pytest.fixture
def tools(tmp_path: Path) -> str:
    """A PATH with the few tools that the scripts call, and no Python."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("basename", "cmp", "cp", "dirname"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return str(folder)


def test_the_quickstart_says_that_python_is_missing(clone: Path, tools: str) -> None:
    code, out, err = run("quickstart.sh", folder=clone, where=clone / "script", PATH=tools, PYTHON="")
    assert (code, out) == (1, "")
    assert "quickstart: error: Python 3.11 or newer is missing (found: none)" in err
    assert "python3-venv" in err
    assert not (clone / ".venv").exists()


def test_a_step_says_that_there_is_no_python_at_all(clone: Path, tools: str) -> None:
    code, _, err = run("run_search.sh", "cpu", folder=clone, where=clone / "script", PATH=tools, PYTHON="")
    assert code == 1
    assert f"there is neither {clone}/.venv/bin/python nor python3" in err


def test_a_step_names_the_packages_that_a_python_lacks(clone: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = str(tmp_path / "bare/bin/python")
    code, _, err = run("run_search.sh", "cpu", folder=clone, where=clone / "script", PYTHON=python)
    assert code == 1
    assert f"run_search: error: {python} lacks torch torchvision timm tyro safetensors yaml: run bash" in err


def test_a_wrong_python_variable_is_named(clone: Path) -> None:
    code, _, err = run("run_search.sh", folder=clone, where=clone / "script", PYTHON="/no/such/python")
    assert (code, err) == (
        1,
        "run_search: error: the variable PYTHON is '/no/such/python', and there is no such command\n",
    )


def test_an_unfinished_virtual_environment_is_named(clone: Path, tmp_path: Path) -> None:
    venv.create(clone / ".venv", with_pip=False)
    code, _, err = run("quickstart.sh", folder=tmp_path, where=clone / "script", PYTHON="")
    assert code == 1
    assert f".venv has no pip: delete {clone}/.venv and run this again" in err


def test_the_tests_refuse_to_run_without_the_image_sets_where_ci_is_set(clone: Path, tmp_path: Path) -> None:
    code, out, err = run("test.sh", folder=tmp_path, where=clone / "script", CI="true", NAS_DATA=str(tmp_path))
    assert (code, out) == (1, "")
    assert err == f"test: error: the packed image sets are not in {tmp_path}: set NAS_DATA to their folder\n"
