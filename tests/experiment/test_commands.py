"""The command line: what is printed where, one line for an error, exit codes."""

import errno
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from common.experiment.commands import Step, main
from common.experiment.config import StepConfig

ERRORS: dict[str, BaseException] = {
    "value": ValueError("num is 3:\n  give 4"),
    "missing": FileNotFoundError(errno.ENOENT, "No such file or directory", "data/cub.npz"),
    "full": OSError(errno.ENOSPC, "No space left on device", "exp/last.pt"),
    "bug": KeyError("teacher"),
    "memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    "interrupt": KeyboardInterrupt(),
    "pipe": BrokenPipeError(),
    "long": RuntimeError("x" * 5000),
}


@dataclass(frozen=True, kw_only=True)
class Config(StepConfig):
    """Search a network."""

    fail: str = ""


def search(config: Config) -> None:
    if config.fail:
        raise ERRORS[config.fail]
    logging.getLogger("common.test").info("looking")
    print(f"found with {torch.get_num_threads()} threads, seed {config.seed}")


STEPS = {"search": Step(Config, search, "choose a network"), "distil": Step(Config, search, "train it")}


def test_the_program_alone_lists_its_steps_as_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("dass", STEPS, []) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "choose a network" in err
    assert "distil" in err


def test_help_lists_the_steps_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("dass", STEPS, ["--help"]) == 0
    out, err = capsys.readouterr()
    assert "choose a network" in out
    assert err == ""


def test_help_of_a_step_shows_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("dass", STEPS, ["search", "--help"]) == 0
    assert "--deterministic" in capsys.readouterr().out


def test_an_unknown_step_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("dass", STEPS, ["serch"]) == 2
    assert "dass: error: unknown step 'serch': did you mean search?" in capsys.readouterr().err


def test_results_go_to_stdout_and_the_log_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    try:
        assert main("dass", STEPS, ["search", "--threads", "2", "--seed", "4"]) == 0
    finally:
        torch.set_num_threads(before)
    out, err = capsys.readouterr()
    assert out == "found with 2 threads, seed 4\n"
    assert err.endswith("INFO looking\n")


def test_aliases_rewrite_the_arguments_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    def aliases(step: str, arguments: list[str]) -> list[str]:
        assert step == "search"
        return ["--seed" if argument == "--random-seed" else argument for argument in arguments]

    assert main("dass", STEPS, ["search", "--random-seed", "8"], aliases) == 0
    assert "seed 8" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fail", "code", "line"),
    [
        ("value", 1, "dass search: error: num is 3: give 4"),
        ("missing", 1, "dass search: error: data/cub.npz: No such file or directory"),
        ("full", 1, "dass search: error: the disk is full while writing exp/last.pt: free some space"),
        ("bug", 1, "dass search: error: KeyError: 'teacher'; run again with --debug for the traceback"),
        ("memory", 1, "dass search: error: the GPU has too little free memory: use a smaller batch"),
        ("interrupt", 130, "dass search: interrupted; the same command goes on from here"),
        ("long", 1, "dass search: error: xxxx"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    fail: str, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("dass", STEPS, ["search", "--fail", fail]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.strip().startswith(line)
    assert len(err) < 800


def test_wrong_flags_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("dass", STEPS, ["search", "--sed", "3"]) == 2
    assert capsys.readouterr().err == "dass search: error: unknown flag --sed: did you mean --seed?\n"
    assert main("dass", STEPS, ["search", "--threads", "0"]) == 1


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("dass", STEPS, ["search", "--fail", "bug", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1] == "dass search: error: KeyError: 'teacher'"


def test_logging_is_as_before_when_a_command_is_over() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), signal.getsignal(signal.SIGTERM))
    main("dass", STEPS, ["search"])
    assert (root.level, list(root.handlers), signal.getsignal(signal.SIGTERM)) == before


PROGRAM = """
import sys, time
from common.experiment.commands import Step, main
from common.experiment.config import StepConfig

def run(config):
    print("started", flush=True)
    while True:
        time.sleep(0.05)
        print("x" * 1000, flush=True)

sys.exit(main("dass", {"search": Step(StepConfig, run, "search")}, ["search"]))
"""


def listen() -> None:
    """Undo what a shell does to commands in the background: they ignore Ctrl-C, and so would a program of theirs."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(tmp_path: Path) -> subprocess.Popen[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=environment,
        preexec_fn=listen,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_in_one_line_and_130(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert err.strip() == "dass search: interrupted; the same command goes on from here"
    assert process.returncode == 130


def test_a_closed_pipe_ends_a_command_without_a_word(tmp_path: Path) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
