"""Files of trained supernets: the weights of all blocks with what is needed to rate them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.experiment.config import to_dict
from common.store.weights import load_weights, save_weights
from dna.archs import Skeleton
from dna.block_training import Distill
from dna.space import BlockSpace
from dna.supernet import Supernet
from dna.teacher import TeacherConfig

_KIND = "dna-supernet"


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedSupernet:
    """A supernet and how it was trained.

    Attributes:
        weights: of the blocks, by the names in `Supernet`.
        space: stages and cells.
        teacher_widths: channels of the teacher's six features.
        teacher: the network that guided it.
        teacher_file: its weights; None for timm's own.
        teacher_digest: of these weights.
        task: id of the dataset.
        num_classes: its classes.
        resolution: side of the images in pixels.
        hold_out: training images that no block has seen.
        seed: of the run.
        distill: how the blocks were trained.
    """

    weights: Mapping[str, Tensor]
    space: BlockSpace
    teacher_widths: tuple[int, ...]
    teacher: TeacherConfig
    teacher_file: str | None
    teacher_digest: str
    task: str
    num_classes: int
    resolution: int
    hold_out: int
    seed: int
    distill: Distill

    def build(self, device: torch.device) -> Supernet:
        """The network with its weights, in eval mode.

        Raises:
            RuntimeError: the weights are of other shapes.
        """
        supernet = Supernet(self.space, self.teacher_widths)
        supernet.load_state_dict(dict(self.weights), strict=True)
        supernet.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return supernet.eval()


_PLAIN = ("teacher_file", "teacher_digest", "task", "num_classes", "resolution", "hold_out", "seed")


def save_supernet(path: Path, trained: TrainedSupernet) -> None:
    """Write weights and description into one safetensors file."""
    described: dict[str, Any] = {name: getattr(trained, name) for name in _PLAIN}
    described |= {name: to_dict(getattr(trained, name)) for name in ("space", "teacher", "distill")}
    described["teacher_widths"] = list(trained.teacher_widths)
    save_weights(path, trained.weights, {"kind": _KIND, "supernet": json.dumps(described, sort_keys=True)})


def load_supernet(path: Path) -> TrainedSupernet:
    """Read what `save_supernet` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, holds something else, or weights that are not finite.
    """
    weights, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, no supernet of DNA: make one with "
            "`python -m dna meta-train`"
        )
    wrong = next((name for name, tensor in weights.items() if not torch.isfinite(tensor).all()), None)
    if wrong is not None:
        raise RuntimeError(f"{path}: {wrong} is not finite: its training went wrong, train it again")
    try:
        described = json.loads(metadata["supernet"])
        trained = TrainedSupernet(
            weights=weights,
            space=space_of(described.pop("space")),
            teacher=_config(TeacherConfig, described.pop("teacher")),
            distill=_config(Distill, described.pop("distill")),
            teacher_widths=tuple(described.pop("teacher_widths")),
            **described,
        )
        with torch.device("meta"):
            expected = Supernet(trained.space, trained.teacher_widths).state_dict()
        if {name: value.shape for name, value in expected.items()} != {n: v.shape for n, v in weights.items()}:
            raise ValueError("its weights are of another space")
        return trained
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise RuntimeError(f"{path} does not fit its own description ({reason}): train it again") from error


def space_of(described: Mapping[str, Any]) -> BlockSpace:
    """A space from the plain values of `to_dict`."""
    return BlockSpace(skeleton=_config(Skeleton, described["skeleton"]), cells=tuple(described["cells"]))


def _config(kind: Any, described: Mapping[str, Any]) -> Any:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in described.items()
    }
    if values.get("file") is not None:
        values["file"] = Path(values["file"])
    return kind(**values)
