"""Released files: same outputs as an independent forward pass, strict names and shapes, nothing else unpickled."""

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from common.experiment.files import read_json
from common.spaces.resnet import ResNetArch, ResNetSpace
from common.spaces.resnet_network import ResidualNetwork
from dass.candidates import load_candidates
from dass.database import load_database, load_table
from dass.import_official import ImportConfig, import_official
from dass.networks import load_network
from dass.official_files import MAPS, read_official
from dass.predictor import PredictorConfig, load_predictor, new_predictor

WIDTHS = ((18, 32), (36,), (72, 128), (144, 256))


def residual_forward(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The released residual network over its state dict, in functional form."""

    def norm(x: Tensor, name: str) -> Tensor:
        buffers = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return functional.batch_norm(x, *buffers, state[f"{name}.weight"], state[f"{name}.bias"])

    x = norm(functional.conv2d(images, state["conv1.weight"], padding=1), "bn1").relu()
    for stage in range(1, 5):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(
                functional.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"
            ).relu()
            y = norm(functional.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            shortcut = torch.zeros(x.shape[0], y.shape[1], *x.shape[2:])
            kept = min(x.shape[1], y.shape[1])
            shortcut[:, :kept] = x[:, :kept]
            x = (y + (shortcut if stride == 1 else functional.max_pool2d(shortcut, 2, 2))).relu()
            block += 1
    return functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = ResidualNetwork(WIDTHS, 40)
    state = {name: torch.rand_like(v) + 0.5 if "running" in name else v for name, v in network.state_dict().items()}
    path = tmp_path / "teacher" / "tiny_imagenet-3" / "model_best.pth.tar"
    path.parent.mkdir(parents=True)
    content = {
        "state_dict": {f"module.{name}": value for name, value in state.items()},
        "epoch": 180,
        "best_acc": np.float64(61.25),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    }
    torch.save(content, path)
    return path


def test_a_teacher_gives_the_outputs_of_the_released_forward_pass(network_file: Path, tmp_path: Path) -> None:
    import_official(ImportConfig(source=network_file, out=tmp_path / "out"))
    trained = load_network(tmp_path / "out/teacher/tiny_imagenet-3.safetensors")
    assert trained.arch.widths == WIDTHS
    assert (trained.task, trained.num_classes, trained.role) == ("tiny_imagenet/3", 40, "student")
    assert trained.best_accuracy == pytest.approx(0.6125)
    network, state = trained.network.eval(), read_official(network_file)["state_dict"]
    state = {name.removeprefix("module."): value for name, value in state.items()}
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), residual_forward(state, images), atol=1e-5, rtol=1e-5)
    assert read_json(tmp_path / "out/import.json")[str(network_file)]["unused"] == ["epoch", "optimizer"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("layer2.0.bn1.weight", None, r"missing: layer2\.0\.bn1\.weight"),
        ("layer2.0.downsample.weight", torch.zeros(1), r"unknown: layer2\.0\.downsample\.weight"),
        ("fc.bias", torch.zeros(3), r"of another shape: fc\.bias"),
        ("layer3.0.conv1.weight", None, r"no residual network.*layer3\.0\.conv1\.weight"),
    ],
)
def test_a_teacher_that_does_not_map_is_refused_by_name(
    network_file: Path, tmp_path: Path, name: str, change: Tensor | None, message: str
) -> None:
    content = read_official(network_file)
    content["state_dict"].pop(f"module.{name}", None)
    if change is not None:
        content["state_dict"][f"module.{name}"] = change
    torch.save(content, network_file)
    with pytest.raises(ValueError, match=message):
        import_official(ImportConfig(source=network_file, out=tmp_path / "out"))


@pytest.fixture
def predictor_file(tmp_path: Path) -> Path:
    random = torch.Generator().manual_seed(0)
    state = new_predictor(PredictorConfig(), 0).state_dict()
    content = {
        "epoch": 40,
        "state_dict": {name: 0.05 * torch.randn(v.shape, generator=random) for name, v in state.items()},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []},
        "last_info": {"loss": np.float32(0.5), "corr": np.arange(4, dtype=np.float64), "n": np.int64(3)},
        "min_info": {"rho": np.float64(0.25)},
    }
    path = tmp_path / "meta_train" / "dass" / "checkpoint" / "model_best.pth.tar"
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    torch.save({"args": argparse.Namespace(step_size=0.02, bilevel=True, gpu="0")}, path.parent.parent / "logs.pt")
    return path


def test_a_predictor_gives_the_outputs_of_the_released_forward_pass(predictor_file: Path, tmp_path: Path) -> None:
    import_official(ImportConfig(source=predictor_file, out=tmp_path / "out"))
    artifact = load_predictor(tmp_path / "out/predictor/dass.safetensors")
    state = read_official(predictor_file)["state_dict"]
    student, teacher = torch.randn(3, 256, 8, 8), torch.randn(1, 256, 8, 8)
    codes = torch.rand(3, 181)

    def encode(maps: Tensor, name: str) -> Tensor:
        hidden = functional.relu(functional.conv2d(maps, state[f"{name}.conv1.weight"], None, 2, 1))
        return functional.relu(functional.conv2d(hidden, state[f"{name}.conv2.weight"], None, 2, 1)).flatten(2).mean(2)

    columns = state["proj_layers.0.weight"].split([256, 64, 256], dim=1)  # S, A, T
    code = codes @ state["arch_encoder.fc.weight"].T + state["arch_encoder.fc.bias"]
    slots = encode(student, "func_encoder"), code, encode(teacher, "teacher_encoder")
    hidden = sum(slot @ column.T for slot, column in zip(slots, columns, strict=True)) + state["proj_layers.0.bias"]
    expected = torch.tanh(hidden) @ state["proj_layers.2.weight"][0] + state["proj_layers.2.bias"]
    with torch.inference_mode():
        torch.testing.assert_close(artifact.predictor(student, codes, teacher), expected, atol=1e-5, rtol=1e-5)
    assert {float(size.min()) for size in artifact.step_sizes.values()} == {float(torch.tensor(0.02))}
    assert (artifact.origin, artifact.probe, artifact.score) == ("official", None, None)
    unused = read_json(tmp_path / "out/import.json")[str(predictor_file)]["unused"]
    assert unused == ["epoch", "last_info", "min_info", "optimizer"]


def test_a_predictor_without_its_log_needs_a_step_size(predictor_file: Path, tmp_path: Path) -> None:
    (predictor_file.parent.parent / "logs.pt").unlink()
    config = ImportConfig(source=predictor_file, out=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="pass --step-size"):
        import_official(config)
    import_official(ImportConfig(source=predictor_file, out=tmp_path / "out", step_size=0.005))
    sizes = load_predictor(tmp_path / "out/predictor/dass.safetensors").step_sizes
    assert float(sizes["proj_layers.2.bias"]) == pytest.approx(0.005)


def test_a_predictor_of_other_shapes_is_refused_by_name(predictor_file: Path, tmp_path: Path) -> None:
    content = read_official(predictor_file)
    content["state_dict"]["proj_layers.0.weight"] = torch.zeros(64, 575)
    torch.save(content, predictor_file)
    with pytest.raises(ValueError, match=r"of another shape: proj_layers\.0\.weight"):
        import_official(ImportConfig(source=predictor_file, out=tmp_path / "out"))


def official_students(num: int, seed: int, *, percent: bool = True) -> tuple[dict[str, Any], list[ResNetArch]]:
    """The lists of a released database file; inactive widths fill each stage to five."""
    archs = ResNetSpace().sample(num, torch.Generator().manual_seed(seed))
    scale = 100 if percent else 1
    lists: dict[str, Any] = {
        "net_index": list(range(num)),
        MAPS: [torch.rand(1, 256, 8, 8) if index % 2 else torch.rand(256, 8, 8) for index in range(num)],
        "arch_enc": list(ResNetSpace().encode(archs)),
        "depth_config": [list(arch.depths) for arch in archs],
        "channel_widths": [[list(stage) + [16] * (5 - len(stage)) for stage in arch.widths] for arch in archs],
        "best_acc": [torch.tensor(scale * (0.4 + 0.01 * index)) for index in range(num)],
        "final_acc": [scale * (0.3 + 0.01 * index) for index in range(num)],
        "final_loss": [1.5] * num,
        "noise_actmap_stage-3": [torch.zeros(1)] * num,
    }
    return lists, archs


@pytest.fixture
def database_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "preprocessed" / "ours"
    for seed, (mode, key) in enumerate([("meta_train", "tiny_imagenet-0"), ("meta_test", "cub")]):
        (folder / mode / "teacher").mkdir(parents=True)
        name = f"{key}-logs_noise_actmap.pt"
        torch.save(official_students(4, seed)[0], folder / mode / name)
        teacher = official_students(1, 9)[0]
        teacher.pop("net_index")
        torch.save(teacher | {"best_acc": [62.5]}, folder / mode / "teacher" / name)
    return folder


def test_a_database_comes_as_fractions_with_costs_and_active_widths(
    database_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import_official(ImportConfig(source=database_folder, kind="database", out=tmp_path / "out", half=False))
    tables = load_database(tmp_path / "out/database")
    assert list(tables) == ["cub", "tiny_imagenet/0"]
    _, archs = official_students(4, 0)
    table, space = tables["tiny_imagenet/0"], ResNetSpace()
    torch.testing.assert_close(table.best_accuracy, torch.tensor([0.40, 0.41, 0.42, 0.43]))
    torch.testing.assert_close(table.final_accuracy, torch.tensor([0.30, 0.31, 0.32, 0.33]))
    assert table.architectures == tuple(space.format(arch) for arch in archs)
    assert torch.equal(table.arch_enc, space.encode(archs))
    assert table.macs.tolist() == [space.cost(arch, 40, 64).macs for arch in archs]
    assert table.actmap.shape == (4, 256, 8, 8)
    assert table.teacher_best_accuracy == pytest.approx(0.625)
    assert (table.probe, table.meta["origin"], table.meta["converted_from_percent"]) == (None, "official", True)
    assert "noise_actmap_stage-3" in caplog.text


def test_accuracies_that_are_fractions_stay_so(database_folder: Path, tmp_path: Path) -> None:
    path = database_folder / "meta_test" / "cub-logs_noise_actmap.pt"
    torch.save(official_students(4, 0, percent=False)[0], path)
    import_official(ImportConfig(source=path, out=tmp_path / "out"))
    table = load_table(tmp_path / "out/database/cub.safetensors")
    torch.testing.assert_close(table.best_accuracy, torch.tensor([0.40, 0.41, 0.42, 0.43]))
    assert table.meta["converted_from_percent"] is False


def test_a_task_without_its_teacher_or_a_list_is_named(database_folder: Path, tmp_path: Path) -> None:
    path = database_folder / "meta_test" / "cub-logs_noise_actmap.pt"
    lists = read_official(path)
    del lists["final_acc"]
    torch.save(lists, path)
    with pytest.raises(ValueError, match=r"cub-logs_noise_actmap\.pt: the students' file lacks final_acc"):
        import_official(ImportConfig(source=path, out=tmp_path / "out"))
    (path.parent / "teacher" / path.name).unlink()
    with pytest.raises(FileNotFoundError, match="teacher"):
        import_official(ImportConfig(source=path, out=tmp_path / "out"))


def test_candidates_keep_their_order(tmp_path: Path) -> None:
    lists, archs = official_students(6, 3)
    content = {
        MAPS: lists[MAPS],
        "arch_info": {name: lists[name] for name in ("depth_config", "channel_widths")},
        "pred_inp": {"arch_enc": lists["arch_enc"]},
    }
    torch.save(content, tmp_path / "stanford_cars.pt")
    import_official(ImportConfig(source=tmp_path / "stanford_cars.pt", out=tmp_path / "out"))
    candidates = load_candidates(tmp_path / "out/candidates/stanford_cars.safetensors")
    assert candidates.architectures == tuple(ResNetSpace().format(arch) for arch in archs)
    assert torch.equal(candidates.actmap[1], lists[MAPS][1][0])
    assert torch.equal(candidates.arch_enc, ResNetSpace().encode(archs))
    assert (candidates.task, candidates.origin) == ("stanford_cars", "official")


class Foreign:
    """Something that a released file never holds."""


def test_a_file_with_another_type_is_not_unpickled(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "extra": Foreign()}, tmp_path / "model_best.pth.tar")
    with pytest.raises(RuntimeError, match=r"model_best\.pth\.tar holds objects of \S+Foreign, which are not made"):
        import_official(ImportConfig(source=tmp_path, out=tmp_path / "out"))


def test_the_allowed_types_hold_for_the_importer_alone(predictor_file: Path) -> None:
    read_official(predictor_file)
    with pytest.raises(Exception, match=r"numpy.*multiarray"):
        torch.load(predictor_file, weights_only=True)


def test_a_truncated_file_is_named(network_file: Path, tmp_path: Path) -> None:
    network_file.write_bytes(network_file.read_bytes()[:5000])
    with pytest.raises(RuntimeError, match=r"model_best\.pth\.tar is damaged"):
        import_official(ImportConfig(source=network_file, out=tmp_path / "out"))


def test_a_folder_without_the_kind_asked_for_says_so(network_file: Path, tmp_path: Path) -> None:
    config = ImportConfig(source=network_file.parent, kind="predictor", out=tmp_path / "out")
    with pytest.raises(ValueError, match="nothing of kind predictor"):
        import_official(config)
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        import_official(ImportConfig(source=tmp_path / "nowhere", out=tmp_path / "out"))


def test_a_file_written_with_numpy_1_is_read_too(predictor_file: Path, tmp_path: Path) -> None:
    rewritten = predictor_file.with_name("rewritten")
    with zipfile.ZipFile(predictor_file) as source, zipfile.ZipFile(rewritten, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in data
                data = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(name, data)
    assert read_official(rewritten)["min_info"] == {"rho": 0.25}
