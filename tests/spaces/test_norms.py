"""Statistics of batch normalisation measured on images, against released code and by hand."""

import copy

import pytest
import torch
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics
from torch import nn

from common.spaces import MobileNetV3Plan, MobileNetV3Space, MobileNetV3Supernet, estimate_norms

PLAN = MobileNetV3Plan(width_mult=0.2)
ARCHS = MobileNetV3Space().sample(3, torch.Generator().manual_seed(3))


def batches(*sizes: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [1.5 * torch.randn(size, 3, 48, 48, generator=generator) + 0.3 for size in sizes]


def test_one_layer_gets_the_weighted_means_of_mean_and_biased_variance() -> None:
    layer, given = nn.BatchNorm2d(3), batches(5, 2)
    estimate_norms(layer, given)
    means = torch.stack([images.mean((0, 2, 3)) for images in given])
    variances = torch.stack([images.var((0, 2, 3), correction=0) for images in given])
    weights = torch.tensor([5.0, 2.0])[:, None] / 7
    assert torch.allclose(layer.running_mean, (weights * means).sum(0), atol=1e-6)
    assert torch.allclose(layer.running_var, (weights * variances).sum(0), atol=1e-6)
    assert layer.num_batches_tracked == 0


@pytest.mark.parametrize("is_affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_are_measured_too(is_affine: bool, dtype: torch.dtype) -> None:
    layer, vectors = nn.BatchNorm1d(4, affine=is_affine, dtype=dtype), torch.randn(50, 4, dtype=dtype) * 3 + 1
    estimate_norms(layer, [vectors])
    assert torch.allclose(layer.running_mean, vectors.mean(0), atol=1e-6)
    assert torch.allclose(layer.running_var, vectors.var(0, correction=0), rtol=1e-5)


def test_one_batch_leaves_outputs_normalised_on_it() -> None:
    torch.manual_seed(1)
    network, (images,) = MobileNetV3Supernet(PLAN, 10).cut(ARCHS[0]), batches(8)
    expected = copy.deepcopy(network).train()(images)
    estimate_norms(network, [images])
    assert torch.allclose(network.eval()(images), expected, atol=1e-5)


@pytest.mark.parametrize("arch", ARCHS)
def test_statistics_are_those_of_released_code(arch: object) -> None:
    torch.manual_seed(2)
    options = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    theirs = OFAMobileNetV3(n_classes=10, dropout_rate=0.1, width_mult=0.2, **options)
    ours = MobileNetV3Supernet(PLAN, 10)
    ours.load_state_dict(theirs.state_dict())
    given = batches(6, 6, 3)
    theirs.set_active_subnet(ks=list(arch.kernels), e=list(arch.expansions), d=list(arch.depths))
    set_running_statistics(theirs, [(images, None) for images in given])
    cut = ours.cut(arch)
    estimate_norms(ours.activate(arch), given)
    estimate_norms(cut, given)
    for (name, mine), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-4, atol=1e-5), name
    again = ours.cut(arch).state_dict()
    for name, values in cut.state_dict().items():
        assert torch.allclose(values, again[name], rtol=1e-4, atol=1e-5), name


def test_only_the_active_part_of_a_supernet_changes() -> None:
    supernet = MobileNetV3Supernet(PLAN, 10).activate(MobileNetV3Space().smallest)
    before = {name: values.clone() for name, values in supernet.state_dict().items()}
    estimate_norms(supernet, batches(4))
    for name, values in supernet.state_dict().items():
        changed = values != before[name]
        if not name.endswith(("running_mean", "running_var")) or name.startswith(("blocks.3.", "blocks.4.")):
            assert not changed.any(), name
        elif "inverted_bottleneck" in name and name.startswith("blocks.2."):
            assert changed.tolist() == [True] * (len(changed) // 2) + [False] * (len(changed) // 2)
    assert (supernet.first_conv[1].running_mean != before["first_conv.bn.running_mean"]).all()


def test_modes_are_restored_and_dropout_is_off() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval())
    images = batches(16)
    estimate_norms(network, images)
    assert [module.training for module in network] == [True, True, False]
    assert torch.allclose(network[1].running_mean, images[0].mean((0, 2, 3)), atol=1e-6)
    assert not network[1]._forward_hooks


def test_empty_batches_do_not_count_and_no_images_are_refused() -> None:
    layer = nn.BatchNorm2d(3)
    for nothing in ([], batches(0)):
        with pytest.raises(ValueError, match="no images are given"):
            estimate_norms(layer, nothing)
    assert not layer.running_mean.any()
    other = nn.BatchNorm2d(3)
    estimate_norms(layer, [*batches(0), *batches(4)])
    estimate_norms(other, batches(4))
    assert torch.equal(layer.running_mean, other.running_mean)


def test_a_failing_forward_pass_leaves_no_hooks_and_no_changes() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(4, 1, 1))
    with pytest.raises(RuntimeError):
        estimate_norms(network, batches(2))
    assert not network[0]._forward_hooks
    assert network.training
    assert not network[0].running_mean.any()
