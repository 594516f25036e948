"""Frozen networks that turn images of 32 x 32 pixels into 512 numbers.

Source: Lee et al., ICLR 2021 (MetaD2A): ResNet-18 without its last layer, at 32 pixels, on images normalised with the
constants of their own dataset.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from common.features.compact import ARCHITECTURE, FEATURE_DIM, CompactNetwork
from common.kd.guide import weights_digest
from common.store.released import read_released
from common.store.weights import load_weights

RESOLUTION = 32
"""Height and width of the images in pixels."""

KIND = "feature-extractor"
"""What the metadata of our weights file says it is."""

SHIPPED_COMPACT = Path(__file__).resolve().parents[2] / "checkpoints" / "features" / "compact.safetensors"
"""The network that comes with the repository."""

RESNET18_FILE = Path("checkpoint", "features", "resnet18-f37072fd.pth")
"""Where `python -m download.features` puts torchvision's weights."""

_RESNET18_SHA256 = "f37072fd"  # torchvision puts the first digits into the name
_RANDOM_SEED = 0
_BATCH = 64  # on one core faster than more: what a layer leaves is still in its cache when the next one needs it


class Extractor(nn.Module):
    """A frozen network with an id that changes with its weights.

    It stays in eval mode, asks for no gradients, and each image's features do not depend on the others of a batch.

    Args:
        name: key of `EXTRACTORS`.
        backbone: (B, 3, 32, 32) normalised float to (B, 512).

    Attributes:
        id: the name and 8 hexadecimal digits of the weights, `compact-1a2b3c4d`.
        resolution: height and width of its images in pixels.
        feature_dim: numbers an image.
    """

    resolution = RESOLUTION
    feature_dim = FEATURE_DIM

    def __init__(self, name: str, backbone: nn.Module) -> None:
        super().__init__()
        self.id = f"{name}-{weights_digest(backbone)[:8]}"
        self.backbone = backbone.to(memory_format=torch.channels_last).requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode whatever is asked: a frozen network has no other."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Features of a batch.

        Args:
            images: (B, 3, 32, 32) uint8, RGB, on the extractor's device.
            mean: (3,) of the images' dataset, of pixels in [0, 1].
            std: (3,), positive.

        Returns:
            (B, 512) float32, 0 or more.

        Raises:
            ValueError: the images are of another shape or type.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1:] != (3, RESOLUTION, RESOLUTION):
            raise ValueError(
                f"an extractor takes uint8 images (B, 3, {RESOLUTION}, {RESOLUTION}), "
                f"got {images.dtype} {tuple(images.shape)}"
            )
        device = images.device
        shift, scale = (255 * mean.to(device))[:, None, None], (255 * std.to(device))[:, None, None]
        pixels = (images.to(torch.float32, memory_format=torch.channels_last) - shift) / scale
        features: Tensor = self.backbone(pixels)
        return features.float()


def embed(
    extractor: Extractor, images: Tensor, mean: Tensor, std: Tensor, *, device: torch.device, batch_size: int = _BATCH
) -> Tensor:
    """Features of any number of images, a batch at a time.

    Args:
        extractor: on `device`.
        images: (N, 3, 32, 32) uint8, anywhere.
        mean: (3,); see `Extractor.forward`.
        std: (3,).
        device: where to compute.
        batch_size: images at once.

    Returns:
        (N, 512) float32 on the CPU.
    """
    features = torch.empty(len(images), extractor.feature_dim)
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size].to(device, non_blocking=True)
        features[start : start + batch_size] = extractor(part, mean, std).cpu()
    return features


def load_extractor(name: str, *, weights: Path | None = None) -> Extractor:
    """An extractor by name, on the CPU.

    Args:
        name: `compact`, our small network, which comes with the repository; `resnet18-imagenet`, torchvision's weights
            after `python -m download.features`; `random`, a ResNet-18 with weights drawn from a fixed seed, which has
            seen no image.
        weights: file of the weights where it is not the one that comes with the name.

    Raises:
        ValueError: the name is unknown, or random is given a file.
        FileNotFoundError: the file is not there; the message says how to get it.
        RuntimeError: the file is damaged or holds another network.
    """
    if name not in EXTRACTORS:
        raise ValueError(f"unknown extractor {name!r}: known are {', '.join(EXTRACTORS)}")
    return Extractor(name, EXTRACTORS[name](weights))


def _compact(weights: Path | None) -> nn.Module:
    file = weights or SHIPPED_COMPACT
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no feature network at {file}: restore it with git, or train one with "
            "`python -m common.features train-compact`"
        )
    tensors, metadata = load_weights(file)
    found = metadata.get("architecture")
    if metadata.get("kind") != KIND or found != ARCHITECTURE:
        raise RuntimeError(f"{file} holds {metadata.get('kind')!r} {found!r}, not {KIND!r} {ARCHITECTURE!r}")
    network = CompactNetwork(folded=True)
    _fill(network, {key: value.float() for key, value in tensors.items()}, file)
    return network


def _resnet18_imagenet(weights: Path | None) -> nn.Module:
    file = weights or RESNET18_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"there are no ResNet-18 weights at {file}: run `python -m download.features`, or give the file of "
            f"torchvision ({RESNET18_FILE.name}) by hand"
        )
    if weights is None and not _sha256(file).startswith(_RESNET18_SHA256):
        raise RuntimeError(
            f"{file} is damaged or not the file of torchvision (its SHA-256 does not begin with {_RESNET18_SHA256}): "
            "delete it and run `python -m download.features`"
        )
    state = read_released(file)
    network = _resnet18()
    _fill(network, state, file)
    return _without_classifier(network)


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _random(weights: Path | None) -> nn.Module:
    if weights is not None:
        raise ValueError(f"the extractor random draws its weights from a fixed seed: it takes no file ({weights})")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_SEED)
        return _without_classifier(_resnet18())


def _resnet18() -> nn.Module:
    from torchvision.models import resnet18

    network: nn.Module = resnet18(weights=None)
    return network


def _without_classifier(network: nn.Module) -> nn.Module:
    network.fc = nn.Identity()
    return network


def _fill(network: nn.Module, state: object, file: Path) -> None:
    """Weights into a network, names and shapes matched strictly."""
    try:
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RuntimeError(f"{file} holds the weights of another network ({reason}): give the right file") from error


EXTRACTORS: dict[str, Callable[[Path | None], nn.Module]] = {
    "compact": _compact,
    "resnet18-imagenet": _resnet18_imagenet,
    "random": _random,
}
"""Name of an extractor to what makes its network from a file of weights (None: the one of the name)."""
