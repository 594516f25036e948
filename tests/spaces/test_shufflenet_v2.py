"""ShuffleNetV2: published costs, taps, a forward pass written out, texts."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.spaces import Cost, ShuffleNetV2, ShuffleNetV2Space
from common.spaces.shufflenet_v2_network import shuffle_channels

SPACE = ShuffleNetV2Space()
PREACT = ShuffleNetV2Space(preact=True)
SMALL = SPACE.parse("8x1_14x2_20x1_30")


def by_hand(state: dict[str, Tensor], depths: tuple[int, ...], images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Evaluation of the documented layers from a state dict: maps, and the stages' maps before the last ReLU."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def conv(x: Tensor, name: str, index: int, stride: int = 0) -> Tensor:
        """Convolution and norm `index` of a unit; a stride says that it is depthwise."""
        weight = state[f"{name}.conv{index}.weight"]
        y = F.conv2d(x, weight, stride=stride, padding=1, groups=len(x[0])) if stride else F.conv2d(x, weight)
        return norm(y, f"{name}.bn{index}")

    def shuffle(x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return torch.stack([x[:, half * (c % 2) + c // 2] for c in range(x.shape[1])], 1)

    x = norm(F.conv2d(images, state["conv1.weight"]), "bn1").clamp(min=0)
    maps, before = [x], []
    for stage, depth in enumerate(depths, start=1):
        name = f"layer{stage}.0"
        left = conv(conv(x, name, 1, stride=2), name, 2).clamp(min=0)
        right = conv(conv(conv(x, name, 3).clamp(min=0), name, 4, stride=2), name, 5).clamp(min=0)
        x = shuffle(torch.cat([left, right], 1))
        for unit in range(1, depth + 1):
            name, half = f"layer{stage}.{unit}", x.shape[1] // 2
            y = conv(conv(conv(x[:, half:], name, 1).clamp(min=0), name, 2, stride=1), name, 3)
            preact = torch.cat([x[:, :half], y], 1)
            x = shuffle(torch.cat([x[:, :half], y.clamp(min=0)], 1))
        maps.append(x)
        before.append(preact)
    last = norm(F.conv2d(x, state["conv2.weight"]), "bn2").clamp(min=0)
    return [*maps, F.avg_pool2d(last, 4).flatten(1)], before


def trained_a_little(space: ShuffleNetV2Space) -> nn.Module:
    torch.manual_seed(0)
    network = space.build(SMALL, 5, 32)
    for _ in range(3):
        network(2 * torch.randn(8, 3, 32, 32) + 1)  # running statistics move away from 0 and 1
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.normal_(0, 0.2)
    return network.eval()


@pytest.mark.parametrize(
    ("text", "num_params", "macs"),
    [("116x3_232x7_464x3_1024", 1_355_528, 44_504_448), ("98x6_158x3_510x5_524", 1_246_180, 35_165_888)],
)
def test_networks_cost_what_is_published(text: str, num_params: int, macs: int, counted) -> None:
    arch = SPACE.parse(text)
    published = Cost(num_params=num_params, macs=macs)
    assert SPACE.cost(arch, 100, 32) == counted(SPACE, arch, 100, 32) == published


@pytest.mark.parametrize("resolution", [1, 16, 33])
def test_the_closed_form_equals_what_hooks_count(resolution: int, counted) -> None:
    for arch in SPACE.sample(4, torch.Generator().manual_seed(resolution)):
        assert SPACE.cost(arch, 7, resolution) == counted(SPACE, arch, 7, resolution), SPACE.format(arch)


def test_the_maps_and_logits_are_those_of_the_layers_written_out() -> None:
    network, preact = trained_a_little(SPACE), trained_a_little(PREACT)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        maps, logits = network.features_and_logits(images)
        expected, before = by_hand(network.state_dict(), SMALL.num_blocks, images)
        for one, other in zip(maps, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits, maps[-1] @ network.linear.weight.T + network.linear.bias)
        assert torch.equal(network(images), logits)
        theirs, same = preact.features_and_logits(images)
        assert torch.equal(same, logits)
        for one, other in zip(theirs, [expected[0], *before, expected[-1]], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert all((one < 0).any() for one in theirs[1:4])


def test_the_taps_have_a_name_and_the_shape_of_their_stage() -> None:
    assert SPACE.taps == PREACT.taps == ("stem", "stage1", "stage2", "stage3", "pooled")
    with torch.device("meta"):
        maps, logits = SPACE.build(SPACE.teacher, 100, 32).features_and_logits(torch.empty(2, 3, 32, 32))
    shapes = [(24, 32, 32), (116, 16, 16), (232, 8, 8), (464, 4, 4), (1024,)]
    assert [tuple(one.shape) for one in maps] == [(2, *shape) for shape in shapes]
    assert logits.shape == (2, 100)


def test_official_weights_have_the_documented_names_and_shapes() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(v.shape) for name, v in SPACE.build(SMALL, 5, 32).state_dict().items()}
    assert shapes["conv1.weight"] == (24, 3, 1, 1)
    assert shapes["layer1.0.conv1.weight"] == (24, 1, 3, 3)
    assert shapes["layer1.0.conv4.weight"] == (4, 1, 3, 3)
    assert shapes["layer2.2.conv2.weight"] == (7, 1, 3, 3)
    assert (shapes["conv2.weight"], shapes["linear.weight"]) == ((30, 20, 1, 1), (5, 30))
    names = {"conv1", "bn1", "conv2", "bn2", "linear"}
    for stage, depth in enumerate(SMALL.num_blocks, start=1):
        names |= {f"layer{stage}.0.{kind}{i}" for kind in ("conv", "bn") for i in range(1, 6)}
        names |= {
            f"layer{stage}.{j}.{kind}{i}" for j in range(1, depth + 1) for kind in ("conv", "bn") for i in (1, 2, 3)
        }
    assert {name.rpartition(".")[0] for name in shapes} == names


def test_the_shuffle_interleaves_the_halves() -> None:
    x = torch.arange(6.0).reshape(1, 6, 1, 1).expand(2, 6, 3, 3)
    assert shuffle_channels(x)[1, :, 2, 0].tolist() == [0, 3, 1, 4, 2, 5]


def test_a_stage_of_odd_halves_keeps_its_width() -> None:
    with torch.device("meta"):
        maps, _ = SPACE.build(SPACE.parse("98x1_158x1_510x1_524"), 3, 32).features_and_logits(torch.empty(1, 3, 32, 32))
    assert [one.shape[1] for one in maps] == [24, 98, 158, 510, 524]


def test_features_are_widths_then_blocks() -> None:
    assert SPACE.encode([SPACE.parse("98x6_158x3_510x5_524")]).tolist() == [[98, 158, 510, 524, 6, 3, 5]]
    assert SPACE.encode([]).shape == (0, 7)


def test_samples_never_fall_with_depth() -> None:
    archs = SPACE.sample(400, torch.Generator().manual_seed(1))
    widths = torch.tensor([arch.out_channels for arch in archs])
    assert (widths.diff(dim=1) >= 0).all()
    assert not (widths % 2).any()
    assert torch.tensor([arch.num_blocks for arch in archs]).unique().tolist() == list(range(1, 11))


@pytest.mark.parametrize(
    "text", ["", "98", "98x6_158x3_510x5_", "98x6_158x3_510x5_524x1", "98x6,158x3,510x5,524", "ax1_2"]
)
def test_malformed_texts_are_refused_in_one_clear_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"architecture .* is malformed: .* like '116x3_232x7_464x3_1024'") as caught:
        SPACE.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("98x6_158x3_524", "3 widths and 2 depths; four and three are needed"),
        ("97x6_158x3_510x5_524", "even ones that never fall"),
        ("98x6_96x3_510x5_524", "even ones that never fall"),
        ("0x6_158x3_510x5_524", "even ones that never fall"),
        ("98x0_158x3_510x5_524", "1 to 10 are allowed"),
        ("98x6_158x11_510x5_524", "1 to 10 are allowed"),
    ],
)
def test_architectures_outside_the_space_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"architecture '{text}': .*{reason}"):
        SPACE.parse(text)


@pytest.mark.parametrize(
    "act",
    [
        lambda: ShuffleNetV2((8, 8, 8), (1, 1, 1), 2),
        lambda: ShuffleNetV2((8, 8, 8, 8), (1, 1), 2),
        lambda: ShuffleNetV2((7, 8, 8, 8), (1, 1, 1), 2),
        lambda: ShuffleNetV2((8, 8, 8, 8), (1, 0, 1), 2),
        lambda: ShuffleNetV2((8, 8, 8, 8), (1, 1, 1), 0),
    ],
)
def test_impossible_networks_are_refused(act: Callable[[], nn.Module]) -> None:
    with pytest.raises(ValueError, match="are needed"):
        act()
