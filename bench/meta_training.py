"""Seconds of a meta-training episode and of scoring at the paper's size: python -m bench.meta_training.

CPU seconds of this process on one thread, the least and the median of several, and the median of wall seconds; maps and
labels are random. The rows "by convolutions" run the same bilevel objective with convolution calls on maps in place of
products of patches.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from dass.episodes import TaskTensors, draw_queries
from dass.meta_training import MetaLearner, MetaLearning, accumulate_gradients
from dass.prediction import adapt_and_predict
from dass.predictor import PredictorConfig, map_patches, new_predictor

NUM_TASKS, NUM_STUDENTS = 8, 100
OFFICIAL = {
    "episode, second order, 8 x 50": "0.36-0.39",
    "episode, first order, 8 x 50": "0.27",
    "adapt and score 100 candidates": "0.021",
    "adapt and score 1000 candidates": "0.174",
}
"""CPU seconds of the released code as the specification measured them, on another machine."""


def report(name: str, run: Callable[[], object], repeats: int) -> None:
    """Print CPU and wall seconds of a call beside the released code's; a first one warms up."""
    run()
    cpu, wall = [], []
    for _ in range(repeats):
        begin, began = time.process_time(), time.perf_counter()
        run()
        cpu.append(time.process_time() - begin)
        wall.append(time.perf_counter() - began)
    figures = (min(cpu), statistics.median(cpu), statistics.median(wall))
    print(f"{name:<44} {' '.join(f'{value:>7.3f}' for value in figures)}  {OFFICIAL.get(name, '')}", flush=True)


def random_task(index: int, layout: Callable[[Tensor], Tensor]) -> TaskTensors:
    """A task of the paper's sizes."""
    random = torch.Generator().manual_seed(index)
    return TaskTensors(
        task=str(index),
        student=layout(torch.randn(NUM_STUDENTS, 256, 8, 8, generator=random).relu()),
        codes=(torch.rand(NUM_STUDENTS, 181, generator=random) < 0.08).float(),
        accuracy=torch.rand(NUM_STUDENTS, generator=random),
        teacher=layout(torch.randn(1, 256, 8, 8, generator=random).relu()),
        teacher_code=torch.ones(1, 181),
        teacher_accuracy=torch.tensor([0.7]),
    )


def episode(tasks: list[TaskTensors], learning: MetaLearning) -> Callable[[], None]:
    """One episode as the loop does it: draw, differentiate, update."""
    learner = MetaLearner(new_predictor(PredictorConfig(), 0), learning)
    optimizer = torch.optim.Adam(learner.parameters(), lr=learning.learning_rate, fused=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        accumulate_gradients(learner, [draw_queries(task, learning.num_queries, 0, 0) for task in tasks], learning)
        optimizer.step()

    return run


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print(f"{'seconds, one thread':<44} {'CPU':>7} {'median':>7} {'wall':>7}  official, on another machine")
    for name, layout in (("", map_patches), (", by convolutions", torch.clone)):
        tasks = [random_task(index, layout) for index in range(NUM_TASKS)]
        for order, first_order in (("second", False), ("first", True)):
            learning = replace(MetaLearning(), first_order=first_order)
            report(f"episode, {order} order, 8 x 50{name}", episode(tasks, learning), 15)
    predictor = new_predictor(PredictorConfig(), 0)
    steps = MetaLearner(predictor, MetaLearning()).step_sizes
    teacher, teacher_code = torch.randn(1, 256, 8, 8).relu(), torch.ones(1, 181)
    for num in (100, 1000):
        maps, codes = torch.randn(num, 256, 8, 8).relu(), (torch.rand(num, 181) < 0.08).float()
        score = partial(adapt_and_predict, predictor, steps, teacher, teacher_code, 0.7, maps=maps, codes=codes)
        report(f"adapt and score {num} candidates", score, 9)


if __name__ == "__main__":
    main()
