"""The tables of a zoo, and their rows."""

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from common.spaces.mobilenet_v3 import MobileNetV3Space
from common.spaces.mobilenet_v3_arch import MAX_DEPTH, NUM_BLOCKS, NUM_STAGES
from common.spaces.mobilenet_v3_codes import NUM_SETTINGS

VERSION = 1
TABLES = (
    "CREATE TABLE zoo_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE dataset (name TEXT PRIMARY KEY, split TEXT NOT NULL, source TEXT NOT NULL, "
    "n_classes INTEGER NOT NULL, n_train INTEGER NOT NULL, n_test INTEGER NOT NULL, "
    "resolution INTEGER NOT NULL, content_sha256 TEXT NOT NULL, "
    "class_names TEXT NOT NULL)",
    "CREATE TABLE query_feature (dataset TEXT NOT NULL, partition TEXT NOT NULL, extractor TEXT NOT NULL, "
    "n INTEGER NOT NULL, counts BLOB NOT NULL, class_means BLOB NOT NULL, PRIMARY KEY (dataset, partition, extractor))",
    "CREATE TABLE probe (id TEXT PRIMARY KEY, kind TEXT NOT NULL, shape TEXT NOT NULL, seed INTEGER NOT NULL, "
    "layer TEXT NOT NULL, sha256 TEXT NOT NULL, file TEXT NOT NULL)",
    "CREATE TABLE supernet (id TEXT PRIMARY KEY, dataset TEXT NOT NULL, width_mult REAL NOT NULL, "
    "n_classes INTEGER NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL, train_config_json TEXT NOT NULL, "
    "acc_max_subnet REAL)",
    "CREATE TABLE model (id INTEGER PRIMARY KEY, dataset TEXT NOT NULL, supernet TEXT NOT NULL, family TEXT NOT NULL, "
    "topology BLOB, topology_key TEXT NOT NULL, n_params_body INTEGER NOT NULL, macs INTEGER NOT NULL, "
    "feature_dim INTEGER NOT NULL, latency_ms REAL, latency_device TEXT NOT NULL, acc REAL NOT NULL, "
    "n_eval INTEGER NOT NULL, bn_recalibrated INTEGER NOT NULL, weights_file TEXT NOT NULL, probe TEXT NOT NULL, "
    "f_emb_crc INTEGER NOT NULL, round INTEGER NOT NULL, seed INTEGER NOT NULL, details TEXT NOT NULL, "
    "created TEXT NOT NULL, UNIQUE (dataset, supernet, topology_key))",
    "CREATE TABLE norms (model INTEGER PRIMARY KEY, crc INTEGER NOT NULL, content BLOB NOT NULL)",
    "CREATE TABLE encoder (id TEXT PRIMARY KEY, config_json TEXT NOT NULL, file TEXT NOT NULL, sha256 TEXT NOT NULL, "
    "metrics_json TEXT NOT NULL)",
    "CREATE TABLE embedding (encoder TEXT PRIMARY KEY, n INTEGER NOT NULL, dim INTEGER NOT NULL)",
)
"""Functional embeddings are rows of `vectors/functional-*.npy`, embeddings of `vectors/embedding-ENCODER-*.npy`; row i
belongs to the model with id i + 1. Networks are never taken out."""

UNKNOWN_PROBE = "unknown"
"""Probe of a released zoo, which nobody has: no network can be added to one."""
SUPERNET_FAMILY = "mobilenet_v3"
"""Family of networks that are cut out of a supernet."""


@dataclass(frozen=True, kw_only=True)
class ZooSettings:
    """What all networks of a zoo share.

    Raises:
        ValueError: a number is not positive.
    """

    width_mult: float = 1.2
    """Of the supernets."""
    first_stride: int = 2
    """Of their stems."""
    resolution: int = 224
    """Side of the images that accuracies, MACs and functional embeddings belong to."""
    functional_dim: int = 1536
    """Numbers of a functional embedding; shorter ones are filled up with zeros."""
    extractor: str = "resnet18-imagenet"
    """Id of the network that datasets are seen through."""
    metric: str = "accuracy"
    """What `acc` is, in [0, 1]."""
    probe: str = ""
    """Id of the probe, a digest of its content."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("resolution", "functional_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        self.space  # noqa: B018  (checks itself)

    @property
    def space(self) -> MobileNetV3Space:
        """The space of the supernets."""
        return MobileNetV3Space(width_mult=self.width_mult, first_stride=self.first_stride)

    def to_meta(self) -> dict[str, str]:
        """As rows of `zoo_meta`."""
        return {name: json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def of_meta(cls, meta: dict[str, str]) -> Self:
        """The inverse of `to_meta`."""
        return cls(**{name: json.loads(value) for name, value in meta.items() if name in cls.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """A dataset that networks of the zoo were trained on."""

    name: str
    """Id of the task, `caltech101/0-19`."""
    split: str = "meta-train"
    source: str
    """One line that says what it is."""
    class_names: tuple[str, ...]
    num_train: int
    num_evaluation: int
    resolution: int
    digest: str = ""
    """Of images and labels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryRow:
    """Mean features of a dataset, class by class."""

    dataset: str
    partition: str
    """train or test."""
    extractor: str
    counts: Tensor
    """(C,) int64, images behind each mean."""
    class_means: Tensor
    """(C, D) float32."""

    @property
    def mean(self) -> Tensor:
        """(D,), over all images."""
        weights = self.counts.double() / self.counts.sum()
        return (weights[:, None] * self.class_means.double()).sum(0).float()


