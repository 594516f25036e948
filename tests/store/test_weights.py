"""Weights files: what is saved comes back, damage is noticed, equal input gives equal bytes."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from common.store.weights import load_weights, save_weights

STATE = {
    "conv.weight": torch.arange(24, dtype=torch.float32).reshape(2, 3, 2, 2),
    "bn.num_batches_tracked": torch.tensor(7),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}
METADATA = {"architecture": "18-32_36", "config": "abcdef123456", "dataset": "caf\u00e9", "space": "resnet", "a": "1"}


def test_tensors_and_metadata_come_back_as_they_were(tmp_path: Path) -> None:
    save_weights(tmp_path / "new" / "net.safetensors", STATE, METADATA)
    state, metadata = load_weights(tmp_path / "new" / "net.safetensors")
    assert metadata == {**METADATA, "format": "1"}
    assert state.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor)


def test_the_safetensors_library_reads_the_file(tmp_path: Path) -> None:
    save_weights(tmp_path / "net.safetensors", STATE, METADATA)
    state = safetensors.torch.load_file(tmp_path / "net.safetensors")
    assert all(torch.equal(state[name], tensor) for name, tensor in STATE.items())


def test_tensors_that_share_memory_are_saved_separately(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    save_weights(tmp_path / "net.safetensors", {"a": whole, "b": whole[2:4], "c": whole.expand(2, 6).t()}, {})
    state, _ = load_weights(tmp_path / "net.safetensors")
    assert torch.equal(state["b"], torch.tensor([2.0, 3.0]))
    assert torch.equal(state["c"], whole.expand(2, 6).t())


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import sys, torch; from common.store.weights import save_weights;"
        "save_weights(sys.argv[1], {'b': torch.ones(3), 'a': torch.zeros(2)}, {c: c for c in 'zyxwvutsr'})"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "one")], check=True, cwd=Path(__file__).parents[2])
    save_weights(tmp_path / "two", {"a": torch.zeros(2), "b": torch.ones(3)}, {c: c for c in "rstuvwxyz"})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_every_truncation_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(path, STATE, METADATA)
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(RuntimeError, match=r"net\.safetensors is damaged"):
            load_weights(path)


def test_one_changed_bit_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_weights(path, STATE, METADATA)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RuntimeError, match="checksum"):
        load_weights(path)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path, metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match="format 'pt'"):
        load_weights(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.safetensors"):
        load_weights(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("metadata", [{"format": "2"}, {"checksum": "0"}, {"seed": 3}])
def test_metadata_that_could_not_come_back_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="metadata"):
        save_weights(tmp_path / "net.safetensors", STATE, metadata)
