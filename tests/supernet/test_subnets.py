"""Networks out of a supernet: their statistics, outputs and accuracies."""

import copy

import pytest
import torch

from common.kd.evaluate import evaluate, predict
from common.spaces import MobileNetV3Arch, MobileNetV3Space, MobileNetV3Supernet, estimate_norms
from common.supernet import calibration_images, cut_subnet, subnet_accuracies, subnet_logits, with_new_head

CPU = torch.device("cpu")
ARCHS = MobileNetV3Space().sample(4, torch.Generator().manual_seed(3))


def test_cut_networks_say_what_the_supernet_says_with_the_same_statistics(task, make_supernet):
    supernet = make_supernet()
    images = calibration_images(task, 40, seed=1, device=CPU)
    before = copy.deepcopy(supernet.state_dict())
    for arch in ARCHS:
        inside = copy.deepcopy(supernet).activate(arch)
        estimate_norms(inside, images)
        expected = predict(inside, task.images, task.evaluation, device=CPU)
        found = subnet_logits(
            supernet, arch, calibration=images, images=task.images, indices=task.evaluation, device=CPU
        )
        assert torch.allclose(found, expected, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_accuracies_are_those_of_each_network_alone(task, make_supernet):
    supernet = make_supernet(seed=5)
    images = calibration_images(task, 40, seed=1, device=CPU)
    found = subnet_accuracies(supernet, ARCHS, task, calibration=images, device=CPU)
    for arch, accuracy in zip(ARCHS, found.tolist(), strict=True):
        assert accuracy == pytest.approx(evaluate(cut_subnet(supernet, arch, images), task, device=CPU)[1])


def test_calibration_images_are_distinct_training_images_of_the_seed(task):
    (images,) = calibration_images(task, 30, seed=1, device=CPU)
    assert images.shape == (30, 3, 8, 8)
    pixels = ((images + 1) * 127.5).round().to(torch.uint8).flatten(1)
    known = task.images[task.train].flatten(1)
    places = (pixels[:, None] == known).all(2).nonzero()[:, 1]
    assert len(set(places.tolist())) == 30
    assert torch.equal(images, calibration_images(task, 30, seed=1, device=CPU)[0])
    assert not torch.equal(images, calibration_images(task, 30, seed=2, device=CPU)[0])
    assert sum(map(len, calibration_images(task, 1000, seed=1, device=CPU))) == len(task.train)
    with pytest.raises(ValueError, match="at least 1"):
        calibration_images(task, 0, seed=1, device=CPU)


def test_a_new_head_changes_the_classifier_alone(make_supernet):
    supernet = make_supernet()
    other = with_new_head(supernet, 5, seed=1)
    assert isinstance(other, MobileNetV3Supernet)
    images = torch.randn(2, 3, 8, 8)
    arch = MobileNetV3Arch.uniform(5, 4, 3)
    supernet.eval().activate(arch), other.eval().activate(arch)
    assert torch.equal(supernet.embed(images), other.embed(images))
    assert other(images).shape == (2, 5)
    assert supernet(images).shape == (2, 3)
    network = with_new_head(other.cut(arch), 7, seed=2)
    assert network.eval()(images).shape == (2, 7)
    assert torch.equal(network.embed(images), other.embed(images))
    again = with_new_head(other, 7, seed=2)
    assert torch.equal(again.cut(arch).state_dict()["classifier.linear.weight"], network.classifier[-1].weight)
    with pytest.raises(ValueError, match="at least 1"):
        with_new_head(other, 0, seed=0)
