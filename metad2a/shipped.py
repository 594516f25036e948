"""Where the pairs lie that come with the repository."""

from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[1] / "checkpoints" / "metad2a"
SHIPPED_PAIRS = (_FOLDER / "cifar100-tiny_imagenet", _FOLDER / "cifar10-tiny_imagenet")
"""Each named after the sets that it has seen; the first that has not seen a dataset searches on it."""
