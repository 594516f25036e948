"""What can be fetched: a typed, checked reading of the YAML lists beside this module."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import yaml


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One remote file."""

    name: str
    """What the user calls the group that the file belongs to, such as `cub`."""
    target: str
    """Where the file goes, relative to the folder of the command; forward slashes."""
    urls: tuple[str, ...]
    """Addresses in order of preference, at least one."""
    size: int | None = None
    """Bytes; None where nobody has told."""
    sha256: str | None = None
    """64 lower-case hexadecimal digits; None where nobody has told."""
    licence: str
    """Whose the content is and what it may be used for, as far as known."""
    unpack: bool = False
    """The file is an archive that becomes a folder of the same name, without the ending."""
    unpacked_size: int | None = None
    """Bytes that an archive may unpack to at most; None where nobody has told."""

    def __post_init__(self) -> None:
        path = PurePosixPath(self.target)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in self.target or ":" in self.target:
            raise ValueError(f"target is {self.target!r}: it must be a path inside the folder, with forward slashes")
        if not self.urls:
            raise ValueError(f"{self.target}: urls is empty, at least one is needed")
        for url in self.urls:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise ValueError(f"{self.target}: url {url!r} must begin with https:// or http://")
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.target}: sha256 is {self.sha256!r}: 64 lower-case hexadecimal digits or null")
        for field, value in (("size", self.size), ("unpacked_size", self.unpacked_size)):
            if value is not None and value <= 0:
                raise ValueError(f"{self.target}: {field} is {value}: a number of bytes above 0, or null")

    @property
    def file_name(self) -> str:
        """Last part of the target."""
        return PurePosixPath(self.target).name


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The files of one command, in groups."""

    entries: tuple[Entry, ...]
    by_hand: Mapping[str, str]
    """Name of a group to a sentence on where else its content comes from."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups, in the order of the file."""
        return tuple(self.by_hand)

    def select(self, names: tuple[str, ...]) -> tuple[Entry, ...]:
        """Entries of some groups, in the order of the file.

        Raises:
            ValueError: there is no group of that name.
        """
        unknown = [name for name in names if name not in self.by_hand]
        if unknown:
            raise ValueError(f"no group is named {unknown[0]!r}; known: {', '.join(self.names)}")
        return tuple(entry for entry in self.entries if entry.name in names)


def load_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Args:
        path: YAML, a mapping from the name of a group to `licence`, `by_hand` and `files`, where each of the files has
            `target` and `urls` and may have `size`, `sha256`, `unpack` and `unpacked_size`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not of this form; the message says where.
    """
    try:
        groups = _mapping(yaml.safe_load(path.read_text(encoding="utf-8")), "the file")
        entries = [entry for name, group in groups.items() for entry in _group(str(name), group)]
        targets = [entry.target for entry in entries]
        repeated = sorted({target for target in targets if targets.count(target) > 1})
        if repeated:
            raise ValueError(f"target {repeated[0]} is listed twice")
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    return Manifest(
        entries=tuple(entries),
        by_hand={str(name): " ".join(group["by_hand"].split()) for name, group in groups.items()},
    )


def _group(name: str, value: Any) -> list[Entry]:
    group = _mapping(value, name)
    _check_fields(group, name, {"licence": str, "by_hand": str, "files": list}, {})
    licence = " ".join(group["licence"].split())
    return [_entry(name, licence, file, f"{name}, file {index + 1}") for index, file in enumerate(group["files"])]


def _entry(name: str, licence: str, value: Any, where: str) -> Entry:
    file = _mapping(value, where)
    optional = {"size": int, "sha256": str, "unpack": bool, "unpacked_size": int}
    _check_fields(file, where, {"target": str, "urls": list}, optional)
    if not all(isinstance(url, str) for url in file["urls"]):
        raise ValueError(f"{where}: urls must be texts")
    return Entry(name=name, licence=licence, **(file | {"urls": tuple(file["urls"])}))


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a mapping, not {type(value).__name__}")
    return value


def _check_fields(value: dict[str, Any], where: str, required: dict[str, type], optional: dict[str, type]) -> None:
    known = required | optional
    for field in value:
        if field not in known:
            raise ValueError(f"{where}: unknown field {field!r}; known: {', '.join(known)}")
    for field, kind in known.items():
        if field not in value:
            if field in required:
                raise ValueError(f"{where}: field {field!r} is missing")
            continue
        may_be_null = field in optional and kind is not bool
        if type(value[field]) is not kind and not (value[field] is None and may_be_null):
            raise ValueError(f"{where}: {field} is {value[field]!r}, which is no {kind.__name__}")
