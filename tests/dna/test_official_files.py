import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from dna.archs import PUBLISHED, DnaArch
from dna.import_official import ImportConfig, import_official
from dna.models import build
from dna.official_files import check_model, read_checkpoint, save_checkpoint

Write = Callable[..., Path]


class Foreign:
    """A class that is not on the list."""


@pytest.mark.parametrize("ema", [False, True])
def test_a_released_checkpoint_is_read_with_its_architecture(released_file: Write, small: DnaArch, ema: bool) -> None:
    found = read_checkpoint(released_file(), ema=ema)
    assert (found.arch, found.num_classes) == (small, 7)
    assert found.notes["epoch"] == "499"
    assert found.notes["metric"] == "77.8"
    raw = torch.load(released_file(args=None, metric=None), weights_only=True)["state_dict"]
    factor = 2 if ema else 1
    for name, value in found.network().state_dict().items():
        assert torch.equal(value, factor * raw[f"module.{name}"]), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_recognised(released_file: Write, name: str) -> None:
    found = read_checkpoint(released_file(PUBLISHED[name], 3, state_dict_ema=None))
    assert found.arch == PUBLISHED[name]
    check_model(found, name.lower(), Path("file"))
    other = "DNA_a" if name != "DNA_a" else "DNA_b"
    with pytest.raises(ValueError, match=f"not of {other}"):
        check_model(found, other, Path("file"))


def test_a_bare_dictionary_of_weights_is_read(tmp_path: Path, small: DnaArch) -> None:
    torch.save(build(small, 4).state_dict(), tmp_path / "bare.pth")
    assert read_checkpoint(tmp_path / "bare.pth").num_classes == 4
    with pytest.raises(ValueError, match="leave --ema out"):
        read_checkpoint(tmp_path / "bare.pth", ema=True)


def test_what_is_written_reads_back_and_loads_through_timm(tmp_path: Path, released_file: Write) -> None:
    found = read_checkpoint(released_file(PUBLISHED["DNA_c"], 6, state_dict_ema=None))
    save_checkpoint(tmp_path / "ours.safetensors", found)
    again = read_checkpoint(tmp_path / "ours.safetensors")
    assert (again.arch, again.num_classes) == (found.arch, 6)
    network = timm.create_model("dna_c", num_classes=6, checkpoint_path=str(tmp_path / "ours.safetensors"))
    for state in (again.state, network.state_dict()):
        assert state
        assert all(torch.equal(state[name], value) for name, value in found.state.items())
    with pytest.raises(ValueError, match="holds one set of weights"):
        read_checkpoint(tmp_path / "ours.safetensors", ema=True)


def test_the_step_names_the_file_after_the_network(
    tmp_path: Path, released_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    source = released_file(PUBLISHED["DNA_b"], 3, state_dict_ema=None)
    import_official(ImportConfig(source=source, out=tmp_path / "out", model="DNA_b"))
    assert read_checkpoint(tmp_path / "out/DNA_b.safetensors").arch == PUBLISHED["DNA_b"]
    assert "unused: arch, args, optimizer, version" in capsys.readouterr().out


def broken(state: dict[str, Any], how: str) -> dict[str, Any]:
    name = "module.blocks.2.1.bn2.bias"
    if how == "missing":
        return {key: value for key, value in state.items() if key != name}
    if how == "unknown":
        return state | {"module.extra": torch.zeros(1)}
    return state | {name: torch.zeros(3)}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "missing: blocks.2.1.bn2.bias"),
        ("unknown", "unknown: extra"),
        ("reshaped", "of another shape: blocks.2.1.bn2.bias"),
    ],
)
def test_names_and_shapes_map_strictly(released_file: Write, how: str, message: str) -> None:
    state = torch.load(released_file(args=None, metric=None), weights_only=True)["state_dict"]
    with pytest.raises(ValueError, match=f"does not map onto 8:4.*{re.escape(message)}"):
        read_checkpoint(released_file(state_dict=broken(state, how)))


def test_layers_that_are_none_of_dna_are_named(released_file: Write) -> None:
    state = torch.load(released_file(args=None, metric=None), weights_only=True)["state_dict"]
    odd = state | {"module.blocks.3.0.conv_dw.weight": torch.zeros(48, 1, 9, 9)}
    with pytest.raises(ValueError, match=r"blocks.3.0 expands 8 channels to 48 with a kernel of 9"):
        read_checkpoint(released_file(state_dict=odd))
    gone = {key: value for key, value in state.items() if "blocks.3.0.conv_pwl" not in key}
    with pytest.raises(ValueError, match=r"no convolution blocks.3.0.conv_pwl.weight"):
        read_checkpoint(released_file(state_dict=gone))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_dict": {}}, "no retrained network of DNA"),
        ({"state_dict": None}, "has no state_dict of tensors; it has epoch"),
        ({"state_dict": {"fc.weight": torch.zeros(2, 2)}}, "six stages"),
    ],
)
def test_other_files_are_refused(released_file: Write, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_checkpoint(released_file(**changes))


def test_a_list_and_a_missing_moving_average_are_refused(tmp_path: Path, released_file: Write) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list"):
        read_checkpoint(tmp_path / "list.pth")
    with pytest.raises(ValueError, match="has no state_dict_ema"):
        read_checkpoint(released_file(state_dict_ema=None), ema=True)


def test_nothing_else_is_unpickled_and_damage_is_named(tmp_path: Path, released_file: Write) -> None:
    with pytest.raises(RuntimeError, match=r"objects of .*Foreign, which are not made as that can run code"):
        read_checkpoint(released_file(args=Foreign()))
    path = released_file()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not zipfile.is_zipfile(path)
    with pytest.raises(RuntimeError, match="is damaged"):
        read_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_checkpoint(tmp_path / "none.pth.tar")
