"""Fetch ImageNet weights for image features: `python -m download.features`."""

import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started by its path: imports are to start from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from download.command import Command, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `--help`."""
    command = Command(
        module="download.features",
        help="Fetch ImageNet weights of torchvision that image features are made with.",
        manifest=Path(__file__).with_name("features.yaml"),
        folder=Path("checkpoint", "features"),
    )
    return run(command, argv)


if __name__ == "__main__":
    sys.exit(main())
