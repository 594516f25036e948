"""Candidates for a search: architectures with their codes and maps, without labels."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.store.weights import load_weights, save_weights

_KIND = "dass-candidates"


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """N architectures that a predictor can score for one task.

    Attributes:
        task: whose teacher the weights behind the maps come from.
        space_name: search space of architectures and codes.
        resolution: side of the images.
        actmap: (N, C, h, w) stage-4 maps.
        arch_enc: (N, L) codes.
        architectures: N text forms.
        origin: "dass", or "official" for imported codes, which never mix with ours.
    """

    task: str
    space_name: str
    resolution: int
    actmap: Tensor
    arch_enc: Tensor
    architectures: tuple[str, ...]
    origin: str = "dass"

    def __post_init__(self) -> None:
        """Check sizes and values.

        Raises:
            ValueError: parts disagree in number, or a map is not finite.
        """
        sizes = {len(self.actmap), len(self.arch_enc), len(self.architectures)}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(
                f"candidates of {self.task}: {len(self.actmap)} maps, {len(self.arch_enc)} codes and "
                f"{len(self.architectures)} architectures; one of each is needed for every candidate"
            )
        broken = (~torch.isfinite(self.actmap)).flatten(1).any(1).nonzero().flatten().tolist()
        if broken:
            raise ValueError(f"candidates of {self.task}: the maps of rows {broken[:10]} are not finite")


def save_candidates(path: Path | str, candidates: Candidates) -> None:
    """Write a candidates file (safetensors); maps as float32."""
    names = ("task", "space_name", "resolution", "architectures", "origin")
    described = json.dumps({name: getattr(candidates, name) for name in names}, sort_keys=True)
    tensors = {"actmap": candidates.actmap, "arch_enc": candidates.arch_enc}
    save_weights(path, tensors, {"kind": _KIND, "candidates": described})


def load_candidates(path: Path | str) -> Candidates:
    """Read what `save_candidates` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged or holds something else.
    """
    tensors, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, not {_KIND!r}: "
            "give a file that `python -m dass import-official` wrote"
        )
    described = json.loads(metadata["candidates"])
    described["architectures"] = tuple(described["architectures"])
    return Candidates(actmap=tensors["actmap"], arch_enc=tensors["arch_enc"], **described)
