"""Many independent jobs, done here, in worker processes or on a Ray cluster, whose results are kept as they come."""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Literal

import torch
from tqdm import tqdm

from common.experiment.device import available_cpus, set_threads
from common.experiment.files import is_disk_full
from common.experiment.progress import track

_log = logging.getLogger(__name__)

_SHOWN_FAILURES = 5


@dataclass(frozen=True)
class Job:
    """One call of the function."""

    key: str
    """Stands for the job's result; no two jobs have the same."""
    args: tuple[Any, ...] = ()
    """Positional arguments; they and the result travel between processes, so let them be small: names and numbers,
    not weights, which a job had better write to a file of its own."""


class WorkerLost(RuntimeError):
    """A worker process ended in the middle of a job, without an error of its own."""


_Outcomes = Generator[tuple[Job, Any, Exception | None], None, None]


def map_resumable(
    function: Callable[..., Any],
    jobs: Sequence[Job],
    *,
    done: Callable[[str], bool],
    store: Callable[[str, Any], None],
    backend: Literal["local", "spawn", "ray"] = "local",
    workers: int = 1,
    threads: int | None = None,
    description: str = "",
) -> int:
    """Do the jobs that are not done yet, and keep each result as soon as it is there.

    Args:
        function: what a job calls; for other backends than "local" a function of a module, which workers import.
        jobs: what to do, in order.
        done: whether the result of a key is there already.
        store: keeps a result; called in this process only. What it raises ends everything.
        backend: "local" (this process), "spawn" (worker processes of this machine), "ray" (a Ray cluster, or this
            machine where none runs).
        workers: jobs at a time; 1 for "local".
        threads: CPU threads of a job; None leaves them as they are here, and shares the CPUs out among workers.
        description: a few words for the progress bar.

    Returns:
        Number of jobs that were run.

    Raises:
        ValueError: two jobs share a key, or the options do not go together.
        RuntimeError: jobs failed (the others were done first), or a worker was lost; the message names them, and
            what is stored stays stored.
        OSError: the disk is full; the other jobs are not tried.
    """
    _check(function, jobs, backend, workers, threads)
    pending = [job for job in jobs if not done(job.key)]
    failures: dict[str, Exception] = {}
    if not pending:
        return 0
    bar = track(total=len(jobs), description=description)
    bar.update(len(jobs) - len(pending))
    with (
        contextlib.closing(bar),
        contextlib.closing(_BACKENDS[backend](function, pending, workers, threads)) as outcomes,
    ):
        for job, result, error in outcomes:
            if error is None:
                store(job.key, result)
            elif is_disk_full(error):
                raise error  # as every job after it would, after as many minutes
            else:
                failures[job.key] = error
                if not isinstance(error, WorkerLost):  # all jobs that wait are lost together: one error says it
                    _log.error("job %s failed: %s", job.key, _reason(error))
            bar.update()
    if failures:
        raise _failed(failures, len(pending)) from next(iter(failures.values()))
    return len(pending)


def _check(function: Callable[..., Any], jobs: Sequence[Job], backend: str, workers: int, threads: int | None) -> None:
    if backend not in _BACKENDS:
        raise ValueError(f"backend is {backend!r}: give one of {', '.join(_BACKENDS)}")
    if workers < 1:
        raise ValueError(f"workers is {workers}: give 1 or more")
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}: give 1 or more")
    if backend == "local" and workers > 1:
        raise ValueError(f"workers is {workers}, but backend 'local' does one job at a time: use 'spawn' or 'ray'")
    keys = [job.key for job in jobs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"two jobs have the key {next(key for key in keys if keys.count(key) > 1)!r}")
    name = getattr(function, "__qualname__", "")
    if backend != "local" and ("<" in name or not name):
        raise ValueError(
            f"backend {backend!r} needs a function of a module, which its workers can import, not {function!r}"
        )


def _failed(failures: dict[str, Exception], num_jobs: int) -> RuntimeError:
    shown = [f"{key} ({_reason(error)})" for key, error in list(failures.items())[:_SHOWN_FAILURES]]
    more = f", and {len(failures) - len(shown)} more" if len(failures) > len(shown) else ""
    lost = any(isinstance(error, WorkerLost) for error in failures.values())
    advice = "; fewer workers at a time need less memory" if lost else ""
    return RuntimeError(
        f"{len(failures)} of {num_jobs} jobs failed: {', '.join(shown)}{more}; "
        f"the results of the others are stored, the same command tries these again{advice}"
    )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, WorkerLost) else f"{type(error).__name__}: {text}"


def _local(function: Callable[..., Any], jobs: Sequence[Job], workers: int, threads: int | None) -> _Outcomes:
    before = torch.get_num_threads()
    try:
        if threads is not None:
            set_threads(threads)
        for job in jobs:
            try:
                result = function(*job.args)
            except Exception as error:  # reported by the caller, after the other jobs
                yield job, None, error
            else:
                yield job, result, None
    finally:
        torch.set_num_threads(before)


def _spawn(function: Callable[..., Any], jobs: Sequence[Job], workers: int, threads: int | None) -> _Outcomes:
    workers = min(workers, len(jobs))
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),  # a forked child of a process that used a GPU cannot use it
        initializer=_start_worker,
        initargs=(_share(workers, threads),),
    )
    finished = False
    try:
        futures = {executor.submit(function, *job.args): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                error = WorkerLost("a worker process was ended by the system, which most often lacked memory")
            if error is not None and not isinstance(error, Exception):
                raise error
            yield job, None if error else future.result(), error
            del futures[future]  # and its result with it
        finished = True
    finally:
        if not finished:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()  # a job takes minutes: do not wait for it
        executor.shutdown(cancel_futures=True)


def _start_worker(threads: int) -> None:
    """Prepare a worker process: its threads, and its end, which is its parent's business alone."""
    set_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of the terminal
    tqdm.set_lock(threading.RLock())  # its own is a semaphore of the system, which a terminated worker leaves behind
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed cannot end its workers, which would wait for jobs for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _ray(function: Callable[..., Any], jobs: Sequence[Job], workers: int, threads: int | None) -> _Outcomes:
    try:
        import ray
    except ImportError as error:
        raise RuntimeError("backend 'ray' needs Ray, which is not installed: pip install -e .[ray]") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(log_to_driver=False, include_dashboard=False)  # joins the cluster that $RAY_ADDRESS names
    num_threads = _share(workers, threads)
    remote = ray.remote(num_cpus=1, max_retries=0)(_call)
    waiting = list(reversed(jobs))
    running: dict[Any, Job] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                running[remote.remote(function, job.args, num_threads)] = job
            for reference in ray.wait(list(running))[0]:
                job = running.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    yield job, None, error.cause if isinstance(error.cause, Exception) else error
                except ray.exceptions.RayError as error:
                    yield job, None, WorkerLost(f"a worker was lost ({type(error).__name__})")
                else:
                    yield job, result, None
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        if is_ours:
            ray.shutdown()


def _call(function: Callable[..., Any], args: tuple[Any, ...], threads: int) -> Any:
    set_threads(threads)
    return function(*args)


def _share(workers: int, threads: int | None) -> int:
    return max(1, available_cpus() // workers) if threads is None else threads


_BACKENDS: dict[str, Callable[[Callable[..., Any], Sequence[Job], int, int | None], _Outcomes]] = {
    "local": _local,
    "spawn": _spawn,
    "ray": _ray,
}
