import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from common.data.batches import augment, epoch_batches, normalise


def images_of(batch: int, height: int = 6, width: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


def augment_one_by_one(images: Tensor, seed: int, padding: int, flip: bool) -> Tensor:
    """The obvious loop: mirror, frame, cut; random numbers drawn as `augment` documents it."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = images.shape
    offsets = torch.randint(0, 2 * padding + 1, (2, batch), generator=generator) if padding else torch.zeros(2, batch)
    mirrored = torch.rand(batch, generator=generator) < 0.5 if flip else torch.zeros(batch)
    results = []
    for i, image in enumerate(images):
        turned = image.flip(-1) if mirrored[i] else image
        framed = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
        framed[:, padding : padding + height, padding : padding + width] = turned
        down, right = int(offsets[0, i]), int(offsets[1, i])
        results.append(framed[:, down : down + height, right : right + width])
    return torch.stack(results)


@given(
    batch=st.integers(1, 9),
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    padding=st.integers(0, 5),
    flip=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_augmentation_equals_a_loop_over_images(
    batch: int, height: int, width: int, padding: int, flip: bool, seed: int
) -> None:
    images = images_of(batch, height, width, seed)
    fast = augment(images, torch.Generator().manual_seed(seed), padding=padding, flip=flip)
    assert fast.dtype == torch.uint8
    assert torch.equal(fast, augment_one_by_one(images, seed, padding, flip))


def test_augmentation_reaches_every_offset_and_both_directions() -> None:
    marked = torch.zeros(4000, 1, 5, 5, dtype=torch.uint8)
    marked[:, 0, 2, 2] = 200  # the centre, so that it stays inside whatever is cut away
    marked[:, 0, 2, 3] = 100  # right of it, left of it when mirrored
    moved = augment(marked, torch.Generator().manual_seed(0), padding=2, flip=True)
    centres = (moved[:, 0] == 200).nonzero()
    assert len(centres) == 4000
    assert {(int(r), int(c)) for _, r, c in centres} == {(r, c) for r in range(5) for c in range(5)}
    inside = [(i, r, c) for i, r, c in centres.tolist() if 0 < c < 4]
    mirrored = sum(int(moved[i, 0, r, c - 1]) == 100 for i, r, c in inside) / len(inside)
    assert 0.45 < mirrored < 0.55  # five standard deviations of 2400 fair coins


def test_without_padding_and_flip_the_images_come_back_untouched_and_no_number_is_drawn() -> None:
    generator = torch.Generator().manual_seed(3)
    images = images_of(4)
    assert augment(images, generator, padding=0, flip=False) is images
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(3).get_state())


def test_augmentation_leaves_its_input_alone() -> None:
    images = images_of(8)
    before = images.clone()
    augment(images, torch.Generator().manual_seed(0), padding=2, flip=True)
    assert torch.equal(images, before)


def test_the_frame_of_zeros_is_minus_one_after_normalisation() -> None:
    white = torch.full((64, 3, 4, 4), 255, dtype=torch.uint8)
    values = normalise(augment(white, torch.Generator().manual_seed(0), padding=2, flip=False)).unique()
    assert values.tolist() == [-1.0, 1.0]


def test_normalisation_is_the_published_formula_for_every_level() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(normalise(levels), (levels.float() / 255 - 0.5) / 0.5)
    assert levels.dtype == torch.uint8


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="padding must be at least 0 pixels, got -1"):
        augment(images_of(1), torch.Generator(), padding=-1, flip=False)


@given(num=st.integers(0, 60), batch_size=st.integers(1, 20), drop_last=st.booleans())
def test_an_epoch_visits_each_image_at_most_once_in_full_batches(num: int, batch_size: int, drop_last: bool) -> None:
    batches = list(epoch_batches(num, batch_size, torch.Generator().manual_seed(1), drop_last))
    sizes = [len(batch) for batch in batches]
    seen = torch.cat(batches).tolist() if batches else []
    assert len(set(seen)) == len(seen) == (num - num % batch_size if drop_last else num)
    assert all(size == batch_size for size in sizes[: -1 if not drop_last else None])
    assert all(batch.dtype == torch.int64 for batch in batches)


def test_epochs_differ_and_the_seed_decides_them() -> None:
    def two_epochs() -> list[Tensor]:
        generator = torch.Generator().manual_seed(5)
        return [torch.cat(list(epoch_batches(50, 8, generator, False))) for _ in range(2)]

    first, second = two_epochs()
    assert not torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(two_epochs(), (first, second), strict=True))


def test_a_batch_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(epoch_batches(5, 0, torch.Generator(), False))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cuda_and_cpu_augment_alike() -> None:
    images = images_of(32, 16, 16)
    on_cpu = augment(images, torch.Generator().manual_seed(7), padding=3, flip=True)
    on_gpu = augment(images.to("cuda"), torch.Generator().manual_seed(7), padding=3, flip=True)
    assert torch.equal(on_gpu.cpu(), on_cpu)
    torch.testing.assert_close(normalise(on_gpu).cpu(), normalise(on_cpu), rtol=0, atol=1e-7)
