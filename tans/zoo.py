"""A zoo: trained networks with what they were trained on, how good they are, what they cost and what they compute.

A zoo is a folder: `zoo.db` (SQLite), `probe.safetensors`, supernets and weights in safetensors, vectors in .npy files
that are mapped into memory. Several processes may add to it at once.
"""

import hashlib
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from common.experiment.config import UsageError
from common.store.database import Database
from common.store.weights import load_weights, save_weights
from tans.vectors import Rows, as_tensor, checksums, pack, read_rows, unpack, write_rows
from tans.zoo_tables import (
    TABLES,
    UNKNOWN_PROBE,
    VERSION,
    DatasetRow,
    NetworkRow,
    QueryRow,
    SupernetRow,
    ZooSettings,
    as_topologies,
)

DATABASE = "zoo.db"
PROBE = "probe.safetensors"
VECTORS = "vectors"
FUNCTIONAL = "functional"
_COLUMNS = (
    "dataset, supernet, family, topology, topology_key, n_params_body, macs, feature_dim, acc, n_eval, "
    "bn_recalibrated, weights_file, latency_ms, latency_device, round, seed, details"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ZooTable:
    """All networks of a zoo as columns; row i is the network with id i + 1."""

    datasets: tuple[str, ...]
    """Names, sorted."""
    dataset: Tensor
    """(N,) int64, places among `datasets`."""
    topologies: Tensor
    """(N, 45) int64; zeros for networks without one."""
    num_params: Tensor
    """(N,) int64, without classifiers."""
    macs: Tensor
    """(N,) int64, without classifiers."""
    feature_dim: Tensor
    """(N,) int64."""
    accuracy: Tensor
    """(N,) float32."""
    latency_ms: Tensor
    """(N,) float32; NaN where it is not known."""
    functional: list[Rows]
    """Functional embeddings, mapped into memory."""

    def __len__(self) -> int:
        return len(self.accuracy)


class Zoo:
    """An open zoo; a context manager. Use `open_zoo` or `create_zoo`.

    Attributes:
        folder: where it is.
        settings: what its networks share.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self._database = folder, database
        self.settings = ZooSettings.of_meta(dict(database.rows("SELECT key, value FROM zoo_meta")))

    @cached_property
    def probe(self) -> Tensor:
        """(P, 3, R, R), what every network's functional embedding is the answer to.

        Raises:
            FileNotFoundError: the file is not there.
            RuntimeError: it is damaged or of another zoo.
            UsageError: the zoo is a released one, whose probe is not known.
        """
        if self.settings.probe == UNKNOWN_PROBE:
            raise UsageError(
                f"{self.folder} is a released zoo, and the noise that its embeddings are answers to is not known: no "
                "network can be added to it"
            )
        tensors, metadata = load_weights(self.folder / PROBE)
        if metadata.get("id") != self.settings.probe:
            raise RuntimeError(f"{self.folder / PROBE} is of another zoo ({metadata.get('id')}): restore the own one")
        return tensors["probe"]

    @property
    def database(self) -> Database:
        """The tables, for what this class has no method for."""
        return self._database

    def __len__(self) -> int:
        return int(self._database.rows("SELECT COUNT(*) FROM model")[0][0])

    # ---- datasets ---------------------------------------------------------------------------------------------------

    def put_dataset(self, row: DatasetRow) -> None:
        """Add a dataset, or leave it where it is there already.

        Raises:
            UsageError: a different one has this name.
        """
        names = json.dumps(row.class_names)
        values = (row.name, row.split, row.source, len(row.class_names), row.num_train, row.num_evaluation)
        self._database.execute(
            "INSERT INTO dataset VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*values, row.resolution, row.digest, names),
        )
        there = self.datasets()[row.name]
        if (there.digest, there.class_names) != (row.digest, row.class_names):
            raise UsageError(
                f"{self.folder} knows another dataset as {row.name} (images or classes differ): give this one another "
                "name, or build another zoo"
            )

    def datasets(self) -> dict[str, DatasetRow]:
        """Datasets by name, sorted."""
        found = self._database.rows(
            "SELECT name, split, source, class_names, n_train, n_test, resolution, content_sha256 FROM dataset "
            "ORDER BY name"
        )
        rows = (
            DatasetRow(
                name=name,
                split=split,
                source=source,
                class_names=tuple(json.loads(classes)),
                num_train=train,
                num_evaluation=test,
                resolution=resolution,
                digest=digest,
            )
            for name, split, source, classes, train, test, resolution, digest in found
        )
        return {row.name: row for row in rows}

    def put_query(self, row: QueryRow) -> None:
        """Add or replace the features of a dataset's partition."""
        counts = row.counts.numpy().astype("<i8").tobytes()
        means = pack(row.class_means.float().contiguous().numpy())
        values = (row.dataset, row.partition, row.extractor, int(row.counts.sum()), counts, means)
        self._database.execute("INSERT OR REPLACE INTO query_feature VALUES (?, ?, ?, ?, ?, ?)", values)

    def queries(self, partition: str, split: str = "meta-train") -> dict[str, QueryRow]:
        """Features of all datasets of a split, seen through the zoo's extractor, by name, sorted."""
        found = self._database.rows(
            "SELECT dataset, counts, class_means FROM query_feature JOIN dataset ON dataset.name = dataset "
            "WHERE partition = ? AND extractor = ? AND split = ? ORDER BY dataset",
            (partition, self.settings.extractor, split),
        )
        rows = {}
        for name, counts, means in found:
            number = torch.from_numpy(np.frombuffer(counts, "<i8").copy())
            vectors = torch.from_numpy(unpack(means)).view(len(number), -1)
            rows[name] = QueryRow(
                dataset=name,
                partition=partition,
                extractor=self.settings.extractor,
                counts=number,
                class_means=vectors,
            )
        return rows

    # ---- networks ---------------------------------------------------------------------------------------------------

    def put_supernet(self, row: SupernetRow) -> None:
        """Add a supernet whose file is there, or replace its row."""
        self._database.execute(
            "INSERT OR REPLACE INTO supernet VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.id, row.dataset, row.width_mult, row.num_classes, row.file, row.sha256),
                *(json.dumps(row.training, sort_keys=True), row.largest_accuracy),
            ),
        )

    def supernets(self) -> dict[str, SupernetRow]:
        """Supernets by id, sorted."""
        found = self._database.rows(
            "SELECT id, dataset, width_mult, n_classes, file, sha256, train_config_json, acc_max_subnet FROM supernet "
            "ORDER BY id"
        )
        names = ("id", "dataset", "width_mult", "num_classes", "file", "sha256", "training", "largest_accuracy")
        rows = [dict(zip(names, row, strict=True)) for row in found]
        return {row["id"]: SupernetRow(**row | {"training": json.loads(row["training"])}) for row in rows}

    def add(
        self, networks: Sequence[NetworkRow], functional: Tensor, norms: Sequence[bytes | None] | None = None
    ) -> int:
        """Add networks; those with a dataset, supernet and key that are there already stay as they are.

        Args:
            networks: their rows.
            functional: (len(networks), d) functional embeddings, d at most the zoo's.
            norms: statistics of batch normalisation of networks cut out of supernets; see `tans.networks`.

        Returns:
            How many are new.

        Raises:
            ValueError: an embedding is too long or not finite.
            OSError: the disk is full; the zoo is as it was.
        """
        vectors = self._filled(functional, len(networks))
        contents = [None] * len(networks) if norms is None else norms
        with self._database.transaction():
            known = {(row.dataset, row.supernet, row.key) for row in self._existing(networks)}
            new: dict[tuple[str, str, str], int] = {}
            for place, row in enumerate(networks):
                key = (row.dataset, row.supernet, row.key)
                if key not in known:
                    new.setdefault(key, place)
            places, start = [*new.values()], len(self)
            if not places:
                return 0
            chosen = vectors[places]
            write_rows(self.folder / VECTORS, FUNCTIONAL, start, chosen)
            for number, (place, crc) in enumerate(zip(places, checksums(chosen), strict=True), start + 1):
                self._insert(number, networks[place], crc, contents[place])
        return len(places)

    def _filled(self, functional: Tensor, num: int) -> Rows:
        width = self.settings.functional_dim
        if functional.shape[0] != num or functional.ndim != 2 or functional.shape[1] > width:
            raise ValueError(
                f"functional embeddings have shape {tuple(functional.shape)}, and ({num}, up to {width}) is what "
                f"{self.folder} keeps: build a zoo with --functional-dim {functional.shape[-1]} or more"
            )
        if not torch.isfinite(functional).all():
            raise ValueError("a functional embedding is not finite: the network's weights went wrong, train it again")
        filled = torch.zeros(num, width)
        filled[:, : functional.shape[1]] = functional.float().cpu()
        return filled.numpy()

    def _existing(self, networks: Sequence[NetworkRow]) -> list[NetworkRow]:
        names = sorted({row.dataset for row in networks})
        marks = ", ".join("?" * len(names))
        return self.networks(f"dataset IN ({marks})", names)

    def _insert(self, number: int, row: NetworkRow, crc: int, norms: bytes | None) -> None:
        topology = None if row.topology is None else bytes(row.topology)
        values = (
            *(number, row.dataset, row.supernet, row.family, topology, row.key, row.num_params, row.macs),
            *(row.feature_dim, row.latency_ms, row.latency_device, row.accuracy, row.num_evaluated),
            *(int(row.is_recalibrated), row.weights_file, self.settings.probe, crc, row.round, row.seed),
            *(json.dumps(row.details, sort_keys=True), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())),
        )
        self._database.execute(f"INSERT INTO model VALUES ({', '.join('?' * len(values))})", values)
        if norms is not None:
            self._database.execute("INSERT INTO norms VALUES (?, ?, ?)", (number, zlib.crc32(norms), norms))

    def networks(self, condition: str = "TRUE", values: Sequence[object] = ()) -> list[NetworkRow]:
        """Networks that meet a condition on the columns of the table `model`, in the order of their ids."""
        found = self._database.rows(f"SELECT id, {_COLUMNS} FROM model WHERE {condition} ORDER BY id", values)
        return [_network(row) for row in found]

    def network(self, number: int) -> NetworkRow:
        """The network with an id.

        Raises:
            UsageError: there is none.
        """
        found = self.networks("id = ?", [number])
        if not found:
            raise UsageError(f"{self.folder} has no network {number}: it has 1 to {len(self)}")
        return found[0]

    def norms(self, number: int) -> bytes | None:
        """Statistics of batch normalisation of a network, if any.

        Raises:
            RuntimeError: they are damaged.
        """
        found = self._database.rows("SELECT crc, content FROM norms WHERE model = ?", [number])
        if not found:
            return None
        crc, content = found[0]
        if zlib.crc32(content) != crc:
            raise RuntimeError(f"{self.folder}: the statistics of network {number} are damaged: build the zoo anew")
        return bytes(content)

    def functional(self, numbers: Sequence[int]) -> Tensor:
        """(n, functional_dim) functional embeddings of networks by their ids."""
        return as_tensor(read_rows(self.folder / VECTORS, FUNCTIONAL, len(self)))[[number - 1 for number in numbers]]

    def table(self) -> ZooTable:
        """All networks as columns.

        Raises:
            ValueError: there is no network.
            FileNotFoundError, RuntimeError: functional embeddings are missing or damaged.
        """
        rows = self._database.rows(
            "SELECT dataset, topology, n_params_body, macs, feature_dim, acc, latency_ms FROM model ORDER BY id"
        )
        if not rows:
            raise ValueError(f"{self.folder} holds no network: `python -m tans build-zoo` adds some")
        dataset, topology, params, macs, width, accuracy, latency = zip(*rows, strict=True)
        names = tuple(sorted(set(dataset)))
        places = {name: place for place, name in enumerate(names)}
        return ZooTable(
            datasets=names,
            dataset=torch.tensor([places[name] for name in dataset]),
            topologies=as_topologies([*topology]),
            num_params=torch.tensor(params),
            macs=torch.tensor(macs),
            feature_dim=torch.tensor(width),
            accuracy=torch.tensor(accuracy, dtype=torch.float32),
            latency_ms=torch.tensor([float("nan") if one is None else one for one in latency]),
            functional=read_rows(self.folder / VECTORS, FUNCTIONAL, len(rows)),
        )

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_zoo(folder: Path | str) -> Zoo:
    """Open a zoo that is there.

    Raises:
        FileNotFoundError: it is not.
        RuntimeError: it is damaged.
    """
    path = Path(folder) / DATABASE
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no zoo in {folder} (no {DATABASE}): build one with `python -m tans build-zoo --zoo {folder}`, "
            "or bring the official one in with `python -m tans zoo import`"
        )
    return Zoo(Path(folder), _connect(path))


