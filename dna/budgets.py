"""What is searched: rated cells with their costs, bounds on the whole network, and the exact answer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dna.archs import DnaArch, Skeleton
from dna.candidates import RatedCell, groups_of
from dna.costs import Costs, Ints, LayerCosts, LayerShape, Measure, counted, fixed_costs, network_costs, timed
from dna.latency import LatencyTable
from dna.traverse import Found, trade_off, traverse

_MEASURES: tuple[Measure, ...] = ("macs", "official_macs", "num_params")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds of the whole network, stem and head included; several may be given, and none."""

    macs: int | None = None
    """Largest multiply-accumulates of one image, of convolutions and linear layers."""
    official_macs: int | None = None
    """The same as the released code counts: with normalisations, biases and pooling."""
    num_params: int | None = None
    """Largest number of parameters."""
    seconds: float | None = None
    """Largest time of a forward pass on this device, as the sum of measured layers."""

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("macs", "official_macs", "num_params", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"budget.{name} is {value}; it must be positive, or none")

    def describe(self) -> str:
        """The bounds in words."""
        named = {name: getattr(self, name) for name in (*_MEASURES, "seconds")}
        asked = [f"{name.replace('_', ' ')} <= {value:,}" for name, value in named.items() if value is not None]
        return ", ".join(asked) or "no bound"


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What is chosen from.

    Attributes:
        rated: the cells of each stage.
        num_classes: outputs of the networks.
        resolution: side of their images in pixels.
        skeleton: what surrounds their stages.
    """

    rated: Sequence[Sequence[RatedCell]]
    num_classes: int
    resolution: int
    skeleton: Skeleton

    def costs_of(self, arch: DnaArch) -> Costs:
        """Costs of a whole network."""
        return network_costs(arch, self.num_classes, self.resolution, self.skeleton)

    def fixed(self) -> Costs:
        """Costs of the stem and the head."""
        return fixed_costs(self.rated[-1][0].cell.width, self.num_classes, self.resolution, self.skeleton)

    def front(self) -> list[Found]:
        """The networks that no other beats or equals in rating and MACs, by rising MACs."""
        groups = groups_of(self.rated, counted("macs"), self.resolution, self.skeleton)
        return trade_off(groups, fixed=int(self.fixed().macs))


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """What a search found.

    Attributes:
        networks: best first.
        names: of the costs that each of them carries.
        bounds: what was asked, by these names; empty where nothing was.
        seconds: that the search took.
    """

    networks: Sequence[Found]
    names: Sequence[str]
    bounds: Mapping[str, int]
    seconds: float


def find(problem: Problem, budget: Budget, count: int, table: LatencyTable | None = None) -> Answer:
    """The best networks within a budget. Seconds are counted in nanoseconds.

    Args:
        problem: what is chosen from.
        budget: bounds; without any, MACs are counted all the same.
        count: how many networks are wanted.
        table: measured times, where seconds are bounded.

    Raises:
        ValueError: no network fits; the message says what the cheapest one costs.
    """
    measures = [name for name in _MEASURES if getattr(budget, name) is not None]
    bounds = {str(name): int(getattr(budget, name)) for name in measures}
    total = problem.fixed()
    fixed = [int(getattr(total, name)) for name in measures]
    if table is not None and budget.seconds is not None:
        bounds["nanoseconds"] = round(budget.seconds * 1e9)
        fixed.append(round(table.fixed * 1e9))
    elif not measures:
        measures, fixed = ["macs"], [int(total.macs)]
    names = [*measures, *(["nanoseconds"] if "nanoseconds" in bounds else [])]
    groups = groups_of(problem.rated, _layer_costs(measures, table), problem.resolution, problem.skeleton)
    began = time.perf_counter()
    try:
        networks = traverse(groups, [*bounds.values()] or None, fixed=fixed, count=count)
    except ValueError as error:
        raise ValueError(f"{error} ({', '.join(names)}): raise --budget") from error
    return Answer(networks=networks, names=names, bounds=bounds, seconds=time.perf_counter() - began)


def _layer_costs(measures: Sequence[Measure], table: LatencyTable | None) -> LayerCosts:
    """Counts and times of the ops of a layer, one column each."""

    def costs_of(layer: LayerShape) -> Ints:
        columns = [counted(name)(layer) for name in measures]
        columns += [timed(table.layers)(layer)] if table is not None else []
        return np.stack(columns, axis=-1)

    return costs_of
