"""Speed of the feature extractors on one core, and of drawing from a set of features: python -m bench.features.

The compact network in the repository and ResNet-18 (random weights; those of ImageNet take the same time) get batches
of 64 images of 32 x 32 pixels, normalisation included. CPU seconds of the process, least of several.
"""

import time
from collections.abc import Callable

import torch

from common.features.extractors import embed, load_extractor
from common.features.sets import FeatureSet

IMAGES = 512
REPETITIONS = 7
CLASSES, PER_CLASS = 100, 500


def least_seconds(action: Callable[[], object]) -> float:
    """CPU seconds of the fastest repetition, after one that warms up."""
    times = []
    for _ in range(REPETITIONS + 1):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times[1:])


def main() -> None:
    torch.set_num_threads(1)
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=draws).to(torch.uint8)
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    for name in ("compact", "random"):
        extractor = load_extractor(name)
        seconds = least_seconds(lambda it=extractor: embed(it, images, mean, std, device=torch.device("cpu")))  # type: ignore[misc]
        print(f"{extractor.id}: {IMAGES / seconds:,.0f} images a second, {1e3 * seconds / IMAGES:.2f} ms an image")
    features = FeatureSet(
        extractor="",
        source="noise",
        description="",
        features=torch.rand(CLASSES * PER_CLASS, 512, generator=draws),
        labels=torch.arange(CLASSES).repeat_interleave(PER_CLASS),
        class_names=tuple(map(str, range(CLASSES))),
    )
    for num_draws, chosen in ((10, CLASSES), (32, 20)):
        classes = torch.arange(chosen)
        seconds = least_seconds(lambda num=num_draws, some=classes: features.draw(num, 20, draws, classes=some))  # type: ignore[misc]
        print(f"{num_draws} draws of {chosen} classes x 20 of {PER_CLASS} images: {1e3 * seconds:.1f} ms")


if __name__ == "__main__":
    main()
