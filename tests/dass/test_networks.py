"""Files of trained networks: what is written comes back, and anything else is named and refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from common.spaces import ResNetSpace
from common.store.weights import load_weights, save_weights
from dass.networks import TrainedNetwork, load_network, save_network
from dass.predictor import PredictorArtifact, PredictorConfig, new_predictor, new_step_sizes, save_predictor

SPACE = ResNetSpace(teacher_widths=(16, 32, 48, 64), max_depth=2, pin="net")
Described = dict[str, object]


def new_trained(**changes: object) -> TrainedNetwork:
    arch = SPACE.parse("9-12_32_24-30_40-64")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SPACE.build(arch, 3, 16)
        network(torch.randn(4, 3, 16, 16))  # running statistics and counts move
    values: Described = {
        "network": network.eval(),
        "role": "student",
        "space": SPACE,
        "arch": arch,
        "task": "folder/blumen",
        "description": "Blumen, 3 Klassen: \u00e4, \u00f6, \u00fc",
        "class_names": ("a", "b c", "\u00fc"),
        "resolution": 16,
        "best_accuracy": 0.75,
        "final_accuracy": 0.5,
        "initial_accuracy": 1 / 3,
        "notes": {"recipe": {"epochs": 2}, "seed": 1, "curve": [{"epoch": 1, "loss": 0.1}]},
    }
    return TrainedNetwork(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_network(tmp_path / "student.safetensors", new_trained())
    return tmp_path / "student.safetensors"


def test_a_network_comes_back_with_the_same_logits_and_facts(file: Path) -> None:
    saved, loaded = new_trained(), load_network(file)
    images = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded.network.eval()(images), saved.network(images))
    theirs = loaded.network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in saved.network.state_dict().items())
    for name in set(vars(saved)) - {"network"}:
        assert getattr(loaded, name) == getattr(saved, name), name
    assert loaded.num_classes == 3
    assert loaded.digest == saved.digest


def test_a_loaded_network_can_be_trained(file: Path) -> None:
    network = load_network(file).network.train()
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_equal_networks_give_equal_files(tmp_path: Path, file: Path) -> None:
    save_network(tmp_path / "again.safetensors", new_trained())
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


def test_the_digest_depends_on_how_the_network_was_made() -> None:
    assert new_trained().digest == new_trained().digest
    assert new_trained().digest != new_trained(notes={"seed": 2}).digest
    assert new_trained().digest != new_trained(best_accuracy=0.7).digest


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        load_network(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("kept", [0, 7, 200, -1, -1000])
def test_a_truncated_file_is_named(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(RuntimeError, match=r"student\.safetensors is damaged") as caught:
        load_network(file)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_weights_is_noticed(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1000] ^= 16
    file.write_bytes(content)
    with pytest.raises(RuntimeError, match=r"student\.safetensors is damaged"):
        load_network(file)


def test_a_text_file_is_no_network(file: Path) -> None:
    file.write_text("no weights here, but a long enough text to have a header and more")
    with pytest.raises(RuntimeError, match=r"student\.safetensors is damaged or no safetensors file"):
        load_network(file)


def test_plain_weights_are_refused_with_what_would_work(file: Path) -> None:
    save_weights(file, {"fc.weight": torch.zeros(2, 2)}, {})
    with pytest.raises(
        RuntimeError, match=r"student\.safetensors holds 'plain weights'.*train-teacher.*import-official"
    ):
        load_network(file)


def test_a_predictor_is_no_network(file: Path) -> None:
    predictor = new_predictor(PredictorConfig(map_channels=4, hidden_channels=2, out_channels=2, arch_dim=5), 0)
    steps = new_step_sizes(predictor, 0.1)
    artifact = PredictorArtifact(
        predictor=predictor, step_sizes=steps, space_name="toy", resolution=16, pr_type="x", probe=None
    )
    save_predictor(file, artifact)
    with pytest.raises(RuntimeError, match=r"student\.safetensors holds 'dass-predictor', no trained network"):
        load_network(file)


def without(name: str) -> Callable[[Described], Described]:
    return lambda described: {key: value for key, value in described.items() if key != name}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(without("arch"), id="no architecture"),
        pytest.param(without("space"), id="no space"),
        pytest.param(without("task"), id="no task"),
        pytest.param(lambda described: described | {"arch": "10_32_24_60"}, id="architecture outside the space"),
        pytest.param(lambda described: described | {"space": {"depth": 3}}, id="unknown space"),
        pytest.param(lambda described: described | {"later": 1}, id="unknown entry"),
        pytest.param(lambda described: described | {"resolution": 20}, id="impossible resolution"),
        pytest.param(lambda described: described | {"arch": "9-12_32_24-30_48-64"}, id="another architecture"),
        pytest.param(lambda described: described | {"class_names": ["a"]}, id="another number of classes"),
    ],
)
def test_a_file_that_does_not_fit_its_description_is_named(file: Path, spoil: Callable[[Described], Described]) -> None:
    weights, metadata = load_weights(file)
    save_weights(
        file, weights, {"kind": metadata["kind"], "network": json.dumps(spoil(json.loads(metadata["network"])))}
    )
    with pytest.raises(RuntimeError, match=r"student\.safetensors does not fit its own description") as caught:
        load_network(file)
    assert "\n" not in str(caught.value)


def test_a_damaged_description_is_named(file: Path) -> None:
    weights, metadata = load_weights(file)
    for metadata_of in ({"kind": metadata["kind"]}, {"kind": metadata["kind"], "network": metadata["network"][:-9]}):
        save_weights(file, weights, metadata_of)
        with pytest.raises(RuntimeError, match=r"student\.safetensors does not fit its own description"):
            load_network(file)


@pytest.mark.parametrize("change", [{"extra": torch.zeros(1)}, {"fc.bias": torch.zeros(4)}])
def test_weights_beside_the_description_are_refused(file: Path, change: dict[str, Tensor]) -> None:
    weights, metadata = load_weights(file)
    save_weights(file, weights | change, {"kind": metadata["kind"], "network": metadata["network"]})
    with pytest.raises(RuntimeError, match=r"student\.safetensors does not fit its own description"):
        load_network(file)
