"""Training of the cross-modal space, with all of a zoo in memory and whole batches drawn by index.

Source: Jeong et al., NeurIPS 2021, released code (`retrieval/retrieval.py`, `data/loader.py`); deviations are said
where they are made.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from common.experiment.progress import track
from common.experiment.run import Run
from common.experiment.seeds import generator
from tans.artifacts import Topology
from tans.contrastive import Variant, contrastive_loss, performance_loss
from tans.encoders import CrossModalSpace
from tans.measures import measure_predictions, measure_ranks, ranks_of
from tans.zoo import Zoo, ZooTable
from tans.zoo_tables import masked

_DRAWN_AT_ONCE = 64
_FRESH_DRAWS = 20


@dataclass(frozen=True, kw_only=True)
class SpaceLearning:
    """How the space learns. The defaults are the published ones, validation apart."""

    steps: int = 10_000
    """Each takes every dataset once, or batch_size of them; released name n-epochs."""
    batch_size: int = 140
    """Datasets of a step at most."""
    num_networks: int = 100
    """Networks of a dataset that are learned from, the first in the zoo; released name n-nets."""
    learning_rate: float = 1e-2
    """Of Adam, constant; released name lr."""
    margin: float = 0.2
    """Of the hinge losses."""
    max_negatives: int | None = None
    """Largest negatives of a row or column that count; released name n-groups. None takes all."""
    loss: Variant = "official"
    """official: with the term that the zeros on the diagonal add; clean: without it."""
    topology: Topology = "raw"
    """raw: settings of blocks not in use too, as released; masked: zeros there."""
    standardise: Literal["auto", "yes", "no"] = "auto"
    """Standardise each number of the features over the sources; auto does where the extractor was not trained on
    ImageNet."""
    class_dropout: float = 0.0
    """Chance of each class to be left out of a training query, so that a dataset is seen in parts; published: 0."""
    validate_every: int = 50
    """Steps between validations."""
    validation_draws: int = 5
    """Networks of each dataset that a validation takes, always the same ones."""
    official_eval: bool = False
    """Validate after every step on one fresh draw of networks, as released: the best of so many noisy measures is
    optimistic."""

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("steps", "batch_size", "num_networks", "validate_every", "validation_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_negatives is not None and self.max_negatives < 1:
            raise ValueError(f"max_negatives is {self.max_negatives}; it must be at least 1, or none for all")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; it must be positive")
        if not 0 <= self.class_dropout < 1:
            raise ValueError(f"class_dropout is {self.class_dropout}; it must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidentZoo:
    """All that a training reads, in memory near the device; networks are sorted by dataset.

    Attributes:
        names: K datasets.
        described: (N, D) what the model encoder takes.
        accuracies: (N,).
        starts: (K,) int64, first network of each dataset.
        counts: (K,) int64, its networks.
        class_means: (K, C, image_dim), filled up with zeros.
        weights: (K, C) share of each class in its dataset's images; 0 where there is no such class.
        held_out: (K, image_dim) mean features of images that are not trained on.
    """

    names: tuple[str, ...]
    described: Tensor
    accuracies: Tensor
    starts: Tensor
    counts: Tensor
    class_means: Tensor
    weights: Tensor
    held_out: Tensor

    def queries(self, rows: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, image_dim) mean features of training images, of the classes kept (B, C) where these are given."""
        weights = self.weights[rows]
        if kept is not None:
            left = weights * kept
            weights = torch.where(left.sum(1, keepdim=True) > 0, left, weights)
        weights = weights / weights.sum(1, keepdim=True)
        return torch.bmm(weights[:, None], self.class_means[rows]).squeeze(1)


