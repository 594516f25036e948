"""The command: accuracies against a plain loop, what it takes, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from common.experiment.commands import main
from common.experiment.config import UsageError, parse_config
from dna.__main__ import STEPS, name_first
from dna.archs import PUBLISHED, format_arch
from dna.official_files import read_checkpoint
from dna.pictures import open_pictures
from dna.validate import ValidateConfig, accuracies, checkpoint_of

Write = Callable[..., Path]
Fill = Callable[..., list[Path]]
CLASSES = [f"class{index}" for index in range(7)]


def run(*arguments: object) -> int:
    return main("dna", STEPS, [str(argument) for argument in arguments], name_first)


def plainly(paths: list[Path], checkpoint: Path, resolution: int) -> tuple[float, float, float]:
    """Top-1, top-5 and loss, one image at a time."""
    network = read_checkpoint(checkpoint).network()
    first, five, losses = 0, 0, []
    for path in paths:
        image = Image.open(path)
        side = int(resolution / 0.875)
        width, height = image.size
        size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
        left, top = (round((length - resolution) / 2) for length in size)
        cut = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + resolution, top + resolution))
        pixels = (np.asarray(cut) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        with torch.inference_mode():
            logits = network(torch.from_numpy(pixels).float().permute(2, 0, 1)[None])[0]
        label = CLASSES.index(path.parent.name)
        rank = int((logits > logits[label]).sum())
        first, five = first + (rank < 1), five + (rank < 5)
        losses.append(float(functional.cross_entropy(logits, torch.tensor(label))))
    return first / len(paths), five / len(paths), float(np.mean(losses))


def test_the_command_finds_the_accuracies_of_a_plain_loop(
    tmp_path: Path, released_file: Write, write_images: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = released_file()
    paths = write_images(tmp_path / "images" / "val", CLASSES, per_class=4)
    arguments = ("--checkpoint", checkpoint, "--out", tmp_path / "out", "--resolution", 32, "--gpu", "cpu")
    assert run("validate", tmp_path / "images", *arguments, "--batch-size", 5) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    top1, top5, loss = plainly(paths, checkpoint, 32)
    assert 0 < top1 < top5 < 1
    assert (result["top1_accuracy"], result["top5_accuracy"]) == (top1, top5)
    assert result["loss"] == pytest.approx(loss, rel=1e-4)
    assert (result["num_images"], result["skipped"], result["notes"]["epoch"]) == (28, [], "499")
    assert f"top-1 {100 * top1:.3f} %, top-5 {100 * top5:.3f} %" in capsys.readouterr().out


def test_the_model_is_checked_against_the_checkpoint(
    tmp_path: Path, released_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", tmp_path, "--model", "DNA_a", "--checkpoint", released_file(), "--gpu", "cpu") == 1
    assert "not of DNA_a, which is 24:430|40:3340" in capsys.readouterr().err


def test_a_finished_validation_is_not_done_again(
    tmp_path: Path, released_file: Write, write_images: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "images", CLASSES, per_class=1)
    command = ("validate", tmp_path / "images", "--checkpoint", released_file(), "--resolution", 32, "--gpu", "cpu")
    for _ in range(2):
        assert run(*command, "--out", tmp_path / "out") == 0
    first, second = capsys.readouterr().out.split("validate: ")[1:]
    assert first == second
    assert run(*command, "--out", tmp_path / "out", "--ema") == 2
    assert "ema is False there and True here" in capsys.readouterr().err


def test_a_drawn_part_depends_on_the_seed_alone(
    tmp_path: Path, released_file: Write, write_images: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "images", CLASSES)
    command = ("validate", tmp_path / "images", "--checkpoint", released_file(), "--resolution", 32, "--num-images", 9)
    losses = []
    for index, seed in enumerate((1, 1, 2)):
        assert run(*command, "--gpu", "cpu", "--seed", seed, "--out", tmp_path / str(index)) == 0
        result = json.loads((tmp_path / str(index) / "result.json").read_text())
        assert (result["num_images"], result["part"]) == (9, "9 drawn of all images")
        losses.append(result["loss"])
    assert losses[0] == losses[1] != losses[2]


def test_damaged_images_are_counted_and_none_left_is_an_error(
    tmp_path: Path, released_file: Write, write_images: Fill
) -> None:
    paths = write_images(tmp_path, CLASSES, per_class=1)
    network = read_checkpoint(released_file()).network()
    pictures = open_pictures(str(tmp_path), "auto", 7, data_root=None, seed=0)
    paths[3].write_bytes(b"")
    options = {"batch_size": 2, "device": torch.device("cpu")}
    view, skipped = ValidateConfig(resolution=32).view(), list[str]()
    assert accuracies(network, pictures, view, skipped=skipped, **options).num_images == 6  # type: ignore[arg-type]
    assert len(skipped) == 1
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(RuntimeError, match="none of the 7 images can be read"):
        accuracies(network, pictures, view, skipped=[], **options)  # type: ignore[arg-type]


def test_without_a_checkpoint_the_imported_one_is_taken(
    tmp_path: Path, released_file: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="which network"):
        checkpoint_of(ValidateConfig())
    with pytest.raises(FileNotFoundError, match="DNA_a was not imported"):
        checkpoint_of(ValidateConfig(model="DNA_a"))
    assert run("import-official", released_file(PUBLISHED["DNA_a"], 3, state_dict_ema=None)) == 0
    assert read_checkpoint(checkpoint_of(ValidateConfig(model="dna-a"))).arch == PUBLISHED["DNA_a"]


def test_the_first_bare_argument_is_the_data() -> None:
    arguments = name_first("validate", ["images", "--model", format_arch(PUBLISHED["DNA_b"])])
    config = parse_config(ValidateConfig, arguments, program="dna")
    assert (config.data, config.resolution, config.crop_pct, config.interpolation) == ("images", 224, 0.875, "bicubic")
    assert name_first("validate", ["--ema"]) == ["--ema"]
    assert name_first("import-official", ["file"]) == ["--source", "file"]


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--batch-size", 0, "batch_size is 0"),
        ("--num-images", 0, "num_images is 0"),
        ("--crop-pct", 0, "crop_pct is 0"),
        ("--model", "DNA_x", "give DNA_a, DNA_b"),
    ],
)
def test_wrong_settings_end_in_one_line(
    flag: str, value: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("validate", "digits", flag, value) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
