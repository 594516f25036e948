"""Sample pictures of a dataset, embedded in a page at thumbnail size."""

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from common.report.page import Fragment, image, inline

MAX_SIDE = 96
"""Pixels of the longer side of a thumbnail; about 3 kB each."""
SMALL_SIDE = 32
"""Pictures up to this size are enlarged with visible pixels instead of blur."""


def thumbnail(picture: Tensor) -> bytes:
    """JPEG of one picture, scaled down to `MAX_SIDE` where it is larger.

    Args:
        picture: uint8 (3, H, W).

    Raises:
        ValueError: another type or shape.
    """
    if picture.dtype != torch.uint8 or picture.ndim != 3 or len(picture) != 3:
        raise ValueError(f"picture: {picture.dtype} {tuple(picture.shape)}; give uint8 (3, H, W)")
    photo = Image.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy())
    photo.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def contact_sheet(
    images: Tensor, labels: Tensor, class_names: Sequence[str], *, max_classes: int = 10, per_class: int = 6
) -> Fragment:
    """A strip of pictures for each class; of many classes some, evenly spaced over their order.

    Args:
        images: uint8 (N, 3, H, W).
        labels: int64 (N,), indices into `class_names`.
        class_names: all names.
        max_classes: largest number of strips.
        per_class: pictures in a strip, evenly spaced over those of the class.
    """
    strips = []
    for label in _spaced(len(class_names), max_classes):
        members = torch.nonzero(labels == label).flatten()
        picked = members[_spaced(len(members), per_class)]
        name, total = inline(class_names[label]), len(members)
        pictures = "".join(_picture(images[index], alt="").html for index in picked)
        strips.append(
            f'<figure><div class="strip" style="--across:{per_class}" role="img" '
            f'aria-label="{len(picked)} sample images of class {name}">{pictures}</div>'
            f"<figcaption>{name} ({total:,})</figcaption></figure>"
        )
    return Fragment(f'<div class="sheet">{"".join(strips)}</div>')


def gallery(images: Tensor, captions: Sequence[str]) -> Fragment:
    """Pictures in a grid, each with its caption.

    Args:
        images: uint8 (N, 3, H, W).
        captions: one a picture; also what is read out for it.

    Raises:
        ValueError: not one caption a picture.
    """
    if len(images) != len(captions):
        raise ValueError(f"gallery: {len(captions)} captions for {len(images)} images; give one an image")
    items = (
        f"<figure>{_picture(picture, alt=caption).html}<figcaption>{inline(caption)}</figcaption></figure>"
        for picture, caption in zip(images, captions, strict=True)
    )
    return Fragment(f'<div class="gallery">{"".join(items)}</div>')


def _picture(picture: Tensor, *, alt: str) -> Fragment:
    return image(
        thumbnail(picture), media_type="image/jpeg", alt=alt, is_pixelated=max(picture.shape[1:]) <= SMALL_SIDE
    )


def _spaced(num: int, limit: int) -> list[int]:
    """At most `limit` indices below `num`, evenly spaced, the first and the last among them."""
    if num <= limit:
        return list(range(num))
    return [round(place * (num - 1) / max(1, limit - 1)) for place in range(limit)]
