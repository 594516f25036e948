"""What the compact network is trained on: fixed views of real images, each with the teacher's features of it."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.data.batches import augment, epoch_batches
from common.data.dataset import ImageDataset
from common.experiment.progress import track
from common.experiment.seeds import generator
from common.features.extractors import RESOLUTION
from common.features.normalisation import channel_statistics, published_statistics
from common.features.squeezenet import SqueezeNetFeatures, resize
from common.kd.guide import weights_digest
from common.store.weights import load_weights, save_weights

logger = logging.getLogger(__name__)

SOURCE_RESOLUTION = 64
"""Height and width at which the training sets are opened: crops of it still fill the network's 32 pixels."""

_CHUNK = 64  # images that share the size of their crop; part of what a seed means


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Fixed views of the training images."""

    num: int = 4
    """Views of each image. The first is the whole image, the others are crops, half of them mirrored."""
    smallest_crop: int = 36
    """Side of the smallest crop in pixels, of 64."""
    teacher_resolution: int = 112
    """Height and width the teacher sees a view at."""
    teacher_bf16: bool = True
    """Compute the teacher in bfloat16."""
    jitter: int = 2
    """Pixels of 32 that a view is shifted by at random, anew at every step; the teacher's features stay."""

    def __post_init__(self) -> None:
        """Check the fields; raises ValueError."""
        if self.num < 1 or self.jitter < 0:
            raise ValueError(f"views.num is {self.num} and views.jitter {self.jitter}: at least 1 and 0")
        if not RESOLUTION <= self.smallest_crop <= SOURCE_RESOLUTION:
            raise ValueError(f"views.smallest_crop is {self.smallest_crop}: {RESOLUTION} to {SOURCE_RESOLUTION} pixels")
        if self.teacher_resolution < RESOLUTION:
            raise ValueError(f"views.teacher_resolution is {self.teacher_resolution}: {RESOLUTION} pixels or more")


@dataclass(frozen=True, kw_only=True, eq=False)
class SetViews:
    """The views of one set's training images."""

    name: str
    images: Tensor
    """(V, N, 3, 32, 32) uint8."""
    targets: Tensor
    """(V, N, 512) float16, the teacher's features."""
    labels: Tensor
    """(N,) int64."""
    num_classes: int
    mean: Tensor
    """(3,) of the set's training images at 32 pixels, as an extractor normalises them."""
    std: Tensor
    """(3,)."""


def make_views(
    dataset: ImageDataset, teacher: SqueezeNetFeatures, cfg: ViewConfig, *, seed: int, file: Path
) -> SetViews:
    """Views of a set's training and validation images, and the teacher's features of them.

    The features are kept in a file, because they take most of the time; the views are made again.

    Args:
        dataset: opened at 64 pixels.
        teacher: on the device where it shall compute.
        cfg: how many views, and of what kind.
        seed: of the crops.
        file: of the teacher's features; one of other images or settings is replaced.
    """
    rows = torch.cat([dataset.train, dataset.valid]).sort().values
    images = dataset.images[rows]
    views = [
        torch.cat([_small(crop) for crop in _crops(images, index, dataset, cfg, seed)]) for index in range(cfg.num)
    ]
    mean, std = published_statistics(dataset.name) or channel_statistics(views[0])
    return SetViews(
        name=dataset.name,
        images=torch.stack(views),
        targets=_targets(images, dataset, teacher, cfg, seed=seed, file=file),
        labels=dataset.labels[rows],
        num_classes=dataset.num_classes,
        mean=mean,
        std=std,
    )


def _crops(images: Tensor, view: int, dataset: ImageDataset, cfg: ViewConfig, seed: int) -> Iterator[Tensor]:
    """One view of all images, chunk by chunk: (B, 3, side, side) float."""
    draws = generator(seed, "view", dataset.name, view)
    for chunk in torch.split(images, _CHUNK):
        if view == 0:
            yield chunk.float()
            continue
        side = int(torch.randint(cfg.smallest_crop, SOURCE_RESOLUTION + 1, (1,), generator=draws))
        yield _random_crops(chunk, side, draws, flip=dataset.flip).float()


