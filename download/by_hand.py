"""Files that the user fetched: found in a folder, copied to their place."""

import contextlib
import shutil
from pathlib import Path


def find(source: Path, target: str, name: str, *, unique: bool) -> Path:
    """Find a file that was fetched by hand.

    Args:
        source: the user's folder.
        target: path that the file shall have, relative to the folder of the command.
        name: name of its group.
        unique: whether no other wanted file has the same base name; only then the bare base name is enough.

    Raises:
        RuntimeError: it is not there; the message says the paths that would be taken.
    """
    file_name = Path(target).name
    places = [source / target, source / name / file_name, *([source / file_name] if unique else [])]
    for place in places:
        if place.is_file():
            return place
    looked_for = " or ".join(str(place) for place in dict.fromkeys(places))
    raise RuntimeError(f"{target} is not among the files fetched by hand: there is no {looked_for}")


def copy(source: Path, target: Path) -> None:
    """Copy a file so that the target is there whole or not at all.

    Raises:
        OSError: the disk is full or the folder may not be written; nothing is left then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(target.name + ".copy")
    try:
        shutil.copyfile(source, beside)
        beside.replace(target)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()
