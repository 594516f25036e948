"""The accuracy predictor: functional embeddings of student and teacher and the student's code, to one number.

Source: Lee et al., ICLR 2023, framework figure and released code. The slots are student, architecture, teacher.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from common.experiment.seeds import derive_seed
from common.store.weights import load_weights, save_weights

MapScale = Literal["raw", "teacher"]
InputType = Literal["STA", "ST", "SA", "TA", "S", "T", "A"]
_KIND = "dass-predictor"
_STEP_SIZES = "step_sizes."
_PROBE = "probe"
_DESCRIBED = (
    "space_name",
    "resolution",
    "pr_type",
    "adapt",
    "num_inner_updates",
    "score",
    "unit",
    "origin",
    "notes",
)


@dataclass(frozen=True, kw_only=True)
class PredictorSizes:
    """The predictor's sizes that one may choose."""

    hidden_channels: int = 128
    """Filters of the first convolution of each map encoder."""
    out_channels: int = 256
    """Filters of the second convolution of each map encoder."""
    hidden_dim: int = 64
    """Width of the code's embedding and of the head's hidden layer; published name h_dim."""
    input_type: InputType = "STA"
    """Inputs in use: S student map, T teacher map, A architecture code."""
    map_scale: MapScale = "raw"
    """Unit of the maps: raw, as published, or teacher, the root mean square of the task's teacher's map, which differs
    by a factor of two and more from one teacher to the next."""

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: a size is not positive or the inputs are not a known subset.
        """
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise ValueError(f"predictor {name} is {value}; it must be at least 1")
        if self.map_scale not in get_args(MapScale):
            raise ValueError(f"map_scale is {self.map_scale!r}; choose from {', '.join(get_args(MapScale))}")
        if self.input_type not in get_args(InputType):
            raise ValueError(f"input_type is {self.input_type!r}; choose from {', '.join(get_args(InputType))}")


@dataclass(frozen=True, kw_only=True)
class PredictorConfig(PredictorSizes):
    """All sizes of a predictor: those one may choose and those that the database gives."""

    map_channels: int = 256
    """Channels of the stage-4 maps."""
    arch_dim: int = 181
    """Length of an architecture's code."""


def scale_maps(student: Tensor, teacher: Tensor, scale: MapScale) -> tuple[Tensor, Tensor]:
    """Maps of a task's students and teacher in the unit that a predictor takes them in.

    Args:
        student: (n, C, side, side).
        teacher: (1, C, side, side).
        scale: see `PredictorSizes`.
    """
    if scale == "raw":
        return student, teacher
    unit = teacher.square().mean().sqrt().clamp_min(1e-12)
    return student / unit, teacher / unit


def map_patches(maps: Tensor) -> Tensor:
    """Lay out maps so that a 3x3 convolution of stride 2 and padding 1 becomes one matrix product.

    The maps never change while the predictor learns, so this is done once for each of them.

    Args:
        maps: (n, C, side, side).

    Returns:
        (n, P, 9C): a row for each of the P output positions.

    Raises:
        ValueError: the maps are not four-dimensional or not square.
    """
    if maps.dim() != 4 or maps.shape[2] != maps.shape[3]:
        raise ValueError(f"feature maps of shape {tuple(maps.shape)}: (n, channels, side, side) is needed")
    return functional.unfold(maps, kernel_size=3, stride=2, padding=1).mT.contiguous()


def _patch_positions(num_positions: int, like: Tensor) -> Tensor:
    """(P' * 9, P) zeros and ones: which position of a P-position map stands where in its P' patches of 3x3."""
    side = math.isqrt(num_positions)
    grid = torch.eye(num_positions, dtype=like.dtype, device=like.device).view(num_positions, 1, side, side)
    return functional.unfold(grid, kernel_size=3, stride=2, padding=1).permute(2, 1, 0).flatten(0, 1)


