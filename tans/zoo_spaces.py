"""Trained spaces kept in a zoo, with the vectors of its networks in them."""

import json
from pathlib import Path

import torch
from torch import Tensor

from tans.artifacts import SpaceArtifact, load_space, save_space
from tans.meta_training import describe
from tans.vectors import Rows, read_rows, write_rows
from tans.zoo import VECTORS, Zoo, ZooTable
from tans.zoo_verify import file_sha256

_CHUNK = 65_536


def store_space(zoo: Zoo, artifact: SpaceArtifact) -> None:
    """Keep a space in the zoo, and the vectors of all networks in it."""
    file = Path("encoders", f"{artifact.id}.safetensors")
    save_space(zoo.folder / file, artifact)
    about = {"sources": artifact.sources, "topology": artifact.topology, "origin": artifact.origin}
    zoo.database.execute(
        "INSERT OR REPLACE INTO encoder VALUES (?, ?, ?, ?, ?)",
        (
            *(artifact.id, json.dumps(about), str(file), file_sha256(zoo.folder / file)),
            json.dumps(artifact.notes.get("measures", {})),
        ),
    )
    vectors_of(zoo, artifact, zoo.table())


def stored_space(zoo: Zoo) -> SpaceArtifact:
    """The space that was put into the zoo last.

    Raises:
        FileNotFoundError: there is none.
    """
    found = zoo.database.rows("SELECT file FROM encoder ORDER BY rowid DESC LIMIT 1")
    if not found:
        raise FileNotFoundError(
            f"{zoo.folder} has no trained encoders: `python -m tans meta-train --zoo {zoo.folder}` makes some"
        )
    return load_space(zoo.folder / found[0][0])


def vectors_of(zoo: Zoo, artifact: SpaceArtifact, table: ZooTable) -> list[Rows | Tensor]:
    """Unit vectors (N, D) of all networks, mapped into memory where the zoo has them.

    Those of networks that were added since are computed, and kept in the zoo if the space is one of its own.
    """
    name, width = f"embedding-{artifact.id}", artifact.space.sizes.embedding_dim
    is_own = bool(zoo.database.rows("SELECT 1 FROM encoder WHERE id = ?", [artifact.id]))
    if not is_own or zoo.database.is_readonly:
        there = _count(zoo, artifact.id) if is_own else 0
        parts: list[Rows | Tensor] = [*read_rows(zoo.folder / VECTORS, name, there)]
        return [*parts, _encode(artifact, table, there)] if there < len(table) else parts
    if _count(zoo, artifact.id) < len(table):
        with zoo.database.transaction():
            there = _count(zoo, artifact.id)
            if there < len(table):
                write_rows(zoo.folder / VECTORS, name, there, _encode(artifact, table, there).numpy())
                zoo.database.execute(
                    "INSERT OR REPLACE INTO embedding VALUES (?, ?, ?)", (artifact.id, len(table), width)
                )
    return [*read_rows(zoo.folder / VECTORS, name, len(table))]


def _count(zoo: Zoo, encoder: str) -> int:
    found = zoo.database.rows("SELECT n FROM embedding WHERE encoder = ?", [encoder])
    return int(found[0][0]) if found else 0


@torch.no_grad()
def _encode(artifact: SpaceArtifact, table: ZooTable, start: int) -> Tensor:
    """Unit vectors of the networks from one on."""
    described = describe(artifact.space, table, artifact.topology)[start:]
    return torch.cat([artifact.space.encode_models(part) for part in torch.split(described, _CHUNK)])
