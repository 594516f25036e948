"""Sample pictures: the right ones, small, of the right class."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from common.report import contact_sheet, gallery
from common.report.images import MAX_SIDE, thumbnail


def pictures(html: str) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([^\"]+)", html)]


def gray(values: list[int], side: int = 16) -> torch.Tensor:
    """One even picture for each value."""
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, side, side)


def levels(html: str) -> list[int]:
    return [round(float(np.asarray(picture).mean())) for picture in pictures(html)]


def test_each_class_shows_its_own_images_spread_over_the_class() -> None:
    images, labels = gray([0, 100, 20, 120, 40, 140, 60, 160]), torch.tensor([0, 1] * 4)
    assert levels(contact_sheet(images, labels, ["a", "b"], per_class=2).html) == [0, 60, 100, 160]


def test_of_many_classes_some_are_shown_the_first_and_last_among_them() -> None:
    names = [f"class {index}" for index in range(50)]
    sheet = contact_sheet(gray(list(range(50))), torch.arange(50), names, max_classes=10).html
    assert sheet.count("<figcaption>") == 10
    assert "class 0 (1)" in sheet
    assert "class 49 (1)" in sheet


def test_a_class_without_images_says_so_instead_of_failing() -> None:
    sheet = contact_sheet(gray([5]), torch.tensor([0]), ["full", "empty"]).html
    assert "0 sample images of class empty" in sheet


def test_large_pictures_are_scaled_down_and_small_ones_kept() -> None:
    assert Image.open(io.BytesIO(thumbnail(torch.zeros(3, 300, 200, dtype=torch.uint8)))).size == (64, MAX_SIDE)
    assert Image.open(io.BytesIO(thumbnail(torch.zeros(3, 28, 28, dtype=torch.uint8)))).size == (28, 28)


def test_colors_keep_their_channels() -> None:
    picture = torch.zeros(3, 16, 16, dtype=torch.uint8)
    picture[0] = 255
    red, green, blue = np.asarray(Image.open(io.BytesIO(thumbnail(picture)))).reshape(-1, 3).mean(0)
    assert red > 250
    assert max(green, blue) < 5


def test_pictures_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"torch.float32 \(3, 8, 8\); give uint8"):
        thumbnail(torch.zeros(3, 8, 8))


def test_a_gallery_needs_a_caption_for_each_picture() -> None:
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        gallery(gray([0, 1]), ["one"])
