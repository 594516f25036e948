import pytest
import torch
import torch.nn.functional as F

from tans.encoders import (
    ModelEncoder,
    PerformancePredictor,
    QueryEncoder,
    SpaceSizes,
    mean_features,
    new_space,
)

PUBLISHED = SpaceSizes()


def num_params(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_sizes_have_the_published_numbers_of_parameters() -> None:
    assert num_params(QueryEncoder(PUBLISHED)) == 65_664
    assert num_params(ModelEncoder(PUBLISHED)) == 202_496
    assert num_params(PerformancePredictor(PUBLISHED)) == 257
    assert num_params(new_space(PUBLISHED, 0)) == 268_417


def test_encoders_give_unit_vectors_and_the_predictor_shares() -> None:
    torch.manual_seed(0)
    space = new_space(PUBLISHED, 0)
    queries = space.encode_queries(torch.rand(5, 512))
    models = space.encode_models(space.model.describe(torch.randint(2, 8, (5, 45)), torch.randn(5, 1536)))
    for vectors in (queries, models):
        assert vectors.shape == (5, 128)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5), atol=1e-5, rtol=0)
    predicted = space.predict(queries, models)
    assert predicted.shape == (5,)
    assert ((predicted > 0) & (predicted < 1)).all()


def test_one_dataset_stays_a_batch_of_one() -> None:
    assert QueryEncoder(PUBLISHED)(torch.rand(1, 512)).shape == (1, 128)


def test_a_zero_vector_gives_no_nan() -> None:
    encoder = QueryEncoder(PUBLISHED)
    torch.nn.init.zeros_(encoder.fc.bias)
    assert torch.isfinite(encoder(torch.zeros(1, 512))).all()


def test_the_mean_of_features_stands_for_encoding_every_image() -> None:
    torch.manual_seed(1)
    encoder, sets = QueryEncoder(PUBLISHED), [torch.rand(n, 512) for n in (1, 7, 40)]
    fast = encoder(mean_features(sets))
    for place, one in enumerate(sets):
        slow = torch.stack([image @ encoder.fc.weight.T + encoder.fc.bias for image in one]).mean(0)
        torch.testing.assert_close(fast[place], slow / slow.norm(), atol=1e-6, rtol=0)


def test_a_dataset_is_encoded_alike_whatever_the_order_and_repetition_of_its_images() -> None:
    torch.manual_seed(2)
    encoder, images = QueryEncoder(PUBLISHED), torch.rand(30, 512)
    expected = encoder(mean_features([images]))
    for same in (images[torch.randperm(30)], torch.cat([images, images])):
        torch.testing.assert_close(encoder(mean_features([same])), expected, atol=1e-6, rtol=0)


def test_topology_comes_first_and_shares_one_norm_with_the_functional_embedding() -> None:
    torch.manual_seed(3)
    encoder = ModelEncoder(PUBLISHED)
    topologies, functional = torch.randint(2, 8, (3, 45)), torch.randn(3, 1536)
    described = encoder.describe(topologies, functional)
    for row in range(3):
        plain = [*map(float, topologies[row].tolist()), *functional[row].tolist()]
        norm = sum(value**2 for value in plain) ** 0.5
        torch.testing.assert_close(described[row], torch.tensor(plain) / norm, atol=1e-6, rtol=1e-5)
    expected = F.linear(described, encoder.fc.weight, encoder.fc.bias)
    torch.testing.assert_close(encoder(described), expected / expected.norm(dim=1, keepdim=True))


def test_separate_branches_have_equal_weight_whatever_their_scale() -> None:
    encoder = ModelEncoder(SpaceSizes(branches="separate"))
    described = encoder.describe(torch.full((1, 45), 7), 1e3 * torch.randn(1, 1536))
    assert described[:, :45].norm().item() == pytest.approx(0.5**0.5, abs=1e-6)


@pytest.mark.parametrize("left_out", ["topology_dim", "functional_dim"])
def test_a_half_of_the_description_can_be_left_out(left_out: str) -> None:
    sizes = SpaceSizes(**{left_out: 0})  # type: ignore[arg-type]
    encoder = ModelEncoder(sizes)
    described = encoder.describe(torch.full((2, 45), 3), torch.randn(2, 1536))
    assert described.shape == (2, sizes.model_dim)
    assert encoder(described).shape == (2, 128)


def test_impossible_descriptions_are_refused() -> None:
    with pytest.raises(ValueError, match="one of them positive"):
        SpaceSizes(topology_dim=0, functional_dim=0)
    with pytest.raises(ValueError, match=r"functional embeddings have shape \(2, 8\), and \(N, 1536\)"):
        ModelEncoder(PUBLISHED).describe(torch.ones(2, 45), torch.ones(2, 8))
    with pytest.raises(ValueError, match="with one image or more"):
        mean_features([torch.rand(0, 512)])


def test_standardised_features_are_those_of_the_plain_ones() -> None:
    mean, std = torch.rand(512), 0.5 + torch.rand(512)
    space = new_space(PUBLISHED, 5, mean, std)
    means = torch.rand(4, 512)
    torch.testing.assert_close(space.encode_queries(means), space.query((means - mean) / std))


def test_the_seed_alone_decides_the_first_weights() -> None:
    torch.manual_seed(99)
    first = new_space(PUBLISHED, 4).state_dict()
    torch.manual_seed(1)
    again = new_space(PUBLISHED, 4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
