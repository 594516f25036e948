from pathlib import Path

import pytest
import torch

from common.experiment.config import UsageError
from common.spaces.mobilenet_v2 import DEFAULT_MOBILENET_V2, MobileNetV2Space
from common.spaces.simple_cnn import SimpleCnnSpace
from mfkd.fields import Fields
from mfkd.models import load_into, model_at, model_of, read_model, read_space, save_model, teacher_of

SPACE = MobileNetV2Space(first_stride=2, last_channel=16)


@pytest.mark.parametrize("space", [MobileNetV2Space(), SPACE, MobileNetV2Space(width_mult=0.5), SimpleCnnSpace()])
def test_a_description_is_read_back_as_the_same_network(space: MobileNetV2Space | SimpleCnnSpace) -> None:
    model = model_at(space, 12345, 7)
    again = read_model(Fields(model.description, "file", []))
    assert again == model or again.description == model.description
    assert again.text == space.format(space.arch(12345))
    assert again.cost(7, 32) == model.cost(7, 32) == space.cost(space.arch(12345), 7, 32)
    assert again.num_classes == 7


def test_a_space_has_the_published_order_of_its_axes() -> None:
    layers = {f"layer_{i}": {"repetitions": ["1", 2, 3, 4], "channels": pair} for i, pair in enumerate(PAIRS)}
    section = {"modules": ["custom"], "custom": {"name": "MobileNetV2", **layers}}
    space, num_classes = read_space(Fields(section, "search_space", []))
    assert space == MobileNetV2Space()
    assert num_classes is None
    assert model_at(space, 12345).text == "16x1_24x1_32x4_64x1_96x1_320x4_320x2"


PAIRS = [[16, 24], [24, 32], [32, 64], [64, 96], [96, 160], [160, 320], [320, 640]]


def test_a_fixed_value_is_no_axis() -> None:
    section = {"custom": {"type": "MobileNetV2", "layer_3": {"channels": [64, 96], "repetitions": 2}}}
    space, _ = read_space(Fields(section, "search_space", []))
    assert space.size() == 2
    assert [model_at(space, index).values["layer_3"] for index in (0, 1)] == [
        {"channels": 64, "repetitions": 2},
        {"channels": 96, "repetitions": 2},
    ]


def test_a_description_with_a_choice_is_no_network() -> None:
    section = {"custom": {"type": "MobileNetV2", "layer_3": {"channels": [64, 96]}}}
    with pytest.raises(UsageError, match=r"layer_3\.channels has the option"):
        read_model(Fields(section, "model_desc", []))


def test_equal_seeds_give_equal_networks_and_leave_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second, other = (model_at(SPACE, 0).build(5, 8, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    weight = "features.0.0.weight"
    assert torch.equal(first[weight], second[weight])
    assert not torch.equal(first[weight], other[weight])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_teacher_is_read_from_our_file_or_from_a_bare_state_dict(tmp_path: Path, prefix: str) -> None:
    teacher = teacher_of(SPACE)
    network = teacher.build(5, 8, 0)
    save_model(tmp_path / "ours.safetensors", network, teacher, {"accuracy": 0.5})
    torch.save({prefix + key: value for key, value in network.state_dict().items()}, tmp_path / "theirs.pth")
    for name in ("ours.safetensors", "theirs.pth"):
        loaded = load_into(teacher.build(5, 8, 1), tmp_path / name, "the teacher").eval()
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        assert torch.equal(loaded(images), network.eval()(images))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(teacher_of(SPACE).build(5, 8, 0).state_dict(), tmp_path / "five.pth")
    with pytest.raises(RuntimeError, match=r"classifier\.1\.weight .*\(5, 16\) in the file, \(6, 16\) in the network"):
        load_into(teacher_of(SPACE).build(6, 8, 0), tmp_path / "five.pth", "the teacher")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(RuntimeError, match="no bare state dict"):
        load_into(teacher_of(SPACE).build(6, 8, 0), tmp_path / "list.pth", "the teacher")


def test_only_a_space_with_a_default_has_a_teacher() -> None:
    assert teacher_of(SPACE) == model_of(SPACE, DEFAULT_MOBILENET_V2)
    with pytest.raises(UsageError, match="has no teacher"):
        teacher_of(SimpleCnnSpace())
