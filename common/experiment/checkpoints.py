"""Checkpoints: the state of several objects and of torch's generators, in one file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.experiment.files import load_state, save_state


def save_checkpoint(path: Path, step: int, objects: Mapping[str, Any]) -> None:
    """Write the state of objects in one step.

    Args:
        path: the file to replace.
        step: the next step to do.
        objects: by name, anything with `state_dict` and `load_state_dict`, a `torch.Generator`, or a dict of tensors
            and plain values.

    Raises:
        ValueError: an object is none of these, or its state holds a value that could not be read back.
        OSError: the disk is full; the old file is intact.
    """
    states = {name: _state_of(name, value) for name, value in objects.items()}
    save_state(path, {"step": step, "objects": states, "random": _random_state()})


def load_checkpoint(path: Path, objects: Mapping[str, Any], only_these: bool = False) -> int:
    """Read what `save_checkpoint` wrote into the objects.

    Args:
        path: the file.
        objects: those that were saved, by the same names; dicts are updated.
        only_these: take some of the saved objects only, and leave torch's generators as they are.

    Returns:
        The step that was saved.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged, or the objects are not those that were saved; the message names the file.
    """
    state = load_state(path)
    if not {"step", "objects", "random"} <= state.keys():
        raise RuntimeError(f"{path} is no checkpoint of a run")
    saved = state["objects"]
    if objects.keys() - saved.keys() or (not only_these and objects.keys() != saved.keys()):
        raise RuntimeError(f"{path} holds {', '.join(saved) or 'nothing'}, not {', '.join(objects) or 'nothing'}")
    for name, value in objects.items():
        try:
            _restore_into(value, saved[name])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise RuntimeError(f"{name} in {path} does not fit: {' '.join(str(error).split())}") from error
    if not only_these:
        _set_random_state(state["random"])
    return int(state["step"])


def _state_of(name: str, value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return value.get_state()
    if isinstance(value, dict):
        return dict(value)
    if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
        return value.state_dict()
    raise ValueError(
        f"cannot save {name}, a {type(value).__name__}: give a module, an optimiser, a generator or a dict"
    )


def _restore_into(value: Any, state: Any) -> None:
    if isinstance(value, torch.Generator):
        value.set_state(state)
    elif isinstance(value, dict):
        value.update(state)
    else:
        value.load_state_dict(state)


def _random_state() -> dict[str, Any]:
    """States of torch's own generators, which dropout and initialisation draw from."""
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if in_use else []}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) == torch.cuda.device_count():  # another machine's GPUs have no use for it
        torch.cuda.set_rng_state_all(state["cuda"])
