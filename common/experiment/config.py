"""Configuration: frozen dataclasses, filled from YAML presets and flags by one typed parser."""

import contextlib
import dataclasses
import hashlib
import io
import json
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tyro

from common.experiment.presets import UsageError, dump_yaml, nearest, preset_flags, read_preset

__all__ = ["StepConfig", "UsageError", "digest", "parse_config", "to_dict", "to_yaml"]

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Flags that every step has."""

    gpu: str = "auto"
    """Where to compute: the number of a GPU, "cpu", or "auto" for the first GPU and the CPU where there is none."""
    data_root: Path | None = None
    """Folder of the data sets; None means $NAS_DATA, and ./dataset where that is not set."""
    out: Path | None = None
    """Folder of this run; None means exp/<method>/<step>/<name>."""
    seed: int = 0
    """Seed of everything random; the same seed on the same machine gives the same result."""
    threads: int | None = None
    """CPU threads of one tensor operation; None means every CPU that this process may use."""
    deterministic: bool = False
    """Use deterministic algorithms only: slower on a GPU, the same bits each time."""
    restart: bool = False
    """Forget the run that the folder holds, finished or not, and begin anew."""
    debug: bool = False
    """Show the traceback of an error."""


def parse_config(
    config_type: type[ConfigT], argv: Sequence[str], *, program: str, step: str = "", steps: Sequence[str] = ()
) -> ConfigT:
    """Build a config from field defaults, then `--config` files in their order, then flags; what comes later wins.

    A YAML file holds fields by name and nested configs as mappings. One file may serve several steps of a program: a
    top-level key that is the name of a step holds the fields of that step alone.

    Args:
        config_type: a frozen dataclass with a docstring under each field.
        argv: arguments after the name of the step, `--config FILE` among them.
        program: how the command is called, for the help text.
        step: name of the step that is run.
        steps: names of all steps of the program.

    Returns:
        The config. Relative paths, from files too, are relative to the current folder.

    Raises:
        UsageError: an unknown key or flag (the message names the nearest real one), a value of the wrong type, or
            one that the config refuses.
        SystemExit: `--help` was given; the text is on stdout.
    """
    files, flags = _split_files(argv)
    _check_flags(config_type, flags)
    preset: list[str] = []
    for file in files:
        preset += preset_flags(config_type, read_preset(Path(file), step, steps), file)
    errors = io.StringIO()
    description = (
        f"{config_type.__doc__ or ''}\n\n--config FILE (repeatable) reads fields from YAML; flags win over it."
    )
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(config_type, prog=program, description=description, args=[*preset, *flags])
    except SystemExit as error:
        if error.code == 0:
            raise
        raise UsageError(_one_line(errors.getvalue(), config_type.__name__, program)) from None
    except ValueError as error:
        raise UsageError(str(error)) from error


def to_dict(config: Any) -> dict[str, Any]:
    """Fields by name in plain values: nested mappings, lists for tuples, text for paths."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"a config is an instance of a dataclass, not {config!r}")
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def to_yaml(config: Any) -> str:
    """YAML text that `--config` reads back to an equal config."""
    return dump_yaml(to_dict(config))


def digest(value: Any) -> str:
    """12 hexadecimal digits that stand for a config or a mapping of plain values.

    Equal values give equal digests, whatever the order of keys; 1 and 1.0 are equal.
    """
    plain = _plain(to_dict(value) if dataclasses.is_dataclass(value) else value)
    text = json.dumps(_whole_numbers(plain), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _split_files(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files after `--config`, and the other arguments."""
    files, flags = [], []
    tokens = iter(argv)
    for token in tokens:
        if token == "--config":
            file = next(tokens, None)
            if file is None or file.startswith("--"):
                raise UsageError("--config needs the path of a YAML file")
            files.append(file)
        elif token.startswith("--config="):
            files.append(token.removeprefix("--config="))
        else:
            flags.append(token)
    return files, flags


def _check_flags(config_type: type, flags: Sequence[str]) -> None:
    known = ["help", "config"]
    for path, hint in _leaves(config_type):
        known.append(path.replace("_", "-"))
        if hint is bool:
            section, _, name = known[-1].rpartition(".")
            known.append(f"{section}.no-{name}" if section else f"no-{name}")
    for flag in flags:
        name = flag[2:].split("=")[0].replace("_", "-")
        if flag.startswith("--") and name not in known:
            raise UsageError(f"unknown flag --{name}: {nearest('--' + name, ['--' + key for key in known])}")


def _leaves(config_type: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and types of all fields that are not configs themselves."""
    for name, hint in typing.get_type_hints(config_type).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from _leaves(hint, f"{prefix}{name}.")
        elif name in {field.name for field in dataclasses.fields(config_type)}:
            yield prefix + name, hint


def _one_line(box: str, config_name: str, program: str) -> str:
    """What the parser says, without its frame and its second section."""
    lines = [line.strip(" \u2502") for line in box.splitlines()[1:]]  # the first is the frame's title
    sections = re.split(r"\n[-\u2500\u2570\u256f]{3,}", "\n".join(["", *lines]))
    text = next((" ".join(section.split()) for section in sections if section.strip()), "")
    text = text.removeprefix(f"Error parsing {config_name}: ").removeprefix("Error parsing ")
    return text.replace(f"Missing from {program}:", "missing:") or "the arguments cannot be parsed; see --help"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _whole_numbers(value: Any) -> Any:
    """Floats without a fraction become integers, so that 1 and 1.0 are written alike."""
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
