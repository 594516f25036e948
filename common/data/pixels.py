"""From any picture Pillow opens to RGB of one resolution."""

import struct

import numpy as np
from PIL import ExifTags, Image

DRAFT_MARGIN = 4
"""A JPEG may be shrunk while it is decoded, but never below this many times the asked resolution."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of the EXIF tag."""


def to_square(image: Image.Image, resolution: int) -> Image.Image:
    """RGB copy of an image at resolution x resolution: bilinear with antialias, aspect not kept.

    Orientation tags are honoured, transparency is shown on white, 16-bit gray is reduced to 8 bits. A JPEG more than
    DRAFT_MARGIN times too large is decoded at a half, quarter or eighth of its size first, which changes little and
    saves most of the time.

    Args:
        image: any mode but 32-bit float, whose range is not known.
        resolution: height and width of the result in pixels.

    Raises:
        ValueError: the mode has no known range.
        OSError, SyntaxError, ...: whatever Pillow raises for damaged data; see `source.DAMAGE`.
    """
    image.draft(None, (DRAFT_MARGIN * resolution, DRAFT_MARGIN * resolution))
    image.load()
    turn = UPRIGHT.get(_orientation(image))
    rgb = to_rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
    return rgb.resize((resolution, resolution), Image.Resampling.BILINEAR)


def to_rgb(image: Image.Image) -> Image.Image:
    """Image in mode RGB; see `to_square`."""
    if image.mode == "F":
        raise ValueError("32-bit float images are not supported: save them with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64)
        shift = 8 if image.mode != "I" or levels.max() > 255 else 0  # mode I does not say how many bits are used
        return Image.fromarray(np.clip(levels >> shift, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """Value of the EXIF tag; 1 (upright) where it is missing or the tags are damaged, which the pixels survive."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error):
        return 1
