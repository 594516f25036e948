"""The device of a command, its threads, and deterministic arithmetic."""

import os

import torch

_CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


def resolve_device(gpu: str = "auto") -> torch.device:
    """Device that `--gpu` names.

    Args:
        gpu: "auto" (the first GPU, the CPU where there is none), "cpu", or the number of a GPU.

    Raises:
        ValueError: the text is none of these, or there is no such GPU.
    """
    if gpu == "cpu":
        return torch.device("cpu")
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu == "auto":
        return torch.device("cuda", 0) if num_gpus else torch.device("cpu")
    if not (gpu.isascii() and gpu.isdigit()):
        raise ValueError(f"gpu is {gpu!r}: give the number of a GPU, 'cpu' or 'auto'")
    if num_gpus == 0:
        raise ValueError(f"gpu is {gpu!r}, but PyTorch finds no usable GPU here: use --gpu cpu")
    if int(gpu) >= num_gpus:
        raise ValueError(f"gpu is {gpu!r}, but this process sees {num_gpus} GPU(s): give 0 to {num_gpus - 1}, or 'cpu'")
    return torch.device("cuda", int(gpu))


def available_cpus() -> int:
    """Number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_threads(num: int | None) -> None:
    """Set the threads of one tensor operation on the CPU.

    Args:
        num: at least 1; None keeps PyTorch's own choice (which OMP_NUM_THREADS sets), but no more than the CPUs that
            this process may use: more threads than CPUs are many times slower, not faster.

    Raises:
        ValueError: `num` is below 1.
    """
    if num is not None and num < 1:
        raise ValueError(f"threads is {num}: give 1 or more")
    torch.set_num_threads(min(torch.get_num_threads(), available_cpus()) if num is None else num)


def make_deterministic() -> None:
    """Let PyTorch use deterministic algorithms only; call it before anything runs on a GPU.

    Raises:
        RuntimeError: a GPU is already in use without the fixed workspace that deterministic cuBLAS needs.
    """
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if in_use and _CUBLAS_VARIABLE not in os.environ:
        raise RuntimeError(
            f"deterministic arithmetic must be chosen before the GPU is used: set {_CUBLAS_VARIABLE}=:4096:8"
        )
    os.environ.setdefault(_CUBLAS_VARIABLE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
