"""Ways to begin training on a dataset, which a retrieved network is compared with."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from common.experiment.config import UsageError
from common.experiment.seeds import derive_seed, generator
from tans.foreign import Renormalised, create_foreign
from tans.networks import arch_of, load_network, with_fresh_head
from tans.search import Retrieved, Searcher
from tans.zoo import Zoo
from tans.zoo_tables import NetworkRow

WAYS: Mapping[str, str] = {
    "retrieved": "the network that the search chooses",
    "random": "a network of the zoo drawn uniformly",
    "best": "the network of the zoo with the highest accuracy on its own dataset",
    "scratch": "the retrieved architecture with fresh weights",
    "unrelated": "of the dataset whose networks are farthest, the network nearest in MACs to the retrieved one",
}
"""Name -> what it is."""


def begin(
    way: str, zoo: Zoo, searcher: Searcher, found: Retrieved, *, num_classes: int, seed: int
) -> tuple[NetworkRow, nn.Module]:
    """A network to train on a dataset, with a fresh classifier for its classes.

    Args:
        way: a key of `WAYS`.
        zoo: open.
        searcher: of the zoo.
        found: what the search gave.
        num_classes: of the dataset.
        seed: of the classifier, of the fresh weights and of the random network.

    Returns:
        The row that it comes from, and the network.

    Raises:
        UsageError: the zoo has no weights of it.
    """
    choices: Mapping[str, Callable[[], NetworkRow]] = {
        "random": lambda: zoo.network(_random(len(zoo), seed)),
        "best": lambda: zoo.network(1 + int(searcher.table.accuracy.argmax())),
        "unrelated": lambda: zoo.network(_unrelated(searcher, found)),
    }
    chosen = found.rows[found.chosen[0]]
    row = choices[way]() if way in choices else chosen
    if way == "scratch":
        return row, from_scratch(zoo, row, num_classes, seed)
    return row, with_fresh_head(load_network(zoo, row), num_classes, seed)


def from_scratch(zoo: Zoo, row: NetworkRow, num_classes: int, seed: int) -> nn.Module:
    """The architecture of a network with fresh weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "scratch"))
        if row.topology is not None:
            return zoo.settings.space.build(arch_of(row, zoo.settings), num_classes, zoo.settings.resolution)
        if ":" not in row.family:
            raise UsageError(f"network {row.id} ({row.family}) has no architecture that can be built anew")
        return Renormalised(create_foreign(row.family, num_classes), row.details.get("normalisation", "symmetric"))


def _random(num: int, seed: int) -> int:
    return 1 + int(torch.randint(num, (), generator=generator(seed, "random member")))


def _unrelated(searcher: Searcher, found: Retrieved) -> int:
    """Id of a network of the farthest dataset, as large as the retrieved one."""
    table = searcher.table
    cosines = torch.cat([torch.as_tensor(part) @ found.query for part in searcher.vectors])
    num = len(table.datasets)
    sums = torch.zeros(num).index_add_(0, table.dataset, cosines)
    chosen = found.rows[found.chosen[0]]
    means = sums / torch.bincount(table.dataset, minlength=num)
    means[table.datasets.index(chosen.dataset)] = torch.inf
    members = (table.dataset == int(means.argmin())).nonzero().flatten()
    wanted = chosen.macs
    return 1 + int(members[(table.macs[members] - wanted).abs().argmin()])
