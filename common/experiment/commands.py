"""The command line of a method: `python -m <method> <step>`, its errors and exit codes."""

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from common.experiment.config import parse_config
from common.experiment.device import make_deterministic, resolve_device, set_threads
from common.experiment.files import is_disk_full
from common.experiment.presets import UsageError, nearest

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130
_LONGEST_MESSAGE = 600


@dataclass(frozen=True)
class Step:
    """One step of a method."""

    config: type
    """Config of the step, a `StepConfig`."""
    run: Callable[[Any], object]
    """Does the step; prints its results."""
    help: str
    """What the step does, in one line."""


def main(
    program: str,
    steps: Mapping[str, Step],
    argv: Sequence[str] | None = None,
    aliases: Callable[[str, list[str]], list[str]] | None = None,
) -> int:
    """Run one step as its arguments say. Results go to stdout, log and progress to stderr.

    Args:
        program: the package that `python -m` runs.
        steps: steps by name, in the order in which they are used.
        argv: arguments; None for those of this process.
        aliases: given the step's name and its arguments, returns the arguments in our own spelling.

    Returns:
        Exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in ("-h", "--help"):
        print(_listing(program, steps))
        return DONE
    if name not in steps:
        hint = f"unknown step {name!r}: {nearest(name, list(steps))}" if name else "which step?"
        print(f"{program}: error: {hint}\n\n{_listing(program, steps)}", file=sys.stderr)
        return MISUSED
    with _logging(), _termination_as_interrupt():
        return _guarded(f"{program} {name}", "--debug" in rest, lambda: _run(program, name, steps, rest, aliases))


def _run(
    program: str,
    name: str,
    steps: Mapping[str, Step],
    arguments: list[str],
    aliases: Callable[[str, list[str]], list[str]] | None,
) -> None:
    if aliases is not None:
        arguments = aliases(name, arguments)
    step = steps[name]
    config: Any = parse_config(
        step.config, arguments, program=f"python -m {program} {name}", step=name, steps=list(steps)
    )
    set_threads(config.threads)
    if config.deterministic:
        make_deterministic()
    _check_gpu(config.gpu)
    step.run(config)
    sys.stdout.flush()


def _check_gpu(gpu: str) -> None:
    """Refuse a device that is not there before a step has worked for an hour without it."""
    try:
        resolve_device(gpu)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _guarded(command: str, debug: bool, action: Callable[[], None]) -> int:
    """Run; turn whatever comes out of it into one line on stderr and an exit code."""
    try:
        action()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else DONE
    except KeyboardInterrupt:
        print(f"\n{command}: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return _stdout_closed()
    except Exception as error:  # the last line of defence: users get a sentence
        if debug:
            traceback.print_exc()
        print(f"{command}: error: {_message(error, debug)}", file=sys.stderr)
        return MISUSED if isinstance(error, UsageError) else FAILED
    return DONE


def _message(error: Exception, debug: bool) -> str:
    """One line that says what is wrong and, where we know, what would help."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        if is_disk_full(error):
            where = f" while writing {error.filename}" if error.filename else ""
            return f"the disk is full{where}: free some space, the same command goes on from its last checkpoint"
        if error.strerror and error.filename:
            text = f"{error.filename}: {error.strerror}"
    if isinstance(error, torch.OutOfMemoryError):
        return f"the GPU has too little free memory: use a smaller batch, another --gpu, or --gpu cpu ({text[:150]})"
    if len(text) > _LONGEST_MESSAGE:
        text = text[:_LONGEST_MESSAGE] + " ..."
    if type(error) in (RuntimeError, ValueError) or isinstance(error, OSError | UsageError):
        return text
    hint = "" if debug else "; run again with --debug for the traceback"
    return f"{type(error).__name__}: {text}{hint}"


def _stdout_closed() -> int:
    """Whoever read our results has gone (`| head`): stop without a word, and without a second error at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _listing(program: str, steps: Mapping[str, Step]) -> str:
    width = max(map(len, steps), default=0)
    lines = [f"  {name:<{width}}  {step.help}" for name, step in steps.items()]
    usage = f"usage: python -m {program} STEP [--config FILE] [flags]"
    return "\n".join([usage, "", "steps:", *lines, "", f"python -m {program} STEP --help lists the flags of a step."])


class _AboveTheBar(logging.Handler):
    """Writes to stderr without tearing a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    handler = _AboveTheBar()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """SIGTERM (`kill`, a batch system) ends a step the way Ctrl-C does."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread, which alone may handle signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
