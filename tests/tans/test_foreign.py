from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torchvision.models import squeezenet1_0

from common.experiment.config import UsageError
from tans.foreign import (
    Renormalised,
    create_foreign,
    foreign_cost,
    load_foreign,
    pooled_features,
    read_checkpoint,
    replace_head,
)

FAMILY = "timm:test_resnet"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=5).eval()


def test_the_number_of_classes_is_read_off_the_weights(network: nn.Module) -> None:
    loaded = load_foreign(FAMILY, network.state_dict(), "symmetric")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), network(images), atol=1e-5, rtol=1e-5)


def test_features_are_what_the_classifier_sees(network: nn.Module) -> None:
    loaded = load_foreign(FAMILY, network.state_dict(), "imagenet")
    assert isinstance(loaded, Renormalised)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(images), pre_logits=True)
    torch.testing.assert_close(pooled_features(loaded, images), expected, atol=1e-5, rtol=1e-5)


def test_costs_are_those_of_a_count_by_hand() -> None:
    plain = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)
    )
    wrapped = Renormalised(plain, "symmetric")
    assert foreign_cost(wrapped, 8) == (3 * 4 * 9 + 4, 3 * 4 * 9 * 64, 4)


def test_a_new_head_changes_the_last_layer_alone(network: nn.Module) -> None:
    loaded = load_foreign(FAMILY, network.state_dict(), "symmetric")
    assert isinstance(loaded, Renormalised)
    images = torch.randn(2, 3, 32, 32)
    before = pooled_features(loaded, images)
    replace_head(loaded, 9)
    with torch.no_grad():
        assert loaded(images).shape == (2, 9)
    torch.testing.assert_close(pooled_features(loaded, images), before)


@pytest.mark.parametrize("name", ["plain.pt", "wrapped.pt", "parallel.pth", "safe.safetensors"])
def test_checkpoints_of_most_programs_are_read(name: str, network: nn.Module, tmp_path: Path) -> None:
    state, file = network.state_dict(), tmp_path / name
    if name == "safe.safetensors":
        safetensors.torch.save_file(state, file)
    elif name == "wrapped.pt":
        torch.save({"state_dict": state, "epoch": 3}, file)
    elif name == "parallel.pth":
        torch.save({f"module.{key}": value for key, value in state.items()}, file)
    else:
        torch.save(state, file)
    found = read_checkpoint(file)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_what_cannot_be_used_is_explained(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no network 'timm:nosuch'"):
        create_foreign("timm:nosuch", 3)
    with pytest.raises(UsageError, match="libraries are timm, torchvision"):
        create_foreign("mine:resnet", 3)
    with pytest.raises(UsageError, match="has no linear classifier"):
        load_foreign("torchvision:squeezenet1_0", squeezenet1_0().state_dict(), "imagenet")
    with pytest.raises(UsageError, match="the weights are not of timm:resnet18"):
        load_foreign("timm:resnet18", network.state_dict(), "imagenet")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(RuntimeError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "list.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08")
    with pytest.raises(RuntimeError, match=r"cut\.safetensors is damaged"):
        read_checkpoint(tmp_path / "cut.safetensors")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_checkpoint(tmp_path / "none.safetensors")
