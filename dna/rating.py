"""Ratings of all paths of a block, each with batch statistics of its own, at the price of the tree of their prefixes.

The released code recalibrates the statistics of every path for every batch, and runs every path from its first layer
on. Statistics of a layer depend on the layers before it alone, and not on the batch that is rated. So a walk over the
tree of prefixes, depth first, computes every prefix once, for all batches, and gives the same numbers.

Source: Li et al., CVPR 2020; released code, `_potential` and `BN_Correction`; the walk is ours.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dna.archs import OPS
from dna.losses import MEASURES, measures
from dna.potentials import Potential
from dna.supernet import Block
from dna.teacher import Teacher

Notify = Callable[[int], object]
"""Is told how many more paths are rated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StageBatches:
    """What the blocks of a stage are rated on."""

    recalibration: Tensor
    """(B, C, H, W): the teacher's feature before the stage, for the batch that statistics are taken of."""
    inputs: Sequence[Tensor]
    """Features before the stage of the rated batches."""
    targets: Sequence[Tensor]
    """Features after it."""


def stage_batches(teacher: Teacher, recalibration: Tensor, batches: Sequence[Tensor]) -> list[StageBatches]:
    """Features of the teacher for the rating of all six stages.

    The teacher's statistics are those of the recalibration batch: taken as it passes, kept for the rated batches.

    Args:
        teacher: it is not changed.
        recalibration: (B, 3, H, W), normalised; an augmented training batch.
        batches: images to rate on, likewise.
    """
    fixed = [recalibration, *teacher.features(recalibration, statistics="batch")]
    other = teacher.recalibrated(recalibration)
    rated = [[images, *other.features(images)] for images in batches]
    return [
        StageBatches(
            recalibration=before,
            inputs=[features[stage] for features in rated],
            targets=[features[stage + 1] for features in rated],
        )
        for stage, before in enumerate(fixed[:-1])
    ]


def rate_block(block: Block, batches: StageBatches, notify: Notify | None = None) -> Tensor:
    """Measures of every path, means over the batches weighted by their images.

    Args:
        block: its weights, statistics and modes are as before when this returns.
        batches: what it is rated on.
        notify: is called as paths are done.

    Returns:
        (6**L, 5) float64 in path order, columns as `MEASURES`.
    """
    weights = torch.tensor([len(images) for images in batches.inputs], dtype=torch.float64)
    weights = (weights / weights.sum()).to(batches.recalibration.device)
    rows: list[Tensor] = []

    def walk(depth: int, features: Sequence[Tensor]) -> None:
        for op in range(len(OPS)):
            outputs = _recalibrated(block.op(depth, op), features)
            if depth + 1 < len(block.layers):
                walk(depth + 1, outputs)
                continue
            found = [measures(ours, theirs) for ours, theirs in zip(outputs[1:], batches.targets, strict=True)]
            rows.append((torch.stack(found).double() * weights[:, None]).sum(0))
            if notify is not None:
                notify(1)

    with preserved(block), torch.no_grad():
        walk(0, _recalibrated(block.stem, [batches.recalibration, *batches.inputs]))
    return torch.stack(rows)


def potential_of(rated: Tensor, *, stage: int, width: int) -> Potential:
    """Measures as they are kept in files.

    Args:
        rated: as `rate_block` returns them.
        stage: 0 to 5.
        width: of the cell.

    Raises:
        RuntimeError: a measure is not finite.
    """
    values = rated.cpu().numpy()
    wrong = np.flatnonzero(~np.isfinite(values).all(1))
    if len(wrong):
        raise RuntimeError(
            f"stage {stage}: the rating of path {wrong[0]} is not finite (and {len(wrong) - 1} others): the training "
            "of the supernet went wrong, train it again with lower --distill.learning-rates"
        )
    metrics = {name: values[:, column].copy() for column, name in enumerate(MEASURES)}
    order = np.argsort(metrics["loss"], kind="stable")
    return Potential(metrics=metrics | {"prec1": np.zeros(len(values))}, top_index=order, stage=stage, width=width)


@contextmanager
def preserved(block: nn.Module) -> Iterator[None]:
    """Inside, normalisations keep the statistics of the last batch alone; afterwards all is as it was."""
    modes = [(module, module.training) for module in block.modules()]
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, {name: buffer.clone() for name, buffer in norm.named_buffers()}) for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.reset_running_stats()
    try:
        yield
    finally:
        for norm, (momentum, buffers) in zip(norms, before, strict=True):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
        for module, training in modes:
            module.training = training


def _recalibrated(part: nn.Module, features: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of a part of a block: the first batch passes with its own statistics, the others with those of the first.

    Inside `preserved` only.
    """
    first = part.train()(features[0])
    part.eval()
    return [first, *(part(images) for images in features[1:])]
