"""Images as a retrained network is validated on: resized by the shorter side, cut out of the centre.

Source: released code of Li et al., CVPR 2020, retraining part (224 pixels out of 256, bicubic).
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize

from common.data.folder import PARTS
from common.data.open import is_path, open_source, resolve_root
from common.data.pixels import to_rgb
from common.data.registry import canonical, known_names
from common.data.source import DAMAGE, TEST, TRAIN, VALID, Source
from common.experiment.device import available_cpus
from dna.models import CROP_PCT, IMAGENET_MEAN, IMAGENET_STD, RESOLUTION

Interpolation = Literal["bicubic", "bilinear"]
Part = Literal["auto", "train", "valid", "test", "all"]
_SPLITS: dict[str, tuple[int, ...]] = {
    "auto": (VALID, TEST),
    "train": (TRAIN,),
    "valid": (VALID,),
    "test": (TEST,),
    "all": (TRAIN, VALID, TEST),
}
_BATCHES_AHEAD = 2


@dataclass(frozen=True, kw_only=True)
class View:
    """How an image becomes a network's input."""

    resolution: int = RESOLUTION
    """Height and width that the network sees, in pixels."""
    crop_pct: float = CROP_PCT
    """The same over the shorter side of the resized image, in (0, 1]."""
    interpolation: Interpolation = "bicubic"
    """How images are resized, with antialias."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.resolution < 1:
            raise ValueError(f"resolution is {self.resolution}; it must be 1 pixel or more")
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct is {self.crop_pct}; it must be above 0 and at most 1")

    def of(self, image: Image.Image) -> NDArray[np.uint8]:
        """The view of an image, (3, R, R); a tag of its orientation is not looked at, as in the released code."""
        side = math.floor(self.resolution / self.crop_pct)
        resized = resize(to_rgb(image), [side], InterpolationMode(self.interpolation))
        return np.asarray(center_crop(resized, [self.resolution])).transpose(2, 0, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Images to validate on.

    Attributes:
        source: the dataset.
        rows: (N,) those of its images that are used.
        labels: (N,) int64, the network's output that is right for each.
        part: which part of the set they are, in words.
    """

    source: Source
    rows: NDArray[np.int64]
    labels: Tensor
    part: str


def open_pictures(data: str, part: Part, num_outputs: int, *, data_root: Path | None, seed: int) -> Pictures:
    """Find the images of a part of a dataset, without decoding them.

    Args:
        data: a folder in ImageNet's layout (class folders, perhaps inside `val` or `validation`), or what `open_source`
            takes.
        part: "auto" is the validation part of a folder, all of it where it has no parts, and of other sets the test
            part, or the validation part where that is missing.
        num_outputs: outputs of the network. Folders of the network's 1,000 outputs that are named by ImageNet's ids may
            be fewer.
        data_root: folder of the known sets.
        seed: of parts that are drawn.

    Raises:
        FileNotFoundError: there are no such images.
        ValueError: the part is empty, or the classes are not the network's.
    """
    folder = _part_folder(data, part, resolve_root(data_root))
    source = open_source(folder or data, data_root=data_root, seed=seed)
    if folder is not None or (part == "auto" and source.id.startswith("folder:")):
        rows, words = np.arange(len(source.labels)), "all images"
    else:
        rows, words = _rows(source, part)
    outputs = _outputs(source, num_outputs)
    return Pictures(source=source, rows=rows, labels=outputs[torch.from_numpy(source.labels[rows])], part=words)


def decoded(pictures: Pictures, view: View, batch_size: int, skipped: list[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of images and labels, decoded ahead by threads.

    Args:
        pictures: what to decode.
        view: how.
        batch_size: images in a batch; damaged ones are left out.
        skipped: is extended by the reasons of those.

    Yields:
        (B, 3, R, R) uint8 and (B,) int64 on the CPU.
    """

    def read(row: int) -> NDArray[np.uint8] | str:
        try:
            with pictures.source.read(row) as image:
                return view.of(image)
        except DAMAGE as error:
            return f"{pictures.source.locate(row)}: {str(error) or type(error).__name__}"

    waiting: deque[list[Future[NDArray[np.uint8] | str]]] = deque()
    parts = iter(np.split(pictures.rows, range(batch_size, len(pictures.rows), batch_size)))
    with ThreadPoolExecutor(max_workers=available_cpus()) as pool:
        for of_batch in torch.split(pictures.labels, batch_size):
            while len(waiting) < _BATCHES_AHEAD and (part := next(parts, None)) is not None:
                waiting.append([pool.submit(read, row) for row in part.tolist()])
            found = [future.result() for future in waiting.popleft()]
            whole = [position for position, item in enumerate(found) if not isinstance(item, str)]
            skipped += [item for item in found if isinstance(item, str)]
            if whole:
                yield torch.from_numpy(np.stack([found[position] for position in whole])), of_batch[whole]


def normalised(images: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) uint8 to floats, with ImageNet's mean and standard deviation of each channel."""
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (images.to(torch.float32) / 255 - mean) / std


def _part_folder(data: str, part: Part, root: Path) -> Path | None:
    """The folder of the part inside a folder that has parts, like ImageNet's; else None."""
    places = [Path(data).expanduser()]
    if not is_path(data):
        places = [] if canonical(data) in known_names(root) else [*places, root / data]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None or part == "all":
        return None
    children = {child.name.lower(): child for child in sorted(folder.iterdir()) if child.is_dir()}
    for split in _SPLITS[part]:
        for name, child in children.items():
            if PARTS.get(name) == split and any(grandchild.is_dir() for grandchild in child.iterdir()):
                return child
    return None


def _rows(source: Source, part: Part) -> tuple[NDArray[np.int64], str]:
    splits = (TEST, VALID) if part == "auto" else _SPLITS[part]
    names = {TRAIN: "train", VALID: "valid", TEST: "test"}
    chosen = splits if part == "all" else next(([split] for split in splits if (source.split == split).any()), [])
    rows = np.flatnonzero(np.isin(source.split, np.array(chosen)))
    if not len(rows):
        there = ", ".join(name for split, name in names.items() if (source.split == split).any())
        raise ValueError(f"{source.name} has no images of part {part!r}: it has {there}; choose with --part, or all")
    return rows, "all images" if part == "all" else f"its part {names[chosen[0]]}"


def _outputs(source: Source, num_outputs: int) -> Tensor:
    """Output of the network for each class of a source, (classes,) int64."""
    if num_outputs == 1000:
        known = {name: output for output, name in enumerate(_imagenet_ids())}
        ids = [name.split()[0] for name in source.class_names if name.split()]
        if len(ids) == len(source.class_names) and {*ids} <= {*known}:
            return torch.tensor([known[name] for name in ids])
    if len(source.class_names) != num_outputs:
        raise ValueError(
            f"{source.name} has {len(source.class_names)} classes ({_some(source.class_names)}) and the network "
            f"{num_outputs} outputs: give images of the same classes"
        )
    return torch.arange(num_outputs)


def _imagenet_ids() -> list[str]:
    """Ids of ImageNet's 1,000 classes (`n01440764`), in the order of the outputs."""
    ids: list[str] = ImageNetInfo("imagenet-1k").label_names()  # type: ignore[no-untyped-call]
    return ids


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
