"""Generate architectures for a dataset and put the best first: the search itself.

Source: Lee et al., ICLR 2021, section 3.4.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from common.experiment.seeds import generator
from common.features.sets import FeatureSet
from metad2a.artifacts import Pair
from metad2a.generation import Generated, Generation, generate
from metad2a.scoring import best_first, score_archs


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Architectures that were generated for a dataset, with their scores.

    Attributes:
        generated: the M architectures.
        scores: (M,) float32 of them, on the CPU.
        order: (M,) from the best score to the worst.
        seconds: what took how long.
    """

    generated: Generated
    scores: Tensor
    order: Tensor
    seconds: dict[str, float]

    @property
    def archs(self) -> list[Any]:
        """In the order in which they were generated, as the scores."""
        return self.generated.archs


def rank(
    pair: Pair,
    features: FeatureSet,
    *,
    generation: Generation,
    num_draws: int,
    seed: int,
    device: torch.device,
    accept: Callable[[Any], bool] | None = None,
) -> Ranking:
    """Generate architectures for a dataset, and score them.

    Args:
        pair: the models.
        features: of the dataset's images, on the device.
        generation: how many are generated.
        num_draws: draws of images that every one is scored on.
        seed: of draws and graphs.
        device: where to compute.
        accept: condition that each must satisfy, such as a bound on its cost.

    Raises:
        ValueError: a class has no image.
        RuntimeError: the generator is out of new architectures, or scores are not finite.
    """
    model, predictor = pair.generator.model.to(device), pair.predictor.model.to(device)
    begin = time.perf_counter()
    draw = partial(_draw, pair, features)
    generated = generate(model, draw, generation, generator(seed, "generate"), view=pair.generator.view, accept=accept)
    middle = time.perf_counter()
    scored_on = draw_to_score(pair, features, num_draws, seed)
    scores = score_archs(predictor, scored_on, pair.generator.view.space, generated.archs)
    return Ranking(
        generated=generated,
        scores=scores,
        order=best_first(scores),
        seconds={"generating": middle - begin, "scoring": time.perf_counter() - middle},
    )


def draw_to_score(pair: Pair, features: FeatureSet, num_draws: int, seed: int) -> Tensor:
    """The draws that a search with this seed scores its architectures on: (num_draws, C, S, D)."""
    return _draw(pair, features, num_draws, generator(seed, "score"))


def _draw(pair: Pair, features: FeatureSet, num: int, random: torch.Generator) -> Tensor:
    return features.draw(num, pair.generator.num_sample, random)
