"""Jobs are done once each, results are kept as they come, and neither errors, kills nor Ctrl-C lose what is stored."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from common.experiment.device import available_cpus
from common.experiment.parallel import Job, map_resumable

ROOT = Path(__file__).parents[2]


def square(number: int) -> tuple[int, int, int]:
    return number * number, os.getpid(), torch.get_num_threads()


def fail_on_even(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(f"{number} is\neven")
    return number


def die_on_two(number: int, folder: str) -> int:
    if number == 2:
        while len(os.listdir(folder)) < 2:  # the first two are stored
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def interrupt(number: int) -> int:
    if number == 2:
        raise KeyboardInterrupt
    return number


def write_pid_and_wait(folder: str, number: int) -> None:
    (Path(folder) / f"pid.{number}").write_text(str(os.getpid()))
    time.sleep(600)


def jobs(num: int, *more: Any) -> list[Job]:
    return [Job(f"job {number}", (number, *more)) for number in range(num)]


BACKENDS = ["local", "spawn"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_job_that_is_not_done_runs_once(backend: Any) -> None:
    results: dict[str, Any] = {"job 1": "before"}
    num = map_resumable(square, jobs(4), done=results.__contains__, store=results.__setitem__, backend=backend)
    assert num == 3
    assert results.pop("job 1") == "before"
    assert {key: value[0] for key, value in results.items()} == {"job 0": 0, "job 2": 4, "job 3": 9}
    assert all((value[1] == os.getpid()) == (backend == "local") for value in results.values())


def test_nothing_to_do_starts_nothing() -> None:
    assert map_resumable(square, jobs(3), done=lambda _: True, store=lambda *_: None, backend="spawn", workers=2) == 0
    assert map_resumable(square, [], done=lambda _: False, store=lambda *_: None) == 0


def test_a_result_is_stored_before_the_next_job_is_done_here() -> None:
    events: list[str] = []
    map_resumable(events.append, [Job("a", ("run a",)), Job("b", ("run b",))], done=lambda _: False,
                  store=lambda key, _: events.append(f"store {key}"))  # fmt: skip
    assert events == ["run a", "store a", "run b", "store b"]


@pytest.mark.parametrize("threads", [None, 3])
def test_workers_share_the_cpus_unless_told_otherwise(threads: int | None) -> None:
    seen: dict[str, Any] = {}
    map_resumable(square, jobs(1), done=lambda _: False, store=seen.__setitem__, backend="spawn", threads=threads)
    assert seen["job 0"][2] == (threads or available_cpus())


def test_threads_of_local_jobs_are_put_back() -> None:
    seen: dict[str, Any] = {}
    before = torch.get_num_threads()
    map_resumable(square, jobs(1), done=lambda _: False, store=seen.__setitem__, threads=before + 1)
    assert seen["job 0"][2] == before + 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_failing_jobs_are_named_after_the_others_are_done(backend: Any) -> None:
    results: dict[str, Any] = {}
    with pytest.raises(RuntimeError, match=r"2 of 4 jobs failed: .*job 0 \(ValueError: 0 is even\)") as caught:
        map_resumable(fail_on_even, jobs(4), done=lambda _: False, store=results.__setitem__, backend=backend)
    assert "job 2 (ValueError: 2 is even)" in str(caught.value)
    assert results == {"job 1": 1, "job 3": 3}


def test_many_failures_are_counted_not_listed() -> None:
    with pytest.raises(
        RuntimeError, match=r"10 of 20 jobs failed: .*, and 5 more; the results of the others are stored"
    ):
        map_resumable(fail_on_even, jobs(20), done=lambda _: False, store=lambda *_: None)


def test_a_worker_killed_by_the_system_loses_only_what_was_not_stored(tmp_path: Path) -> None:
    def store(key: str, _: Any) -> None:
        (tmp_path / key).touch()

    with pytest.raises(RuntimeError, match=r"job 2 \(a worker process was ended by the system.*fewer workers"):
        map_resumable(die_on_two, jobs(4, str(tmp_path)), done=lambda _: False, store=store, backend="spawn", workers=1)
    assert sorted(os.listdir(tmp_path)) == ["job 0", "job 1"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_while_storing_ends_everything(backend: Any) -> None:
    def store(key: str, _: Any) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        map_resumable(square, jobs(3), done=lambda _: False, store=store, backend=backend)


def test_an_interrupt_keeps_what_is_stored() -> None:
    results: dict[str, Any] = {}
    with pytest.raises(KeyboardInterrupt):
        map_resumable(interrupt, jobs(4), done=lambda _: False, store=results.__setitem__)
    assert results == {"job 0": 0, "job 1": 1}


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "program.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from common.experiment.commands import Step, main\n"
        "from common.experiment.config import StepConfig\n"
        "from common.experiment.parallel import Job, map_resumable\n"
        "from tests.experiment.test_parallel import write_pid_and_wait\n"
        "def run(config):\n"
        f"    jobs = [Job(str(n), ({str(tmp_path)!r}, n)) for n in range(2)]\n"
        "    map_resumable(write_pid_and_wait, jobs, done=lambda _: False, store=print, backend='spawn', workers=2)\n"
        "if __name__ == '__main__':\n"
        "    sys.exit(main('dass', {'collect': Step(StepConfig, run, '')}, ['collect']))\n"
    )
    process = subprocess.Popen([sys.executable, str(tmp_path / "program.py")], stderr=subprocess.PIPE, text=True)
    workers: list[int] = []
    while process.poll() is None and len(workers) < 2:
        time.sleep(0.05)
        workers = [int(path.read_text() or 0) for path in tmp_path.glob("pid.*")]
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert err.strip() == "dass collect: interrupted; the same command goes on from here"
    deadline = time.monotonic() + 10
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2
    assert not any(map(is_alive, workers))


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (lambda number: number, {"backend": "spawn"}, "needs a function of a module"),
        (square, {"backend": "cluster"}, "backend is 'cluster': give one of local, spawn, ray"),
        (square, {"workers": 2}, "backend 'local' does one job at a time"),
        (square, {"workers": 0, "backend": "spawn"}, "workers is 0"),
        (square, {"threads": 0}, "threads is 0"),
    ],
)
def test_options_that_do_not_go_together_are_refused(function: Any, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_resumable(function, jobs(2), done=lambda _: False, store=lambda *_: None, **options)


def test_two_jobs_of_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match="two jobs have the key 'a'"):
        map_resumable(square, [Job("a"), Job("b"), Job("a")], done=lambda _: False, store=lambda *_: None)


def test_a_missing_ray_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match=r"pip install -e \.\[ray\]"):
        map_resumable(square, jobs(1), done=lambda _: False, store=lambda *_: None, backend="ray")


def test_ray_does_the_same_as_the_other_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is an optional extra")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for Ray's workers, which import this module
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
    try:
        results: dict[str, Any] = {}
        options: Any = {"done": results.__contains__, "store": results.__setitem__, "backend": "ray", "workers": 2}
        assert map_resumable(square, jobs(3), threads=2, **options) == 3
        assert [results[f"job {number}"][0] for number in range(3)] == [0, 1, 4]
        assert all(value[2] == 2 and value[1] != os.getpid() for value in results.values())
        results.clear()
        with pytest.raises(RuntimeError, match=r"job 2 \(ValueError: 2 is even\)"):
            map_resumable(fail_on_even, jobs(4), **options)
        assert results == {"job 1": 1, "job 3": 3}
        with pytest.raises(RuntimeError, match=r"job 2 \(a worker was lost \(WorkerCrashedError\)\)"):
            map_resumable(die_on_two, jobs(3, "/proc"), **options)
    finally:
        ray.shutdown()
