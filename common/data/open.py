"""Open a dataset by name or by path."""

import os
from pathlib import Path

from common.data.dataset import ImageDataset
from common.data.folder import open_folder
from common.data.registry import SETS, KnownSet, canonical, known_names, open_known, open_packed_set, unknown_name
from common.data.source import Source, decode_all


def open_dataset(
    name_or_path: str | Path, *, resolution: int, data_root: Path | None = None, seed: int = 0
) -> ImageDataset:
    """Decode a whole dataset.

    Args:
        name_or_path: a known name (`cub`, `digits`, ...), a folder of class folders, or a packed .npz file.
        resolution: height and width the images are brought to, in pixels.
        data_root: folder of the known sets; None: $NAS_DATA, else ./dataset.
        seed: of the test part of sets that come without one.

    Raises:
        FileNotFoundError: the folder, file or set is not there; the message says how to get it.
        ValueError: unknown name, or data that no classifier can be trained on.
    """
    return decode_all(open_source(name_or_path, data_root=data_root, seed=seed), resolution)


def open_source(name_or_path: str | Path, *, data_root: Path | None = None, seed: int = 0) -> Source:
    """Labels and parts of a dataset, without decoding an image; arguments and errors as in `open_dataset`."""
    root = resolve_root(data_root)
    path = Path(name_or_path).expanduser()
    if is_path(name_or_path):
        return _open_path(path, seed)
    name = canonical(str(name_or_path))
    if name in known_names(root):
        return open_known(name, data_root=root, seed=seed)
    for folder in (path, root / path):
        if folder.is_dir():
            return open_folder(folder, seed=seed)
    raise ValueError(unknown_name(str(name_or_path), root))


def resolve_root(data_root: Path | None) -> Path:
    """Folder of the known sets: the one given, $NAS_DATA, or ./dataset."""
    return data_root if data_root is not None else Path(os.environ.get("NAS_DATA") or "dataset")


def is_path(name_or_path: str | Path) -> bool:
    """Whether the user means a place on disk rather than a name."""
    text = str(name_or_path)
    marks = {"/", os.sep}
    return (
        isinstance(name_or_path, Path) or text.startswith((".", "~")) or text.endswith(".npz") or bool(marks & {*text})
    )


def _open_path(path: Path, seed: int) -> Source:
    if path.is_dir():
        return open_folder(path, seed=seed)
    if path.is_file() and path.suffix == ".npz":
        return open_packed_set(f"file:{path.stem}", [path], path.stem, SETS.get(path.stem, KnownSet()))
    if path.is_file():
        raise ValueError(f"{path} is a file: a dataset is a folder of class folders, or a packed .npz file")
    raise FileNotFoundError(f"there is no {path}: give a folder of class folders, a packed .npz file or a known name")
