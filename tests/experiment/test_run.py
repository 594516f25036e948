"""A run's folder: resumable after a kill at any moment, equal to an uninterrupted one, guarded against mix-ups."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.experiment.config import StepConfig, UsageError, parse_config
from common.experiment.run import Run, open_run


@dataclass(frozen=True, kw_only=True)
class Config(StepConfig):
    """Train something small."""

    num_steps: int = 7
    name: str = "1e3"
    sizes: tuple[int, ...] = (3, 4)


def opened(folder: Path, config: Config | None = None) -> Run:
    return open_run(folder, program="dass", step="distil", config=config or Config())


def train(folder: Path, num_steps: int = 7, stop_after: int | None = None) -> dict[str, Any]:
    """A loop with all that has to be resumed: weights, moments, a generator, torch's own generator, plain values."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2), torch.nn.Dropout())
    draws = torch.Generator().manual_seed(1)
    totals: dict[str, Any] = {"sum": torch.zeros(()), "count": 0}
    with opened(folder) as run, torch.no_grad():
        if run.result is not None:
            return run.result
        for step in range(run.restore(model=model, draws=draws, totals=totals), num_steps):
            output = model(torch.randn(4, 3, generator=draws))
            model[0].weight += output.mean()
            totals["sum"] += output.sum()
            totals["count"] += 1
            run.log(step, {"output": output.mean(), "count": totals["count"]})
            if step == stop_after:
                raise KeyboardInterrupt
            if run.due(step, 2):
                run.log(step, {"sum": totals["sum"]}, split="valid")
                run.save(step + 1, model=model, draws=draws, totals=totals)
        return run.finish({"sum": totals["sum"].item(), "count": totals["count"]})


