"""What was fetched into a folder: sizes and hashes, so that damage shows later (trust on first use)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common.experiment.files import read_json, write_json

FILE_NAME = "downloads.lock.json"
_FORMAT = 1


@dataclass(frozen=True)
class Fingerprint:
    """Size in bytes and SHA-256 of a file."""

    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """How a file of the manifest came here."""

    file: Fingerprint
    source: str
    """The address, or the path of the file that was given by hand."""
    unpacked: Mapping[str, Fingerprint] = field(default_factory=dict)
    """For an archive, which is not kept: what came out of it, by path relative to the folder."""


class Ledger:
    """The file `downloads.lock.json` of a folder.

    Args:
        folder: where the files are.

    Raises:
        RuntimeError: the file is there and damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._receipts = self._read() if self._path.exists() else {}

    def get(self, target: str) -> Receipt | None:
        """The receipt of a file, None where it never came."""
        return self._receipts.get(target)

    def put(self, target: str, receipt: Receipt) -> None:
        """Keep the receipt of a file; on the disk when this returns."""
        self._receipts[target] = receipt
        files = {key: asdict(self._receipts[key]) for key in sorted(self._receipts)}
        write_json(self._path, {"format": _FORMAT, "files": files})

    def _read(self) -> dict[str, Receipt]:
        value = read_json(self._path)
        try:
            if value["format"] != _FORMAT:
                raise ValueError(f"its format is {value['format']!r}")
            return {str(target): _receipt(fields) for target, fields in value["files"].items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RuntimeError(
                f"{self._path} is damaged or of another program ({type(error).__name__}: {error}): delete it; what is "
                "there is then recorded anew, as it is"
            ) from error


def _receipt(fields: Any) -> Receipt:
    unpacked = {str(path): Fingerprint(**fingerprint) for path, fingerprint in fields["unpacked"].items()}
    return Receipt(file=Fingerprint(**fields["file"]), source=str(fields["source"]), unpacked=unpacked)
