"""What a user of metad2a can get wrong: one line that names it and says what would work, and an exit code."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch
from toy import Finished, Toy, write_digits

from common.experiment.files import save_state
from common.spaces.nasbench201 import NasBench201Space
from common.store.weights import load_weights, save_weights

SPACE = NasBench201Space()
OWN = ("--data", "images/own")
CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


def search(toy: Toy, *argv: object) -> Finished:
    """A search of the user's pictures; later flags win."""
    return toy.run("search", *OWN, "--pair", "pair", "--out", "bad", *argv)


def rewritten(source: Path, target: Path, **tensors: torch.Tensor) -> None:
    """Copies a weights file with some tensors replaced; its checksum is right."""
    weights, metadata = load_weights(source)
    metadata.pop("format")
    save_weights(target, weights | tensors, metadata)


@pytest.fixture
def pair(cells: Toy, tmp_path: Path) -> Path:
    """A copy of the pair in one folder, to be spoilt."""
    for name in ("generator", "predictor"):
        shutil.copy(cells.folder / "pair" / name / f"{name}.safetensors", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("digitz", ("unknown dataset 'digitz'", "did you mean digits?")),
        ("images/nowhere", ("images/nowhere", "folder of class folders")),
        ("cifar10", ("cifar10 is not in nowhere", "python -m download.dataset --name cifar10")),
        ("hollow", ("hollow: no image that can be read in class digit 1", "add some or drop it")),
        ("digits/7-12", ("digits/7-12", "within 0-9")),
    ],
)
def test_datasets_that_are_not_there_or_have_an_empty_class(data: str, says: tuple[str, ...], cells: Toy) -> None:
    write_digits(cells.folder / "hollow", "01", per_class=4)
    for image in (cells.folder / "hollow/digit 1").iterdir():
        image.write_bytes(b"no image")
    line = search(cells, "--data", data, "--out", "bad-data").error(1)
    for words in says:
        assert words in line, line
    assert not (cells.folder / "bad-data/result.json").exists()


def test_a_class_with_fewer_images_than_a_draw_is_searched_with_a_warning(cells: Toy) -> None:
    write_digits(cells.folder / "few", "012", per_class=4)
    done = search(cells, "--data", "few", "--out", "few-search")
    assert done.code == 0, done.err
    assert "classes have fewer than 5 images (the smallest has 3): theirs are drawn with replacement" in done.err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("|nor_conv_3x3~0|", "is malformed"),
        (CELL.replace("avg_pool_3x3", "max_pool_3x3"), "max_pool_3x3"),
        (CELL.replace("~2", "~1"), "is malformed"),
        ("", "''"),
    ],
)
def test_cells_that_are_none_of_the_space(text: str, says: str, cells: Toy) -> None:
    line = cells.run("train", *OWN, "--arch", text, "--out", "bad-train").error(2)
    assert says in line, line
    assert "a cell is like" in line, line


def test_the_cell_of_a_search_that_never_was(cells: Toy) -> None:
    line = cells.run("train", "--data", "digits/5-9", "--out", "never-searched").error(2)
    assert "Run `python -m metad2a search --data digits/5-9` first" in line
    assert "or give --arch" in line


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--sizes.generator-hidden-dim", 56), "the generator of pair has hidden_dim (hs) 24, and 56 is asked for"),
        (("--sizes.predictor-hidden-dim", 512), "the predictor of pair has hidden_dim (hs) 16, and 512 is asked for"),
        (("--nz", 56), "the generator of pair has latent_dim (nz) 24, and 56 is asked for"),
        (("--hs", 56), "the generator of pair has hidden_dim (hs) 24"),
        (("--generation.num-generated", 0), "num_generated is 0"),
        (("--generation.num-generated", 20000), "num_generated is 20000; there are 15,625 cells in all"),
        (("--num-draws", 0), "num_draws is 0"),
        (("--top-k", 0), "top_k is 0"),
        (("--features.extractor", "vgg"), "extractor is 'vgg'; known are compact"),
        (("--num-gen-archs", 5), "unknown flag --num-gen-archs"),
        (("--gpu", "warp"), "warp"),
    ],
)
def test_flags_that_mean_nothing_or_do_not_fit_the_pair(argv: tuple[object, ...], says: str, cells: Toy) -> None:
    assert says in search(cells, *argv).error(2)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--model", "generator", "--latent-dim", 28), "hidden_dim 24 and latent_dim 28: the two must be equal"),
        (("--model", "encoder"), "encoder"),
        (("--predictor.good-share", 2), "good_share is 2.0"),
        (("--num-sample", 0), "num_sample is 0"),
    ],
)
def test_meta_trainings_that_cannot_be(argv: tuple[object, ...], says: str, cells: Toy) -> None:
    data = ("--database", "collect/database.safetensors", "--out", "bad-meta")
    assert says in cells.run("meta-train", *data, *argv).error(2)


