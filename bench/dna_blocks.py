"""Seconds of training and rating DNA's blocks: python -m bench.dna_blocks [--paths 60] [--device cpu].

Rating: one stage of the published supernet (four layers of six ops, 40 channels inside, from 48 to 80) at a small side,
once by the tree of prefixes and once path by path as in the released code, which takes the statistics of every path
anew for every batch; the loop runs over --paths evenly spread paths and is extrapolated. Evaluations of layers are
counted by hooks. Training: a step of all six stages of the `cpu` preset, one pass of the teacher for all against one
for each stage. Weights are new, which changes no time. CPU seconds of this process on one thread.
"""

import argparse
import time
from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn

import dna.models  # noqa: F401  registers dna_teacher
from dna.archs import Skeleton, path_ops
from dna.block_training import BlockLearner, Distill
from dna.losses import measures
from dna.rating import StageBatches, rate_block
from dna.space import BlockSpace
from dna.supernet import Block, Supernet
from dna.teacher import Teacher

CPU_SPACE = BlockSpace(
    skeleton=Skeleton(stem_width=16, first_width=8, strides=(1, 2, 1, 1, 2, 1), head_width=128),
    cells=("2x8", "2x16", "2x24", "2x32", "2x48", "1x64"),
)


def clock(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call: CPU time of this process, or wall time on a GPU."""
    if device.type == "cpu":
        begin = time.process_time()
        run()
        return time.process_time() - begin
    torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def count_layers(block: Block) -> list[int]:
    """A counter of evaluations of ops, in batches."""
    calls = [0]

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[0] += 1

    for layer in range(len(block.layers)):
        for op in range(6):
            block.op(layer, op).register_forward_hook(hook)
    return calls


def path_by_path(block: Block, batches: StageBatches, paths: list[tuple[int, ...]]) -> None:
    """The released loop: batches outside, paths inside, statistics anew for each pair."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for before, after in zip(batches.inputs, batches.targets, strict=True):
            for path in paths:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = 1.0
                block.train()(batches.recalibration, path)
                measures(block.eval()(before, path), after)


def rating(num_paths: int, num_batches: int, side: int, device: torch.device) -> None:
    """Rows of rating."""
    block = Block((48, 40, 40, 40, 80), 2).to(device)
    block.to(memory_format=torch.channels_last)
    inputs = [torch.randn(16, 48, side, side, device=device) for _ in range(1 + num_batches)]
    targets = [torch.randn(16, 80, side // 2, side // 2, device=device) for _ in range(num_batches)]
    batches = StageBatches(recalibration=inputs[0], inputs=inputs[1:], targets=targets)
    calls = count_layers(block)
    tree = clock(lambda: rate_block(block, batches), device)
    print(f"{'rating 1,296 paths, tree of prefixes':<44} {tree:>9.2f} {calls[0]:>10,}", flush=True)
    calls[0] = 0
    chosen = [path_ops(path * (1296 // num_paths), 4) for path in range(num_paths)]
    loop = clock(lambda: path_by_path(block, batches, chosen), device) * 1296 / num_paths
    whole = calls[0] * 1296 // num_paths
    print(f"{f'the same path by path, from {num_paths} paths':<44} {loop:>9.2f} {whole:>10,}: {loop / tree:.1f} times")


def training(device: torch.device) -> None:
    """Rows of a training step of all stages."""
    network = timm.create_model("dna_teacher").to(device)
    network.to(memory_format=torch.channels_last)
    teacher = Teacher(network, (2, 3, 4, 5, 6, 7))
    widths = [width for width, _ in teacher.shapes(32, device)]
    supernet = Supernet(CPU_SPACE, widths).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    learners = [BlockLearner(supernet.block(stage), stage, 0, Distill()) for stage in range(6)]
    images = torch.randn(64, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)

    def path(stage: int) -> tuple[int, ...]:
        return (1, 4)[: len(learners[stage].block.layers)]

    def joint() -> None:
        features = [images, *teacher.features(images, 5, "batch")]
        for stage, learner in enumerate(learners):
            learner.step(features[stage], features[stage + 1], [path(stage)], 0.001)

    def sequential() -> None:
        for stage, learner in enumerate(learners):
            features = [images, *teacher.features(images, stage, "batch")]
            learner.step(features[stage], features[stage + 1], [path(stage)], 0.001)

    for name, run in (("all stages, one pass of the teacher", joint), ("all stages, a pass for each", sequential)):
        run()
        print(f"{f'step of 64 images, {name}':<60} {min(clock(run, device) for _ in range(5)):>9.3f}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=48, help="paths that the loop runs over")
    parser.add_argument("--batches", type=int, default=2, help="rated batches of 16 images")
    parser.add_argument("--side", type=int, default=8, help="side of the features before the stage")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device(args.device)
    print(f"{'part':<44} {'seconds':>9} {'layers':>10}")
    rating(args.paths, args.batches, args.side, device)
    training(device)


if __name__ == "__main__":
    main()
