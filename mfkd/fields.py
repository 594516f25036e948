"""Nested values of a pipeline file, read by type: what is unknown, missing or of another type fails with its path."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import yaml

from common.experiment.config import UsageError
from common.experiment.presets import from_yaml, nearest

Choice = TypeVar("Choice")


class Fields:
    """One mapping of the file. Keys that were never asked for are errors of `finish`.

    Args:
        values: the mapping; None is an empty one.
        path: its place in the file, for messages.
        notes: what users should know of values that have no effect; shared by all mappings of a file.

    Raises:
        UsageError: `values` is no mapping.
    """

    def __init__(self, values: object, path: str, notes: list[str]) -> None:
        if values is not None and not isinstance(values, Mapping):
            raise UsageError(f"{path} is {values!r}: keys with values are needed")
        self.path, self.notes = path, notes
        self.values = {str(key): value for key, value in (values or {}).items()}
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        self._known.add(key)
        return self.values.get(key) is not None

    def at(self, key: str) -> str:
        """Path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str) -> object:
        """The value as it is, None where there is none."""
        self._known.add(key)
        return self.values.get(key)

    def inner(self, key: str) -> "Fields":
        """A mapping below; empty where there is none."""
        return Fields(self.get(key), self.at(key), self.notes)

    def one_of(self, *keys: str) -> str:
        """The key that is used of several spellings, the first where none is.

        Raises:
            UsageError: two of them are used.
        """
        used = [key for key in keys if key in self]
        if len(used) > 1:
            raise UsageError(f"{self.path} has {' and '.join(used)}, which mean the same: keep one")
        return used[0] if used else keys[0]

    def text(self, key: str, default: str | None = None) -> str:
        """A text; without a default it must be there.

        Raises:
            UsageError: it is missing or no text.
        """
        value = self._value(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a text")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number; texts that look like one count, as `1e-1` is a text in YAML 1.1.

        Raises:
            UsageError: it is missing or no number.
        """
        value = as_number(self._value(key, default))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number")
        return float(value)

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number; texts that look like one count.

        Raises:
            UsageError: it is missing or no whole number.
        """
        value = as_number(self._value(key, default))
        if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
            raise self._wrong(key, value, "a whole number")
        return int(value)

    def truth(self, key: str, default: bool) -> bool:
        """True or false.

        Raises:
            UsageError: it is something else.
        """
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def choice(self, key: str, options: Mapping[str, Choice], default: str | None = None) -> Choice:
        """What a name stands for.

        Raises:
            UsageError: the name is missing, or none of the options; the message has the nearest.
        """
        name = self.text(key, default)
        if name not in options:
            raise UsageError(f"{self.at(key)} is {name!r}: {nearest(name, list(options))}")
        return options[name]

    def without_effect(self, why: str, *keys: str) -> None:
        """Accept keys that change nothing here, and note those that are there."""
        self.notes += [f"{self.at(key)} has no effect: {why}" for key in keys if key in self]

    def finish(self) -> None:
        """Refuse keys that nobody asked for.

        Raises:
            UsageError: there are some; the message has the nearest known one.
        """
        for key in self.values:
            if key not in self._known:
                hint = nearest(self.at(key), [self.at(known) for known in sorted(self._known)])
                raise UsageError(f"unknown key {self.at(key)!r}: {hint}")

    def _value(self, key: str, default: object) -> object:
        value = self.get(key)
        if value is None and default is None:
            raise UsageError(f"{self.at(key)} is missing")
        return default if value is None else value

    def _wrong(self, key: str, value: object, wanted: str) -> UsageError:
        return UsageError(f"{self.at(key)} is {value!r}: {wanted} is needed")


def as_number(value: object) -> object:
    """A text that looks like a number as that number; any other value as it is."""
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def read_mapping(file: Path) -> dict[str, object]:
    """The mapping of a YAML or JSON file.

    Raises:
        UsageError: the file cannot be read, is not YAML, or holds something else.
    """
    try:
        content = from_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds a {type(content).__name__}: keys with values are needed")
    return content