class FunctionEncoder(nn.Module):
    """Two 3x3 convolutions of stride 2, padding 1, without bias, a ReLU after each, and the mean over positions.

    It takes maps, or their patches, which give the same numbers by matrix products. Maps are best when each is used
    once, as in a search. Patches are best in meta-training: on one CPU thread a second-order episode takes three
    quarters of the time, since convolutions are slow on the one-sample support and when differentiated twice.
    """

    def __init__(self, map_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(map_channels, hidden_channels, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(hidden_channels, out_channels, 3, stride=2, padding=1, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed maps (n, C, side, side) or their `map_patches` (n, P, 9C): -> (n, out_channels)."""
        if inputs.dim() == 4:
            embedded: Tensor = self.conv2(self.conv1(inputs).relu()).relu().mean((2, 3))
            return embedded
        hidden = functional.linear(inputs, self.conv1.weight.flatten(1)).relu()  # (n, P, hidden)
        positions = _patch_positions(hidden.shape[1], hidden)
        again = torch.matmul(positions, hidden).reshape(len(hidden), -1, 9 * hidden.shape[2])  # (n, P', 9 * hidden)
        kernel = self.conv2.weight.permute(0, 2, 3, 1).flatten(1)  # (out, 9 * hidden)
        return functional.linear(again, kernel).relu().mean(1)


class ArchEncoder(nn.Module):
    """One linear layer over the architecture's code."""

    def __init__(self, arch_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(arch_dim, hidden_dim)

    def forward(self, codes: Tensor) -> Tensor:
        """Embed codes: (n, arch_dim) -> (n, hidden_dim)."""
        embedded: Tensor = self.fc(codes)
        return embedded


class Predictor(nn.Module):
    """Predicts accuracies of students; the state dict has the names and shapes of the released code's.

    An input that `config.input_type` leaves out is neither read nor represented by weights.
    """

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.map_channels, config.hidden_channels, config.out_channels)
        width = 0
        if "S" in config.input_type:
            self.func_encoder = FunctionEncoder(*sizes)
            width += config.out_channels
        if "A" in config.input_type:
            self.arch_encoder = ArchEncoder(config.arch_dim, config.hidden_dim)
            width += config.hidden_dim
        if "T" in config.input_type:
            self.teacher_encoder = FunctionEncoder(*sizes)
            width += config.out_channels
        self.proj_layers = nn.Sequential(
            nn.Linear(width, config.hidden_dim), nn.Tanh(), nn.Linear(config.hidden_dim, 1)
        )

    def forward(self, student: Tensor, codes: Tensor, teacher: Tensor) -> Tensor:
        """Predict accuracies.

        Args:
            student: (n, C, side, side) stage-4 maps of students, or their `map_patches` (n, P, 9C).
            codes: (n, arch_dim) architecture codes.
            teacher: (1, C, side, side) the teacher's map, or its patches (1, P, 9C).

        Returns:
            (n,) predictions, a row depending on no other row.
        """
        num = codes.shape[0]
        slots = []
        if "S" in self.config.input_type:
            slots.append(self.func_encoder(student))
        if "A" in self.config.input_type:
            slots.append(self.arch_encoder(codes))
        if "T" in self.config.input_type:
            slots.append(self.teacher_encoder(teacher).expand(num, -1))
        scores: Tensor = self.proj_layers(torch.cat(slots, dim=1))
        return scores.squeeze(1)


def new_predictor(config: PredictorConfig, seed: int) -> Predictor:
    """A freshly initialised predictor; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "predictor"))
        return Predictor(config)


def new_step_sizes(predictor: nn.Module, value: float) -> dict[str, Tensor]:
    """One step size for every scalar weight, all equal at first."""
    return {name: torch.full_like(weight, value).detach() for name, weight in predictor.named_parameters()}


def probe_digest(probe: Tensor | None) -> str:
    """Twelve hex digits of a probe image (1, 3, R, R), or "unknown"."""
    if probe is None:
        return "unknown"
    values = probe.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.sha256(values.tobytes()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictorArtifact:
    """A meta-trained predictor with all that a search needs beside it.

    Attributes:
        predictor: the network, on the CPU when loaded.
        step_sizes: learned step sizes by parameter name.
        space_name: search space and its codes.
        resolution: side of the images that the maps were made from.
        pr_type: how students get the teacher's weights before their maps are taken.
        probe: (1, 3, R, R) image behind all maps; None where it is unknown (imported files).
        adapt: whether the predictor was meta-trained to be adapted on the teacher.
        num_inner_updates: adaptation steps it was trained with.
        score: mean Spearman correlation on the meta-validation tasks; None where it is unknown.
        unit: unit of the predicted accuracies.
        origin: "dass", or "official" for an imported one, whose architecture codes and probe are not ours.
        notes: how it was made, as plain JSON values.
    """

    predictor: Predictor
    step_sizes: dict[str, Tensor]
    space_name: str
    resolution: int
    pr_type: str
    probe: Tensor | None
    adapt: bool = True
    num_inner_updates: int = 1
    score: float | None = None
    unit: str = "fraction"
    origin: str = "dass"
    notes: dict[str, Any] = field(default_factory=dict)


def save_predictor(path: Path | str, artifact: PredictorArtifact) -> None:
    """Write a predictor file (safetensors).

    Raises:
        ValueError: the step sizes do not match the weights.
    """
    weights = artifact.predictor.state_dict()
    _check_step_sizes(weights, artifact.step_sizes, str(path))
    tensors = dict(weights) | {_STEP_SIZES + name: value for name, value in artifact.step_sizes.items()}
    if artifact.probe is not None:
        tensors[_PROBE] = artifact.probe
    described = {
        "config": asdict(artifact.predictor.config),
        "probe_digest": probe_digest(artifact.probe),
        **{name: getattr(artifact, name) for name in _DESCRIBED},
    }
    save_weights(path, tensors, {"kind": _KIND, "predictor": json.dumps(described, sort_keys=True, allow_nan=False)})


def load_predictor(path: Path | str) -> PredictorArtifact:
    """Read what `save_predictor` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged, or holds something else than a predictor.
    """
    tensors, metadata = load_weights(path)
    if metadata.get("kind") != _KIND:
        raise RuntimeError(
            f"{path} holds {metadata.get('kind', 'plain weights')!r}, not {_KIND!r}: "
            "give a file that `python -m dass meta-train` wrote"
        )
    described = json.loads(metadata["predictor"])
    predictor = Predictor(PredictorConfig(**described.pop("config")))
    described.pop("probe_digest")
    probe = tensors.pop(_PROBE, None)
    step_sizes = {n.removeprefix(_STEP_SIZES): v for n, v in tensors.items() if n.startswith(_STEP_SIZES)}
    weights = {name: value for name, value in tensors.items() if not name.startswith(_STEP_SIZES)}
    try:
        predictor.load_state_dict(weights)
        _check_step_sizes(weights, step_sizes, str(path))
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(f"{path} does not fit its own description: {' '.join(str(error).split())}") from error
    return PredictorArtifact(predictor=predictor, step_sizes=step_sizes, probe=probe, **described)


def _check_step_sizes(weights: Mapping[str, Tensor], step_sizes: Mapping[str, Tensor], where: str) -> None:
    if {n: v.shape for n, v in weights.items()} != {n: v.shape for n, v in step_sizes.items()}:
        raise ValueError(f"{where}: step sizes and weights differ in names or shapes")
