"""Networks out of a supernet: cut, with batch statistics of their own, and rated.

Source: Cai et al., ICLR 2020, released code (statistics are estimated anew for every network that is rated).
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from common.data.batches import normalise
from common.data.tasks import Task
from common.experiment.progress import track
from common.experiment.seeds import derive_seed, generator
from common.kd.evaluate import predict
from common.spaces.mobilenet_v3_arch import MobileNetV3Arch
from common.spaces.mobilenet_v3_network import BareLinear, MobileNetV3
from common.spaces.mobilenet_v3_supernet import MobileNetV3Supernet
from common.spaces.norms import estimate_norms

Network = TypeVar("Network", MobileNetV3, MobileNetV3Supernet)
_BATCH = 256


def calibration_images(task: Task, num: int, *, seed: int, device: torch.device) -> list[Tensor]:
    """Random training images to estimate batch statistics on, the same for every network.

    Args:
        task: its training images are drawn from, without replacement.
        num: how many, or all where it has fewer.
        seed: of the draw.
        device: where they shall be.

    Returns:
        Batches (B, 3, R, R), normalised, in the memory format that convolutions are fastest in.

    Raises:
        ValueError: no image is asked for.
    """
    if num < 1:
        raise ValueError(f"{num} images for batch statistics: at least 1 is needed")
    chosen = task.train[torch.randperm(len(task.train), generator=generator(seed, "calibration"))[:num]]
    return [
        normalise(task.images[rows].to(device)).contiguous(memory_format=torch.channels_last)
        for rows in torch.split(chosen, _BATCH)
    ]


def cut_subnet(supernet: MobileNetV3Supernet, arch: MobileNetV3Arch, calibration: Sequence[Tensor]) -> MobileNetV3:
    """A network of its own in eval mode, with inherited weights and batch statistics of the given images.

    Args:
        supernet: left as it is.
        arch: which network.
        calibration: see `calibration_images`; on the supernet's device.

    Raises:
        ValueError: no images.
    """
    network = supernet.cut(arch).eval()
    network.to(memory_format=torch.channels_last)  # 2 to 3 times as fast on CPUs
    estimate_norms(network, calibration)
    return network


def subnet_logits(
    supernet: MobileNetV3Supernet,
    arch: MobileNetV3Arch,
    *,
    calibration: Sequence[Tensor],
    images: Tensor,
    indices: Tensor,
    device: torch.device,
) -> Tensor:
    """What one network says of some images.

    Args:
        supernet: on the device.
        arch: which network.
        calibration: images for its batch statistics.
        images: (N, 3, R, R) uint8.
        indices: (n,) int64, which of them.
        device: where to compute.

    Returns:
        (n, K) float32 on the device. Columns and rows of some classes alone rate the network on a task of these.
    """
    return predict(cut_subnet(supernet, arch, calibration), images, indices, device=device)


def subnet_accuracies(
    supernet: MobileNetV3Supernet,
    archs: Sequence[MobileNetV3Arch],
    task: Task,
    *,
    calibration: Sequence[Tensor],
    device: torch.device,
    description: str = "networks",
) -> Tensor:
    """Accuracy of many networks on a task's evaluation images, with inherited weights.

    Args:
        supernet: of the task's classes, on the device.
        archs: M networks.
        task: see `Task`.
        calibration: training images for batch statistics.
        device: where to compute.
        description: in front of the progress bar.

    Returns:
        (M,) float32 in [0, 1] on the CPU.
    """
    labels = task.labels[task.evaluation].to(device)
    found = []
    for arch in track(archs, description=description):
        logits = subnet_logits(
            supernet, arch, calibration=calibration, images=task.images, indices=task.evaluation, device=device
        )
        found.append((logits.argmax(1) == labels).float().mean())
    return torch.stack(found).cpu() if found else torch.zeros(0)


def with_new_head(network: Network, num_classes: int, *, seed: int) -> Network:
    """A copy with a freshly drawn classifier, for a task of other classes.

    Args:
        network: a supernet, or a network cut out of one; left as it is.
        num_classes: outputs of the copy.
        seed: of the classifier's weights.

    Raises:
        ValueError: no classes.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes {num_classes}: at least 1 is needed")
    made = copy.deepcopy(network)
    old = made.classifier[-1]
    assert isinstance(old, nn.Linear)
    head = BareLinear(old.in_features, num_classes)
    draws = torch.Generator().manual_seed(derive_seed(seed, "head"))
    bound = old.in_features**-0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=draws)
        head.bias.zero_()
    made.classifier[-1] = head.to(old.weight.device, old.weight.dtype)
    if isinstance(made, MobileNetV3Supernet):
        made.num_classes = num_classes
    return made
