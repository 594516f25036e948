from itertools import pairwise

import pytest
import torch

from common.features.compact import BLOCK_WIDTHS, FEATURE_DIM, STEM_WIDTH, CompactNetwork, fold


@pytest.fixture
def trained() -> CompactNetwork:
    """A network whose batch statistics and scales are not those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = CompactNetwork()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, std=0.3)
        for _ in range(3):
            network(torch.randn(8, 3, 32, 32))
    return network


def test_features_are_512_numbers_that_are_not_negative(trained: CompactNetwork) -> None:
    features = trained.eval()(torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert features.shape == (5, 512)
    assert bool((features >= 0).all())
    assert bool((features > 0).any(dim=0).float().mean() > 0.5)


def test_a_folded_network_computes_the_same_without_batch_normalisation(trained: CompactNetwork) -> None:
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    folded = fold(trained)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert trained.training, "the given network is left as it is"
    assert torch.allclose(folded(images), trained.eval()(images), rtol=1e-4, atol=1e-5)


def test_the_number_of_weights_is_that_of_its_layers_and_fits_the_file() -> None:
    widths = (STEM_WIDTH, *BLOCK_WIDTHS)
    expected = 27 * widths[0] + widths[0] + widths[-1] * FEATURE_DIM + FEATURE_DIM
    for before, after in pairwise(widths):
        expected += 9 * before * after + 9 * after * after + before * after + 3 * after
    num_weights = sum(parameter.numel() for parameter in CompactNetwork(folded=True).parameters())
    assert num_weights == expected == 1_338_048
    assert 2 * num_weights < 4e6, "bytes in half precision"
