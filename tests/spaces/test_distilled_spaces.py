"""What all spaces of MFKD keep: texts, codes, samples, costs, maps, networks that learn."""

import pytest
import torch
import torch.nn.functional as F

from common.spaces import (
    FreeMobileNetV2Space,
    MobileNetV2Space,
    Pool,
    SearchSpace,
    ShuffleNetV2Space,
    SimpleCnnSpace,
    sample_distinct,
)

TOY = MobileNetV2Space(
    channels=((8, 16), (8, 16), (16, 24), (16, 32), (24, 40), (32, 48), (40, 64)),
    repetitions=((1, 2),) * 7,
    first_stride=2,
    last_channel=128,
)
FREE, SHUFFLE, CNN = FreeMobileNetV2Space(), ShuffleNetV2Space(), SimpleCnnSpace()
POOL = Pool(family=SHUFFLE, members=tuple(SHUFFLE.sample(30, torch.Generator().manual_seed(0))))
LIGHT = {  # a small network of each space
    "toy": (TOY, TOY.parse("8x2_16x1_16x2_16x1_40x1_32x1_40x1")),
    "free": (FREE, FREE.parse("16x1_24x1_32x1_40x1_56x1_80x1_104x1_128x1")),
    "shuffle": (SHUFFLE, SHUFFLE.parse("24x1_38x1_182x1_232")),
    "preact": (ShuffleNetV2Space(preact=True), SHUFFLE.parse("24x1_38x1_182x1_232")),
    "cnn": (CNN, CNN.parse("8k3br_16k1b_8k5r_20")),
}
SPACES = {name: space for name, (space, _) in LIGHT.items()} | {"pool": POOL, "full": MobileNetV2Space()}


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_texts_parse_back_and_tell_architectures_apart(space: SearchSpace) -> None:
    archs = space.sample(100, draws(1))
    texts = [space.format(arch) for arch in archs]
    assert [space.parse(text) for text in texts] == archs
    assert len(set(texts)) == len(set(archs))
    assert all(text.isascii() and not {*text} & {*' ,"\n/'} for text in texts)  # safe in tables and file names


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_codes_are_finite_doubles_that_tell_architectures_apart(space: SearchSpace) -> None:
    archs = space.sample(100, draws(2))
    codes = space.encode(archs)
    assert codes.dtype == torch.float64
    assert codes.isfinite().all()
    assert len({tuple(code) for code in codes.tolist()}) == len(set(archs))
    assert torch.equal(space.encode(archs[40:43]), codes[40:43])


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_longer_sample_begins_with_the_shorter_one(space: SearchSpace) -> None:
    archs = space.sample(300, draws(3))
    assert len(archs) == 300
    assert space.sample(7, draws(3)) == archs[:7]
    assert space.sample(300, draws(4)) != archs
    assert len(sample_distinct(space, 20, draws(5))) == 20


@pytest.mark.parametrize(("space", "arch"), LIGHT.values(), ids=LIGHT)
@pytest.mark.parametrize(("num_classes", "resolution"), [(2, 16), (10, 32)])
def test_costs_are_what_hooks_count(
    space: SearchSpace, arch: object, num_classes: int, resolution: int, counted
) -> None:
    assert space.cost(arch, num_classes, resolution) == counted(space, arch, num_classes, resolution)


@pytest.mark.parametrize(("space", "arch"), LIGHT.values(), ids=LIGHT)
def test_every_tap_has_a_map_and_every_weight_a_gradient(space: SearchSpace, arch: object) -> None:
    torch.manual_seed(0)
    network = space.build(arch, 3, 32)
    maps, logits = network.features_and_logits(torch.randn(4, 3, 32, 32))
    assert len(maps) == len(space.taps)
    assert logits.shape == (4, 3)
    sum(one.square().mean() for one in maps).backward(retain_graph=True)  # maps are not overwritten in place
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    weights = (p for name, p in network.named_parameters() if name.endswith("weight"))
    assert all(p.grad.any() for p in weights)


@pytest.mark.parametrize(("space", "arch"), LIGHT.values(), ids=LIGHT)
def test_networks_learn_their_images(space: SearchSpace, arch: object) -> None:
    torch.manual_seed(1)
    labels = torch.arange(15) % 3
    images = torch.randn(3, 3, 16, 16)[labels] + 0.1 * torch.randn(15, 3, 16, 16)
    network = space.build(arch, 3, 16)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(network(images), labels)
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.stack(losses[-5:]).mean() < 0.5 * torch.tensor(3.0).log()  # half of what guessing costs


@pytest.mark.parametrize(("space", "arch"), LIGHT.values(), ids=LIGHT)
def test_the_seed_of_torch_makes_the_weights(space: SearchSpace, arch: object) -> None:
    networks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        networks.append(torch.cat([p.flatten() for p in space.build(arch, 3, 32).parameters()]))
    assert torch.equal(networks[0], networks[1])
    assert not torch.equal(networks[0], networks[2])


@pytest.mark.parametrize(("space", "arch"), LIGHT.values(), ids=LIGHT)
def test_in_evaluation_an_image_is_answered_whatever_is_beside_it(space: SearchSpace, arch: object) -> None:
    torch.manual_seed(2)
    network = space.build(arch, 4, 32)
    images = torch.randn(5, 3, 32, 32)
    network(images)  # running statistics move away from 0 and 1
    network.eval()
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
