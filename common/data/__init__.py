"""Named and own image sets, tasks made of them, and batches on the device."""

from common.data.batches import augment, epoch_batches, normalise
from common.data.dataset import ImageDataset
from common.data.open import open_dataset
from common.data.tasks import Task, open_task

__all__ = ["ImageDataset", "Task", "augment", "epoch_batches", "normalise", "open_dataset", "open_task"]
