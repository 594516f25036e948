"""Weights of networks: safetensors files with a format version and a checksum."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from common.experiment.files import write_bytes

FORMAT = "1"
"""Version of the files written here, under the metadata key "format"."""
_RESERVED = ("format", "checksum")


def save_weights(path: Path | str, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a network's tensors in one step; equal input gives equal bytes.

    Args:
        path: the file to replace.
        state: tensors by name, on any device; tensors that share memory are written separately.
        metadata: plain text by name, for example the architecture and the config's digest. The names "format" and
            "checksum" are taken.

    Raises:
        ValueError: metadata is not text, or uses a name that is taken.
        OSError: the disk is full or the folder may not be written; the old file is intact.
    """
    for key, value in metadata.items():
        if key in _RESERVED or not isinstance(value, str):
            raise ValueError(f"metadata {key!r}: {value!r} of {path}: give text, and no name of {', '.join(_RESERVED)}")
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()
    }
    data = safetensors.torch.save(tensors)
    write_bytes(path, _with_metadata(data, {**metadata, "format": FORMAT, "checksum": _checksum(tensors)}))


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_weights` wrote.

    Returns:
        Tensors by name, on the CPU, and the metadata, which includes "format".

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged or not of this format; the message names it.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no weights file {file}")
    data = file.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
        metadata: dict[str, str] = _header(data).get("__metadata__", {})
    except (SafetensorError, ValueError) as error:
        raise RuntimeError(f"{file} is damaged or no safetensors file ({error}): write or download it anew") from error
    if metadata.get("format") != FORMAT:
        raise RuntimeError(f"{file} has weights format {metadata.get('format')!r}; this program reads {FORMAT!r}")
    if metadata.pop("checksum", None) != _checksum(tensors):
        raise RuntimeError(f"{file} is damaged (its checksum is wrong): write or download it anew")
    return tensors, metadata


def _header(data: bytes) -> dict[str, dict[str, str]]:
    """Header of a safetensors file: 8 bytes of its length, then JSON."""
    length = int.from_bytes(data[:8], "little")
    header: dict[str, dict[str, str]] = json.loads(data[8 : 8 + length])
    return header


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """Put metadata in sorted order; the library's own order changes from process to process."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps({"__metadata__": dict(sorted(metadata.items())), **_header(data)}, separators=(",", ":"))
    encoded = header.encode()
    encoded += b" " * (-len(encoded) % 8)  # the tensors stay aligned to 8 bytes
    return len(encoded).to_bytes(8, "little") + encoded + data[start:]


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """CRC-32 over the bytes of all tensors in the order of their names; safetensors itself has none."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"
