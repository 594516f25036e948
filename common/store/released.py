"""Read pickled files of released code under a list of allowed types, so that no code of theirs is run."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

_UNKNOWN = re.compile(r"GLOBAL (\S+)")


def read_released(path: Path | str, stand_ins: Sequence[tuple[type, str]] = ()) -> Any:
    """Unpickle a file that `torch.save` wrote, with tensors on the CPU.

    Allowed are tensors, plain values, containers, and NumPy arrays and scalars.

    Args:
        path: the file.
        stand_ins: classes of ours to make in the place of a file's own, and the dotted names of those.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or holds another type.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    try:
        with torch.serialization.safe_globals([*numpy_types(), *stand_ins]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # the reader raises a dozen types on damaged files
        unknown = _UNKNOWN.search(str(error))
        if unknown:
            raise RuntimeError(
                f"{file} holds objects of {unknown[1]}, which are not made as that can run code: open it where it was "
                "written, if you trust it, and save tensors, numbers, texts, lists and dictionaries alone"
            ) from error
        raise RuntimeError(f"{file} is damaged or no file of PyTorch's: download it anew") from error


def numpy_types() -> list[Any]:
    """What NumPy pickles arrays and scalars with, under its names before and since NumPy 2."""
    kinds = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSU"}
    allowed: list[Any] = [np.ndarray, np.dtype, *sorted(kinds, key=lambda kind: kind.__name__)]
    makers = (np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0])
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        allowed += [(maker, f"{module}.{name}") for maker, name in zip(makers, ("_reconstruct", "scalar"), strict=True)]
    return allowed
