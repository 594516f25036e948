"""Predictions and accuracy of a classifier over all images of a task's evaluation side."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.data.batches import normalise
from common.data.tasks import Task

EVALUATION_BATCH = 256


def evaluate(
    network: nn.Module, task: Task, *, device: torch.device, batch_size: int = EVALUATION_BATCH
) -> tuple[float, float]:
    """Cross-entropy and accuracy on the evaluation images, none left out.

    Args:
        network: on `device`; evaluated in eval mode and left in the mode that it had.
        task: its `evaluation` indices are used.
        device: where to compute.
        batch_size: images at once.

    Returns:
        (loss in nats, accuracy in [0, 1]).

    Raises:
        ValueError: the network's outputs are not the task's classes.
    """
    logits = predict(network, task.images, task.evaluation, device=device, batch_size=batch_size)
    check_outputs(logits, task.num_classes, "the network")
    labels = task.labels[task.evaluation].to(device)
    return float(F.cross_entropy(logits, labels)), float((logits.argmax(1) == labels).float().mean())


def predict(
    network: nn.Module, images: Tensor, indices: Tensor, *, device: torch.device, batch_size: int = EVALUATION_BATCH
) -> Tensor:
    """Logits of chosen images, in eval mode and float32, without gradients or changes of batch statistics.

    Args:
        network: on `device`; left in the mode that it had.
        images: (N, 3, H, W) uint8, on any device.
        indices: (n,) int64, on any device.
        device: where to compute.
        batch_size: images at once.

    Returns:
        (n, K) on `device`.
    """
    parts = []
    with eval_mode(network), torch.inference_mode():
        for chunk in torch.split(indices.to(images.device), batch_size):
            parts.append(network(normalise(images[chunk].to(device, non_blocking=True))))
    return torch.cat(parts).clone()  # an ordinary tensor, which a loss may keep for its backward pass


def check_outputs(logits: Tensor, num_classes: int, who: str) -> None:
    """Raise ValueError unless the logits are (n, num_classes)."""
    if logits.dim() != 2 or logits.shape[1] != num_classes:
        raise ValueError(
            f"{who} gives outputs of shape {tuple(logits.shape[1:])}, the task has {num_classes} classes: "
            f"build it with num_classes={num_classes}"
        )


@contextmanager
def eval_mode(*networks: nn.Module) -> Iterator[None]:
    """Eval mode inside, every module's own mode again after."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
