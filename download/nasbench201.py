"""Make the accuracy table from the official file: `python -m download.nasbench201 --from FILE --out DIR`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # started by its path: imports are to start from the repository, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.data.open import resolve_root
from common.spaces.nasbench201_table import COLUMNS, TABLE_PATH, write_table
from download.collection import Collection, exclusive
from download.fetch import Fetcher
from download.manifest import load_manifest
from download.nasbench201_official import MEMORY_FACTOR, read_official, to_table

MANIFEST = Path(__file__).with_name("nasbench201.yaml")
PROGRAM = "download nasbench201"


def main(argv: Sequence[str] | None = None, fetcher: Fetcher | None = None) -> int:
    """Run the command; see `--help`.

    Args:
        argv: the arguments; None: those of the process.
        fetcher: fetches the official file; None: the usual one.

    Returns:
        Exit code: 0 done, 1 failed (in one line on stderr), 2 wrong usage, 130 interrupted.
    """
    try:
        args = _parse(argv)
    except SystemExit as end:  # argparse has printed the help or what is wrong
        return int(end.code or 0)
    try:
        _make(args.source, args.out, fetcher or Fetcher())
    except KeyboardInterrupt as error:
        kept = f": {error}" if error.args else ""
        print(f"{PROGRAM}: interrupted{kept}; the same command goes on from here", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, ValueError, MemoryError) as error:
        if args.debug:
            raise
        text = "the memory does not suffice" if isinstance(error, MemoryError) else " ".join(str(error).split())
        print(f"{PROGRAM}: error: {text}", file=sys.stderr)
        return 1
    return 0


def _make(source: Path | None, out: Path, fetcher: Fetcher) -> None:
    target = out / TABLE_PATH
    if target.exists():
        raise RuntimeError(f"{target} is there already: delete it, or say another folder with --out")
    file = source or _fetch(target.parent, fetcher)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    memory = MEMORY_FACTOR * file.stat().st_size
    print(f"reading {file}, which takes about {memory / 1e9:.1f} GB of memory", file=sys.stderr)
    content = read_official(file)
    try:
        table = to_table(content)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    write_table(target, table)
    left_out = ", ".join(column.title for column in COLUMNS if column not in table.columns)
    print(f"{target}: {len(table.cells)} cells" + (f"; not in the file: {left_out}" if left_out else ""))


def _fetch(folder: Path, fetcher: Fetcher) -> Path:
    """Bring the official file into a folder, unless it is there."""
    manifest = load_manifest(MANIFEST)
    (entry,) = manifest.entries
    print(f"bringing {entry.target} into {folder}", file=sys.stderr)
    with exclusive(folder):
        try:
            print(f"{entry.target}: {Collection(folder, [entry], fetcher).obtain(entry)}", flush=True)
        except RuntimeError as error:
            raise RuntimeError(f"{error}; by hand: {manifest.by_hand[entry.name]}") from error
    return folder / entry.target


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m download.nasbench201",
        description="Turn the official file of NAS-Bench-201 (4.7 GB) into the table of accuracies that is used here.",
        epilog="Reading 4.7 GB takes about 33 GB of memory and a quarter of an hour; the table has half a megabyte.",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="NAS-Bench-201-v1_1-096897.pth, fetched by hand; without this it is fetched",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=resolve_root(None),
        metavar="DIR",
        help=f"data root, which gets {TABLE_PATH} (default: %(default)s)",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
