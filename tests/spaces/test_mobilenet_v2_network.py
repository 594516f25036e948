"""MobileNetV2: equal to torchvision's with the same weights; taps, initial weights, refusals."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models._utils import _make_divisible

from common.spaces import FreeMobileNetV2Space, MobileNetV2, MobileNetV2Arch, MobileNetV2Plan, MobileNetV2Space
from common.spaces.mobilenet_v2_network import EXPANSIONS, STRIDES, round_channels

SPACE = MobileNetV2Space()
TOY = MobileNetV2Space(
    channels=((8, 16), (8, 16), (16, 24), (16, 32), (24, 40), (32, 48), (40, 64)),
    repetitions=((1, 2),) * 7,
    first_stride=2,
    last_channel=128,
)


def torchvisions(arch: MobileNetV2Arch, num_classes: int, *, first_stride: int, width_mult: float = 1.0) -> nn.Module:
    rows = [list(row) for row in zip(EXPANSIONS, arch.channels, arch.repetitions, STRIDES, strict=True)]
    network = torchvision.models.MobileNetV2(num_classes, width_mult, rows)
    network.features[0][0].stride = (first_stride, first_stride)
    return network


def with_moved_statistics(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias, module.weight):
                values.data.add_(0.1 * torch.randn_like(values))
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize(
    ("space", "arch", "resolution"),
    [
        (SPACE, SPACE.teacher, 32),
        (SPACE, SPACE.parse("24x2_24x1_64x1_96x2_96x1_160x1_320x1"), 33),
        (replace(SPACE, first_stride=2), SPACE.smallest, 64),
        (replace(SPACE, first_stride=2, width_mult=0.5), SPACE.teacher, 64),
        (replace(SPACE, width_mult=1.4), SPACE.smallest, 16),
    ],
)
def test_outputs_are_bit_for_bit_those_of_torchvision(
    space: MobileNetV2Space, arch: MobileNetV2Arch, resolution: int
) -> None:
    torch.manual_seed(0)
    oracle = torchvisions(arch, 5, first_stride=space.first_stride, width_mult=space.width_mult)
    with_moved_statistics(oracle)
    ours = space.build(arch, 5, resolution)
    assert list(ours.state_dict()) == list(oracle.state_dict())
    ours.load_state_dict(oracle.state_dict())
    images = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        assert torch.equal(ours.eval()(images), oracle.eval()(images))


def test_in_training_gradients_are_those_of_torchvision() -> None:
    torch.manual_seed(1)
    arch = SPACE.smallest
    oracle, ours = torchvisions(arch, 5, first_stride=1), SPACE.build(arch, 5, 32)
    ours.load_state_dict(oracle.state_dict())
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 4])
    for network in (oracle, ours):
        torch.manual_seed(2)  # dropout
        F.cross_entropy(network(images), labels).backward()
    for (name, mine), theirs in zip(ours.named_parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=name)
    for mine, theirs in zip(ours.buffers(), oracle.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("arch", "num_places"),
    [
        (SPACE.teacher, 19),
        (SPACE.smallest, 9),
        (SPACE.largest, 30),
        (MobileNetV2Arch(SPACE.smallest.channels, (4,) * 7), 30),
        (MobileNetV2Arch(SPACE.largest.channels, (1,) * 7), 9),
    ],
)
def test_networks_have_the_published_number_of_entries(arch: MobileNetV2Arch, num_places: int) -> None:
    with torch.device("meta"):
        network = SPACE.build(arch, 10, 32)
    assert len(network.features) == network.plan.num_places == num_places


def test_official_weights_have_the_documented_names_and_shapes() -> None:
    with torch.device("meta"):
        network = SPACE.build(SPACE.teacher, 100, 32)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["features.0.0.weight"] == (32, 3, 3, 3)
    assert shapes["features.1.conv.0.0.weight"] == (32, 1, 3, 3)
    assert shapes["features.1.conv.1.weight"] == (16, 32, 1, 1)
    assert shapes["features.1.conv.2.running_var"] == (16,)
    assert shapes["features.2.conv.0.0.weight"] == (96, 16, 1, 1)
    assert shapes["features.2.conv.1.0.weight"] == (96, 1, 3, 3)
    assert shapes["features.2.conv.2.weight"] == (24, 96, 1, 1)
    assert shapes["features.2.conv.3.weight"] == (24,)
    assert shapes["features.18.0.weight"] == (1280, 320, 1, 1)
    assert (shapes["classifier.1.weight"], shapes["classifier.1.bias"]) == ((100, 1280), (100,))


def test_the_teachers_taps_have_the_published_shapes() -> None:
    with torch.device("meta"):
        network = SPACE.build(SPACE.teacher, 100, 32)
        maps, logits = network.features_and_logits(torch.empty(2, 3, 32, 32))
    shapes = [(32, 32, 32), (24, 16, 16), (24, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert [tuple(one.shape) for one in maps] == [(2, *shape) for shape in shapes]
    assert logits.shape == (2, 100)


def test_taps_lie_in_other_stages_where_stages_have_other_depths() -> None:
    with torch.device("meta"):
        network = SPACE.build(SPACE.largest, 100, 32)
        maps, _ = network.features_and_logits(torch.empty(1, 3, 32, 32))
    shapes = [(32, 32, 32), (24, 32, 32), (24, 32, 32), (32, 16, 16), (32, 16, 16)]
    assert [tuple(one.shape[1:]) for one in maps] == shapes


@pytest.mark.parametrize("taps", [(), (0,), (1, 4, 8), (0, 2, 3, 5, 7)])
def test_taps_are_outputs_of_their_modules_and_do_not_change_the_logits(taps: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    network = replace(TOY, tap_indices=taps).build(TOY.smallest, 4, 16).eval()
    images = torch.randn(2, 3, 16, 16)
    seen: dict[str, Tensor] = {}
    names = replace(TOY, tap_indices=taps).taps
    for name in names:  # a tap's name is the path of its module
        module = network.get_submodule(name)
        module.register_forward_hook(lambda _module, _inputs, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        maps, logits = network.features_and_logits(images)
        assert len(maps) == len(names)
        assert all(torch.equal(one, seen[name]) for one, name in zip(maps, names, strict=True))
        assert torch.equal(network(images), logits)
    plain = MobileNetV2(network.plan, 4, taps=())
    plain.load_state_dict(network.state_dict())
    assert torch.equal(plain.eval()(images), logits)


def test_an_identity_joins_only_blocks_that_keep_stride_and_width() -> None:
    with torch.device("meta"):
        network = SPACE.build(SPACE.parse("16x2_24x2_32x1_64x1_96x1_160x1_320x1"), 10, 32)
    shortcuts = [block.has_shortcut for block in network.features[1:-1]]
    assert shortcuts == [False, True, False, True, False, False, False, False, False]
    plan = MobileNetV2Plan(channels=(32, 24, 32, 64, 64, 160, 160), repetitions=(1,) * 7)
    with torch.device("meta"):
        equal_widths = MobileNetV2(plan, 10)
    assert [block.has_shortcut for block in equal_widths.features[1:-1]] == [True] + [False] * 3 + [True, False, True]


@pytest.mark.parametrize("width_mult", [0.1, 0.35, 0.5, 0.75, 1.0, 1.3, 1.4, 2.0])
def test_channels_are_rounded_like_torchvisions(width_mult: float) -> None:
    for channels in range(1, 700, 3):
        assert round_channels(channels, width_mult) == _make_divisible(channels * width_mult, 8)


def test_the_options_of_the_space_are_not_rounded() -> None:
    for axis in SPACE.grid.axes[::2]:
        assert [round_channels(int(level)) for level in axis.levels] == list(axis.levels)


def test_initial_weights_have_the_published_distribution() -> None:
    torch.manual_seed(4)
    network = SPACE.build(SPACE.smallest, 100, 32)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * 9 if module.kernel_size == (3, 3) else module.out_channels
            expected = (2 / fan_out) ** 0.5
            spread = expected / (2 * module.weight.numel()) ** 0.5
            assert abs(float(module.weight.detach().std()) - expected) < 5 * spread, name
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
    linear = network.classifier[1]
    assert abs(float(linear.weight.detach().std()) - 0.01) < 5 * 0.01 / (2 * linear.weight.numel()) ** 0.5
    assert not linear.bias.any()


def test_dropout_draws_in_training_only() -> None:
    torch.manual_seed(5)
    network = TOY.build(TOY.smallest, 3, 16)
    pooled = torch.ones(1, 128)
    assert not torch.equal(network.classifier(pooled), network.classifier(pooled))
    assert torch.equal(network.eval().classifier(pooled), network.classifier(pooled))
    assert network.classifier[0].p == 0.2


def test_the_first_versions_networks_have_their_own_last_convolution() -> None:
    free = FreeMobileNetV2Space()
    with torch.device("meta"):
        network = free.build(free.parse("16x4_32x1_64x4_128x4_184x2_320x1_440x2_536x2"), 100, 32)
    assert network.features[-1][0].weight.shape == (536, 440, 1, 1)
    assert network.classifier[1].weight.shape == (100, 536)
    assert len(network.features) == 2 + 18


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"channels": (16,) * 6}, "seven of each are needed"),
        ({"repetitions": (1,) * 6}, "seven of each are needed"),
        ({"channels": (0,) + (16,) * 6}, "positive numbers are needed"),
        ({"repetitions": (0,) * 7}, "positive numbers are needed"),
        ({"last_channel": 0}, "positive numbers are needed, not 0, 1.0"),
        ({"width_mult": float("nan")}, "positive numbers are needed, not 1280, nan"),
        ({"first_stride": 4}, "first_stride 4"),
    ],
)
def test_impossible_plans_are_refused(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MobileNetV2Plan(**{"channels": (16,) * 7, "repetitions": (1,) * 7} | fields)  # type: ignore[arg-type]


def test_a_network_needs_classes_and_taps_that_it_has() -> None:
    plan = MobileNetV2Plan(channels=(16,) * 7, repetitions=(1,) * 7)
    with pytest.raises(ValueError, match="num_classes 0: at least 1"):
        MobileNetV2(plan, 0)
    with pytest.raises(ValueError, match=r"taps \(0, 9\): increasing places from 0 to 8"):
        MobileNetV2(plan, 2, taps=(0, 9))
