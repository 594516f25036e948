"""The residual family: published parameter and MAC tables, shortcuts without parameters, shapes."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.spaces import ResidualNetwork, ResNetArch, ResNetSpace
from common.spaces.resnet_network import ResidualBlock, match_shortcut

SPACE = ResNetSpace()
SMALL = ResNetSpace(teacher_widths=(16, 32, 48, 64), max_depth=3)
TEACHER_COSTS = [
    (40, 7_467_336, 1_456_875_520),
    (47, 7_469_135, 1_456_877_312),
    (196, 7_507_428, 1_456_915_456),
    (200, 7_508_456, 1_456_916_480),
    (345, 7_545_721, 1_456_953_600),
]
STUDENT_COSTS = [
    ("18-32_36_72-128-100_144-256-160-256", 3_358_786, 415_762_432),
    ("24-24-32_48-48-64_96-96-128_192-192-256", 3_004_064, 585_410_560),
    ("16_32_64_256", 823_224, 96_151_552),
    ("16-16-16-16-16_32-32-32-32-32_64-64-64-64-64_128-128-128-128-256", 2_467_512, 402_860_032),
]


def on_meta(arch: ResNetArch, num_classes: int) -> nn.Module:
    with torch.device("meta"):
        return ResidualNetwork(arch.widths, num_classes)


def counted(network: nn.Module, resolution: int) -> tuple[int, int]:
    """Parameters, and MACs that hooks see in convolutions and linear layers during one image's forward pass."""
    macs = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d | nn.Linear)
        macs += output.numel() * (module.weight.numel() // module.weight.shape[0])

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network.eval()(torch.empty(1, 3, resolution, resolution, device="meta"))
    return sum(parameter.numel() for parameter in network.parameters()), macs


@pytest.mark.parametrize(("num_classes", "num_params", "macs"), TEACHER_COSTS)
def test_the_teacher_costs_what_is_published(num_classes: int, num_params: int, macs: int) -> None:
    cost = SPACE.cost(SPACE.teacher, num_classes, 64)
    assert (cost.num_params, cost.macs) == (num_params, macs)
    assert counted(on_meta(SPACE.teacher, num_classes), 64) == (num_params, macs)


@pytest.mark.parametrize(("text", "num_params", "macs"), STUDENT_COSTS)
def test_students_cost_what_is_published(text: str, num_params: int, macs: int) -> None:
    arch = ResNetArch(tuple(tuple(map(int, stage.split("-"))) for stage in text.split("_")))  # 100 is off the grid
    cost = SPACE.cost(arch, 40, 64)
    assert (cost.num_params, cost.macs) == (num_params, macs)
    assert counted(on_meta(arch, 40), 64) == (num_params, macs)


@pytest.mark.parametrize(("space", "resolution"), [(SPACE, 64), (SPACE, 8), (SMALL, 32)])
def test_the_closed_form_equals_what_hooks_count_on_random_students(space: ResNetSpace, resolution: int) -> None:
    for arch in space.sample(15, torch.Generator().manual_seed(resolution)):
        cost = space.cost(arch, 7, resolution)
        assert counted(on_meta(arch, 7), resolution) == (cost.num_params, cost.macs), space.format(arch)


def test_the_teacher_has_the_published_state_and_no_downsampling_weights() -> None:
    network = on_meta(SPACE.teacher, 40)
    state = network.state_dict()
    assert len(state) == 248
    assert sum(buffer.numel() for buffer in network.buffers()) == 9705
    expected = {"conv1.weight", "fc.weight", "fc.bias"}
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected |= {f"bn1.{entry}" for entry in norm}
    for stage in range(1, 5):
        for block in range(5):
            name = f"layer{stage}.{block}"
            expected |= {f"{name}.conv{j}.weight" for j in (1, 2)}
            expected |= {f"{name}.bn{j}.{entry}" for j in (1, 2) for entry in norm}
    assert set(state) == expected


def test_a_wider_shortcut_appends_zero_channels() -> None:
    x = torch.randn(2, 3, 4, 4)
    wider = match_shortcut(x, 5, stride=1)
    assert torch.equal(wider[:, :3], x)
    assert wider.shape == (2, 5, 4, 4)
    assert not wider[:, 3:].any()


def test_a_narrower_shortcut_drops_the_last_channels() -> None:
    x = torch.randn(2, 5, 4, 4)
    assert torch.equal(match_shortcut(x, 3, stride=1), x[:, :3])


def test_an_equal_shortcut_is_the_identity() -> None:
    x = torch.randn(2, 5, 4, 4)
    assert torch.equal(match_shortcut(x, 5, stride=1), x)


@pytest.mark.parametrize("width", [3, 5, 8])
def test_a_shortcut_of_stride_two_takes_the_largest_of_each_four(width: int) -> None:
    x = torch.randn(2, 5, 4, 6) - 3  # mostly negative, so that padding before a ReLU would show
    pooled = match_shortcut(x, width, stride=2)
    kept = min(width, 5)
    by_hand = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
    assert torch.equal(pooled[:, :kept], by_hand[:, :kept])
    assert not pooled[:, kept:].any()


@pytest.mark.parametrize(
    ("in_channels", "width", "stride"), [(6, 6, 1), (6, 10, 1), (10, 6, 1), (6, 10, 2), (10, 6, 2)]
)
def test_a_block_is_two_normalised_convolutions_plus_the_shortcut(in_channels: int, width: int, stride: int) -> None:
    torch.manual_seed(0)
    block = ResidualBlock(in_channels, width, stride).eval()
    x = torch.randn(2, in_channels, 8, 8)
    with torch.no_grad():
        y = F.conv2d(x, block.conv1.weight, stride=stride, padding=1) / (1 + 1e-5) ** 0.5
        y = F.conv2d(y.clamp(min=0), block.conv2.weight, padding=1) / (1 + 1e-5) ** 0.5
        expected = (y + match_shortcut(x, width, stride)).clamp(min=0)
        torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize(
    ("space", "resolution", "shapes"),
    [
        (SPACE, 64, [(32, 64, 64), (32, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8)]),
        (SMALL, 16, [(16, 16, 16), (16, 16, 16), (32, 8, 8), (48, 4, 4), (64, 2, 2)]),
    ],
)
def test_the_five_maps_have_the_published_shapes(
    space: ResNetSpace, resolution: int, shapes: list[tuple[int, ...]]
) -> None:
    network = on_meta(space.teacher, 10)
    assert isinstance(network, ResidualNetwork)
    images = torch.empty(2, 3, resolution, resolution, device="meta")
    assert [tuple(one.shape) for one in network.features(images)] == [(2, *shape) for shape in shapes]
    assert network(images).shape == (2, 10)


def test_maps_come_after_the_last_activation_and_lead_to_the_logits() -> None:
    torch.manual_seed(1)
    network = ResidualNetwork([[16, 10], [32], [40, 24], [64]], 5).eval()
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        maps, logits = network.features_and_logits(images)
        assert all((one >= 0).all() for one in maps)
        torch.testing.assert_close(logits, maps[-1].mean((2, 3)) @ network.fc.weight.T + network.fc.bias)
        assert torch.equal(network(images), logits)


def test_in_evaluation_an_image_is_answered_whatever_is_beside_it() -> None:
    torch.manual_seed(2)
    network = ResidualNetwork([[16, 10], [32], [40, 24], [64]], 5)
    images = torch.randn(6, 3, 16, 16)
    network(images)  # running statistics move away from 0 and 1
    network.eval()
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone)