@dataclass(frozen=True, kw_only=True)
class SupernetRow:
    """A trained supernet, whose weights serve all networks cut out of it."""

    id: str
    dataset: str
    width_mult: float
    num_classes: int
    file: str
    """Relative to the zoo's folder."""
    sha256: str
    training: dict[str, Any] = field(default_factory=dict)
    largest_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """One trained network.

    Raises:
        ValueError: an accuracy outside [0, 1], a negative cost, or a topology that is not one.
    """

    dataset: str
    supernet: str = ""
    """Id of the supernet it is cut out of, or empty."""
    family: str = SUPERNET_FAMILY
    """mobilenet_v3, or how its code is found: `timm:resnet18`, `torchvision:resnet18`."""
    topology: tuple[int, ...] | None = None
    """45 numbers, for mobilenet_v3."""
    key: str = ""
    """Stands for the network within its dataset and supernet."""
    num_params: int
    """Without the classifier."""
    macs: int
    """Without the classifier, at the zoo's resolution."""
    feature_dim: int
    """Numbers that the classifier sees."""
    accuracy: float
    """On held-out images of its dataset, in [0, 1]."""
    num_evaluated: int = 0
    """How many these were; 0 where that is not known."""
    is_recalibrated: bool = False
    """Whether statistics of batch normalisation were measured for this network."""
    weights_file: str = ""
    """Relative to the zoo's folder; empty for a network that is cut out of a supernet."""
    latency_ms: float | None = None
    latency_device: str = ""
    round: int = 0
    """Of the zoo's growth, in which it was added."""
    seed: int = 0
    details: dict[str, Any] = field(default_factory=dict)
    """Plain values, such as how its images are normalised."""
    id: int = 0
    """Place in the zoo, from 1; 0 before it is added."""

    def __post_init__(self) -> None:
        """Check the row."""
        if not 0.0 <= self.accuracy <= 1.0:
            raise ValueError(f"accuracy of a network on {self.dataset} is {self.accuracy}: it lies in [0, 1]")
        if min(self.num_params, self.macs, self.feature_dim) < 0:
            raise ValueError(f"a network on {self.dataset} has a negative cost: {self}")
        if self.topology is not None and (len(self.topology) != NUM_SETTINGS or not set(self.topology) <= {*range(8)}):
            raise ValueError(f"topology {self.topology} of a network on {self.dataset} is not {NUM_SETTINGS} settings")

    def head(self, num_classes: int) -> int:
        """Parameters of a classifier for so many classes."""
        return (self.feature_dim + 1) * num_classes


def canonical_key(topologies: Tensor) -> list[str]:
    """One text for each distinct network: its topology with zeros for blocks not in use.

    Args:
        topologies: (N, 45) int, masked or not.
    """
    space = MobileNetV3Space()
    space.from_topologies(topologies)  # checks them
    return ["".join(map(str, row)) for row in masked(topologies).tolist()]


def masked(topologies: Tensor) -> Tensor:
    """Topologies (N, 45) with zeros for blocks not in use."""
    depths = topologies[:, 2 * NUM_BLOCKS :].repeat_interleave(MAX_DEPTH, 1)
    used = (torch.arange(MAX_DEPTH).repeat(NUM_STAGES) < depths).long()
    return torch.cat([topologies[:, : 2 * NUM_BLOCKS] * torch.cat([used, used], 1), topologies[:, 2 * NUM_BLOCKS :]], 1)


def file_stem(dataset: str) -> str:
    """Name of a dataset's files; distinct datasets have distinct ones."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda found: f"_{ord(found[0]):x}_" if found[0] not in "/_" else "_", dataset)


def as_topologies(rows: list[bytes | None]) -> Tensor:
    """(N, 45) int64 of stored topologies; zeros where there is none."""
    empty = bytes(NUM_SETTINGS)
    joined = bytearray().join(row or empty for row in rows)
    return torch.frombuffer(joined, dtype=torch.uint8).view(-1, NUM_SETTINGS).long() if joined else torch.zeros(0, 45)
