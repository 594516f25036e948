"""What a user of dna can get wrong: one line that names it and says what would work, and an exit code."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from toy import Finished, Toy, write_digits

from common.store.weights import load_weights, save_weights

OWN = ("--data", "images/own")
SUPERNET, RATINGS = "exp/dna/meta-train/folder_own/supernet.safetensors", "exp/dna/rate/folder_own"
TEACHER = "exp/dna/train-teacher/folder_own/teacher.safetensors"


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """Where a command that fails would have written."""
    return tmp_path / "bad"


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("--teacher.stages", 2, 3, 4, 5, 6, 9), 1, ("no feature stage 9; at 16 pixels it has 0: 16 x 8 x 8",)),
        (("--teacher.stages", 2, 3), 2, ("teacher.stages are (2, 3): give 6 rising numbers",)),
        (("--teacher.model", "dna_teachr"), 1, ("timm has no network 'dna_teachr'; nearest: dna_teacher",)),
        (("--teacher.model", "dna_a"), 1, ("does not hold weights of dna_a", "of another shape")),
        (("--teacher.file", "none.safetensors"), 1, ("no weights file none.safetensors: train a teacher first",)),
        (("--resolution", 20), 2, ("resolution 20 is no multiple of 8, the product of the strides", "take 16 or 24")),
        (
            ("--space.skeleton.strides", 2, 2, 1, 1, 1, 1),
            1,
            ("the teacher's features have sides 8, 4, 4, 4, 2, 2 and the space's stages 4, 2, 2, 2, 2, 2",),
        ),
        (("--space.cells", "1x8", "2x"), 2, ("give them for 6 stages",)),
        (("--hold-out", 400), 1, ("hold_out is 400 and folder:own has 360 training images",)),
        (("--distill.batch-size", 512), 2, ("batch_size is 512, epoch_images 128: a batch needs",)),
        (
            ("--distill.batch-size", 512, "--distill.epoch-images", 512),
            1,
            ("folder:own has 300 training images besides those held out, fewer than a batch of 512: lower",),
        ),
        (("--distill.learning-rates", 0.1), 2, ("give 6 positive numbers",)),
        (("--distill.sampler", "fair"), 2, ("a fair sampler needs a multiple of 6",)),
        (("--distill.epochz", 3), 2, ("unknown flag --distill.epochz", "--distill.epochs")),
        (("--data", "digitz"), 1, ("unknown dataset 'digitz'", "did you mean digits?")),
        (("--data", "images/nowhere"), 1, ("images/nowhere",)),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) and value else "",
)
def test_a_supernet_that_cannot_be_trained(
    flags: tuple[object, ...], code: int, says: tuple[str, ...], blocks: Toy, bad: Path
) -> None:
    line = blocks.run("meta-train", *OWN, "--out", bad, *flags).error(code)
    for words in says:
        assert words in line, line
    assert not (bad / "result.json").exists()


def test_rates_that_blow_up_end_the_training_with_the_stage(blocks: Toy) -> None:
    rates = ("--distill.learning-rates", *(["1e30"] * 6))
    line = blocks.run("meta-train", *OWN, *rates, "--out", "blown").error(1)
    assert "the loss of stage 0 is not finite in epoch" in line
    assert "lower --distill.learning-rates" in line


@pytest.mark.parametrize(
    ("classes", "says"),
    [("1", "has one class only (digit 1)"), ("", "one.png")],
)
def test_folders_that_no_teacher_can_be_trained_on(classes: str, says: str, blocks: Toy, bad: Path) -> None:
    folder = blocks.folder / f"few{classes}"
    write_digits(folder, classes or "1", per_class=1 if not classes else 5)
    if not classes:
        shutil.move(next((folder / "digit 1").iterdir()), folder / "one.png")
    line = blocks.run("train-teacher", "--data", f"few{classes}/", "--out", bad).error(1)
    assert says in line or "no class folder" in line or "empty" in line, line


def test_a_step_without_the_step_before_it_names_that_step(blocks: Toy) -> None:
    write_digits(blocks.folder / "new", "567", per_class=40)
    for step, words in (
        ("meta-train", "train a teacher first"),
        ("rate", "run `python -m dna meta-train --data new/` first"),
        ("search", "run `python -m dna meta-train --data new/` first"),
        ("retrain", "Run `python -m dna search --data new/` first"),
        ("evaluate", "no ratings of stage 0"),
    ):
        done = blocks.run(step, "--data", "new/", "--out", f"bad-{step}")
        assert words in done.error(done.code), step


@pytest.mark.parametrize("cut", [200, 20_000])
def test_a_truncated_supernet_is_named(cut: int, blocks: Toy, bad: Path) -> None:
    file = blocks.folder / "cut.safetensors"
    file.write_bytes((blocks.folder / SUPERNET).read_bytes()[:cut])
    line = blocks.run("rate", *OWN, "--supernet", file, "--out", bad).error(1)
    assert "cut.safetensors is damaged" in line


def test_a_file_that_is_no_supernet_or_holds_nan_is_refused(blocks: Toy, bad: Path) -> None:
    line = blocks.run("rate", *OWN, "--supernet", TEACHER, "--out", bad).error(1)
    assert "holds 'dna-teacher', no supernet of DNA: make one with `python -m dna meta-train`" in line
    weights, metadata = load_weights(blocks.folder / SUPERNET)
    metadata.pop("format")
    name = next(iter(weights))
    broken = blocks.folder / "broken.safetensors"
    save_weights(broken, weights | {name: torch.full_like(weights[name], torch.nan)}, metadata)
    assert f"{name} is not finite" in blocks.run("rate", *OWN, "--supernet", broken, "--out", bad).error(1)
    described = json.loads(metadata["supernet"])
    described["space"]["cells"][0] = "2x8"
    save_weights(broken, weights, metadata | {"supernet": json.dumps(described)})
    line = blocks.run("rate", *OWN, "--supernet", broken, "--out", bad).error(1)
    assert "does not fit its own description (its weights are of another space)" in line


def test_another_teacher_or_other_data_than_the_supernets_are_refused(blocks: Toy, bad: Path) -> None:
    weights, metadata = load_weights(blocks.folder / TEACHER)
    metadata.pop("format")
    other = blocks.folder / "other.safetensors"
    save_weights(other, {name: value + 1 for name, value in weights.items()}, metadata)
    line = blocks.run("rate", *OWN, "--teacher-file", other, "--out", bad).error(1)
    assert "other.safetensors is not the teacher that guided this supernet" in line
    line = blocks.run("rate", "--data", "images/turned", "--supernet", SUPERNET, "--out", bad).error(2)
    assert "was trained on folder:own, not on folder:turned" in line


@pytest.fixture
def ratings(blocks: Toy, tmp_path: Path) -> Path:
    """A copy of the ratings, to be spoilt."""
    return Path(shutil.copytree(blocks.folder / RATINGS, tmp_path / "ratings"))


def test_ratings_that_are_missing_damaged_or_of_another_space(blocks: Toy, ratings: Path, bad: Path) -> None:
    def search(*argv: object) -> Finished:
        return blocks.run("search", *OWN, "--ratings", ratings, "--out", bad, *argv)

    assert "has ratings of dna-" in search("--space.cells", *["2x8"] * 6).error(2)
    (ratings / "potential-3.npz").write_bytes((ratings / "potential-3.npz").read_bytes()[:300])
    assert "potential-3.npz is damaged" in search().error(1)
    (ratings / "potential-3.npz").unlink()
    text = (ratings / "potential-3.yaml").read_text()
    (ratings / "potential-3.yaml").write_text(text.replace("gr_loss:", "other:"))
    assert "potential-3.yaml is no file of ratings: ratings without ['gr_loss']" in search().error(1)
    (ratings / "potential-3.yaml").unlink()
    line = search().error(1)
    assert "has no ratings of stage 3 (potential-3.npz or potential-3.yaml)" in line


def test_a_bound_that_nothing_satisfies_says_the_smallest_that_is_reachable(blocks: Toy, bad: Path) -> None:
    line = blocks.run("search", *OWN, "--budget.macs", 1000, "--out", bad).error(1)
    least = int(line.partition("the cheapest costs ")[2].partition(" ")[0])
    blocks.do("search", *OWN, "--budget.macs", least, "--out", "least")
    assert blocks.result("least")["chosen"][0]["macs"] == least
    assert blocks.run("search", *OWN, "--budget.macs", least - 1, "--out", bad).code == 1
    assert "budget.macs is 0" in blocks.run("search", *OWN, "--budget.macs", 0, "--out", bad).error(2)


@pytest.mark.parametrize(
    ("arch", "says"),
    [
        ("8:5|8:1", "2 stages"),
        ("DNA_e", "'DNA_e' is no network of DNA: give DNA_a"),
        ("8:7|8:1|16:0|16:0|16:1|16:0", "is no network of DNA"),
        ("9:5|8:1|16:0|16:0|16:1|16:0", "widths [9] are no multiples of 8"),
    ],
)
def test_wrong_architectures_are_named(arch: str, says: str, blocks: Toy) -> None:
    done = blocks.run("retrain", *OWN, "--arch", arch, "--out", f"bad-{arch[0]}")
    assert says in done.err
    assert "Traceback" not in done.err
    assert done.code in (1, 2)


def test_a_network_of_another_skeleton_than_the_search_is_refused(blocks: Toy, bad: Path) -> None:
    line = blocks.run("retrain", *OWN, "--skeleton.head-width", 64, "--out", bad).error(2)
    assert "was for skeleton 16/2-8-1,2,1,1,2,1-32, not 16/2-8-1,2,1,1,2,1-64: give the same here" in line


def test_a_search_of_another_checkpoint_goes_on_with_it_alone(blocks: Toy) -> None:
    line = blocks.run("meta-train", *OWN, "--distill.epochs", 9).error(2)
    assert "holds a run with other settings (distill.epochs is 4 there and 9 here)" in line
