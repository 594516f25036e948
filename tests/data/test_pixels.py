import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pictures import encode, picture
from PIL import Image

from common.data.pixels import to_square
from common.data.source import DAMAGE


def pixels(image: Image.Image, resolution: int) -> NDArray[np.uint8]:
    square = to_square(image, resolution)
    assert square.mode == "RGB"
    assert square.size == (resolution, resolution)
    return np.asarray(square)


@given(width=st.integers(1, 60), height=st.integers(1, 60), resolution=st.integers(1, 40), seed=st.integers(0, 99))
def test_any_size_equals_the_antialiased_bilinear_resize_of_pillow(
    width: int, height: int, resolution: int, seed: int
) -> None:
    image = picture(seed, (width, height))
    expected = image.resize((resolution, resolution), Image.Resampling.BILINEAR)
    assert np.array_equal(pixels(image, resolution), np.asarray(expected))


def test_enlarging_and_shrinking_equal_antialiased_interpolation_in_float() -> None:
    import torch

    for size, resolution in (((40, 30), 12), ((8, 8), 16)):
        image = picture(1, size)
        raw = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].double()
        smooth = torch.nn.functional.interpolate(raw, (resolution, resolution), mode="bilinear", antialias=True)
        difference = torch.from_numpy(pixels(image, resolution).copy()).permute(2, 0, 1) - smooth[0]
        assert difference.abs().max() <= 1.01  # two passes, each rounded to a whole level


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_opaque_modes_equal_the_conversion_of_pillow(mode: str) -> None:
    image = picture(2, (8, 8), mode)
    assert np.array_equal(pixels(image, 8), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_transparency_is_shown_on_white(mode: str) -> None:
    alpha = Image.new("L", (8, 8), 0)
    alpha.paste(255, (0, 0, 4, 8))
    layer = Image.new("P" if mode == "PA" else mode.removesuffix("A"), (8, 8), 7 if mode == "PA" else "#3c3c3c")
    if mode == "PA":
        layer.putpalette([60] * 768)
    layer.putalpha(alpha)
    assert layer.mode == mode
    seen = pixels(layer, 8)
    assert (seen[:, 4:] == 255).all()
    assert (seen[:, :4] == 60).all()


def test_half_transparent_black_on_white_is_gray() -> None:
    assert np.unique(pixels(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), 4)).tolist() == [127]


def test_a_transparent_colour_of_a_palette_is_shown_on_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 1)
    reopened = Image.open(io.BytesIO(encode(image, "PNG", transparency=0)))
    seen = pixels(reopened, 4)
    assert seen[0, 0].tolist() == [40, 50, 60]
    assert (seen.reshape(-1, 3)[1:] == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_gray_keeps_its_high_byte(kind: str) -> None:
    levels = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    image = Image.open(io.BytesIO(encode(Image.fromarray(levels), kind)))
    assert np.array_equal(pixels(image, 8)[:, :, 1], (levels >> 8).astype(np.uint8))


def test_thirty_two_bit_integers_are_read_as_eight_or_sixteen_bits() -> None:
    small, large = np.array([[0, 255]], np.int32), np.array([[0, 65535]], np.int32)
    for levels in (small, large):
        seen = pixels(Image.fromarray(np.repeat(levels, 2, axis=0)), 2)
        assert seen[0, :, 0].tolist() == [0, 255]


def test_float_images_are_refused_with_the_way_out() -> None:
    with pytest.raises(ValueError, match="32-bit float images are not supported: save them with 8 or 16 bits"):
        to_square(Image.fromarray(np.zeros((4, 4), np.float32)), 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_tag_is_undone(orientation: int) -> None:
    upright = picture(3, (8, 8))
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    tags = Image.Exif()
    tags[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        reopened = Image.open(io.BytesIO(encode(stored, kind, exif=tags)))
        assert np.array_equal(pixels(reopened, 8), np.asarray(upright)), kind


def test_damaged_tags_do_not_cost_the_image() -> None:
    image = picture(4, (8, 8))
    reopened = Image.open(io.BytesIO(encode(image, "PNG", exif=b"Exif\x00\x00nonsense")))
    assert np.array_equal(pixels(reopened, 8), np.asarray(image))


def test_a_large_photo_decoded_at_reduced_size_stays_within_two_levels() -> None:
    rows, columns = np.mgrid[0:960, 0:1280]
    waves = [127 + 120 * np.sin(rows / (40 + 10 * c)) * np.cos(columns / (55 - 5 * c)) for c in range(3)]
    photo = Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))
    data = encode(photo, "JPEG", quality=95)
    exact = Image.open(io.BytesIO(data)).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)
    opened = Image.open(io.BytesIO(data))
    difference = pixels(opened, 32).astype(int) - np.asarray(exact).astype(int)
    assert opened.size < (1280, 960)  # it was shrunk while it was decoded
    assert abs(difference).max() <= 2


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(kind=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"]), data=st.data())
def test_damaged_files_are_read_or_refused_in_a_known_way(kind: str, data: st.DataObject) -> None:
    content = bytearray(encode(picture(5), kind))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        with Image.open(io.BytesIO(content[: data.draw(st.integers(0, len(content)))])) as image:
            square = to_square(image, 8)
    except DAMAGE:
        return
    assert square.size == (8, 8)
