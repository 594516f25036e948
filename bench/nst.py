"""Cost of the NST loss: python -m bench.nst [DEVICE].

Forward and backward pass of one pair of maps, ours against the form that holds a kernel value for every pair of
channels and position at once (B x C x C' x positions). On the CPU each row runs in a process of its own, whose peak of
resident memory tells what it needs; seconds are the least of some repeats, CPU seconds there.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from common.kd.losses import nst_loss

SIZES = ((128, 24, 16), (128, 96, 8), (128, 160, 8), (256, 16, 32))
"""(batch, channels, height): maps of MobileNetV2 and, last, of NAS-Bench-201."""
OFFICIAL = {
    (128, 24, 16): "210 ms, 178 MiB; as products 12 ms, 35 MiB",
    (128, 96, 8): "760 ms, 655 MiB; as products 26 ms, 78 MiB",
    (128, 160, 8): "2958 ms, 1767 MiB; as products 77 ms, 161 MiB",
    (256, 16, 32): "735 ms, 668 MiB; as products 63 ms, 128 MiB",
}
"""Measured for the specification on another machine: the released code, and its value as batched matrix products."""
_LARGEST_BROADCAST = 2**28  # numbers; larger ones are left out


def broadcast(student: Tensor, teacher: Tensor) -> Tensor:
    """The loss with all terms of the kernel in memory."""
    student, teacher = (F.normalize(maps.flatten(2), dim=2) for maps in (student, teacher))

    def kernel(first: Tensor, second: Tensor) -> Tensor:
        return (first[:, :, None] * second[:, None, :]).sum(3).square().mean()

    return kernel(student, student) - 2 * kernel(student, teacher)


FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"ours": nst_loss, "broadcast": broadcast}


def measure(form: str, size: tuple[int, int, int], device: str, repeats: int) -> tuple[float, float, float]:
    """Least seconds, MiB more than before, and the value."""
    torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(0)
    batch, channels, height = size
    student, teacher = (torch.randn(batch, channels, height, height, generator=draws).to(device) for _ in range(2))
    student.requires_grad_(True)
    clock = time.process_time if device == "cpu" else time.perf_counter
    torch.autograd.backward(FORMS[form](student[:2], teacher[:2]))  # loads what the first call loads
    before, spent, value = _peak_mib(device), [], 0.0
    for _ in range(repeats):
        student.grad = None
        begin = clock()
        loss = FORMS[form](student, teacher)
        torch.autograd.backward(loss)
        value = float(loss.detach())
        spent.append(clock() - begin)
    return min(spent), _peak_mib(device) - before, value


def _peak_mib(device: str) -> float:
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", nargs="?", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"{'form':<12}{'B, C, H':>16}{'ms':>10}{'MiB':>8}{'value':>12}  official, on another machine")
    for size in SIZES:
        for form in FORMS:
            batch, channels, height = size
            if form == "broadcast" and batch * channels**2 * height**2 > _LARGEST_BROADCAST:
                print(f"{form:<12}{size!s:>16}{'left out: too large':>30}")
                continue
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, mib, value = pool.apply(measure, (form, size, args.device, args.repeats))
            print(
                f"{form:<12}{size!s:>16}{1000 * seconds:>10.1f}{mib:>8.0f}{value:>12.6f}  {OFFICIAL[size]}", flush=True
            )


if __name__ == "__main__":
    main()
