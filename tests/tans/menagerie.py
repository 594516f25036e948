"""A small zoo of networks with weights drawn at random, for tests of what is done with zoos."""

from pathlib import Path

import torch

from common.spaces import MobileNetV3Supernet, estimate_norms
from common.supernet import StoredSupernet, save_supernet
from tans.networks import functional_embedding, norms_of, put_norms
from tans.zoo import Zoo, create_zoo
from tans.zoo_tables import DatasetRow, NetworkRow, QueryRow, SupernetRow, ZooSettings, canonical_key, file_stem
from tans.zoo_verify import file_sha256

SETTINGS = ZooSettings(width_mult=0.1, first_stride=2, resolution=32, functional_dim=160, extractor="compact-8f6fc5f9")
DATASETS = ("animals", "letters/0-1", "signs")
PER_DATASET = 4
CLASSES = ("first", "second", "third")


def make_zoo(folder: Path, seed: int = 0) -> Zoo:
    """Three datasets with a supernet and four networks each."""
    zoo = create_zoo(folder, SETTINGS, probe_seed=seed)
    for place, name in enumerate(DATASETS):
        add_dataset(zoo, name, seed=10 * seed + place)
    return zoo


def add_dataset(zoo: Zoo, name: str, seed: int) -> int:
    """A dataset with its supernet and networks; returns how many networks are new."""
    draws = torch.Generator().manual_seed(seed)
    zoo.put_dataset(
        DatasetRow(
            name=name, source=name, class_names=CLASSES, num_train=30, num_evaluation=12, resolution=32, digest=name
        )
    )
    centre = torch.rand(1, 512, generator=draws)
    for partition in ("train", "test"):
        means = centre + 0.1 * torch.rand(3, 512, generator=draws)
        zoo.put_query(
            QueryRow(
                dataset=name,
                partition=partition,
                extractor=SETTINGS.extractor,
                counts=torch.tensor([10, 12, 8]),
                class_means=means,
            )
        )
    supernet = random_supernet(seed)
    file = Path("supernets", f"{file_stem(name)}.safetensors")
    save_supernet(
        zoo.folder / file,
        StoredSupernet(supernet=supernet, class_names=CLASSES, resolution=32, sources=(name,)),
    )
    zoo.put_supernet(
        SupernetRow(
            id=name,
            dataset=name,
            width_mult=0.1,
            num_classes=3,
            file=str(file),
            sha256=file_sha256(zoo.folder / file),
        )
    )
    return zoo.add(*networks_of(zoo, name, supernet, draws))


def random_supernet(seed: int) -> MobileNetV3Supernet:
    """A supernet whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MobileNetV3Supernet(SETTINGS.space.plan, 3).eval()


def networks_of(
    zoo: Zoo, name: str, supernet: MobileNetV3Supernet, draws: torch.Generator
) -> tuple[list[NetworkRow], torch.Tensor, list[bytes | None]]:
    """Rows, functional embeddings and statistics of some networks cut out of a supernet."""
    space = SETTINGS.space
    archs = space.sample(PER_DATASET, draws)
    topologies = space.topologies(archs)
    rows, vectors, contents = [], [], list[bytes | None]()
    for arch, topology, key in zip(archs, topologies.tolist(), canonical_key(topologies), strict=True):
        network = supernet.cut(arch)
        estimate_norms(network, [torch.randn(16, 3, 32, 32, generator=draws)])
        contents.append(norms_of(network, is_half=False))
        put_norms(network, contents[-1] or b"")
        cost = space.cost(arch, 3, 32)
        width = space.plan.mix
        rows.append(
            NetworkRow(
                dataset=name,
                supernet=name,
                topology=tuple(topology),
                key=key,
                num_params=cost.num_params - 3 * (width + 1),
                macs=cost.macs - 3 * width,
                feature_dim=width,
                accuracy=float(torch.rand((), generator=draws)),
                num_evaluated=12,
                is_recalibrated=True,
            )
        )
        vectors.append(functional_embedding(network, zoo.probe))
    return rows, torch.stack(vectors), contents
