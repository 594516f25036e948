"""Seconds of a search's parts: python -m bench.search [--probed 200] [--scored 100 1000 10000].

One row for each part, at the paper's size (64 px, the default space) and at that of configs/dass/cpu.yaml. The baseline
of probing is what the released code does for each student: build a network, remap the weights, run it. Teacher and
predictor are not trained, which changes no time. CPU seconds of this process on one thread, as others may share the
machine; the wall time of the same calls stands beside.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from common.kd.remap import RemapKind, remap
from common.spaces import ResidualNetwork, ResNetArch, ResNetSpace
from dass.prediction import adapt_and_predict
from dass.predictor import PredictorConfig, new_predictor, new_step_sizes
from dass.probe import embed, make_probe

KIND: RemapKind = "copy_paste_first"
CLASSES = 40
OFFICIAL = {
    "probe a student": "0.023",
    "build, remap and probe a student": "0.061",
    "adapt and score 100": "0.021",
    "adapt and score 1,000": "0.174",
}
"""The specification's measurements of the released code, on another machine, at the paper's size."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes that the parts are timed at."""

    name: str
    space: ResNetSpace
    resolution: int
    predictor: PredictorConfig


PAPER = Size(name="paper", space=ResNetSpace(), resolution=64, predictor=PredictorConfig())
CPU = Size(
    name="cpu",
    space=ResNetSpace(teacher_widths=(16, 32, 48, 64), max_depth=3),
    resolution=32,
    predictor=PredictorConfig(map_channels=64, hidden_channels=64, out_channels=128, arch_dim=109),
)


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def show(size: Size, part: str, spent: tuple[float, float], count: int) -> float:
    """Print a row, times divided by `count`; returns CPU seconds of one."""
    cpu, wall = (value / count for value in spent)
    official = OFFICIAL.get(part, "") if size is PAPER else ""
    print(f"{size.name:<6} {part:<34} {cpu:>9.4f} {wall:>9.4f} {official:>9}", flush=True)
    return cpu


def through_modules(teacher: ResidualNetwork, size: Size, archs: Sequence[ResNetArch]) -> None:
    """The baseline."""
    probe, state = make_probe(size.resolution), teacher.state_dict()
    for arch in archs:
        student = size.space.build(arch, CLASSES, size.resolution).eval()
        remap(state, size.space.teacher, student, arch, KIND)
        with torch.inference_mode():
            assert isinstance(student, ResidualNetwork)
            student.features(probe)


def probing(size: Size, num: int) -> float:
    """Rows of probing; returns CPU seconds of one student."""
    torch.manual_seed(0)
    teacher = ResidualNetwork(size.space.teacher.widths, CLASSES).eval()
    archs = size.space.sample(num, torch.Generator().manual_seed(0))
    few = archs[: max(1, num // 4)]
    state, probe = teacher.state_dict(), make_probe(size.resolution)

    def ours(chosen: Sequence[ResNetArch]) -> None:
        embed(state, size.space.teacher, chosen, probe, KIND)

    ours(archs[:3])
    show(size, "build, remap and probe a student", seconds(lambda: through_modules(teacher, size, few)), len(few))

    def one_by_one() -> None:
        for arch in few:
            ours([arch])

    show(size, "probe a student", seconds(one_by_one), len(few))
    return show(size, f"probe a student, {num:,} together", seconds(lambda: ours(archs)), num)


def scoring(size: Size, num: int) -> float:
    """Row of one adaptation and `num` predictions; returns its CPU seconds."""
    side = size.resolution // 8
    predictor = new_predictor(size.predictor, 0)
    steps = new_step_sizes(predictor, 0.005)
    draws = torch.Generator().manual_seed(0)
    maps = torch.rand(num + 1, size.predictor.map_channels, side, side, generator=draws)
    codes = (torch.rand(num + 1, size.predictor.arch_dim, generator=draws) < 0.08).float()

    def run() -> None:
        adapt_and_predict(predictor, steps, maps[:1], codes[:1], 0.7, maps=maps[1:], codes=codes[1:])

    run()
    return show(size, f"adapt and score {num:,}", min(seconds(run) for _ in range(3)), 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probed", type=int, default=200, help="students that are probed")
    parser.add_argument("--scored", type=int, nargs="+", default=[100, 1000, 10000], help="candidates of a search")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'size':<6} {'part':<34} {'CPU s':>9} {'wall s':>9} {'official':>9}")
    for size in (PAPER, CPU):
        probe = probing(size, args.probed)
        for num in args.scored:
            total = num * probe + scoring(size, num)
            print(
                f"{size.name:<6} {f'whole search of {num:,}':<34} {total:>9.2f}: {num / total:,.0f} candidates a second"
            )
    print("official: CPU s of the released code as the specification measured them, on another machine")


if __name__ == "__main__":
    main()
