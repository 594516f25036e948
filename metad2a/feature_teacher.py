"""A teacher for supernets: a linear classifier on a frozen extractor's features.

It costs seconds, and its soft answers tell far more of a few thousand images than their labels do.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.data.batches import normalise
from common.data.tasks import Task
from common.features.extractors import Extractor, embed

_STEPS, _DECAY = 60, 1e-3


class FeatureTeacher(nn.Module):
    """Logits of normalised images (pixels in [-1, 1]), as every classifier here takes them.

    Args:
        extractor: frozen.
        mean: (3,) of the training images, of pixels in [0, 1].
        std: (3,).
        num_classes: outputs.
    """

    def __init__(self, extractor: Extractor, mean: Tensor, std: Tensor, num_classes: int) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = nn.Linear(extractor.feature_dim, num_classes)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.register_buffer("shift", torch.zeros(extractor.feature_dim))
        self.register_buffer("scale", torch.ones(extractor.feature_dim))

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, 32, 32) in [-1, 1] -> (B, num_classes)
        """Logits."""
        pixels = ((images + 1) * 127.5).round().to(torch.uint8)
        features = self.extractor(pixels, self.mean, self.std)
        logits: Tensor = self.head((features - self.shift) / self.scale)
        return logits


def fit_teacher(extractor: Extractor, task: Task, device: torch.device) -> FeatureTeacher:
    """Fit the classifier to a task's training images, by L-BFGS on the cross-entropy with a penalty.

    Args:
        extractor: takes images of the task's resolution.
        task: images and labels.
        device: where to compute.

    Raises:
        ValueError: the extractor takes images of another size.
    """
    if task.resolution != extractor.resolution:
        raise ValueError(
            f"images of {task.resolution} pixels have no teacher of features, which takes {extractor.resolution}: give "
            "--teacher none"
        )
    images = task.images[task.train]
    scaled = (normalise(images) + 1) / 2
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    features = embed(extractor.to(device), images, mean, std, device=device).to(device)
    teacher = FeatureTeacher(extractor, mean, std, task.num_classes).to(device)
    teacher.shift, teacher.scale = features.mean(0), features.std(0).clamp(min=1e-6)
    inputs, labels = (features - teacher.shift) / teacher.scale, task.labels[task.train].to(device)
    head = teacher.head
    with torch.no_grad():
        head.weight.zero_(), head.bias.zero_()
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(head(inputs), labels) + _DECAY * head.weight.square().sum() / 2
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return teacher.requires_grad_(False).eval()
