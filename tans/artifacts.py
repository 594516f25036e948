"""Files of trained cross-modal spaces: weights with all that is needed to use them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from common.experiment.config import UsageError
from common.kd.guide import weights_digest
from common.store.weights import load_weights, save_weights
from tans.encoders import CrossModalSpace, SpaceSizes
from tans.zoo_tables import ZooSettings

Topology = Literal["raw", "masked"]

_KIND = "tans-space"
_DESCRIBED = ("extractor", "probe", "topology", "sources", "origin", "notes")


@dataclass(frozen=True, kw_only=True, eq=False)
class SpaceArtifact:
    """A trained cross-modal space.

    Attributes:
        space: on the CPU when loaded, in eval mode.
        extractor: id of the network that datasets are seen through.
        probe: id of the noise that functional embeddings are answers to; empty for a released one, which is not known.
        topology: how topologies are written: raw, as published, or with zeros for blocks not in use.
        sources: ids of the datasets that it learned from.
        origin: "tans", or "official" for an imported checkpoint.
        notes: how it was trained and what it reached, as plain JSON values.
    """

    space: CrossModalSpace
    extractor: str
    probe: str
    topology: Topology
    sources: tuple[str, ...]
    origin: str
    notes: dict[str, Any]

    @property
    def id(self) -> str:
        """Digest of the weights."""
        return weights_digest(self.space)

    def has_seen(self, task: str) -> bool:
        """Whether it learned from the set that a task is a part of."""
        return task.partition("/")[0] in {source.partition("/")[0] for source in self.sources}


def save_space(path: Path, artifact: SpaceArtifact) -> None:
    """Write a space with its description into one safetensors file."""
    described = {name: getattr(artifact, name) for name in _DESCRIBED} | {"sizes": asdict(artifact.space.sizes)}
    text = json.dumps(described, sort_keys=True, allow_nan=False)
    save_weights(path, artifact.space.state_dict(), {"kind": _KIND, "space": text})


def load_space(path: Path) -> SpaceArtifact:
    """Read what `save_space` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, holds something else, or its weights are not finite.
    """
    weights, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, no cross-modal space: make one with "
            "`python -m tans meta-train`"
        )
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise RuntimeError(f"{path}: {name} is not finite: its training went wrong, train it again")
    try:
        described = json.loads(metadata["space"])
        space = CrossModalSpace(SpaceSizes(**described["sizes"]))
        space.load_state_dict(weights)
        described["sources"] = tuple(described["sources"])
        return SpaceArtifact(space=space.eval(), **{name: described[name] for name in _DESCRIBED})
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise RuntimeError(f"{path} does not fit its own description ({reason}): train it again") from error


def check_fits(artifact: SpaceArtifact, settings: ZooSettings, where: Path) -> None:
    """Refuse a space whose networks were described in another way than those of a zoo.

    Raises:
        UsageError: naming what differs.
    """
    width = artifact.space.sizes.functional_dim
    if artifact.probe and width and artifact.probe != settings.probe:
        raise UsageError(
            f"{where} answers to probe {settings.probe}, and the space learned from answers to {artifact.probe}: "
            f"meta-train one for this zoo with `python -m tans meta-train --zoo {where}`"
        )
    if width not in (0, settings.functional_dim):
        raise UsageError(
            f"{where} has functional embeddings of {settings.functional_dim} numbers, and the space takes {width}: "
            f"meta-train one for this zoo with `python -m tans meta-train --zoo {where}`"
        )
