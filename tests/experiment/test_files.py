"""Files are replaced whole or not at all, and damage is an error that names the file."""

import errno
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from common.experiment.files import load_state, read_json, save_state, write_bytes, write_json, write_text


def test_content_comes_back_and_parents_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    write_text(path, "caf\u00e9\n")
    assert path.read_bytes() == b"caf\xc3\xa9\n"
    write_json(path, {"a": [1, 2.5, None, True]})
    assert read_json(path) == {"a": [1, 2.5, None, True]}
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "file"
    write_bytes(path, b"old")
    monkeypatch.setattr(os if call == "fsync" else Path, call, full)
    with pytest.raises(OSError, match="file") as caught:
        write_bytes(path, b"new" * 1000)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "file"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_values_that_json_has_no_form_for_are_refused_before_writing(tmp_path: Path) -> None:
    for value in ({"a": float("nan")}, {"a": torch.ones(1)}, {"a": tmp_path}):
        with pytest.raises(ValueError, match=r"result\.json"):
            write_json(tmp_path / "result.json", value)
    assert os.listdir(tmp_path) == []


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(b'{"a": 1')
    with pytest.raises(RuntimeError, match=r"result\.json is not valid JSON"):
        read_json(tmp_path / "result.json")
    (tmp_path / "result.json").write_bytes(b"\xff\xfe")
    with pytest.raises(RuntimeError, match=r"result\.json is not valid JSON"):
        read_json(tmp_path / "result.json")


def make_state() -> dict[str, Any]:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "random": torch.Generator().manual_seed(3).get_state(),
        "plain": {"step": 3, "best": 0.5, "names": ("a", "b"), "none": None, 4: [True]},
    }


def test_training_state_comes_back_exactly(tmp_path: Path) -> None:
    state = make_state()
    save_state(tmp_path / "last.pt", state)
    loaded = load_state(tmp_path / "last.pt")
    assert loaded["plain"] == state["plain"]
    assert loaded["schedule"] == state["schedule"]
    assert isinstance(loaded["model"], OrderedDict)
    assert all(torch.equal(loaded["model"][name], tensor) for name, tensor in state["model"].items())
    moments = [values["momentum_buffer"] for values in state["optimizer"]["state"].values()]
    again = [values["momentum_buffer"] for values in loaded["optimizer"]["state"].values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, again, strict=True))
    assert torch.equal(loaded["random"], state["random"])


def test_equal_state_gives_equal_bytes(tmp_path: Path) -> None:
    state = make_state()
    for name in ("one.pt", "two.pt"):
        save_state(tmp_path / name, state)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()


@pytest.mark.parametrize("value", [numpy.float64(1.0), numpy.int64(1), Path("a"), numpy.ones(2), object()])
def test_values_that_could_not_be_read_back_are_refused_with_their_place(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match=r"state\['meta'\]\[1\] is a "):
        save_state(tmp_path / "last.pt", {"meta": [1, value]})
    assert os.listdir(tmp_path) == []


def test_every_truncation_of_a_state_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"a": torch.ones(5), "step": 3})
    data = path.read_bytes()
    for length in range(0, len(data), 23):
        path.write_bytes(data[:length])
        with pytest.raises(RuntimeError, match=r"last\.pt is damaged"):
            load_state(path)


def test_one_changed_bit_of_a_tensor_in_a_state_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"a": torch.full((5,), 1.2345)})
    data = bytearray(path.read_bytes())
    place = data.index(numpy.full(5, 1.2345, dtype=numpy.float32).tobytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match="checksum"):
        load_state(path)


def test_a_file_that_would_run_code_when_read_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "made"),))

    torch.save({"a": Harmful()}, tmp_path / "foreign.pt")
    with pytest.raises(RuntimeError, match=r"foreign\.pt is damaged or was not written by this program"):
        load_state(tmp_path / "foreign.pt")
    assert not (tmp_path / "made").exists()


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"last\.pt"):
        load_state(tmp_path / "last.pt")
