"""Milliseconds of TANS's retrieval: python -m bench.tans_retrieval [--large 1000000].

Milliseconds on one thread, the least and the median of several, of the exact index over unit vectors of 128 numbers,
mapped from a zoo's files: one query and ten nearest, with and without a mask; and of cutting a network of width 1.2 out
of its supernet, with the supernet in memory.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from common.spaces import MobileNetV3Space, MobileNetV3Supernet
from tans.retrieve import ExactIndex
from tans.vectors import read_rows, write_rows

WIDTH, NUM = 128, 10
OFFICIAL = {"cut": "45", "query": "1.9"}


def report(name: str, run: Callable[[], object], repeats: int, target: str = "", official: str = "") -> None:
    """Print least and median CPU milliseconds."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        times.append(1000 * (time.process_time() - begin))
    print(f"{name:<52} {min(times):>9.3f} {statistics.median(times):>9.3f} {target:>7} {official:>9}", flush=True)


def measure(folder: Path, num: int, repeats: int, target: str, official: str) -> None:
    """Rows of an index of one size."""
    draws = torch.Generator().manual_seed(0)
    for start in range(0, num, 100_000):
        size = min(100_000, num - start)
        write_rows(folder, f"m{num}", start, F.normalize(torch.randn(size, WIDTH, generator=draws), dim=1).numpy())
    index = ExactIndex(read_rows(folder, f"m{num}", num))
    query = F.normalize(torch.randn(1, WIDTH, generator=draws), dim=1)
    mask = torch.rand(num, generator=draws) < 0.3
    report(f"{num:,} vectors, one query", lambda: index.search(query, NUM), repeats, target, official)
    report(f"{num:,} vectors, one query within bounds", lambda: index.search(query, NUM, mask), repeats)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=1_000_000, help="vectors of the large index: 512 bytes each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'part':<52} {'CPU ms':>9} {'median':>9} {'target':>7} {'official':>9}")
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), 14_000, 50, "0.5", OFFICIAL["query"])
        measure(Path(folder), args.large, 7, "50", "")
    space = MobileNetV3Space(width_mult=1.2)
    supernet = MobileNetV3Supernet(space.plan, 20).eval()
    archs = iter(space.sample(40, torch.Generator().manual_seed(0)))
    report("cut a network of width 1.2", lambda: supernet.cut(next(archs)), 20, "15", OFFICIAL["cut"])
    print("official: milliseconds of the released code, on another machine (specification); its query sorts all 14,000")


if __name__ == "__main__":
    main()
