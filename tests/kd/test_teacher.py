"""Teachers by name."""

import pytest
import torch

from common.kd.teacher import load_teacher
from common.store.weights import save_weights

CPU = torch.device("cpu")
NAME = "test_resnet"  # timm's smallest


def test_a_timm_teacher_has_the_tasks_classes_and_is_frozen_in_eval_mode():
    teacher = load_teacher(f"timm:{NAME}", num_classes=7, resolution=32, device=CPU)
    assert teacher(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_weights_of_a_file_are_loaded_exactly(tmp_path):
    first = load_teacher(f"timm:{NAME}", num_classes=7, resolution=32, device=CPU)
    save_weights(tmp_path / "teacher.safetensors", first.state_dict(), {})
    spec = f"timm:{NAME}@{tmp_path / 'teacher.safetensors'}"
    second = load_teacher(spec, num_classes=7, resolution=32, device=CPU)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(first(images), second(images))


def test_weights_of_another_network_or_class_count_are_refused(tmp_path):
    file = tmp_path / "teacher.safetensors"
    teacher = load_teacher(f"timm:{NAME}", num_classes=7, resolution=32, device=CPU)
    save_weights(file, teacher.state_dict(), {})
    with pytest.raises(RuntimeError, match=r"2 of another shape; .*\(7.* in the file, \(8"):
        load_teacher(f"timm:{NAME}@{file}", num_classes=8, resolution=32, device=CPU)
    save_weights(file, {"fc.weight": torch.zeros(2, 2)}, {})
    with pytest.raises(RuntimeError, match="does not hold weights of test_resnet"):
        load_teacher(f"timm:{NAME}@{file}", num_classes=7, resolution=32, device=CPU)
    with pytest.raises(FileNotFoundError, match="absent"):
        load_teacher(f"timm:{NAME}@{tmp_path / 'absent'}", num_classes=7, resolution=32, device=CPU)


def test_an_unknown_name_gets_the_nearest_ones():
    with pytest.raises(ValueError, match=r"timm has no network 'resnet81'; nearest: .*resnet18"):
        load_teacher("timm:resnet81", num_classes=7, resolution=32, device=CPU)


def test_a_spec_of_another_form_is_refused():
    with pytest.raises(ValueError, match=r"'resnet18' has no known form: give timm:NAME"):
        load_teacher("resnet18", num_classes=7, resolution=32, device=CPU)


def test_a_network_that_cannot_take_the_resolution_says_so():
    with pytest.raises(ValueError, match=r"test_vit cannot take images of 36 x 36 pixels"):
        load_teacher("timm:test_vit", num_classes=7, resolution=36, device=CPU)