def content(folder: Path) -> dict[str, bytes]:
    names = ("config.yaml", "metrics.csv", "result.json", "checkpoint/last.pt", "checkpoint/previous.pt")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def train_until(folder: Path, num_calls: int) -> None:
    """Train in a process that is killed at its n-th call that makes something last."""
    count = 0

    def counted(call: Any) -> Any:
        def counting(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == num_calls:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return counting

    os.fsync, Path.replace, Path.unlink = counted(os.fsync), counted(Path.replace), counted(Path.unlink)  # type: ignore
    train(folder)


def test_the_metrics_are_rows_of_step_split_name_and_value(whole: Path) -> None:
    lines = (whole / "metrics.csv").read_text().splitlines()
    assert lines[0] == "step,split,name,value"
    assert len(lines) == 1 + 7 * 2 + 3
    assert lines[4].startswith("1,train,count,2.0")
    assert lines[5].startswith("1,valid,sum,")
    assert json.loads((whole / "result.json").read_text())["count"] == 7


def test_a_run_killed_at_any_write_equals_the_whole_one_when_run_again(tmp_path: Path, whole: Path) -> None:
    context = multiprocessing.get_context("fork")
    for num_calls in range(1, 1000):
        folder = tmp_path / str(num_calls)
        process = context.Process(target=train_until, args=(folder, num_calls))
        process.start()
        process.join()
        train(folder)
        assert content(folder) == content(whole), f"killed at call {num_calls}"
        assert not list(folder.glob("**/.*.tmp"))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert num_calls > 30  # every write of three saves, the log and the result was a place to die


def test_a_run_killed_from_outside_equals_the_whole_one(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; sys.path[:0] = sys.argv[2:]\n"
        "from tests.experiment import test_run\n"
        "from common.experiment.run import Run\n"
        "slow = Run.log\n"
        "Run.log = lambda *a, **k: (time.sleep(0.01), print(a[1], flush=True), slow(*a, **k))\n"
        "test_run.train(Path(sys.argv[1]), num_steps=200)"
    )
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", program, str(tmp_path / "killed"), root]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        steps = [process.stdout.readline() for _ in range(50)]
        process.kill()
    assert int(steps[-1]) > 20
    train(tmp_path / "killed", num_steps=200)
    train(tmp_path / "whole", num_steps=200)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_row_cut_in_half_is_dropped_on_resuming(tmp_path: Path, whole: Path) -> None:
    train_partly(tmp_path)
    with (tmp_path / "metrics.csv").open("ab") as file:
        file.write(b"4,train,outp")
    train(tmp_path)
    assert content(tmp_path)["metrics.csv"] == content(whole)["metrics.csv"]


def train_partly(folder: Path) -> None:
    """Stop after step 4 of 7, which the last checkpoint, of step 4, does not hold."""
    with pytest.raises(KeyboardInterrupt):
        train(folder, stop_after=4)


def test_resuming_without_a_saved_state_begins_the_metrics_anew(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path) as run:
            run.log(0, {"a": 1.0})
    assert (tmp_path / "metrics.csv").read_text() == "step,split,name,value\n0,train,a,1.0\n"


def test_state_kept_elsewhere_rewinds_the_metrics_to_the_first_step_logged(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        for step in range(4):
            run.log(step, {"a": step})
    with opened(tmp_path) as run:
        run.log(2, {"a": 20})
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1:] == [
        "0,train,a,0.0",
        "1,train,a,1.0",
        "2,train,a,20.0",
    ]


def test_a_tensor_that_changes_after_it_was_logged_keeps_its_logged_value(tmp_path: Path) -> None:
    total = torch.ones(1, requires_grad=True)
    with opened(tmp_path) as run:
        run.log(0, {"a": total, "b": torch.tensor(3), "c": torch.tensor(0.1), "d": float("nan")})
        with torch.no_grad():
            total += 1
    values = [line.split(",")[-1] for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    assert values == ["1.0", "3.0", "0.10000000149011612", "nan"]


def test_metrics_that_are_not_numbers_or_have_broken_names_are_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        with pytest.raises(ValueError, match=r"'a' has shape \(2,\)"):
            run.log(0, {"a": torch.ones(2)})
        with pytest.raises(ValueError, match="no commas"):
            run.log(0, {"a,b": 1.0})
        with pytest.raises(ValueError, match="line breaks"):
            run.log(0, {"a\nb": 1.0})


def test_tensorboard_reads_the_same_numbers(whole: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(whole))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/count")] == [(s, s + 1.0) for s in range(7)]


def test_a_finished_run_gives_its_result_and_computes_nothing(tmp_path: Path, whole: Path) -> None:
    before = content(whole)
    with opened(whole) as run:
        assert run.result == json.loads((whole / "result.json").read_text())
    assert content(whole) == before


def test_the_stored_config_runs_again(tmp_path: Path) -> None:
    config = Config(num_steps=3, sizes=(), out=tmp_path, restart=True, debug=True, name="no")
    opened(tmp_path, config).close()
    again = parse_config(Config, ["--config", str(tmp_path / "config.yaml")], program="dass distil")
    assert again == replace(config, restart=False, debug=False)


def test_the_environment_says_what_ran(whole: Path) -> None:
    about = json.loads((whole / "environment.json").read_text())
    assert (about["program"], about["step"], about["seed"]) == ("dass", "distil", 0)
    assert (
        about["packages"]["torch"] == torch.__version__.split("+")[0] or about["packages"]["torch"] == torch.__version__
    )


def test_other_settings_in_the_same_folder_are_listed_with_the_ways_out(tmp_path: Path) -> None:
    opened(tmp_path).close()
    with pytest.raises(UsageError, match=r"num_steps is 7 there and 8 here; sizes is .* --out.* --restart"):
        opened(tmp_path, Config(num_steps=8, sizes=(1,)))
    with pytest.raises(UsageError, match="holds a run of dass distil, not of dass search"):
        open_run(tmp_path, program="dass", step="search", config=Config())


def test_settings_that_change_no_result_may_change(tmp_path: Path) -> None:
    opened(tmp_path).close()
    before = (tmp_path / "config.yaml").read_bytes()
    free = Config(gpu="cpu", threads=3, debug=True, data_root=Path("elsewhere"), out=tmp_path)
    with opened(tmp_path, free) as run:
        assert run.result is None
    assert (tmp_path / "config.yaml").read_bytes() == before, "the run goes on as it was described"


def test_restart_forgets_the_run_and_keeps_other_files(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with opened(tmp_path, Config(num_steps=9, restart=True)) as run:
        assert run.result is None
        assert run.restore() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(".lock", "checkpoint", "config.yaml", "environment.json", "notes.txt")
    ]
    assert list((tmp_path / "checkpoint").iterdir()) == []


@pytest.fixture
def lock_holder(tmp_path: Path) -> Iterator[Any]:
    """Another process that has the folder open."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def hold() -> None:
        with opened(tmp_path):
            ready.set()
            signal.pause()

    process = context.Process(target=hold)
    process.start()
    assert ready.wait(20)
    yield process
    process.kill()
    process.join()


def test_a_second_process_on_the_folder_is_refused_until_the_first_is_gone(tmp_path: Path, lock_holder: Any) -> None:
    with pytest.raises(RuntimeError, match=f"in use by process {lock_holder.pid}: .*--out"):
        opened(tmp_path)
    lock_holder.kill()
    lock_holder.join()
    opened(tmp_path).close()  # a killed owner leaves no lock behind


def test_a_run_that_is_no_longer_referred_to_lets_go_of_its_folder(tmp_path: Path) -> None:
    run = opened(tmp_path)
    with pytest.raises(RuntimeError, match="in use"):
        opened(tmp_path)
    del run
    opened(tmp_path).close()


@pytest.mark.parametrize("length", [0, 100, 2000])
def test_a_truncated_checkpoint_is_named_with_the_ways_out(tmp_path: Path, whole: Path, length: int) -> None:
    train_partly(tmp_path)
    last = tmp_path / "checkpoint" / "last.pt"
    last.write_bytes(last.read_bytes()[:length])
    with pytest.raises(
        RuntimeError, match=r"last\.pt is damaged .* delete .*last\.pt to go on from previous\.pt .*--restart"
    ):
        train(tmp_path)
    last.unlink()
    train(tmp_path)
    assert content(tmp_path)["metrics.csv"] == content(whole)["metrics.csv"]


def test_a_checkpoint_of_other_objects_is_an_error_that_says_so(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.save(1, a={"x": 1}, model=torch.nn.Linear(2, 2))
        with pytest.raises(RuntimeError, match=r"last\.pt holds a, model, not b .*--restart"):
            run.restore(b={})
        with pytest.raises(RuntimeError, match=r"model in .*last\.pt does not fit: .*size mismatch"):
            run.restore(a={}, model=torch.nn.Linear(3, 2))
        with pytest.raises(ValueError, match="cannot save a, a int"):
            run.save(2, a=3)


def test_a_full_disk_leaves_the_last_state_and_the_run_goes_on_from_it(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def filling(descriptor: int, fsync: Any = os.fsync) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", filling)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path)
    monkeypatch.undo()
    assert (tmp_path / "checkpoint" / "last.pt").exists()
    train(tmp_path)
    assert content(tmp_path) == content(whole)


def test_the_best_state_is_kept_apart_and_read_in_part(tmp_path: Path) -> None:
    best: dict[str, Any] = {}
    with opened(tmp_path) as run:
        run.save_best(3, weights={"w": torch.ones(2)}, more={"accuracy": 0.5})
        run.save(4, weights={"w": torch.zeros(2)})
        before = torch.get_rng_state()
        assert run.restore_best(weights=best) == 3
    assert torch.equal(best["w"], torch.ones(2))
    assert torch.equal(before, torch.get_rng_state())


def test_restoring_after_logging_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.log(0, {"a": 1.0})
        with pytest.raises(RuntimeError, match="before logging"):
            run.restore()


def test_a_step_is_due_when_it_completes_a_group(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        assert [step for step in range(9) if run.due(step, 4)] == [3, 7]
        assert not any(run.due(step, 0) for step in range(9))


def test_damaged_files_of_a_run_are_named(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"result\.json is not valid JSON"):
        opened(tmp_path)
    (tmp_path / "result.json").unlink()
    (tmp_path / "metrics.csv").write_text("a,b\n")
    with opened(tmp_path) as run, pytest.raises(RuntimeError, match=r"metrics\.csv does not begin with"):
        run.log(0, {"a": 1.0})
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(RuntimeError, match=r"config\.yaml is damaged"):
        opened(tmp_path)
