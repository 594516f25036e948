"""Step `train`: train the cell that the search chose, from several seeds, and random cells beside it.

Source: Lee et al., ICLR 2021, released code (nas_bench_201).
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from common.data.tasks import open_task
from common.experiment.names import slug
from common.experiment.seeds import generator
from common.kd.recipe import Recipe
from common.spaces.nasbench201 import Cell, NasBench201Space
from common.spaces.nasbench201_classes import is_connected
from common.spaces.sampling import sample_distinct
from metad2a.recipes import CELL_RECIPE
from metad2a.training import FreshWeights
from metad2a.training_step import Plan, TrainStepConfig, found_arch, run_training


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainStepConfig):
    """Train the chosen cell, once for each seed, and report mean and 95 % interval."""

    resolution: int = 32
    """Side of the images, divisible by 4."""
    space: NasBench201Space = field(default_factory=NasBench201Space)
    """The network around the cell. MobileNetV3 networks are fine-tuned by `train --space mobilenetv3`."""
    recipe: Recipe = CELL_RECIPE
    """The training."""

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.resolution <= 0 or self.resolution % 4:
            raise ValueError(f"resolution {self.resolution} is not a positive multiple of 4; use for example 32")
        if self.arch is not None:
            self.space.parse(self.arch)


def train(cfg: TrainConfig) -> None:
    """Run the step.

    Raises:
        UsageError: there was no search on this dataset and no cell is given.
        FileNotFoundError, ValueError: as `open_task`, or fewer training images than a batch.
    """
    task = open_task(cfg.data, resolution=cfg.resolution, data_root=cfg.data_root, seed=cfg.seed)
    chosen = cfg.space.parse(cfg.arch or found_arch(task.id, cfg.data, "nasbench201"))
    plan = Plan(
        task=task,
        space=cfg.space,
        chosen=chosen,
        random=_random_cells(cfg, chosen),
        start=FreshWeights(space=cfg.space),
        recipe=cfg.recipe,
    )
    run_training(cfg, plan, cfg.out or Path("exp/metad2a/train") / slug(task.id), partial(print, flush=True))


def _random_cells(cfg: TrainConfig, chosen: Cell) -> list[Cell]:
    """Other cells that compute something, drawn uniformly."""
    draws = generator(cfg.seed, "random cells")
    return sample_distinct(cfg.space, cfg.num_random, draws, accept=is_connected, exclude=(chosen,))
