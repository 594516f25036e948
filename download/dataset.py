"""Fetch image sets: `python -m download.dataset --name cub`, or `python download/dataset.py --name cub`."""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started by its path: imports are to start from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.data.open import resolve_root
from download.command import Command, run
from download.torchvision_sets import TORCHVISION_SETS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    command = Command(
        module="download.dataset",
        help="Fetch image sets. 'all' stands for the sets of the authors of DaSS, without those of torchvision.",
        manifest=Path(__file__).with_name("datasets.yaml"),
        folder=resolve_root(None),
        through_torchvision=TORCHVISION_SETS,
    )
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
