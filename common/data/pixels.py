"""From any picture Pillow opens to RGB of one resolution."""

import numpy as np
from PIL import ExifTags, Image, ImageOps

DRAFT_MARGIN = 4
"""A JPEG may be shrunk while it is decoded, but never below this many times the asked resolution."""


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
        OSError, SyntaxError, ...: whatever Pillow raises for damaged data; see `decode.DAMAGE`.
    """
    image.draft(None, (DRAFT_MARGIN * resolution, DRAFT_MARGIN * resolution))
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    rgb = to_rgb(image)
    return (
        rgb if rgb.size == (resolution, resolution) else rgb.resize((resolution, resolution), Image.Resampling.BILINEAR)
    )


def to_rgb(image: Image.Image) -> Image.Image:
    """Image in mode RGB; see `to_square`."""
    if image.mode == "F":
        raise ValueError("32-bit float images are not supported: save them with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64)
        shift = 8 if image.mode != "I" or levels.max() > 255 else 0
        return Image.fromarray(np.clip(levels >> shift, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
