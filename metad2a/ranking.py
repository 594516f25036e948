"""Generate cells for a dataset and put the best first: the search itself.

Source: Lee et al., ICLR 2021, section 3.4.
"""

import time
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from common.experiment.seeds import generator
from common.features.sets import FeatureSet
from common.spaces.nasbench201 import Cell
from metad2a.artifacts import Pair
from metad2a.generation import Generated, Generation, generate
from metad2a.scoring import best_first, score_cells


@dataclass(frozen=True, kw_only=True, eq=False)
class Ranking:
    """Cells that were generated for a dataset, with their scores.

    Attributes:
        generated: the M cells.
        scores: (M,) float32 of them, on the CPU.
        order: (M,) from the best score to the worst.
        seconds: what took how long.
    """

    generated: Generated
    scores: Tensor
    order: Tensor
    seconds: dict[str, float]

    @property
    def cells(self) -> list[Cell]:
        """Cells in the order in which they were generated, as the scores."""
        return self.generated.cells


def rank(
    pair: Pair, features: FeatureSet, *, generation: Generation, num_draws: int, seed: int, device: torch.device
) -> Ranking:
    """Generate cells for a dataset, and score them.

    Args:
        pair: the models.
        features: of the dataset's images, on the device.
        generation: how many cells are generated.
        num_draws: draws of images that every cell is scored on.
        seed: of draws and graphs.
        device: where to compute.

    Raises:
        ValueError: a class has no image.
        RuntimeError: the generator is out of new cells, or scores are not finite.
    """
    model, predictor = pair.generator.model.to(device), pair.predictor.model.to(device)
    begin = time.perf_counter()
    draw = partial(_draw, pair, features)
    generated = generate(model, draw, generation, generator(seed, "generate"))
    middle = time.perf_counter()
    scores = score_cells(predictor, draw_to_score(pair, features, num_draws, seed), generated.cells)
    return Ranking(
        generated=generated,
        scores=scores,
        order=best_first(scores),
        seconds={"generating": middle - begin, "scoring": time.perf_counter() - middle},
    )


def draw_to_score(pair: Pair, features: FeatureSet, num_draws: int, seed: int) -> Tensor:
    """The draws that a search with this seed scores its cells on: (num_draws, C, S, D)."""
    return _draw(pair, features, num_draws, generator(seed, "score"))


def _draw(pair: Pair, features: FeatureSet, num: int, random: torch.Generator) -> Tensor:
    return features.draw(num, pair.generator.num_sample, random)
