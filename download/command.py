"""What the three download commands share: flags, messages and exit codes.

They have a handful of flags and no config file, which `argparse` covers; `--dir_path` is taken as well as `--dir-path`.
"""

import argparse
import contextlib
import difflib
import errno
import functools
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from download import torchvision_sets
from download.collection import Collection, exclusive
from download.fetch import Fetcher
from download.manifest import Manifest, load_manifest
from download.torchvision_sets import TorchvisionSet

ALL = "all"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One download command."""

    module: str
    """What follows `python -m`."""
    help: str
    """What it does, for `--help`."""
    manifest: Path
    """The list of files."""
    folder: Path
    """Default of `--dir-path`."""
    through_torchvision: Mapping[str, TorchvisionSet] = field(default_factory=dict)
    """Further names, fetched by torchvision; `all` leaves them out."""
    fetcher: Fetcher = field(default_factory=Fetcher)

    @property
    def program(self) -> str:
        """What messages begin with."""
        return self.module.replace(".", " ")


def run(command: Command, argv: Sequence[str] | None = None) -> int:
    """Run a download command.

    Args:
        command: which one.
        argv: the arguments; None: those of the process.

    Returns:
        Exit code: 0 done, 1 failed (each failure is one line on stderr), 2 wrong usage, 130 interrupted.
    """
    with _messages_on_stderr():
        return _run(command, argv)


@contextlib.contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Show log messages as plain lines, for as long as the command runs."""
    handler, root = logging.StreamHandler(sys.stderr), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def _run(command: Command, argv: Sequence[str] | None) -> int:
    manifest = load_manifest(command.manifest)
    try:
        args = _parse(command, manifest, argv)
    except SystemExit as end:  # argparse has printed the help or what is wrong
        return int(end.code or 0)
    try:
        return _Job(command, manifest, args).run()
    except KeyboardInterrupt as error:
        kept = f": {error}" if error.args else ""
        print(f"{command.program}: interrupted{kept}; the same command goes on from here", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, ValueError) as error:
        if args.debug:
            raise
        print(f"{command.program}: error: {_words(error)}", file=sys.stderr)
        return 1


class _Job:
    """One run of a command."""

    def __init__(self, command: Command, manifest: Manifest, args: argparse.Namespace) -> None:
        self.command, self.manifest, self.args = command, manifest, args
        self.folder: Path = args.dir_path
        self.names: tuple[str, ...] = manifest.names if ALL in args.name else tuple(dict.fromkeys(args.name))
        self.entries = manifest.select(tuple(name for name in self.names if name in manifest.names))
        self.collection = Collection(self.folder, self.entries, command.fetcher)
        self.num_failures = 0

    def run(self) -> int:
        if self.args.list:
            self.show()
        elif self.args.verify:
            self.verify()
        else:
            with exclusive(self.folder):
                self.obtain()
        return 1 if self.num_failures else 0

    def obtain(self) -> None:
        origin = self.args.source or "the network"
        logger.info("bringing %s from %s into %s", ", ".join(self.names), origin, self.folder)
        for name in self.names:
            before = self.num_failures
            for entry in self.entries:
                if entry.name == name:
                    self._try(entry.target, name, functools.partial(self.collection.obtain, entry, self.args.source))
            if known := self.command.through_torchvision.get(name):
                obtain = functools.partial(torchvision_sets.obtain, name, known, self.folder, self.args.source)
                self._try(name, name, obtain)
            if self.num_failures > before and name in self.manifest.by_hand:
                logger.info("%s by other ways: %s", name, self.manifest.by_hand[name])

    def verify(self) -> None:
        verdicts = [verdict for entry in self.entries for verdict in self.collection.verify(entry)]
        for name, known in self.command.through_torchvision.items():
            if name in self.names:
                verdicts.append((name, torchvision_sets.verify(known, self.folder)))
        for path, verdict in verdicts:
            print(f"{path}: {verdict or 'intact'}")
        self.num_failures = sum(bool(verdict) for _, verdict in verdicts)

    def show(self) -> None:
        for entry in self.entries:
            state = "there" if self.collection.is_there(entry) else "not there"
            size = "size unknown" if entry.size is None else f"{entry.size / 1e6:.1f} MB"
            print(f"{entry.target}: {state}; {size}; {' '.join(entry.urls)}; {entry.licence}")
        for name, known in self.command.through_torchvision.items():
            if name in self.names or ALL in self.args.name:
                print(f"{name}: through torchvision; {' '.join(known.urls)}; {known.licence}")

    def _try(self, what: str, name: str, obtain: Callable[[], str]) -> None:
        """Bring one thing; a failure is told and the others are still tried, unless the disk is full."""
        try:
            print(f"{what}: {obtain()}", flush=True)
        except (OSError, RuntimeError, ValueError) as error:
            if self.args.debug or _is_full(error):
                raise
            self.num_failures += 1
            selection = f" --name {name}" if len(self.manifest.names) > 1 else ""
            again = f"python -m {self.command.module}{selection} --dir-path {self.folder} --from DIR"
            advice = f"by hand: put what you fetched into a folder DIR and run {again}"
            print(f"{self.command.program}: error: {_words(error)}; {advice}", file=sys.stderr)


def _parse(command: Command, manifest: Manifest, argv: Sequence[str] | None) -> argparse.Namespace:
    known = [*manifest.names, *command.through_torchvision]
    parser = argparse.ArgumentParser(
        prog=f"python -m {command.module}",
        description=command.help,
        epilog="Sizes and SHA-256 of what comes are kept in downloads.lock.json, for --verify and for the next time.",
    )
    parser.add_argument(
        "--name",
        nargs="+",
        default=[ALL],
        metavar="NAME",
        help=f"what to bring (default: all): all, {', '.join(known)}",
    )
    parser.add_argument(
        "--dir-path",
        "--dir_path",
        type=Path,
        default=command.folder,
        metavar="DIR",
        help="where to (default: %(default)s)",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="DIR",
        help="take files that you fetched by hand from DIR/NAME/FILE, or DIR/FILE where one name only is asked for; "
        "nothing is fetched",
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare what is there with the recorded SHA-256, and stop"
    )
    parser.add_argument("--list", action="store_true", help="list files, addresses and licences, and stop")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    for name in args.name:
        if name not in (ALL, *known):
            near = difflib.get_close_matches(name, [ALL, *known], n=1)
            guess = f", did you mean {near[0]}?" if near else ";"
            parser.error(f"unknown name {name!r}{guess} known are {', '.join([ALL, *known])}")
    if args.source is not None and not args.source.is_dir():
        parser.error(f"--from {args.source}: there is no such folder")
    return args


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and _is_full(error):
        where = f"{error.filename}: " if error.filename else ""
        return f"the disk is full: {where}{error.strerror}; make room and run the same command again"
    return " ".join(str(error).split())
