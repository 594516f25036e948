"""YAML presets: read safely, checked against a config's types, and turned into flags."""

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml


class UsageError(ValueError):
    """The command was called in a way that cannot work; exit code 2."""


def from_yaml(text: str) -> Any:
    """Value of a YAML text, where `no`, `off` and `1e-3` mean what they look like: two words and a number.

    Raises:
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, Loader=_Loader)


def dump_yaml(value: Any) -> str:
    """YAML text that `from_yaml` and any other YAML reader turn into the same plain value."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for an error: "did you mean X?" where one of the known names is near, else what is known."""
    ends = {key.rsplit(".", 1)[-1]: key for key in known}
    found = difflib.get_close_matches(name, known, n=1) or [
        ends[end] for end in difflib.get_close_matches(name.rsplit(".", 1)[-1], list(ends), n=1)
    ]
    return f"did you mean {found[0]}?" if found else f"known are {', '.join(known)}"


def read_preset(path: Path, step: str, steps: Sequence[str]) -> dict[str, Any]:
    """Mapping in a YAML file, with the section of this step laid over the rest.

    Args:
        path: the file.
        step: name of the step that is run.
        steps: names whose sections belong to one step each.

    Raises:
        UsageError: the file cannot be read, is not YAML, or holds no mapping.
    """
    try:
        content = from_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the config file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise UsageError(f"{path} holds a {type(content).__name__}, not fields by name")
    sections = {key: content.pop(key) for key in steps if isinstance(content.get(key), dict)}
    return _overlaid(content, sections.get(step, {}))


def _overlaid(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlaid(merged[key], value) if both else value
    return merged


def preset_flags(config_type: type, content: Mapping[Any, Any], file: str, prefix: str = "") -> Iterator[str]:
    """The flags that a preset stands for.

    Args:
        config_type: the config that the flags are for.
        content: fields by name, as `read_preset` returns them.
        file: where they come from, for the errors.
        prefix: section of `config_type` in the whole config, with a dot at its end.

    Raises:
        UsageError: an unknown key, or a value that is not of the field's type.
    """
    hints = typing.get_type_hints(config_type)
    for given, value in content.items():
        key = str(given).replace("-", "_")
        where = f"{file}: {prefix}{key}"
        if key not in hints:
            raise UsageError(
                f"{file}: unknown key {prefix + key!r}: {nearest(prefix + key, [prefix + n for n in hints])}"
            )
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, dict):
                raise UsageError(f"{where} is {value!r}: it is a section and needs fields by name")
            yield from preset_flags(hint, value, file, f"{prefix}{key}.")
        elif not _fits(value, hint):
            raise UsageError(f"{where} is {value!r}: it must be {_describe(hint)}")
        else:
            yield from _flag(prefix + key.replace("_", "-"), value, hint)


def _flag(name: str, value: Any, hint: Any) -> list[str]:
    if hint is bool:
        section, _, last = name.rpartition(".")
        return [f"--{section}{'.' if section else ''}{'' if value else 'no-'}{last}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}={value}"]  # one token, so that a value may begin with a dash


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value is of a field's type; whole numbers pass as floats and as text (`gpu: 0`)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is tuple:
        items = value if isinstance(value, list) else [None]
        expected = [arguments[0]] * len(items) if arguments[1:] == (...,) else arguments
        return isinstance(value, list) and len(items) == len(expected) and all(map(_fits, items, expected))
    if hint is float:
        return type(value) in (int, float)
    if hint in (str, Path):
        return type(value) in ((str, int) if hint is str else (str,))
    return type(value) is hint or (value is None and hint is type(None))


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    words = {
        str: "text",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        Path: "a path",
        type(None): "null",
    }
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_describe, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        many = arguments[1:] == (...,)
        return (
            f"a list, each {_describe(arguments[0])}" if many else f"a list of ({', '.join(map(_describe, arguments))})"
        )
    return words.get(hint, str(hint))


class _Loader(yaml.SafeLoader):
    """The safe loader with the booleans and floats of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would take for more than text."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
