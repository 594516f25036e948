"""Where the zoo lies that comes with the repository."""

from pathlib import Path

from tans.build_zoo import ZOO

SHIPPED_ZOO = Path(__file__).resolve().parents[1] / "checkpoints" / "tans" / "zoo"
"""With its encoders."""


def default_zoo() -> Path:
    """The zoo that was built here, else the shipped one."""
    return ZOO if (ZOO / "zoo.db").is_file() else SHIPPED_ZOO