@pytest.mark.parametrize(
    ("argv", "says", "code"),
    [
        (("--sources", "digits", "digits"), "source digits is given twice", 2),
        (("--sources", "digitz"), "did you mean digits?", 1),
        (("--labels", "table"), "the table has no labels for digits: it has them for cifar10, cifar100", 2),
        (("--drawing.min-classes", 5), "min_classes 5 and max_classes 3", 2),
        (("--drawing.min-classes", 10, "--drawing.max-classes", 10), "digits has 10 classes, and 3 distinct tasks", 1),
        (("--drawing.num-cells", 20000), "20000 cells a task are asked for", 1),
        (("--training.resolution", 6), "resolution 6", 1),
    ],
)
def test_collections_that_cannot_be(argv: tuple[object, ...], says: str, code: int, cells: Toy) -> None:
    line = cells.run("collect", *argv, "--out", "bad-collect", "--restart").error(code)
    assert says in line, line


def test_an_evaluation_of_a_dataset_that_the_table_does_not_know(cells: Toy) -> None:
    line = cells.run("evaluate", *OWN, "--pair", "pair", "--out", "bad-evaluate").error(2)
    assert "the benchmark's table does not know folder:own; it has cifar10, cifar100, tiny_imagenet" in line
    assert "python -m metad2a train --data images/own --num-random 10" in line


@pytest.fixture(scope="module")
def rows() -> list[str]:
    """Lines of a whole table with one made-up column."""
    return ["index,arch,cifar10_test_200", *(f"{i},{SPACE.format(cell)},50.0" for i, cell in enumerate(SPACE.all()))]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rows: rows[:-5], "15620 cells are there instead of 15625"),
        (lambda rows: [*rows[:9], *rows[10:]], "row 8 has the index '9'"),
        (lambda rows: [*rows[:9], "8,|gone~0|,50.0", *rows[10:]], "is malformed"),
        (lambda rows: [*rows[:9], rows[9].replace("50.0", "500"), *rows[10:]], "which is no percentage"),
    ],
    ids=["short", "hole", "cell", "percent"],
)
def test_a_table_with_missing_or_wrong_rows_is_no_table(
    change: object, says: str, rows: list[str], cells: Toy, tmp_path: Path
) -> None:
    file = tmp_path / "nasbench201/nasbench201.csv.gz"
    file.parent.mkdir()
    file.write_bytes(gzip.compress("\n".join(change(rows)).encode() + b"\n"))  # type: ignore[operator]
    line = search(cells, "--data-root", tmp_path).error(1)
    assert f"{file} is not a NAS-Bench-201 table" in line
    assert says in line, line


