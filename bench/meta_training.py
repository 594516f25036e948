"""Time meta-training and scoring at the paper's size: `python -m bench.meta_training`.

CPU seconds of this process on one thread, the least and the median of several; maps and labels are random. The rows
"by convolutions" run the same bilevel objective with convolution calls on maps in place of products of patches.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dass.episodes import TaskTensors, draw_queries
from dass.meta_training import MetaLearner, MetaLearning, accumulate_gradients
from dass.prediction import adapt_and_predict
from dass.predictor import PredictorConfig, map_patches, new_predictor

NUM_TASKS, NUM_STUDENTS = 8, 100


def report(name: str, run: Callable[[], object], repeats: int) -> None:
    """Print least and median CPU seconds of a call; a first one warms up."""
    run()
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)
    print(f"{name:<48} {min(seconds):.3f} {statistics.median(seconds):.3f}")


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
    print(f"{'CPU seconds':<48} least median")
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
        given = (predictor, steps, teacher, teacher_code, 0.7, maps, codes)
        report(f"adapt and score {num} candidates", lambda given=given: adapt_and_predict(*given), 9)  # type: ignore[misc]


if __name__ == "__main__":
    main()
