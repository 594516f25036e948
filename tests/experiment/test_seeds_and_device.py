"""Streams of random numbers are independent; the device is the one that was named."""

import os

import pytest
import torch

from common.experiment import device
from common.experiment.device import available_cpus, resolve_device, set_threads
from common.experiment.seeds import derive_seed, generator


def test_a_seed_and_a_name_give_the_same_stream_on_every_machine() -> None:
    assert derive_seed(0) == 7520536977032167579  # printf '[0]' | sha256sum, first 16 digits, halved
    assert derive_seed(0, "augment", 3) == 3510512661407846465


def test_different_seeds_and_names_give_different_streams() -> None:
    names: list[tuple[str | int, ...]] = [(), ("a",), ("b",), ("a", "b"), ("ab",), ("a", 1), ("a", "1"), ("a,1",)]
    assert len({derive_seed(seed, *use) for use in names for seed in (0, 1, -1)}) == 3 * len(names)


def test_derived_seeds_are_63_bit_and_spread() -> None:
    seeds = [derive_seed(seed, "x") for seed in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert 400 < sum(seed >= 2**62 for seed in seeds) < 600


def test_a_generator_repeats_its_stream_and_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    first = torch.rand(4, generator=generator(1, "x"))
    assert torch.equal(first, torch.rand(4, generator=generator(1, "x")))
    assert not torch.equal(first, torch.rand(4, generator=generator(2, "x")))
    assert torch.equal(before, torch.get_rng_state())


def test_the_cpu_can_always_be_named() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("num", "expected"), [(0, "cpu"), (2, "cuda:0")])
def test_auto_is_the_first_gpu_or_the_cpu(monkeypatch: pytest.MonkeyPatch, num: int, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num)
    assert resolve_device("auto") == torch.device(expected)


def test_a_gpu_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="sees 2 GPU"):
        resolve_device("2")


def test_a_gpu_that_is_not_there_is_an_error_that_offers_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--gpu cpu"):
        resolve_device("0")


@pytest.mark.parametrize("gpu", ["", "-1", "cuda", "0,1", "first", "1.0", "\u00b2"])
def test_other_names_of_devices_are_refused(gpu: str) -> None:
    with pytest.raises(ValueError, match="number of a GPU, 'cpu' or 'auto'"):
        resolve_device(gpu)


def test_threads_are_never_more_than_the_cpus_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(available_cpus() + 3)
        set_threads(None)
        assert torch.get_num_threads() == available_cpus()
        set_threads(1)
        set_threads(None)
        assert torch.get_num_threads() == 1
        set_threads(2)
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="threads is 0"):
            set_threads(0)
    finally:
        torch.set_num_threads(before)


def test_determinism_is_chosen_before_the_gpu_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="before the GPU is used"):
        device.make_deterministic()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "before")  # so that monkeypatch removes what is set below
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        device.make_deterministic()
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
