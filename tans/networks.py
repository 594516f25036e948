"""From rows of a zoo to networks: cut out of a supernet or loaded from a file, with a classifier for new classes."""

import copy
from functools import lru_cache
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from common.experiment.config import UsageError
from common.kd.evaluate import eval_mode
from common.spaces.mobilenet_v3_arch import MobileNetV3Arch
from common.spaces.mobilenet_v3_network import MobileNetV3
from common.spaces.mobilenet_v3_supernet import MobileNetV3Supernet
from common.store.weights import load_weights
from common.supernet import load_supernet, with_new_head
from tans.foreign import Renormalised, load_foreign, pooled_features, replace_head
from tans.vectors import pack, unpack
from tans.zoo import Zoo
from tans.zoo_tables import SUPERNET_FAMILY, NetworkRow, SupernetRow, ZooSettings

_LARGEST_HALF = 65_000.0


def norms_of(network: nn.Module, *, is_half: bool) -> bytes:
    """Running means and variances of all layers, in their order, rounded to half precision where asked for."""
    values = torch.cat(_statistics(network))
    small = is_half and bool((values.abs() < _LARGEST_HALF).all())
    return pack(values.cpu().numpy().astype("<f2" if small else "<f4"))


def put_norms(network: nn.Module, content: bytes) -> None:
    """Put back what `norms_of` took.

    Raises:
        ValueError: they are of another network.
    """
    values = torch.from_numpy(unpack(content))
    parts = _statistics(network)
    if len(values) != sum(map(len, parts)):
        raise ValueError(f"{len(values)} statistics for a network with {sum(map(len, parts))}: they are of another one")
    for part, stored in zip(parts, torch.split(values, [len(part) for part in parts]), strict=True):
        part.copy_(stored)


def _statistics(network: nn.Module) -> list[Tensor]:
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    return [cast(Tensor, part) for layer in layers for part in (layer.running_mean, layer.running_var)]


def arch_of(row: NetworkRow, settings: ZooSettings) -> MobileNetV3Arch:
    """The architecture of a network that is cut out of a supernet.

    Raises:
        UsageError: it is of another kind.
    """
    if row.topology is None:
        raise UsageError(f"network {row.id} ({row.family}) has no topology of the MobileNetV3 space")
    return settings.space.from_topologies(torch.tensor([row.topology]))[0]


def load_network(zoo: Zoo, row: NetworkRow) -> nn.Module:
    """A trained network of the zoo in eval mode, with its own classifier.

    Raises:
        UsageError: the zoo has only its figures, no weights.
        FileNotFoundError, RuntimeError: a file is missing or damaged.
    """
    if row.family != SUPERNET_FAMILY:
        weights, _ = load_weights(zoo.folder / row.weights_file)
        return load_foreign(row.family, weights, row.details.get("normalisation", "symmetric"))
    if not row.supernet:
        raise UsageError(
            f"{zoo.folder} has no weights of network {row.id}, only its figures: bring its supernet in with "
            f"`python -m tans zoo import --source FOLDER` ({row.dataset}.pt), or choose another network"
        )
    supernet = _supernet(zoo, zoo.supernets()[row.supernet])
    network = supernet.cut(arch_of(row, zoo.settings))
    norms = zoo.norms(row.id)
    if norms is not None:
        put_norms(network, norms)
    return network.eval()


def _supernet(zoo: Zoo, row: SupernetRow) -> MobileNetV3Supernet:
    path = zoo.folder / row.file
    if not path.is_file():  # it may be in the cache and gone all the same
        raise FileNotFoundError(f"{path} is missing: restore it or build the zoo anew")
    return _cached_supernet(path, row.sha256, zoo.settings)


@lru_cache(maxsize=2)
def _cached_supernet(path: Path, sha256: str, settings: ZooSettings) -> MobileNetV3Supernet:
    """The last supernets stay in memory: neighbours in a zoo are cut out of the same one."""
    return load_supernet(path, plan=settings.space.plan).supernet


def with_fresh_head(network: nn.Module, num_classes: int, seed: int) -> nn.Module:
    """A copy of a network of the zoo with a freshly initialised classifier, without dropout.

    Source: Jeong et al., NeurIPS 2021, released code.
    """
    if isinstance(network, MobileNetV3):
        return with_new_head(network, num_classes, seed=seed)
    made = copy.deepcopy(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        replace_head(cast(Renormalised, made), num_classes)
    return made


def functional_embedding(network: nn.Module, probe: Tensor) -> Tensor:
    """Answer of a network to the zoo's probe, (P * D,): what its classifier sees, image after image.

    Args:
        network: in any mode; it answers in eval mode.
        probe: (P, 3, R, R).
    """
    with torch.no_grad(), eval_mode(network):
        vectors = (
            network.embed(probe)
            if isinstance(network, MobileNetV3)
            else pooled_features(cast(Renormalised, network), probe)
        )
    return vectors.float().flatten()
