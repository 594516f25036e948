"""Training images on the device: shuffled, augmented, normalised; fresh in every epoch or from fixed views."""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.data.batches import augment, epoch_batches, normalise
from common.data.tasks import Task
from common.experiment.seeds import generator
from common.kd.recipe import Recipe

_VIEW_CHUNK = 1024  # images augmented at once; part of what a seed means, because each chunk draws anew


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """One training step's images."""

    images: Tensor
    """(B, 3, R, R) float, normalised, augmented."""
    labels: Tensor
    """(B,) int64."""
    rows: Tensor
    """(B,) int64, positions within the training set."""
    view: int | None
    """Which fixed view they come from; None with fresh augmentation."""


class TrainingSet:
    """The training side of a task, batch by batch.

    All randomness is a function of the seed and the step, so that every network of a seed sees the same batches and a
    resumed run needs no generator state.

    Raises:
        ValueError: there are fewer training images than a batch.
    """

    def __init__(self, task: Task, recipe: Recipe, device: torch.device, seed: int) -> None:
        num_images = len(task.train)
        if num_images < recipe.batch_size:
            raise ValueError(
                f"task {task.id} has {num_images} training images, fewer than a batch of {recipe.batch_size}: "
                f"give --recipe.batch-size {num_images} or less"
            )
        self.task, self.recipe, self.device, self.seed = task, recipe, device, seed
        self.images = images_near(task.images, device)
        self.train = task.train.to(self.images.device)
        self.labels = task.labels[task.train].to(device)
        self.steps = min(num_images, recipe.epoch_images or num_images) // recipe.batch_size
        self.padding = task.resolution // 8 if recipe.padding is None else recipe.padding
        self.flip = task.flip if recipe.flip == "auto" else recipe.flip == "yes"
        self._view: tuple[int, Tensor] | None = None
        self._shuffled: tuple[int, tuple[Tensor, ...]] | None = None

    def batch(self, step: int) -> Batch:
        """Batch of one training step, counted from 0 through all epochs; an epoch's last partial batch is dropped."""
        epoch, index = divmod(step, self.steps)
        if self._shuffled is None or self._shuffled[0] != epoch:
            self._shuffled = (epoch, self._shuffle(epoch))
        rows = self._shuffled[1][index]
        view = epoch % self.recipe.views if self.recipe.views else None
        if view is None:
            near = self.images[self.train[rows.to(self.train.device)]].to(self.device, non_blocking=True)
            draws = generator(self.seed, "augment", step)
            pixels = augment(near, draws, padding=self.padding, flip=self.flip)
        else:
            copy = self.view(view)
            pixels = copy[rows.to(copy.device)].to(self.device, non_blocking=True)
        return Batch(images=self._floats(pixels), labels=self.labels[rows], rows=rows, view=view)

    def view(self, index: int) -> Tensor:
        """The whole training set as view `index` has it, (N, 3, R, R) uint8.

        A view is made again from its own generator when its turn comes, so one copy is in memory instead of V.
        """
        if self._view is None or self._view[0] != index:
            draws = generator(self.seed, "view", index)
            parts = [
                augment(self.images[chunk], draws, padding=self.padding, flip=self.flip)
                for chunk in torch.split(self.train, _VIEW_CHUNK)
            ]
            self._view = (index, torch.cat(parts))
        return self._view[1]

    def _shuffle(self, epoch: int) -> tuple[Tensor, ...]:
        """Rows of each batch of an epoch, on the device after one transfer."""
        draws = generator(self.seed, "shuffle", epoch)
        batches = list(epoch_batches(len(self.train), self.recipe.batch_size, draws, drop_last=True))
        return torch.split(torch.cat(batches).to(self.device), self.recipe.batch_size)

    def _floats(self, pixels: Tensor) -> Tensor:
        images = normalise(pixels)
        return images.contiguous(memory_format=torch.channels_last) if self.recipe.channels_last else images


def images_near(images: Tensor, device: torch.device) -> Tensor:
    """The images on the device when they take less than half of its free memory, else where they are."""
    if device.type == "cuda" and images.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        return images.to(device) if images.nbytes < free / 2 else images
    return images.to(device)