def test_a_table_without_the_column_of_a_source(rows: list[str], cells: Toy, tmp_path: Path) -> None:
    (tmp_path / "nasbench201").mkdir()
    (tmp_path / "nasbench201/nasbench201.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode() + b"\n"))
    for name in ("cifar100", "mnist"):
        write_digits(tmp_path / name, "0123", per_class=2)
    argv = ("--sources", "cifar100", "--labels", "table", "--data-root", tmp_path, "--out", "bad-table")
    line = cells.run("collect", *argv).error(1)
    assert "cifar100" in line


def test_no_table_to_take_labels_from(cells: Toy, tmp_path: Path) -> None:
    line = cells.run("evaluate", "--data", "cifar10", "--pair", "pair", "--data-root", tmp_path).error(1)
    assert "cifar10 is not in" in line


@pytest.mark.parametrize("name", ["generator", "predictor"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "another", "missing"])
def test_models_that_are_damaged_or_foreign(name: str, damage: str, pair: Path, cells: Toy) -> None:
    file = pair / f"{name}.safetensors"
    whole = file.read_bytes()
    other = {"generator": "predictor", "predictor": "generator"}[name]
    if damage == "missing":
        file.unlink()
    elif damage == "pickle":
        torch.save({"fc3.weight": torch.ones(2)}, file)
    else:
        parts = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"<html>gone</html>"}
        file.write_bytes(parts.get(damage, (pair / f"{other}.safetensors").read_bytes()))
    line = search(cells, "--pair", pair).error(1)
    assert str(pair) in line
    way_out = {"another": "meta-train", "missing": f"meta-train --model {name}"}
    assert way_out.get(damage, "write or download it anew") in line, line


def test_weights_that_are_not_finite(pair: Path, cells: Toy) -> None:
    file = pair / "predictor.safetensors"
    rewritten(file, file, **{"model.head_output.bias": torch.full((1,), torch.nan)})
    line = search(cells, "--pair", pair).error(1)
    assert f"{file}: model.head_output.bias is not finite" in line


def test_a_generator_that_has_learned_nothing_ends_in_a_line(pair: Path, cells: Toy) -> None:
    file = pair / "generator.safetensors"
    weights, _ = load_weights(file)
    rewritten(file, file, **{name: torch.zeros_like(value) for name, value in weights.items() if "type_head" in name})
    line = search(cells, "--pair", pair, "--generation.patience", 5).error(1)
    assert "distinct cells came in 200 graphs" in line
    assert "--generation.num-generated" in line


@pytest.mark.parametrize("damage", ["truncated", "foreign"])
def test_databases_that_are_damaged_or_foreign(damage: str, cells: Toy, tmp_path: Path) -> None:
    file = tmp_path / "database.safetensors"
    source = {"truncated": "collect/database.safetensors", "foreign": "pair/generator/generator.safetensors"}[damage]
    whole = (cells.folder / source).read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else whole)
    line = cells.run("meta-train", "--database", file, "--out", "bad-meta").error(1)
    assert str(file) in line
    assert {"truncated": "is damaged", "foreign": "'metad2a-model', no database"}[damage] in line
    missing = cells.run("meta-train", "--database", tmp_path / "gone", "--out", "bad-meta").error(1)
    assert "make one with `python -m metad2a collect`" in missing


def test_a_state_of_meta_training_that_is_damaged(cells: Toy) -> None:
    argv = ("--database", "collect/database.safetensors", "--out", "bad-last", "--generator.epochs", 4)
    cells.do("meta-train", *argv)
    last = cells.folder / "bad-last/checkpoint/last.pt"
    (cells.folder / "bad-last/result.json").unlink()
    last.write_bytes(last.read_bytes()[:1000])
    line = cells.run("meta-train", *argv).error(1)
    assert "bad-last/checkpoint/last.pt is damaged" in line
    assert "delete" in line


def test_a_state_of_training_that_is_of_another_run(cells: Toy) -> None:
    state = cells.folder / "bad-state/checkpoint/chosen-seed1.pt"
    save_state(state, {"run": {"task": "another"}, "step": 3, "seconds": 1.0, "learners": []})
    argv = ("--arch", CELL, "--seeds", 1, "--num-random", 0, "--recipe.epochs", 1, "--out", "bad-state")
    line = cells.run("train", *OWN, *argv).error(1)
    assert "bad-state/checkpoint/chosen-seed1.pt" in line
    state.unlink()
    assert cells.run("train", *OWN, *argv).code == 0, "what the line advises works"


def test_a_folder_with_another_run_is_left_alone(cells: Toy) -> None:
    line = cells.run("train", *OWN, "--arch", CELL, "--out", "collect").error(2)
    assert "collect holds a run of metad2a collect, not of metad2a train" in line
    line = cells.run("collect", "--out", "collect", "--drawing.num-tasks", 7).error(2)
    assert "drawing.num_tasks is 6 there and 7 here" in line