def create_zoo(folder: Path | str, settings: ZooSettings, *, probe_seed: int = 0, num_probes: int = 1) -> Zoo:
    """Open a zoo, made with a fresh probe where there is none.

    Args:
        folder: where.
        settings: what its networks share; `probe` is filled in, but for a released zoo, whose is unknown.
        probe_seed: of the noise.
        num_probes: images of noise; the answers to them are put one after the other.

    Raises:
        UsageError: there is a zoo with other settings; the message names them.
    """
    place = Path(folder)
    shape = (num_probes, 3, settings.resolution, settings.resolution)
    probe = torch.randn(shape, generator=torch.Generator().manual_seed(probe_seed))
    is_known = settings.probe != UNKNOWN_PROBE
    wanted = replace(settings, probe=_digest(probe)) if is_known else settings
    with _connect(place / DATABASE) as database, database.transaction():
        if not database.rows("SELECT 1 FROM zoo_meta"):
            if is_known:
                about = {"kind": "gaussian", "shape": json.dumps(shape), "seed": str(probe_seed), "id": wanted.probe}
                save_weights(place / PROBE, {"probe": probe}, about)
                values = (wanted.probe, "gaussian", about["shape"], probe_seed, "before the classifier")
                database.execute(
                    "INSERT INTO probe VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, _digest(probe, length=64), PROBE)
                )
            for item in wanted.to_meta().items():
                database.execute("INSERT INTO zoo_meta VALUES (?, ?)", item)
    zoo = open_zoo(place)
    ours, theirs = asdict(wanted), asdict(zoo.settings)
    different = [f"{name} is {theirs[name]} there and {ours[name]} here" for name in ours if ours[name] != theirs[name]]
    if different:
        zoo.close()
        raise UsageError(f"{folder} is a zoo with other settings ({'; '.join(different)}): give another --zoo")
    return zoo


def _connect(path: Path) -> Database:
    remedy = "restore a copy, or delete the zoo's folder and build it anew"
    return Database(path, kind="zoo", version=VERSION, tables=TABLES, remedy=remedy, is_checked=False)


def _digest(tensor: Tensor, length: int = 12) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()[:length]


def _network(row: tuple[Any, ...]) -> NetworkRow:
    names = [
        *("id", "dataset", "supernet", "family", "topology", "key", "num_params", "macs", "feature_dim", "accuracy")
    ]
    names += ("num_evaluated", "is_recalibrated", "weights_file", "latency_ms", "latency_device", "round", "seed")
    *values, details = row
    given = dict(zip(names, values, strict=True))
    topology = given.pop("topology")
    given["is_recalibrated"] = bool(given["is_recalibrated"])
    return NetworkRow(**given, topology=None if topology is None else tuple(topology), details=json.loads(details))
