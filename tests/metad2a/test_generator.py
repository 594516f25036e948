"""The generator: its sizes, its latent distribution, its loss and what its samples depend on."""

import pytest
import torch
from torch import Tensor, nn

from common.graphs import DagBatch
from common.spaces.nasbench201 import NasBench201Space
from metad2a.generator import NOISE_SCALE, Generator, GeneratorSizes, kl_divergence, new_generator

SMALL = GeneratorSizes(hidden_dim=16, latent_dim=16, feature_dim=24)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cells(num: int) -> DagBatch:
    space = NasBench201Space()
    return space.graphs(space.sample(num, draws()))


@pytest.fixture
def generator() -> Generator:
    return new_generator(SMALL, seed=0)


@pytest.fixture
def features() -> Tensor:
    return torch.rand(6, 3, 4, 24, generator=draws())


@pytest.mark.parametrize(("num_types", "max_nodes", "expected"), [(7, 8, 220_144), (29, 22, 227_894)])
def test_it_has_the_weights_that_the_released_one_uses(num_types: int, max_nodes: int, expected: int) -> None:
    generator = new_generator(GeneratorSizes(num_types=num_types, max_nodes=max_nodes), seed=0)
    assert sum(weight.numel() for weight in generator.parameters()) == expected


def test_gradients_reach_every_weight(generator: Generator, features: Tensor) -> None:
    recon, kl = generator.loss(features, None, cells(6), draws())
    (recon.sum() + 0.005 * kl.sum()).backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in generator.parameters())


def test_the_divergence_is_that_of_normal_distributions() -> None:
    mean, log_variance = torch.randn(5, 7, generator=draws()), torch.randn(5, 7, generator=draws(1))
    first = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(first, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)
    assert torch.equal(kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2))


def test_the_loss_is_that_of_noisy_latent_vectors(generator: Generator, features: Tensor) -> None:
    graphs = cells(6)
    with torch.no_grad():
        recon, kl = generator.loss(features, None, graphs, draws(3))
        mean, log_variance = generator.latent(features)
        noise = torch.randn(6, 16, generator=draws(3))
        latent = mean + torch.exp(log_variance) ** 0.5 * 0.01 * noise
        torch.testing.assert_close(recon, generator.decoder.loss(latent, graphs))
        torch.testing.assert_close(kl, kl_divergence(mean, log_variance))
    assert (recon.shape, kl.shape, NOISE_SCALE) == ((6,), (6,), 0.01)


def test_a_batch_has_the_loss_of_its_tasks(generator: Generator, features: Tensor) -> None:
    graphs, num_classes = cells(6), torch.tensor([3, 1, 2, 3, 3, 2])
    with torch.no_grad():
        generator.log_variance.bias.fill_(-100)  # no noise: single losses would draw other numbers
        together = generator.loss(features, num_classes, graphs, draws())
        for row in range(6):
            one = features[row : row + 1, : num_classes[row]]
            alone = generator.loss(one, None, graphs[slice(row, row + 1)], draws())
            for part, single in zip(together, alone, strict=True):
                torch.testing.assert_close(part[row], single[0], rtol=1e-5, atol=1e-4)


def test_an_untrained_one_finds_all_cells_about_equally_likely() -> None:
    generator = new_generator(GeneratorSizes(), seed=0)
    features = torch.rand(32, 2, 3, 512, generator=draws())
    with torch.no_grad():
        recon, kl = generator.loss(features, None, cells(32), draws())
    assert float(recon.mean()) == pytest.approx(33.03, rel=0.1)
    assert bool((kl >= 0).all())


def test_samples_come_from_the_mean_and_the_numbers_given(generator: Generator, features: Tensor) -> None:
    with torch.no_grad():
        generator.log_variance.bias.fill_(50)  # its deviation plays no part
    found, again = (generator.sample(features, None, draws(2)) for _ in range(2))
    expected = generator.decoder.sample(generator.latent(features)[0], draws(2))
    for sampled in (again, expected):
        assert torch.equal(found.types, sampled.types)
        assert torch.equal(found.adjacency, sampled.adjacency)
    found.check(7)
    assert not torch.equal(found.adjacency, generator.sample(features, None, draws(3)).adjacency)


def test_samples_depend_on_the_data_set() -> None:
    """After a few steps on two sets with a cell each, every set gets its own."""
    generator, graphs = new_generator(SMALL, seed=1), cells(2)
    features = 2 * torch.rand(2, 1, 1, 24, generator=draws()) + 0.1 * torch.rand(2, 3, 4, 24, generator=draws(1))
    optimizer = torch.optim.Adam(generator.parameters(), lr=0.01)
    for _ in range(70):
        optimizer.zero_grad()
        recon, kl = generator.loss(features, None, graphs, draws())
        (recon.sum() + 0.005 * kl.sum()).backward()
        optimizer.step()
    drawn = generator.sample(features.repeat(40, 1, 1, 1), None, draws())
    own = (drawn.types == graphs.types.repeat(40, 1)).all(1)
    other = (drawn.types == graphs.types.flip(0).repeat(40, 1)).all(1)
    assert float(own.float().mean()) > 0.8
    assert float(other.float().mean()) < 0.1


def test_mixed_precision_gives_nearly_the_same(generator: Generator, features: Tensor) -> None:
    graphs = cells(6)
    expected, _ = generator.loss(features, None, graphs, draws())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = generator.loss(features, None, graphs, draws())
        generator.sample(features, None, draws()).check(7)
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)
    found.sum().backward()
    assert all(weight.grad is None or weight.grad.dtype == torch.float32 for weight in generator.parameters())


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = (new_generator(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["mean.weight"], third["mean.weight"])


def test_widths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_dim 56 and latent_dim 32: the two must be equal"):
        GeneratorSizes(hidden_dim=56, latent_dim=32)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_gives_the_same_losses_and_samples(generator: Generator, features: Tensor) -> None:
    graphs, cuda = cells(6), torch.device("cuda")
    losses, samples = [], []
    for device in (torch.device("cpu"), cuda):
        moved: nn.Module = generator.to(device)
        assert isinstance(moved, Generator)
        with torch.no_grad():
            losses.append(moved.loss(features.to(device), None, graphs.to(device), draws()))
        samples.append(moved.sample(features.to(device), None, draws()))
    for on_cpu, on_gpu in zip(*losses, strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=1e-4)
    assert torch.equal(samples[1].types.cpu(), samples[0].types)
    assert torch.equal(samples[1].adjacency.cpu(), samples[0].adjacency)
