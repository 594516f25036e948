"""Where the pairs and the supernet lie that come with the repository."""

from pathlib import Path

from metad2a.spaces import SpaceName

_FOLDER = Path(__file__).resolve().parents[1] / "checkpoints" / "metad2a"
SHIPPED_PAIRS: dict[SpaceName, tuple[Path, ...]] = {
    "nasbench201": (_FOLDER / "cifar100-tiny_imagenet", _FOLDER / "cifar10-tiny_imagenet"),
    "mobilenetv3": (_FOLDER / "mobilenetv3-tiny_imagenet",),
}
"""Each named after the sets that it has seen; the first that has not seen a dataset searches on it."""
SHIPPED_SUPERNET = _FOLDER / "mobilenetv3-tiny_imagenet" / "supernet.safetensors"
"""Of width 0.35 for images of 32 pixels; it has seen Tiny ImageNet alone."""
