"""The set transformer and the encoder of data sets: sizes, what is forgotten, and padding."""

import pytest
import torch
from torch import Tensor

from common.sets import ClassSetEncoder, SetPool
from common.sets.pooling import Attention, Head

FEATURES, WIDTH = 24, 8


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def num_params(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.fixture
def encoder() -> ClassSetEncoder:
    torch.manual_seed(0)
    return ClassSetEncoder(FEATURES, WIDTH)


def test_the_published_sizes_have_the_published_number_of_weights() -> None:
    encoder = ClassSetEncoder()
    assert (num_params(encoder.within), num_params(encoder.across)) == (118_160, 41_552)


MAB = 4 * (WIDTH * WIDTH + WIDTH)  # of one width throughout
LINEAR = WIDTH * WIDTH + WIDTH


@pytest.mark.parametrize(
    ("attention", "head", "expected"),
    [
        ("full", "linear", 3 * MAB + WIDTH + LINEAR),
        ("full", "none", 3 * MAB + WIDTH),
        ("full", "attention", 5 * MAB + WIDTH + LINEAR),
        ("induced", "linear", 5 * MAB + 2 * 32 * WIDTH + WIDTH + LINEAR),
    ],
)
def test_each_mode_has_its_layers(attention: Attention, head: Head, expected: int) -> None:
    pool = SetPool(WIDTH, WIDTH, attention=attention, head=head)
    assert num_params(pool) == expected
    assert pool(draws(3, 5, WIDTH)).shape == (3, 1, WIDTH)


@pytest.mark.parametrize("attention", ["full", "induced"])
@pytest.mark.parametrize("head", ["none", "linear", "attention"])
def test_pooling_forgets_the_order_and_what_is_no_member(attention: Attention, head: Head) -> None:
    torch.manual_seed(0)
    output_dim = 12 if head == "none" else 5
    pool = SetPool(WIDTH, output_dim, width=12, num_outputs=2, attention=attention, head=head, layer_norm=True)
    elements, is_member = draws(2, 7, WIDTH), torch.arange(7) < torch.tensor([[4], [7]])
    found = pool(elements, is_member)
    assert found.shape == (2, 2, output_dim)
    torch.testing.assert_close(found[:1], pool(elements[:1, :4]), rtol=0, atol=1e-5)
    order = torch.tensor([6, 2, 0, 5, 1, 4, 3])
    torch.testing.assert_close(pool(elements[:, order], is_member[:, order]), found, rtol=0, atol=1e-5)


def test_modes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="attention of a set pool is 'sab'; choose from full, induced"):
        SetPool(8, 8, attention="sab")
    with pytest.raises(ValueError, match="head of a set pool is 'PF'; choose from none, linear, attention"):
        SetPool(8, 8, head="PF")
    with pytest.raises(ValueError, match="width 16 has no head that makes 8 of it"):
        SetPool(8, 8, width=16, head="none")


@pytest.mark.parametrize(("sets", "classes", "images"), [(1, 1, 1), (1, 3, 2), (3, 1, 5), (2, 7, 20)])
def test_any_number_of_sets_classes_and_images_gives_a_row_for_each_set(
    encoder: ClassSetEncoder, sets: int, classes: int, images: int
) -> None:
    features = draws(sets, classes, images, FEATURES)
    found = encoder(features)
    assert found.shape == (sets, WIDTH)
    alone = torch.cat([encoder(features[row : row + 1]) for row in range(sets)])
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-6)


def test_the_order_of_images_in_a_class_and_of_classes_is_forgotten(encoder: ClassSetEncoder) -> None:
    features = draws(2, 5, 6, FEATURES)
    expected = encoder(features)
    shuffled = torch.stack(
        [torch.stack([images[torch.randperm(6)] for images in one[torch.randperm(5)]]) for one in features]
    )
    torch.testing.assert_close(encoder(shuffled), expected, rtol=0, atol=1e-5)


def test_to_which_class_an_image_belongs_matters(encoder: ClassSetEncoder) -> None:
    features = draws(1, 3, 4, FEATURES)
    moved = features.clone()
    moved[0, 0, 0], moved[0, 1, 0] = features[0, 1, 0], features[0, 0, 0]
    assert (encoder(moved) - encoder(features)).abs().max() > 1e-4


def test_padded_classes_change_nothing_and_get_no_gradient(encoder: ClassSetEncoder) -> None:
    num_classes = torch.tensor([2, 5, 1])
    features = draws(3, 5, 4, FEATURES).requires_grad_()
    found = encoder(features, num_classes)
    for row, num in enumerate(num_classes.tolist()):
        torch.testing.assert_close(found[row], encoder(features[row : row + 1, :num])[0], rtol=0, atol=1e-6)
    is_class = torch.arange(5) < num_classes[:, None]
    with torch.no_grad():
        spoilt = features.masked_fill(~is_class[..., None, None], 1e3)
        assert torch.equal(encoder(spoilt, num_classes), found)
    found.square().sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad.flatten(2).any(2), is_class)


def test_all_classes_given_is_the_same_as_no_number(encoder: ClassSetEncoder) -> None:
    features = draws(2, 3, 4, FEATURES)
    torch.testing.assert_close(encoder(features, torch.tensor([3, 3])), encoder(features), rtol=0, atol=1e-6)


def test_gradients_reach_every_weight(encoder: ClassSetEncoder) -> None:
    encoder(draws(4, 5, 6, FEATURES)).square().sum().backward()
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in encoder.parameters())


@pytest.mark.parametrize("shape", [(5, 4, FEATURES), (2, 5, 4, FEATURES + 1), (2, 0, 4, FEATURES), (2, 5, 0, FEATURES)])
def test_features_of_another_form_are_refused(encoder: ClassSetEncoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(sets, classes, images, 24\) is needed"):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize(
    ("num_classes", "message"),
    [
        (torch.tensor([0, 2]), "each must be 1 to 5"),
        (torch.tensor([2, 6]), "each must be 1 to 5"),
        (torch.tensor([2]), r"\(2,\) int64 is needed"),
        (torch.tensor([2.0, 3.0]), r"\(2,\) int64 is needed"),
    ],
)
def test_numbers_of_classes_that_cannot_be_are_refused(
    encoder: ClassSetEncoder, num_classes: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(draws(2, 5, 4, FEATURES), num_classes)
