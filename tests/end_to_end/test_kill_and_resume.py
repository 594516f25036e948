"""A run that is killed in the middle, and the same command again: nothing is lost, nothing differs."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from toy import Toy, contents, ended, records_of, wait_for

SPAWN = ("--workers.backend", "spawn", "--workers.num", "2", "--workers.threads", "1")


def kill(process: "subprocess.Popen[str]", run: Path) -> None:
    """`kill -9` of the command alone; its workers have to notice by themselves."""
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process, seconds=60).code == -signal.SIGKILL  # once the workers, who hold the same pipes, ended too
    assert not (run / "result.json").exists(), "it was killed too late"


@pytest.mark.parametrize("workers", [(), SPAWN], ids=["local", "spawn"])
def test_a_killed_collection_goes_on(workers: tuple[str, ...], toy: Toy) -> None:
    run = toy.folder / f"killed-collect-{len(workers)}"
    shutil.copytree(toy.folder / "collect/teachers", run / "teachers")
    argv = ("--tasks", "images/turned", "--out", run.name, *workers)
    process = toy.start("collect", *argv)
    wait_for(process, lambda: len(records_of(run)) >= 1)
    kill(process, run)
    kept = records_of(run)
    teachers = {path: path.stat().st_mtime_ns for path in run.glob("teachers/*.safetensors")}
    assert 1 <= len(kept) < 4
    toy.do("collect", *argv)
    assert records_of(run)[: len(kept)] == kept, "times included: nothing was done twice"
    assert len(records_of(run)) == 4
    assert {path: path.stat().st_mtime_ns for path in teachers} == teachers
    assert contents(run, "database/*") == contents(toy.folder / "collect", "database/folder_turned*")
    assert not list((run / "scratch").glob("*.pt"))


def test_a_killed_meta_training_goes_on(toy: Toy) -> None:
    whole, run = toy.folder / "whole-meta", toy.folder / "killed-meta"
    long = ("--database", "collect/database", "--num-episodes", 120, "--validate-every", 10)
    toy.do("meta-train", *long, "--out", whole.name)
    process = toy.start("meta-train", *long, "--out", run.name)
    metrics = run / "metrics.csv"  # written before the state of its step, and after the state before that
    wait_for(process, lambda: metrics.exists() and "\n20,valid," in metrics.read_text())
    kill(process, run)
    again = toy.do("meta-train", *long, "--out", run.name)
    step = int(again.err.split("going on from step ")[1].split()[0])
    assert 10 <= step < 120
    for pattern in ("predictor.safetensors", "metrics.csv", "result.json"):
        assert contents(run, pattern) == contents(whole, pattern)


def test_a_killed_distillation_goes_on(toy: Toy) -> None:
    arch = toy.result("exp/dass/search/folder_own")["chosen"][0]["arch"]
    whole, run = toy.folder / "whole-distill", toy.folder / "killed-distill"
    argv = ("--data", "images/own", "--arch", arch)
    toy.do("distill", *argv, "--out", whole.name)
    process = toy.start("distill", *argv, "--out", run.name)
    first = run / "student-seed1.safetensors"
    wait_for(process, first.exists)
    kill(process, run)
    trained = first.stat().st_mtime_ns
    toy.do("distill", *argv, "--out", run.name)
    assert first.stat().st_mtime_ns == trained, "the first student is not trained twice"
    for pattern in ("student-seed*.safetensors", "result.json", "metrics.csv"):
        assert contents(run, pattern) == contents(whole, pattern)


def listen() -> None:
    """A shell starts background jobs deaf to Ctrl-C, and these tests may be one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_collection_says_so_and_goes_on(sent: signal.Signals, toy: Toy) -> None:
    run = toy.folder / f"interrupted-{sent.name}"
    shutil.copytree(toy.folder / "collect/teachers", run / "teachers")
    argv = ("--tasks", "images/turned", "--out", run.name)
    process = toy.start("collect", *argv, *(SPAWN if sent == signal.SIGINT else ()), preexec_fn=listen)
    wait_for(process, lambda: len(records_of(run)) >= 1)
    os.killpg(process.pid, sent) if sent == signal.SIGINT else os.kill(process.pid, sent)  # a terminal tells the group
    stopped = ended(process, seconds=60)
    assert stopped.code == 130, stopped.err
    assert stopped.lines() == ["dass collect: interrupted; the same command goes on from here"]
    kept = records_of(run)
    assert 1 <= len(kept) < 4
    toy.do("collect", *argv)  # without the workers: who trains does not matter
    assert records_of(run)[: len(kept)] == kept
    assert contents(run, "database/*") == contents(toy.folder / "collect", "database/folder_turned*")
