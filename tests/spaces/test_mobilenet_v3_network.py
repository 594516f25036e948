"""MobileNetV3 networks: cost in closed form, equal to the networks that released code cuts out, bounds on cost."""

from collections.abc import Callable

import pytest
import torch
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from ofa.utils.pytorch_utils import count_net_flops, count_parameters
from torch import nn

from common.spaces import Cost, MobileNetV3, MobileNetV3Arch, MobileNetV3Space, sample_distinct, within_bounds

SPACE = MobileNetV3Space()
WIDE = MobileNetV3Space(width_mult=1.2)
NARROW = MobileNetV3Space(width_mult=0.2)
Count = Callable[[MobileNetV3Space, MobileNetV3Arch, int, int], Cost]


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def released(width_mult: float, num_classes: int = 10) -> OFAMobileNetV3:
    options = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    return OFAMobileNetV3(n_classes=num_classes, dropout_rate=0.0, width_mult=width_mult, **options)


def cut_from(oracle: OFAMobileNetV3, arch: MobileNetV3Arch) -> nn.Module:
    oracle.set_active_subnet(ks=list(arch.kernels), e=list(arch.expansions), d=list(arch.depths))
    return oracle.get_active_subnet().eval()


@pytest.mark.parametrize(
    ("space", "setting", "num_classes", "expected"),
    [
        (SPACE, (7, 6, 4), 1000, Cost(num_params=7_664_760, macs=566_170_656)),
        (SPACE, (3, 3, 2), 1000, Cost(num_params=3_410_792, macs=121_278_672)),
        (SPACE, (5, 4, 3), 1000, Cost(num_params=4_551_792, macs=250_746_944)),
        (WIDE, (3, 3, 2), 20, Cost(num_params=3_096_196, macs=191_572_928)),
        (WIDE, (5, 4, 3), 20, Cost(num_params=4_739_052, macs=384_153_888)),
        (WIDE, (7, 3, 4), 20, Cost(num_params=4_701_508, macs=435_237_824)),
        (WIDE, (3, 6, 4), 20, Cost(num_params=8_751_852, macs=670_276_096)),
        (WIDE, (7, 6, 4), 20, Cost(num_params=9_195_372, macs=841_595_776)),
        (SPACE, (3, 3, 2), 20, Cost(num_params=2_155_412, macs=120_024_272)),
        (SPACE, (7, 3, 4), 20, Cost(num_params=3_298_948, macs=291_453_952)),
        (SPACE, (3, 6, 4), 20, Cost(num_params=6_044_580, macs=431_887_136)),
        (SPACE, (7, 6, 4), 20, Cost(num_params=6_409_380, macs=564_916_288)),
    ],
)
def test_uniform_networks_cost_what_the_released_ones_do(
    space: MobileNetV3Space, setting: tuple[int, int, int], num_classes: int, expected: Cost
) -> None:
    cost = space.cost(MobileNetV3Arch.uniform(*setting), num_classes, 224)
    assert cost.num_params == expected.num_params
    assert abs(cost.macs - expected.macs) <= 32  # the released counter adds in float32, whose steps are 16 to 64 here


def test_small_images_cost_what_they_do_in_released_networks() -> None:
    assert WIDE.cost(WIDE.smallest, 20, 32).macs == 6_058_296
    assert WIDE.cost(WIDE.largest, 20, 32).macs == 22_521_456


@pytest.mark.parametrize("space", [SPACE, WIDE, NARROW, MobileNetV3Space(width_mult=0.5, first_stride=1)])
def test_cost_is_that_of_the_built_network(space: MobileNetV3Space, counted: Count) -> None:
    for resolution, arch in zip((32, 33), space.sample(2, draws(7)), strict=True):
        assert counted(space, arch, 7, resolution) == space.cost(arch, 7, resolution)


@pytest.mark.parametrize("width_mult", [0.2, 1.0, 1.2])
def test_cost_is_what_released_code_counts(width_mult: float) -> None:
    space, oracle = MobileNetV3Space(width_mult=width_mult), released(width_mult)
    for arch in space.sample(3, draws(11)):
        network, cost = cut_from(oracle, arch), space.cost(arch, 10, 32)
        assert count_parameters(network) == cost.num_params
        counted = count_net_flops(network, (1, 3, 32, 32))
        assert counted == pytest.approx(cost.macs, rel=1e-6)  # it adds in float32


def test_random_networks_cost_what_sixty_released_ones_did() -> None:
    macs = torch.tensor([SPACE.cost(arch, 1000, 224).macs / 1e6 for arch in SPACE.sample(300, draws(2))])
    assert abs(macs.mean() - 268) < 3 * 40 / 60**0.5
    assert 25 < macs.std() < 50
    assert SPACE.cost(SPACE.smallest, 1000, 224).macs / 1e6 < macs.min() < 200
    assert 340 < macs.max() < SPACE.cost(SPACE.largest, 1000, 224).macs / 1e6


