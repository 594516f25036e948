"""The MobileNetV3 supernet: weights of the released one, the same sub-networks in place and cut out."""

import pytest
import torch
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from ofa.utils.pytorch_utils import count_net_flops, count_parameters
from torch import nn

from common.spaces import MobileNetV3Arch, MobileNetV3Plan, MobileNetV3Space, MobileNetV3Supernet

SPACE = MobileNetV3Space()
SMALL = MobileNetV3Plan(width_mult=0.2)
ARCHS = SPACE.sample(20, torch.Generator().manual_seed(17))


def released(width_mult: float, num_classes: int) -> OFAMobileNetV3:
    options = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    return OFAMobileNetV3(n_classes=num_classes, dropout_rate=0.0, width_mult=width_mult, **options)


def moved(network: nn.Module) -> nn.Module:
    """The network with other statistics, scales and kernel matrices than the initial ones."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.running_mean, module.bias, module.weight):
                    values.add_(0.2 * torch.randn_like(values))
                module.running_var.uniform_(0.5, 2)
        for name, values in network.named_parameters():
            if name.endswith("_matrix") or "se.fc" in name:
                values.add_(0.2 * torch.randn_like(values))
    return network.eval()


def activate_released(oracle: OFAMobileNetV3, arch: MobileNetV3Arch) -> None:
    oracle.set_active_subnet(ks=list(arch.kernels), e=list(arch.expansions), d=list(arch.depths))


@pytest.fixture(scope="module")
def pair() -> tuple[OFAMobileNetV3, MobileNetV3Supernet]:
    """The released supernet with random weights, and ours with the same."""
    torch.manual_seed(0)
    oracle = moved(released(1.0, 10))
    ours = MobileNetV3Supernet(SPACE.plan, 10).eval()
    ours.load_state_dict(oracle.state_dict())
    return oracle, ours


@pytest.mark.parametrize(
    ("width_mult", "num_classes", "num_params"),
    [(1.0, 1000, 7_678_880), (1.2, 1000, 10_715_752), (1.2, 20, 9_209_492), (1.0, 20, 6_423_500), (0.2, 10, 377_754)],
)
def test_the_state_dict_is_the_released_one(width_mult: float, num_classes: int, num_params: int) -> None:
    ours, theirs = (
        MobileNetV3Supernet(MobileNetV3Plan(width_mult=width_mult), num_classes),
        released(width_mult, num_classes),
    )
    assert sum(parameter.numel() for parameter in ours.parameters()) == num_params
    assert len(ours.state_dict()) == 475
    shapes, expected = ({name: value.shape for name, value in net.state_dict().items()} for net in (ours, theirs))
    assert shapes == expected
    assert list(shapes) == list(expected)


@pytest.mark.parametrize("place", range(20))
def test_sub_networks_are_those_of_the_released_supernet(
    pair: tuple[OFAMobileNetV3, MobileNetV3Supernet], place: int
) -> None:
    (theirs, ours), arch = pair, ARCHS[place]
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(place))
    activate_released(theirs, arch)
    cut = theirs.get_active_subnet()
    cost = SPACE.cost(arch, 10, 64)
    assert count_parameters(cut) == cost.num_params
    assert count_net_flops(cut, (1, 3, 64, 64)) == pytest.approx(cost.macs, rel=1e-6)  # it adds in float32
    with torch.no_grad():
        expected, logits = theirs(images), ours.activate(arch)(images)
        assert expected.std() > 0.01
        assert (logits - expected).abs().max() < 1e-4 * expected.abs().max()
        mine = ours.cut(arch)
        assert (mine(images) - logits).abs().max() < 1e-5
        assert (mine.embed(images) - ours.embed(images)).abs().max() < 1e-5
    assert sum(parameter.numel() for parameter in mine.parameters()) == cost.num_params
    assert list(mine.state_dict()) == list(cut.state_dict())
    for (name, values), other in zip(mine.state_dict().items(), cut.state_dict().values(), strict=True):
        assert torch.allclose(values, other, atol=1e-6), name


def test_images_of_imagenet_size_give_the_released_outputs(pair: tuple[OFAMobileNetV3, MobileNetV3Supernet]) -> None:
    theirs, ours = pair
    activate_released(theirs, ARCHS[0])
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(images)
        assert (ours.activate(ARCHS[0])(images) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_gradients_and_updated_statistics_are_those_of_the_released_supernet() -> None:
    torch.manual_seed(2)
    theirs, ours = moved(released(0.2, 10)).double().train(), MobileNetV3Supernet(SMALL, 10).double()
    ours.load_state_dict(theirs.state_dict())
    for arch in ARCHS[:2]:
        images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
        activate_released(theirs, arch)
        for network in (theirs, ours.activate(arch)):
            network(images).logsumexp(1).sum().backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (mine.grad is None) == (other.grad is None), name
        assert mine.grad is None or torch.allclose(mine.grad, other.grad, rtol=1e-6, atol=1e-9), name
    for (name, mine), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(mine, other), name


def test_the_largest_network_is_active_at_first() -> None:
    torch.manual_seed(3)
    supernet = moved(MobileNetV3Supernet(SMALL, 10))
    images = torch.randn(2, 3, 32, 32)
    assert supernet.active == SPACE.largest
    with torch.no_grad():
        whole = supernet(images)
        assert not torch.allclose(supernet.activate(SPACE.smallest)(images), whole)
        assert torch.equal(supernet.activate(SPACE.largest)(images), whole)


def test_settings_of_blocks_not_in_use_change_nothing() -> None:
    torch.manual_seed(4)
    supernet, images = moved(MobileNetV3Supernet(SMALL, 10)), torch.randn(2, 3, 32, 32)
    arch = MobileNetV3Arch.uniform(5, 4, 2)
    other = MobileNetV3Arch((5, 5, 7, 3) * 5, (4, 4, 6, 3) * 5, (2,) * 5)
    with torch.no_grad():
        assert torch.equal(supernet.activate(arch)(images), supernet.activate(other)(images))
    first, second = supernet.cut(arch).state_dict(), supernet.cut(other).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.mark.parametrize("plan", [SMALL, MobileNetV3Plan(width_mult=0.35, first_stride=1)])
def test_cut_networks_are_of_their_own_and_keep_mode_and_type(plan: MobileNetV3Plan) -> None:
    torch.manual_seed(5)
    supernet, arch = moved(MobileNetV3Supernet(plan, 10)).double(), ARCHS[1]
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    network = supernet.cut(arch)
    before = network(images)
    assert before.dtype == torch.float64
    assert not network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(values.is_contiguous() for values in network.state_dict().values())
    assert torch.allclose(supernet.activate(arch)(images), before, atol=1e-12)
    with torch.no_grad():
        for values in supernet.parameters():
            values.zero_()
    assert torch.equal(network(images), before)
    before.sum().backward()
    assert all(parameter.grad is None for parameter in supernet.parameters())
    assert supernet.train().cut(arch).training


def test_training_a_narrow_network_leaves_the_other_statistics_alone() -> None:
    torch.manual_seed(6)
    supernet = moved(MobileNetV3Supernet(SMALL, 10)).train().activate(SPACE.smallest)
    before = {name: values.clone() for name, values in supernet.state_dict().items()}
    supernet(torch.randn(4, 3, 64, 64))
    after = supernet.state_dict()
    for place in range(20):
        name = f"blocks.{1 + place}.conv.depth_conv.bn.bn.running_mean"
        same = after[name] == before[name]
        half = len(same) // 2
        assert same[half:].all()
        assert (place % 4 < 2) == (not same[:half].any())


def test_a_supernet_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes 0: at least 1 is needed"):
        MobileNetV3Supernet(SMALL, 0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_sub_networks_on_a_gpu_are_those_on_the_cpu() -> None:
    torch.manual_seed(7)
    supernet, images = moved(MobileNetV3Supernet(SPACE.plan, 10)), torch.randn(4, 3, 64, 64)
    cuda = torch.device("cuda")
    for arch in ARCHS[:3]:
        with torch.no_grad():
            expected = supernet.to("cpu").activate(arch)(images)
            network = supernet.to(cuda).cut(arch)
            assert all(values.is_cuda for values in network.state_dict().values())
            assert torch.allclose(supernet(images.to(cuda)).cpu(), expected, atol=1e-3)
            assert torch.allclose(network(images.to(cuda)), supernet(images.to(cuda)), atol=1e-3)
