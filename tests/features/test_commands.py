import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_0

from common.experiment.commands import main
from common.features.__main__ import STEPS
from common.features.evaluate import linear_probe, table
from common.features.extractors import load_extractor
from common.features.squeezenet import load_squeezenet, resize
from common.features.train_compact import UNSEEN, TrainCompactConfig
from common.store.weights import load_weights

Folder = Callable[..., Path]


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the form of the packed ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = squeezenet1_0(weights=None).state_dict()
    file = tmp_path_factory.mktemp("weights") / "squeezenet.npz"
    np.savez(file, **{name: value.half().numpy() for name, value in state.items()})  # type: ignore[arg-type]
    return file


def command(*arguments: str | Path) -> int:
    return main("common.features", STEPS, [str(argument) for argument in arguments])


def train(squeezenet: Path, out: Path, *more: str | Path) -> int:
    views = ("--views.num", "1", "--views.teacher-resolution", "32", "--views.no-teacher-bf16")
    distill = ("--distill.epochs", "1", "--distill.batch-size", "8", "--distill.amp", "off")
    given = ("--gpu", "cpu", "--threads", "1", "--teacher", squeezenet, "--out", out)
    return command("train-compact", *given, *views, *distill, *more)


def test_training_writes_an_extractor_and_its_card_data(
    squeezenet: Path, folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [folder({"red": 12, "green": 9}, {"red": 3, "green": 2}, name=name) for name in ("one", "two")]
    out = tmp_path / "out"
    assert train(squeezenet, out, "--sets", *sets) == 0
    result = json.loads((out / "result.json").read_text())
    extractor = load_extractor("compact", weights=out / "compact.safetensors")
    assert result["id"] == extractor.id
    assert result["num_images"] == 42
    assert [*result["accuracy"]] == [str(path) for path in sets]
    tensors, about = load_weights(out / "compact.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert (about["kind"], about["config"], about["seed"]) == ("feature-extractor", result["config"], "0")
    assert (out / "compact.safetensors").stat().st_size < 4e6
    shown = capsys.readouterr().out
    assert f"{extractor.id}: 42 images" in shown
    assert "next: python -m common.features evaluate" in shown
    before = (out / "compact.safetensors").read_bytes()
    assert train(squeezenet, out, "--sets", *sets) == 0
    assert (out / "compact.safetensors").read_bytes() == before, "a finished run only says so"
    assert train(squeezenet, out, "--sets", *sets, "--restart") == 0
    assert (out / "compact.safetensors").read_bytes() == before, "the same bytes from the same seed"


def test_probes_make_a_table(
    squeezenet: Path, folder: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder({"red": 8, "green": 8}, {"red": 4, "green": 4})
    out = tmp_path / "probes"
    given = ("--gpu", "cpu", "--extractors", "random", "--datasets", data, "--teacher", squeezenet, "--out", out)
    assert command("evaluate", *given) == 0
    lines = (out / "table.md").read_text().splitlines()
    assert lines[0] == f"| features | {data} |"
    rows = [line.split(" | ")[0] for line in lines[2:]]
    assert rows[0].startswith("| random-")
    assert rows[1:] == [f"| SqueezeNet, {given} px seen at {seen}" for given, seen in ((32, 32), (32, 128), (64, 128))]
    assert lines[2].endswith("| 100.0 |"), "two colours are easy"
    assert capsys.readouterr().out.endswith("\n".join(lines) + "\n")


def test_a_table_has_a_line_for_each_kind_of_features() -> None:
    text = table({"compact-1": {"cub": 0.25, "dtd": 0.5}, "random-2": {"cub": 0.1, "dtd": 1.0}})
    expected = [
        "| features | cub | dtd |",
        "|---|---:|---:|",
        "| compact-1 | 25.0 | 50.0 |",
        "| random-2 | 10.0 | 100.0 |",
    ]
    assert text.splitlines() == expected


def test_a_linear_probe_finds_a_linear_rule_and_no_other() -> None:
    draws = np.random.default_rng(0)
    features = draws.normal(size=(400, 20)).astype(np.float32) * draws.uniform(0.01, 100, 20).astype(np.float32)
    rule = (features / features.std(axis=0)) @ draws.normal(size=(20, 3))
    labels = rule.argmax(axis=1)
    assert linear_probe(features[:300], labels[:300], features[300:], labels[300:]) > 0.85
    shuffled = draws.permutation(labels)
    assert linear_probe(features[:300], shuffled[:300], features[300:], shuffled[300:]) < 0.55


@pytest.mark.parametrize("name", UNSEEN)
def test_sets_that_must_stay_unseen_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"sets has {name}, which must stay unseen"):
        TrainCompactConfig(sets=("tiny_imagenet", name))
    assert name not in TrainCompactConfig().sets


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train-compact", "--sets", "a", "a"), 2, "name at least one set, each once"),
        (
            ("train-compact", "--gpu", "cpu", "--out", "run"),
            1,
            "run `python -m download.features --name squeezenet1_0`",
        ),
        (("evaluate", "--extractors", "vgg"), 2, "extractors has vgg: known are compact"),
        (("evaluate", "--gpu", "cpu", "--extractors", "resnet18-imagenet", "--out", "run"), 1, "download.features"),
        (("embed",), 2, "unknown step 'embed'"),
    ],
)
def test_bad_input_is_one_line(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_the_teacher_sees_images_as_imagenet_networks_do(squeezenet: Path) -> None:
    images = torch.randint(0, 256, (2, 3, 48, 48), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    network = squeezenet1_0(weights=None)
    with np.load(squeezenet) as archive:
        network.load_state_dict({name: torch.from_numpy(archive[name].astype(np.float32)) for name in archive})
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    larger = torch.nn.functional.interpolate(images.float(), size=(64, 64), mode="bilinear")
    with torch.no_grad():
        maps = network.features((larger / 255 - mean[:, None, None]) / std[:, None, None])
    assert torch.allclose(load_squeezenet(squeezenet)(images, 64), maps.mean(dim=(2, 3)), rtol=1e-4, atol=1e-5)


def test_images_are_averaged_where_they_shrink() -> None:
    stripes = torch.tensor([0.0, 100.0]).repeat(32)[None, None, None, :].expand(1, 1, 64, 64)
    assert torch.allclose(resize(stripes, 32)[..., 2:-2], torch.tensor(50.0), atol=1.0)
    assert resize(stripes, 64) is stripes


def test_a_torchvision_file_of_the_teacher_is_read_too(squeezenet: Path, tmp_path: Path) -> None:
    with np.load(squeezenet) as archive:
        state = {name: torch.from_numpy(archive[name].astype(np.float32)) for name in archive}
    torch.save(state, tmp_path / "squeezenet.pth")
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert torch.equal(
        load_squeezenet(tmp_path / "squeezenet.pth")(images, 64), load_squeezenet(squeezenet)(images, 64)
    )


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_wrong_teacher_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    for suffix in (".npz", ".pth"):
        file = tmp_path / f"wrong{suffix}"
        if content is not None:
            file.write_bytes(content)
        elif suffix == ".npz":
            np.savez(file, other=np.zeros(3))
        else:
            torch.save({"other": torch.zeros(3)}, file)
        with pytest.raises(RuntimeError, match=f"wrong{suffix} does not hold the weights of squeezenet1_0"):
            load_squeezenet(file)
