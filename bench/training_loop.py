"""Images per second of the classifier trainer against a bare PyTorch loop: python -m bench.training_loop [DEVICE].

Both train the same student from the same teacher. The bare loop has its batches ready as floats on the device; the
trainer shuffles, augments, normalises, watches for losses that are not finite and keeps the schedule. Times are
processor time on a CPU (others may share it) and wall time on a GPU, of the second and later epochs only.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.batches import normalise
from common.data.tasks import Task
from common.kd.recipe import Recipe
from common.kd.trainer import train
from common.spaces.resnet_network import ResidualNetwork

STUDENT = [[18, 32], [36], [72, 100], [144, 256]]
TEACHER = [[32] * 3, [64] * 3, [128] * 3, [256] * 3]
CLASSES = 40


def make_task(num_images: int, resolution: int) -> Task:
    draws = torch.Generator().manual_seed(0)
    shape = (num_images, 3, resolution, resolution)
    return Task(
        id="noise",
        description="noise",
        images=torch.randint(0, 256, shape, generator=draws, dtype=torch.uint8),
        labels=torch.randint(0, CLASSES, (num_images,), generator=draws),
        class_names=tuple(str(index) for index in range(CLASSES)),
        train=torch.arange(num_images),
        evaluation=torch.arange(64),
        flip=True,
    )


def bare_loop(task: Task, recipe: Recipe, device: torch.device) -> None:
    student, teacher = ResidualNetwork(STUDENT, CLASSES).to(device), ResidualNetwork(TEACHER, CLASSES).to(device).eval()
    batches: list[tuple[Tensor, Tensor]] = [
        (normalise(images).to(device), labels.to(device))
        for images, labels in zip(
            torch.split(task.images, recipe.batch_size), torch.split(task.labels, recipe.batch_size), strict=True
        )
    ]
    optimizer = torch.optim.SGD(
        student.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=3e-5, fused=True
    )
    for _ in range(recipe.epochs):
        for images, labels in batches:
            logits = student(images)
            loss = F.cross_entropy(logits, labels)
            if recipe.loss == "kd":
                with torch.no_grad():
                    soft = (teacher(images) / 6).softmax(1)
                loss = 0.5 * loss + 0.5 * 36 * F.cross_entropy(logits / 6, soft)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def trainer_loop(task: Task, recipe: Recipe, device: torch.device) -> None:
    student, teacher = ResidualNetwork(STUDENT, CLASSES).to(device), ResidualNetwork(TEACHER, CLASSES).to(device)
    train([student], task, recipe, device=device, seed=0, teacher=teacher)


def seconds(
    loop: Callable[[Task, Recipe, torch.device], None], task: Task, recipe: Recipe, device: torch.device
) -> float:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    start = clock()
    loop(task, recipe, device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def images_per_second(
    loop: Callable[[Task, Recipe, torch.device], None], task: Task, loss: str, device: torch.device, epochs: int
) -> float:
    short, long = (
        Recipe(epochs=count, loss=loss, batch_size=64, validate_every=1000)  # type: ignore[arg-type]
        for count in (1, 1 + epochs)
    )
    return epochs * len(task.train) / (seconds(loop, task, long, device) - seconds(loop, task, short, device))


def main() -> None:
    device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    task = make_task(128, 32) if device.type == "cpu" else make_task(6400, 64)
    for loss in ("ce", "kd"):
        pairs = [
            [images_per_second(loop, task, loss, device, 2) for loop in (bare_loop, trainer_loop)] for _ in range(5)
        ]
        bare, ours = (statistics.median(pair[index] for pair in pairs) for index in (0, 1))
        print(f"{device} {loss}: bare loop {bare:.0f} images/s, trainer {ours:.0f} images/s, ratio {ours / bare:.3f}")


if __name__ == "__main__":
    main()
