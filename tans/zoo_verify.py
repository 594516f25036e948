"""Check that a zoo is whole: every file there and undamaged, every number in range, embeddings reproducible."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from common.store.weights import load_weights
from tans.networks import functional_embedding, load_network
from tans.vectors import checksums, read_rows
from tans.zoo import FUNCTIONAL, VECTORS, Zoo
from tans.zoo_tables import SUPERNET_FAMILY, UNKNOWN_PROBE, canonical_key

TOLERANCE = 1e-5


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(zoo: Zoo, num_recomputed: int = 0) -> list[str]:
    """Everything that is wrong with a zoo, one line each; empty for a whole one.

    Args:
        zoo: the zoo.
        num_recomputed: networks, spread over the zoo, whose functional embedding is computed anew and compared.
    """
    checks: list[Callable[[Zoo], Iterator[str]]] = [_tables, _probe, _supernets, _weights, _vectors, _norms, _encoders]
    problems = [problem for check in checks for problem in check(zoo)]
    return problems if problems else [*_embeddings(zoo, num_recomputed)]


def _tables(zoo: Zoo) -> Iterator[str]:
    try:
        zoo.database.check()
    except RuntimeError as error:
        yield str(error)
        return
    rows = zoo.networks()
    known = {*zoo.supernets()}
    datasets = zoo.datasets()
    for row in rows:
        if row.supernet and row.supernet not in known:
            yield f"network {row.id}: its supernet {row.supernet} is not in the zoo"
        if row.dataset not in datasets:
            yield f"network {row.id}: its dataset {row.dataset} is not in the zoo"
    cut = [row for row in rows if row.topology is not None and row.supernet]
    if cut:
        keys = canonical_key(torch.tensor([row.topology for row in cut]))
        yield from (
            f"network {row.id}: its key is not that of its topology"
            for row, key in zip(cut, keys, strict=True)
            if row.key.partition("#")[0] != key
        )
    for number, probe in zoo.database.rows("SELECT id, probe FROM model WHERE probe != ?", [zoo.settings.probe]):
        yield f"network {number}: its functional embedding is of another probe ({probe})"


def _probe(zoo: Zoo) -> Iterator[str]:
    if zoo.settings.probe == UNKNOWN_PROBE:
        return
    try:
        _ = zoo.probe
    except (FileNotFoundError, RuntimeError) as error:
        yield str(error)


def _supernets(zoo: Zoo) -> Iterator[str]:
    for row in zoo.supernets().values():
        path = zoo.folder / row.file
        if not path.is_file():
            yield f"{path} is missing: the networks of {row.dataset} cannot be cut; restore it or build the zoo anew"
        elif file_sha256(path) != row.sha256:
            yield f"{path} is damaged or another file (its SHA-256 differs): restore it or build the zoo anew"


def _weights(zoo: Zoo) -> Iterator[str]:
    for row in zoo.networks("weights_file != ''"):
        path = zoo.folder / row.weights_file
        try:
            load_weights(path)
        except FileNotFoundError:
            yield f"{path} is missing: network {row.id} cannot be loaded; restore it or add the network again"
        except RuntimeError as error:
            yield f"network {row.id}: {error}"


def _vectors(zoo: Zoo) -> Iterator[str]:
    expected = [crc for (crc,) in zoo.database.rows("SELECT f_emb_crc FROM model ORDER BY id")]
    try:
        found = [crc for part in read_rows(zoo.folder / VECTORS, FUNCTIONAL, len(expected)) for crc in checksums(part)]
    except (FileNotFoundError, RuntimeError) as error:
        yield str(error)
        return
    wrong = [place + 1 for place, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        yield (
            f"{zoo.folder / VECTORS}: functional embeddings of networks {', '.join(map(str, wrong[:5]))}{more} are "
            "damaged: restore the files or build the zoo anew"
        )


def _norms(zoo: Zoo) -> Iterator[str]:
    for (number,) in zoo.database.rows("SELECT model FROM norms ORDER BY model"):
        try:
            zoo.norms(number)
        except RuntimeError as error:
            yield str(error)


def _encoders(zoo: Zoo) -> Iterator[str]:
    for file, sha256 in zoo.database.rows("SELECT file, sha256 FROM encoder ORDER BY id"):
        path = zoo.folder / file
        if not path.is_file() or file_sha256(path) != sha256:
            what = "is damaged or another file" if path.is_file() else "is missing"
            yield f"{path} {what}: meta-train encoders again, or restore it"
    for name, num, width in zoo.database.rows("SELECT encoder, n, dim FROM embedding"):
        try:
            parts = read_rows(zoo.folder / VECTORS, f"embedding-{name}", num)
        except (FileNotFoundError, RuntimeError) as error:
            yield str(error)
            continue
        if parts and parts[0].shape[1] != width:
            yield f"{zoo.folder / VECTORS}: embeddings of {name} have {parts[0].shape[1]} numbers, not {width}"


def _embeddings(zoo: Zoo, num: int) -> Iterator[str]:
    if zoo.settings.probe == UNKNOWN_PROBE:
        return
    rows = [row for row in zoo.networks() if row.supernet or row.family != SUPERNET_FAMILY]
    rows = [row for row in rows if row.supernet or row.weights_file]
    for place in torch.linspace(0, len(rows) - 1, min(num, len(rows))).round().long().tolist():
        row = rows[place]
        found = functional_embedding(load_network(zoo, row), zoo.probe)
        stored = zoo.functional([row.id])[0, : len(found)]
        error = float((found - stored).abs().max() / stored.abs().max().clamp(min=1))
        if not error <= TOLERANCE:
            yield f"network {row.id} ({row.dataset}) does not give its functional embedding: it differs by {error:.1e}"
