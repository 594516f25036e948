"""Image sets that torchvision fetches, with its own addresses and checksums."""

import contextlib
import errno
import shlex
import sys
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from download import by_hand

_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_MNIST_PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


@dataclass(frozen=True, kw_only=True)
class TorchvisionSet:
    """How one set is opened, and what it is fetched from."""

    class_name: str
    """Class in `torchvision.datasets`."""
    urls: tuple[str, ...]
    """Addresses of the archives, for who fetches them by hand."""
    folder: str = ""
    """Where torchvision looks for the archives, relative to the data root."""
    parts: tuple[Mapping[str, Any], ...] = field(default_factory=lambda: ({},))
    """Arguments that together open all of the set."""
    licence: str

    def archives(self, root: Path) -> dict[str, Path]:
        """Base names of the archives and where they go."""
        names = [url.rsplit("/", 1)[1] for url in self.urls]
        return {name: root / self.folder / name for name in names}


TORCHVISION_SETS: dict[str, TorchvisionSet] = {
    "cifar10": TorchvisionSet(
        class_name="CIFAR10",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
        licence="no licence stated; cite Krizhevsky 2009",
    ),
    "cifar100": TorchvisionSet(
        class_name="CIFAR100",
        urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
        licence="no licence stated; cite Krizhevsky 2009",
    ),
    "mnist": TorchvisionSet(
        class_name="MNIST",
        urls=tuple(f"https://ossci-datasets.s3.amazonaws.com/mnist/{part}-ubyte.gz" for part in _MNIST_PARTS),
        folder="MNIST/raw",
        licence="see the authors' page, LeCun et al.",
    ),
    "svhn": TorchvisionSet(
        class_name="SVHN",
        urls=tuple(f"http://ufldl.stanford.edu/housenumbers/{part}_32x32.mat" for part in ("train", "test")),
        parts=({"split": "train"}, {"split": "test"}),
        licence="non-commercial use only, Netzer et al. 2011",
    ),
    "aircraft": TorchvisionSet(
        class_name="FGVCAircraft",
        urls=(f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",),
        licence="non-commercial research only; rights stay with the photographers, Maji et al. 2013",
    ),
    "pets": TorchvisionSet(
        class_name="OxfordIIITPet",
        urls=(f"{_VGG}/pets/data/images.tar.gz", f"{_VGG}/pets/data/annotations.tar.gz"),
        folder="oxford-iiit-pet",
        licence="CC BY-SA 4.0; rights stay with the photographers, Parkhi et al. 2012",
    ),
    "dtd_original": TorchvisionSet(
        class_name="DTD",
        urls=(f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz",),
        folder="dtd",
        licence="for research; images come from the web with their own rights, Cimpoi et al. 2014",
    ),
}


def obtain(name: str, known: TorchvisionSet, root: Path, source: Path | None = None) -> str:
    """Fetch and unpack a set through torchvision.

    Args:
        name: what the user calls it.
        known: the set.
        root: the data root.
        source: folder of archives fetched by hand; None: fetch them.

    Returns:
        What happened, to be read after the name of the set.

    Raises:
        RuntimeError: it cannot be had; the message says why and what to do by hand.
        OSError: the disk is full.
    """
    if source is not None:
        found = {target: by_hand.find(source, file, name, unique=True) for file, target in known.archives(root).items()}
        for target, file in found.items():
            by_hand.copy(file, target)
    try:
        _open(known, root, download=True)
    except (EOFError, tarfile.TarError, zlib.error) as error:
        there = " ".join(shlex.quote(str(path)) for path in known.archives(root).values() if path.exists())
        raise RuntimeError(
            f"{name}: an archive is damaged ({error}): delete {there} and run the command again"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        reason = " ".join(str(error).split())
        raise RuntimeError(
            f"{name} could not be fetched through torchvision from {', '.join(known.urls)}: {reason}"
        ) from error
    return f"fetched through torchvision.datasets.{known.class_name}"


def verify(known: TorchvisionSet, root: Path) -> str:
    """Open a set that is there, with whatever checks torchvision has for it.

    Returns:
        A verdict; empty when nothing is wrong.
    """
    try:
        _open(known, root, download=False)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        return f"missing or damaged: {' '.join(str(error).split())}"
    return ""


def _open(known: TorchvisionSet, root: Path, *, download: bool) -> None:
    from torchvision import datasets  # here, because it takes seconds that no other download needs

    with contextlib.redirect_stdout(sys.stderr):
        for part in known.parts:
            getattr(datasets, known.class_name)(str(root), download=download, **part)
