"""Step `train --space mobilenetv3`: fine-tune the network that the search chose, with the supernet's weights.

Source: Lee et al., ICLR 2021, released code (MetaD2A_mobilenetV3/evaluation).
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from common.data.tasks import open_task
from common.experiment.config import UsageError
from common.experiment.names import slug
from common.experiment.seeds import generator
from common.kd.recipe import Recipe
from common.spaces import MobileNetV3Arch, MobileNetV3Space, sample_distinct
from common.supernet import load_supernet
from metad2a.recipes import SUBNET_RECIPE
from metad2a.shipped import SHIPPED_SUPERNET
from metad2a.spaces import bounded
from metad2a.training import InheritedWeights
from metad2a.training_step import Plan, TrainStepConfig, found_arch, run_training

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainStepConfig):
    """Fine-tune the chosen network, once for each seed, and report mean and 95 % interval."""

    space: Literal["mobilenetv3"] = "mobilenetv3"
    """Architectures to train; nasbench201 is the step without this flag."""
    supernet: Path = SHIPPED_SUPERNET
    """File of the inherited weights, of `train-supernet` or `import-official`; none takes the shipped one."""
    resolution: int | None = None
    """Side of the images; none takes the supernet's."""
    recipe: Recipe = SUBNET_RECIPE
    """The training."""
    max_macs: int | None = None
    """Largest number of multiply-accumulates of the chosen and of random networks; none means no bound."""

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.arch is not None:
            MobileNetV3Space().parse(self.arch)


def finetune(cfg: FinetuneConfig) -> None:
    """Run the step.

    Raises:
        UsageError: there was no search on this dataset and no network is given, or the network is beyond the bound.
        FileNotFoundError, ValueError: as `open_task` and `load_supernet`, or fewer training images than a batch.
    """
    space, side = inherited_space(cfg.supernet, cfg.resolution)
    task = open_task(cfg.data, resolution=side, data_root=cfg.data_root, seed=cfg.seed)
    warn_if_seen(cfg.supernet, task.id)
    chosen = space.parse(cfg.arch or found_arch(task.id, cfg.data, "mobilenetv3"))
    accept = bounded(space, task.num_classes, side, max_params=None, max_macs=cfg.max_macs)
    if not accept(chosen):
        raise UsageError(
            f"the network has {space.cost(chosen, task.num_classes, side).macs:,} MACs at {side} pixels, more than "
            f"max_macs {cfg.max_macs:,}: search under this bound first"
        )
    plan = Plan(
        task=task,
        space=space,
        chosen=chosen,
        random=random_networks(space, cfg.num_random, cfg.seed, accept=accept, exclude=(chosen,)),
        start=InheritedWeights(supernet=cfg.supernet, space_name=space.name),
        recipe=cfg.recipe,
    )
    folder = cfg.out or Path("exp/metad2a/train") / slug(f"mobilenetv3-{task.id}")
    run_training(cfg, plan, folder, partial(print, flush=True))


def inherited_space(supernet: Path, resolution: int | None) -> tuple[MobileNetV3Space, int]:
    """The space of a supernet's networks, and the side of images: the supernet's where no other is asked for.

    Raises:
        FileNotFoundError, RuntimeError: as `load_supernet`.
        ValueError: a side that the networks do not take.
    """
    stored = load_supernet(supernet)
    plan = stored.supernet.plan
    space = MobileNetV3Space(width_mult=plan.width_mult, first_stride=plan.first_stride)
    return space, space.check_side(resolution or stored.resolution)


def warn_if_seen(supernet: Path, task: str) -> None:
    """Say so where the inherited weights were trained on the dataset's own images."""
    stored = load_supernet(supernet)
    if stored.has_seen(task):
        _LOG.warning("%s was trained on %s: its weights know this dataset already", supernet, ", ".join(stored.sources))


def random_networks(
    space: MobileNetV3Space,
    num: int,
    seed: int,
    *,
    accept: Callable[[Any], bool],
    exclude: tuple[MobileNetV3Arch, ...] = (),
) -> list[MobileNetV3Arch]:
    """Distinct networks within bounds, drawn uniformly.

    Raises:
        ValueError: fewer were found; the message says how many.
    """
    found = sample_distinct(space, num, generator(seed, "random networks"), accept=accept, exclude=exclude)
    if len(found) < num:
        raise ValueError(
            f"only {len(found)} of {num} random networks within the bound were found in {200 * num:,} draws: raise the "
            "bound, or ask for fewer"
        )
    return found