def load_resident(zoo: Zoo, space: CrossModalSpace, learning: SpaceLearning, device: torch.device) -> ResidentZoo:
    """Read a zoo for training.

    Raises:
        ValueError: fewer than two datasets have networks and features.
    """
    table, train, test = zoo.table(), zoo.queries("train"), zoo.queries("test")
    names = tuple(name for name in table.datasets if name in train and name in test)
    if len(names) < 2:
        raise ValueError(
            f"{zoo.folder} has {len(names)} datasets with networks and with features of training and held-out images; "
            "at least 2 are needed"
        )
    places = [table.datasets.index(name) for name in names]
    chosen = [(table.dataset == place).nonzero().flatten()[: learning.num_networks] for place in places]
    rows = torch.cat(chosen)
    counts = torch.tensor([len(one) for one in chosen])
    means = torch.nn.utils.rnn.pad_sequence([train[name].class_means for name in names], batch_first=True)
    shares = torch.nn.utils.rnn.pad_sequence([train[name].counts.float() for name in names], batch_first=True)
    return ResidentZoo(
        names=names,
        described=describe(space, table, learning.topology)[rows].to(device),
        accuracies=table.accuracy[rows].to(device),
        starts=(counts.cumsum(0) - counts).to(device),
        counts=counts.to(device),
        class_means=means.to(device),
        weights=(shares / shares.sum(1, keepdim=True)).to(device),
        held_out=torch.stack([test[name].mean for name in names]).to(device),
    )


def describe(space: CrossModalSpace, table: ZooTable, topology: Topology) -> Tensor:
    """(N, D) what the model encoder takes, of all networks of a zoo, on the CPU."""
    topologies = masked(table.topologies) if topology == "masked" else table.topologies
    parts = [torch.from_numpy(part) for part in table.functional]
    done, described = 0, []
    for part in parts:
        described.append(space.model.describe(topologies[done : done + len(part)], part))
        done += len(part)
    return torch.cat(described)


def meta_train(
    space: CrossModalSpace, zoo: ResidentZoo, learning: SpaceLearning, *, seed: int, run: Run
) -> dict[str, Any]:
    """Train encoders and predictor; afterwards they hold the state with the best recall at 1.

    Returns:
        Measures of that state, on fresh draws of networks, and the step of it.

    Raises:
        RuntimeError: the loss is not finite, or a checkpoint is damaged.
    """
    optimizer = torch.optim.Adam(space.parameters(), lr=learning.learning_rate, fused=True)
    kept: dict[str, Any] = {}
    state = {"space": space, "optimizer": optimizer, "kept": kept}
    start = run.restore(**state)
    draws = _Draws(zoo, learning, seed)
    progress = track(total=learning.steps, description="cross-modal space")
    progress.update(start)
    for step in range(start, learning.steps):
        rows, networks, classes = draws.of_step(step)
        queries = space.encode_queries(zoo.queries(rows, classes))
        models = space.encode_models(zoo.described[networks])
        contrastive = contrastive_loss(
            queries, models, margin=learning.margin, max_negatives=learning.max_negatives, variant=learning.loss
        )
        performance = performance_loss(space.predict(queries, models), zoo.accuracies[networks])
        optimizer.zero_grad(set_to_none=True)
        (contrastive + performance).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if learning.official_eval or run.due(step, learning.validate_every) or step + 1 == learning.steps:
            run.log(step, {"contrastive": contrastive, "performance": performance})
            _validate(space, zoo, learning, kept, run, seed=seed, step=step)
        if run.due(step, 20 * learning.validate_every) or step + 1 == learning.steps:
            if not torch.isfinite(contrastive):
                raise RuntimeError(f"the loss is not finite at step {step}: lower --learning.learning-rate")
            run.save(step + 1, **state)
        progress.update()
    progress.close()
    run.restore_best(space=space)
    return {"step": kept["step"], **measure(space, zoo, _fixed_draws(zoo, _FRESH_DRAWS, seed, "fresh"))}