def _random_crops(images: Tensor, side: int, draws: torch.Generator, *, flip: bool) -> Tensor:
    """A crop of each image at a random place, half of them mirrored; (B, 3, side, side)."""
    batch = len(images)
    offsets = torch.randint(0, images.shape[-1] - side + 1, (2, batch), generator=draws)
    mirrored = torch.rand(batch, generator=draws) < (0.5 if flip else 0.0)
    steps = torch.arange(side)
    rows = offsets[0][:, None] + steps  # (B, side)
    columns = offsets[1][:, None] + torch.where(mirrored[:, None], side - 1 - steps, steps)
    each = torch.arange(batch)[:, None, None]
    return images[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _small(crops: Tensor) -> Tensor:
    return resize(crops, RESOLUTION).round().clamp(0, 255).to(torch.uint8)


def _targets(
    images: Tensor, dataset: ImageDataset, teacher: SqueezeNetFeatures, cfg: ViewConfig, *, seed: int, file: Path
) -> Tensor:
    """(V, N, 512) float16, from the file or computed and written there."""
    settings = (dataset.name, dataset.digest, seed, cfg.num, cfg.smallest_crop, cfg.teacher_resolution)
    key = hashlib.sha256(repr((*settings, cfg.teacher_bf16, weights_digest(teacher))).encode()).hexdigest()
    if file.is_file():
        try:
            tensors, about = load_weights(file)
        except RuntimeError as error:
            logger.warning("the teacher's features are computed again: %s", error)
        else:
            if about.get("key") == key:
                return tensors["targets"]
            logger.warning("the teacher's features are computed again: %s is of other images or settings", file)
    device = teacher.mean.device
    progress = track(total=cfg.num * len(images), description=f"teacher on {dataset.name}")
    views = []
    for view in range(cfg.num):
        parts = []
        for crops in _crops(images, view, dataset, cfg, seed):
            parts.append(teacher(crops.to(device), cfg.teacher_resolution, bf16=cfg.teacher_bf16).half().cpu())
            progress.update(len(crops))
        views.append(torch.cat(parts))
    progress.close()
    targets = torch.stack(views)
    save_weights(file, {"targets": targets}, {"key": key})
    return targets


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One training step."""

    images: Tensor
    """(B, 3, 32, 32) float, normalised with the constants of each image's set."""
    targets: Tensor
    """(B, 512) float, the teacher's features, each dimension with mean 0 and deviation 1 over the images."""
    labels: Tensor
    """(B,) int64, classes of all sets numbered through."""
    sets: Tensor
    """(B,) int64, which set each image is of."""


class Pool:
    """The views of several sets, batch by batch; a batch is a function of the seed and the step alone.

    Args:
        sets: at least one.
        cfg: the views.
        batch_size: images of a step; an epoch's last partial batch is left out.
        seed: of order and jitter.
        device: where the batches shall be.

    Attributes:
        steps: steps of an epoch, which is one view of all images.
        is_class_of: (num sets, num classes) bool, on the device.

    Raises:
        ValueError: there are fewer images than a batch.
    """

    def __init__(
        self, sets: Sequence[SetViews], cfg: ViewConfig, *, batch_size: int, seed: int, device: torch.device
    ) -> None:
        counts = torch.tensor([one.num_classes for one in sets])
        offsets = counts.cumsum(0) - counts
        self.cfg, self.batch_size, self.seed, self.device = cfg, batch_size, seed, device
        self.images = torch.cat([one.images for one in sets], dim=1)
        self.targets = torch.cat([one.targets for one in sets], dim=1)
        self.labels = torch.cat([one.labels + offset for one, offset in zip(sets, offsets.tolist(), strict=True)])
        self.sets = torch.repeat_interleave(torch.arange(len(sets)), torch.tensor([len(one.labels) for one in sets]))
        self.mean, self.std = (torch.stack([getattr(one, name) for one in sets]) for name in ("mean", "std"))
        first = self.targets[0].float()
        self.target_mean, self.target_std = first.mean(dim=0), first.std(dim=0).clamp(min=1e-3)
        owner = torch.repeat_interleave(torch.arange(len(sets)), counts)
        self.is_class_of = (owner == torch.arange(len(sets))[:, None]).to(device)
        self.steps = len(self.labels) // batch_size
        if self.steps == 0:
            raise ValueError(f"there are {len(self.labels)} training images, fewer than a batch of {batch_size}")
        self._order: tuple[int, tuple[Tensor, ...]] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Classes of all sets together."""
        return self.is_class_of.shape[1]

    def batch(self, step: int) -> Batch:
        """Batch of a training step, counted from 0 through all epochs; every epoch takes the next view."""
        epoch, index = divmod(step, self.steps)
        if self._order is None or self._order[0] != epoch:
            draws = generator(self.seed, "shuffle", epoch)
            self._order = (epoch, tuple(epoch_batches(len(self), self.batch_size, draws, drop_last=True)))
        rows, view = self._order[1][index], epoch % self.cfg.num
        pixels = augment(
            self.images[view, rows], generator(self.seed, "jitter", step), padding=self.cfg.jitter, flip=False
        )
        targets = (self.targets[view, rows].float() - self.target_mean) / self.target_std
        return Batch(
            images=self.normalise(pixels, self.sets[rows]).to(self.device),
            targets=targets.to(self.device),
            labels=self.labels[rows].to(self.device),
            sets=self.sets[rows].to(self.device),
        )

    def normalise(self, pixels: Tensor, sets: Tensor) -> Tensor:
        """Images as an extractor normalises them, each with the constants of its set."""
        mean, std = self.mean[sets][:, :, None, None], self.std[sets][:, :, None, None]
        return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