@pytest.mark.parametrize("width_mult", [0.2, 1.0])
def test_networks_take_released_weights_and_give_the_same_outputs(width_mult: float) -> None:
    torch.manual_seed(0)
    space, oracle = MobileNetV3Space(width_mult=width_mult), released(width_mult)
    for arch in space.sample(2, draws(3)):
        theirs, ours = cut_from(oracle, arch), space.build(arch, 10, 64).eval()
        assert list(ours.state_dict()) == list(theirs.state_dict())
        ours.load_state_dict(theirs.state_dict())
        images = torch.randn(2, 3, 64, 64)
        with torch.no_grad():
            assert (ours(images) - theirs(images)).abs().max() < 1e-5
    assert len(space.build(space.largest, 10, 64).state_dict()) == 435


def test_gradients_are_those_of_the_released_network() -> None:
    torch.manual_seed(1)
    oracle, arch = released(0.2), NARROW.sample(1, draws(4))[0]
    theirs, ours = cut_from(oracle, arch).train().double(), NARROW.build(arch, 10, 64).double()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for network in (theirs, ours):
        network(images).logsumexp(1).sum().backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=1e-6, atol=1e-9), name
    for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        assert torch.allclose(mine, other)


def test_new_networks_have_the_published_initial_weights() -> None:
    torch.manual_seed(0)
    network = SPACE.build(SPACE.largest, 1000, 224)
    assert isinstance(network, MobileNetV3)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            deviation = (2 / (module.weight[0, 0].numel() * module.out_channels)) ** 0.5
            assert module.weight.std().item() == pytest.approx(deviation, rel=5 * module.weight.numel() ** -0.5), name
            assert module.bias is None or not module.bias.any()
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-5, 0.1)
    linear = network.classifier[0]
    assert linear.weight.abs().max().item() == pytest.approx(1280**-0.5, rel=1e-3)
    assert not linear.bias.any()


def test_a_stem_of_stride_one_keeps_larger_maps_of_the_same_weights() -> None:
    small = MobileNetV3Space(width_mult=0.2, first_stride=1)
    ours, theirs = small.build(small.smallest, 10, 32).eval(), NARROW.build(NARROW.smallest, 10, 32).eval()
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert ours.first_conv(images).shape[-1] == 32
    assert theirs.first_conv(images).shape[-1] == 16
    assert ours(images).shape == theirs(images).shape == (2, 10)
    assert small.cost(small.smallest, 10, 32).macs > 2 * NARROW.cost(NARROW.smallest, 10, 32).macs


def test_an_architecture_with_a_resolution_costs_what_it_does_there() -> None:
    space = MobileNetV3Space(resolutions=(128, 224))
    assert space.cost(space.smallest, 10, 32) == SPACE.cost(SPACE.smallest, 10, 128)
    assert space.cost(SPACE.smallest, 10, 32) == SPACE.cost(SPACE.smallest, 10, 32)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: SPACE.build(SPACE.smallest, 0, 224), "num_classes 0: at least 1 is needed"),
        (lambda: SPACE.build(SPACE.smallest, 10, 0), "resolution 0 is not positive"),
        (lambda: SPACE.cost(SPACE.smallest, 10, -1), "resolution -1 is not positive"),
        (lambda: SPACE.build(MobileNetV3Space(resolutions=(224,)).smallest, 10, 224), "resolutions of the space are"),
    ],
)
def test_impossible_networks_are_refused(build: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build()


@pytest.mark.parametrize(
    "bounds", [{"max_macs": 240_000_000}, {"max_params": 4_400_000}, {"max_params": 4_700_000, "max_macs": 260_000_000}]
)
def test_bounds_on_cost_hold_for_what_is_drawn(bounds: dict[str, int]) -> None:
    found = sample_distinct(SPACE, 20, draws(1), accept=within_bounds(SPACE, 1000, 224, **bounds))
    costs = [SPACE.cost(arch, 1000, 224) for arch in found]
    assert len(set(found)) == 20
    assert all(cost.num_params <= bounds.get("max_params", 10**9) for cost in costs)
    assert all(cost.macs <= bounds.get("max_macs", 10**12) for cost in costs)
    free = [SPACE.cost(arch, 1000, 224) for arch in SPACE.sample(20, draws(1))]
    assert free != costs


def test_sides_that_cut_maps_are_refused() -> None:
    assert MobileNetV3Space().check_side(224) == 224
    assert MobileNetV3Space(first_stride=1).check_side(36) == 36
    for space, side, reason in (
        (MobileNetV3Space(), 48, "multiples of 32, for example 224"),
        (MobileNetV3Space(first_stride=1), 30, "multiples of 4, for example 32"),
        (MobileNetV3Space(), 0, "resolution 0"),
    ):
        with pytest.raises(ValueError, match=reason):
            space.check_side(side)