class _Draws:
    """Datasets of each step and a network of each, drawn many steps at once but alike in every order of calls."""

    def __init__(self, zoo: ResidentZoo, learning: SpaceLearning, seed: int) -> None:
        self._zoo, self._learning, self._seed = zoo, learning, seed
        self._number = -1

    def of_step(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Datasets (B,), networks (B,), and the classes of training queries (B, C), None where all are taken."""
        number, place = divmod(step, _DRAWN_AT_ONCE)
        if number != self._number:
            self._number = number
            self._draw(generator(self._seed, "draws", number))
        return self._rows[place], self._networks[place], None if self._kept is None else self._kept[place]

    def _draw(self, draws: torch.Generator) -> None:
        zoo, share = self._zoo, self._learning.class_dropout
        num, size, device = len(zoo.names), min(self._learning.batch_size, len(zoo.names)), zoo.counts.device
        rows = torch.rand(_DRAWN_AT_ONCE, num, generator=draws).argsort(1)[:, :size]
        uniform = torch.rand(_DRAWN_AT_ONCE, size, generator=draws).to(device)
        self._rows = rows.to(device)
        counts = zoo.counts[self._rows]
        self._networks = zoo.starts[self._rows] + (uniform * counts).long().minimum(counts - 1)
        self._kept: Tensor | None = None
        if share > 0:
            drawn = torch.rand(_DRAWN_AT_ONCE, size, zoo.weights.shape[1], generator=draws)
            self._kept = (drawn >= share).to(device)


def _fixed_draws(zoo: ResidentZoo, num: int, seed: int, *names: str | int) -> Tensor:
    """(num, K) a network of each dataset."""
    uniform = torch.rand(num, len(zoo.names), generator=generator(seed, *names)).to(zoo.counts.device)
    return zoo.starts + (uniform * zoo.counts).long().minimum(zoo.counts - 1)


def _validate(
    space: CrossModalSpace,
    zoo: ResidentZoo,
    learning: SpaceLearning,
    kept: dict[str, Any],
    run: Run,
    *,
    seed: int,
    step: int,
) -> None:
    """Measure, and keep the state if it finds more at once, or as much with a better predictor."""
    if learning.official_eval:
        draws = _fixed_draws(zoo, 1, seed, "validation", step)
    else:
        draws = _fixed_draws(zoo, learning.validation_draws, seed, "validation")
    found = measure(space, zoo, draws)
    run.log(step, found, split="valid")
    error = 0.0 if learning.official_eval else -found["squared_error"]
    if (found["recall_1"], error) > (kept.get("recall_1", -1.0), kept.get("error", -math.inf)):
        kept.update(recall_1=found["recall_1"], error=error, step=step)
        run.save_best(step, space=space)


@torch.no_grad()
def measure(space: CrossModalSpace, zoo: ResidentZoo, draws: Tensor) -> dict[str, float]:
    """How well held-out images of the sources find networks of their own source.

    Args:
        space: the encoders.
        zoo: the zoo.
        draws: (n, K) a network of each dataset; each row is one trial.

    Returns:
        Recalls as shares, ranks, the predictor's error and correlations over all drawn pairs, and mean cosines of pairs
        that belong together and of others.
    """
    queries = space.encode_queries(zoo.held_out)
    models = space.encode_models(zoo.described[draws.flatten()]).view(*draws.shape, -1)
    ranks = torch.cat([ranks_of(queries, one) for one in models])
    found = measure_ranks(ranks, len(zoo.names))
    cosines = torch.einsum("kd,njd->nkj", queries, models)
    own = cosines.diagonal(dim1=1, dim2=2)
    num = len(zoo.names)
    everyone = torch.arange(num, device=queries.device).repeat(len(draws))
    predicted = space.predict(queries[everyone], models.flatten(0, 1))
    prediction = measure_predictions(predicted, zoo.accuracies[draws.flatten()])
    return {
        **{f"recall_{k}": value for k, value in found.recall.items()},
        "median_rank": found.median_rank,
        "mean_rank": found.mean_rank,
        "squared_error": prediction.squared_error,
        "pearson": prediction.pearson,
        "spearman": prediction.spearman,
        "cosine_own": float(own.mean()),
        "cosine_other": float((cosines.sum() - own.sum()) / (cosines.numel() - own.numel())),
    }


def feature_statistics(zoo: Zoo, learning: SpaceLearning) -> tuple[Tensor | None, Tensor | None]:
    """Mean and deviation of the sources' features that the space standardises by, or none.

    They are of the class means of all sources, each dataset counting alike.
    """
    is_imagenet = "imagenet" in zoo.settings.extractor
    if learning.standardise == "no" or (learning.standardise == "auto" and is_imagenet):
        return None, None
    rows = zoo.queries("train").values()
    means = torch.stack([row.mean for row in rows])
    squares = torch.stack([row.class_means.square().mean(0) for row in rows])
    mean = means.mean(0)
    variance = (squares.mean(0) - mean.square()).clamp(min=0)
    std = variance.sqrt()
    return mean, torch.where(std > 1e-4 * std.max(), std, torch.ones_like(std))


def norms_of_branches(zoo: ResidentZoo, width: int) -> Mapping[str, float]:
    """Mean share of the topology's norm in a description: near 0 or 1, one half drowns the other."""
    if width in (0, zoo.described.shape[1]):
        return {}
    return {"topology_share": float(zoo.described[:, :width].norm(dim=1).mean())}