def test_convolutions_start_with_the_variance_of_their_outputs() -> None:
    torch.manual_seed(3)
    network = ResidualNetwork(SPACE.teacher.widths, 40)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            expected = (2 / (9 * module.out_channels)) ** 0.5  # Kaiming, fan out
            spread = expected / (2 * module.weight.numel()) ** 0.5
            assert abs(float(module.weight.detach().std()) - expected) < 5 * spread, name


@pytest.mark.parametrize("size", [(12, 12), (16, 20), (33, 32)])
def test_images_that_are_not_divisible_by_eight_are_refused(size: tuple[int, int]) -> None:
    network = ResidualNetwork([[4], [4], [4], [4]], 2)
    with pytest.raises(ValueError, match=rf"image size \({size[0]}, {size[1]}\) is not divisible by 8"):
        network(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("resolution", [0, -8, 20, 63])
def test_costs_and_networks_need_a_resolution_divisible_by_eight(resolution: int) -> None:
    with pytest.raises(ValueError, match=f"resolution {resolution} is not a positive multiple of 8"):
        SPACE.cost(SPACE.teacher, 10, resolution)
    with pytest.raises(ValueError, match=f"resolution {resolution} is not a positive multiple of 8"):
        SPACE.build(SPACE.teacher, 10, resolution)


@pytest.mark.parametrize("widths", [[[4], [4], [4]], [[4], [], [4], [4]], []])
def test_a_network_needs_four_stages_with_blocks(widths: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="four stages of at least one block"):
        ResidualNetwork(widths, 2)
