"""Put networks into a zoo: drawn at random, or round by round where they raise the Pareto fronts most.

Everything that is drawn depends on the seed and on what earlier rounds measured, so a filling that was interrupted ends
with the same networks, whoever measured them in whatever order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.experiment.parallel import Job, map_resumable
from common.experiment.seeds import derive_seed, generator
from common.experiment.workers import Workers
from common.spaces.mobilenet_v3_arch import MobileNetV3Arch
from common.spaces.sampling import sample_distinct
from tans.growth import Ensemble, Growth, Values, choose
from tans.zoo import Zoo
from tans.zoo_jobs import Measured, Measuring, NetworksJob, Place, measure_networks
from tans.zoo_tables import NetworkRow, SupernetRow, canonical_key

_CHUNK = 10


@dataclass(frozen=True, kw_only=True)
class FillingPlan:
    """How many networks are measured how."""

    place: Place
    num_networks: int
    growth: Growth
    measuring: Measuring
    is_half: bool
    workers: Workers


def fill(zoo: Zoo, supernets: Mapping[str, SupernetRow], sources: Mapping[str, str], plan: FillingPlan) -> None:
    """Measure and store the networks that a zoo lacks.

    Args:
        zoo: open.
        supernets: name of a dataset -> its supernet.
        sources: name of a dataset -> how it is opened.
        plan: how many, and how.

    Raises:
        RuntimeError: networks of a source could not be measured; the others are stored.
    """
    filling = _Filling(zoo, supernets, sources, plan)
    if plan.growth.kind == "random":
        filling.measure({name: filling.random(name, plan.num_networks) for name in supernets}, 0)
        return
    budget = plan.num_networks * len(supernets)
    filling.measure({name: filling.random(name, min(plan.growth.initial, plan.num_networks)) for name in supernets}, 0)
    for number in range(1, 1 + budget):
        left = budget - len(filling.before(number))
        chosen = filling.propose(number)[:left] if left > 0 else []
        if not chosen:
            return
        archs: dict[str, list[MobileNetV3Arch]] = {}
        for name, arch in chosen:
            archs.setdefault(name, []).append(arch)
        filling.measure(archs, number)


class _Filling:
    """What the rounds share; see `fill`."""

    def __init__(
        self, zoo: Zoo, supernets: Mapping[str, SupernetRow], sources: Mapping[str, str], plan: FillingPlan
    ) -> None:
        self.zoo, self.supernets, self.sources, self.plan = zoo, supernets, sources, plan
        self.names, self.space = sorted(supernets), zoo.settings.space
        self._ids = {row.id for row in supernets.values()}
        means = torch.stack([zoo.queries("train")[name].mean for name in self.names])
        spread = means.std(0, correction=0) + 1e-6
        self._means = (means - means.mean(0)) / spread / means.shape[1] ** 0.5

    def random(self, name: str, num: int) -> list[MobileNetV3Arch]:
        """Distinct networks for a dataset."""
        return sample_distinct(self.space, num, generator(self.plan.place.seed, "networks", name))

    def before(self, number: int) -> list[NetworkRow]:
        """What the rounds before one have measured, in an order that does not depend on workers."""
        rows = [row for row in self.zoo.networks() if row.supernet in self._ids and row.round < number]
        return sorted(rows, key=lambda row: (row.dataset, row.key))

    def measure(self, archs: Mapping[str, Sequence[MobileNetV3Arch]], number: int) -> None:
        """Measure and store those that are not there, some at a time."""
        there = {(row.supernet, row.key) for row in self.zoo.networks()}
        jobs: dict[str, NetworksJob] = {}
        keys: dict[str, list[str]] = {}
        for name, wanted in archs.items():
            for start in range(0, len(wanted), _CHUNK):
                topologies = self.space.topologies(wanted[start : start + _CHUNK])
                key = f"{name}, round {number}, from {start}"
                keys[key], jobs[key] = canonical_key(topologies), self._job(name, topologies, number)

        def store(_: str, measured: Measured) -> None:
            self.zoo.add(measured.rows, measured.functional, measured.norms)

        workers = self.plan.workers
        map_resumable(
            measure_networks,
            [Job(key=key, args=(job,)) for key, job in jobs.items()],
            done=lambda key: all((jobs[key].supernet.id, one) in there for one in keys[key]),
            store=store,
            backend=workers.backend,
            workers=workers.num,
            threads=workers.threads,
            description="networks" if number == 0 else f"round {number}",
        )

    def _job(self, name: str, topologies: Tensor, number: int) -> NetworksJob:
        return NetworksJob(
            source=self.sources[name],
            dataset=name,
            supernet=self.supernets[name],
            place=self.plan.place,
            topologies=tuple(map(tuple, topologies.tolist())),
            zoo=self.zoo.folder,
            probe=self.zoo.probe,
            measuring=self.plan.measuring,
            is_half=self.plan.is_half,
            round=number,
        )

    def propose(self, number: int) -> list[tuple[str, MobileNetV3Arch]]:
        """Networks for a round, with their datasets, the most useful first; none where nothing is worth it."""
        growth, seed = self.plan.growth, derive_seed(self.plan.place.seed, "round", number)
        rows = self.before(number)
        there = {(row.dataset, row.key) for row in rows}
        archs = self.space.sample(growth.num_candidates, generator(seed, "candidates"))
        drawn = torch.randint(len(self.names), (growth.num_candidates,), generator=generator(seed, "datasets"))
        keys = canonical_key(self.space.topologies(archs))
        pairs = {
            (place, key): arch
            for place, arch, key in zip(drawn.tolist(), archs, keys, strict=True)
            if (self.names[place], key) not in there
        }
        places, found = [place for place, _ in pairs], [*pairs.values()]
        if not pairs:
            return []
        known = self.space.from_topologies(torch.tensor([row.topology for row in rows]))
        datasets = [self.names.index(row.dataset) for row in rows]
        accuracies = torch.tensor([row.accuracy for row in rows])
        ensemble = Ensemble(self._codes(datasets, known), accuracies, seed)
        means, deviations = ensemble.predict(self._codes(places, found))
        measured = [
            (place, self._cost(arch), row.accuracy) for place, arch, row in zip(datasets, known, rows, strict=True)
        ]
        costs = [(place, self._cost(arch)) for place, arch in zip(places, found, strict=True)]
        return [(self.names[places[i]], found[i]) for i in choose(measured, costs, means, deviations, growth)]

    def _cost(self, arch: MobileNetV3Arch) -> Values:
        """(1,) parameters of the body, 0 for the space's smallest network and 1 for its largest."""
        low, here, high = (
            self.space.cost(one, 1, self.plan.place.resolution).num_params
            for one in (self.space.smallest, arch, self.space.largest)
        )
        return np.array([(here - low) / (high - low)])

    def _codes(self, places: Sequence[int], archs: Sequence[MobileNetV3Arch]) -> Tensor:
        """One-hot blocks of networks, and the standardised mean features of datasets."""
        return torch.cat([self.space.encode(archs), self._means[torch.tensor(places)]], 1)
