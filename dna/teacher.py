"""The teacher: six features of a frozen timm network, which guide the six stages.

Statistics of its batch normalisations are those of the batch in training, as in the released code; here the network's
own buffers never change.

Source: Li et al., CVPR 2020; released code, distill_train.py.
"""

import copy
import difflib
import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.kd.evaluate import eval_mode
from common.store.released import read_released
from common.store.weights import load_weights
from dna.archs import NUM_STAGES
from dna.space import BlockSpace

_log = logging.getLogger(__name__)

Statistics = Literal["batch", "running"]
KIND = "dna-teacher"
"""Mark of the weights that `train-teacher` writes: images are scaled to [-1, 1] for them."""
_OURS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The network that guides the supernet. The defaults are the published ones."""

    model: str = "tf_efficientnet_b7.aa_in1k"
    """Name in timm. The bare name tf_efficientnet_b7 has other weights there (noisy student)."""
    file: Path | None = None
    """Weights: what train-teacher wrote, or a .safetensors, .pth or .pt file of the timm network; None takes those that
    train-teacher wrote for the dataset, or with `pretrained` timm's own."""
    pretrained: bool = True
    """Take timm's weights, which it downloads, where no file is given."""
    stages: tuple[int, ...] = (2, 3, 4, 5, 6, 7)
    """Which of the network's feature stages guide the six stages, as timm numbers them; for networks of the
    EfficientNet kind stage 0 is the stem and each list of blocks is one more."""

    def __post_init__(self) -> None:
        """Check the fields."""
        rising = all(a < b for a, b in pairwise(self.stages))
        if len(self.stages) != NUM_STAGES or not rising or min(self.stages, default=-1) < 0:
            raise ValueError(f"teacher.stages are {self.stages}: give {NUM_STAGES} rising numbers, 0 or more")


class Teacher:
    """Features of a frozen network.

    Args:
        network: in eval mode; neither its weights nor its buffers are changed.
        stages: which of its feature stages.
        scaling: mean and standard deviation of each channel that its images are normalised by, of [0, 1].

    Raises:
        ValueError: it has no such feature stages; the message lists those that it has.
    """

    def __init__(
        self, network: nn.Module, stages: Sequence[int], scaling: tuple[Sequence[float], Sequence[float]] = _OURS
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.stages = tuple(stages)
        self.scaling = (tuple(scaling[0]), tuple(scaling[1]))
        if not hasattr(network, "forward_intermediates"):
            raise ValueError(
                f"{type(network).__name__} of timm has no feature stages (no forward_intermediates): choose another "
                "--teacher.model, such as efficientnet_b0"
            )
        takes = inspect.signature(network.forward_intermediates).parameters  # type: ignore[arg-type]
        self._options: dict[str, Any] = {"intermediates_only": True}
        if "extra_blocks" in takes:
            self._options["extra_blocks"] = True

    def images(self, pixels: Tensor) -> Tensor:
        """Images in [-1, 1] as the network wants them, of the same shape."""
        if self.scaling == _OURS:
            return pixels
        mean, std = (torch.tensor(values, device=pixels.device)[:, None, None] for values in self.scaling)
        return (pixels * 0.5 + 0.5 - mean) / std

    def features(self, images: Tensor, last: int = NUM_STAGES - 1, statistics: Statistics = "running") -> list[Tensor]:
        """Features that guide the stages up to one of them.

        Args:
            images: (B, 3, H, W), normalised.
            last: the last stage that is needed, 0 to 5; later parts of the network are not run.
            statistics: "batch" normalises by the batch itself, "running" by the buffers.

        Returns:
            Y_0 ... Y_last, each (B, C, H', W').
        """
        wanted = list(self.stages[: last + 1])
        run = cast(Any, self.network).forward_intermediates
        with torch.no_grad(), _statistics(self.network, statistics):
            found: list[Tensor] = run(images, indices=wanted, stop_early=True, **self._options)
        return found

    def recalibrated(self, images: Tensor) -> "Teacher":
        """A copy whose running statistics are those of one batch: its means, and its unbiased variances.

        Args:
            images: (B, 3, H, W), normalised.
        """
        other = Teacher(copy.deepcopy(self.network), self.stages, self.scaling)
        norms = [module for module in other.network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            norm.momentum, norm.training = 1.0, True
        other.features(images)
        other.network.eval()
        return other

    def shapes(self, resolution: int, device: torch.device) -> list[tuple[int, int]]:
        """(channels, side) of the six features of images of a side.

        Raises:
            ValueError: the network has no such stages, or cannot take such images.
        """
        blank = torch.zeros(1, 3, resolution, resolution, device=device)
        try:
            with eval_mode(self.network), torch.no_grad():
                found = cast(Any, self.network).forward_intermediates(blank, **self._options)
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"the teacher cannot take images of {resolution} x {resolution} pixels ({reason}): choose another "
                "--resolution or teacher"
            ) from error
        there = [(feature.shape[1], feature.shape[-1]) for feature in found]
        missing = [stage for stage in self.stages if stage >= len(there)]
        if missing:
            listed = ", ".join(f"{index}: {width} x {side} x {side}" for index, (width, side) in enumerate(there))
            raise ValueError(
                f"the teacher has no feature stage {', '.join(map(str, missing))}; at {resolution} pixels it has "
                f"{listed}. Choose six of them with --teacher.stages, or another --teacher.model"
            )
        return [there[stage] for stage in self.stages]


def check_sides(shapes: Sequence[tuple[int, int]], space: BlockSpace, resolution: int) -> None:
    """Raise ValueError unless the strides of a space lead from each feature of the teacher to the next."""
    space.check_resolution(resolution)
    side, sides = resolution // space.skeleton.stem_stride, []
    for stride in space.skeleton.strides:
        side //= stride
        sides.append(side)
    theirs = [side for _, side in shapes]
    if sides != theirs:
        raise ValueError(
            f"at {resolution} pixels the teacher's features have sides {', '.join(map(str, theirs))} and the space's "
            f"stages {', '.join(map(str, sides))}: change --space.skeleton.strides or --teacher.stages"
        )


def load_teacher(cfg: TeacherConfig, file: Path | None, *, num_classes: int, device: torch.device) -> Teacher:
    """A teacher with its weights.

    Args:
        cfg: which network.
        file: its weights; None takes timm's own, where the config allows it.
        num_classes: outputs of a network that has weights of ours.
        device: where it shall live.

    Raises:
        ValueError: timm has no such network, or it has no feature stages.
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged, or holds the weights of another network.
    """
    check_name(cfg.model)
    network, scaling = _with_weights(cfg, file, num_classes)
    return Teacher(network.to(device), cfg.stages, scaling)


def check_name(model: str) -> None:
    """Raise ValueError unless timm has such a network."""
    import timm

    if not timm.is_model(model):
        nearest = difflib.get_close_matches(model, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else "; timm.list_models() has the names"
        raise ValueError(f"timm has no network {model!r}{hint}")


def _with_weights(
    cfg: TeacherConfig, file: Path | None, num_classes: int
) -> tuple[nn.Module, tuple[Sequence[float], Sequence[float]]]:
    import timm

    if file is None:
        try:
            network: Any = timm.create_model(cfg.model, pretrained=True)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise RuntimeError(
                f"timm cannot fetch weights of {cfg.model} ({reason}): give a file of them as --teacher.file"
            ) from error
        return network, (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])
    weights, is_ours = _read_weights(file)
    options: dict[str, Any] = {"num_classes": num_classes} if is_ours else {}
    network = timm.create_model(cfg.model, pretrained=False, **options)
    _load(network, weights, cfg.model, file)
    return network, _OURS if is_ours else (network.pretrained_cfg["mean"], network.pretrained_cfg["std"])


def _read_weights(file: Path) -> tuple[dict[str, Tensor], bool]:
    """Weights by name, and whether `train-teacher` wrote them."""
    if not file.is_file():
        raise FileNotFoundError(f"there is no weights file {file}: train a teacher first, or give --teacher.file")
    if file.suffix != ".safetensors":
        content = read_released(file)
        weights = content.get("state_dict", content) if isinstance(content, dict) else None
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise RuntimeError(f"{file} holds no weights by name: give a checkpoint of the timm network")
        return weights, False
    try:
        weights, notes = load_weights(file)
    except RuntimeError as ours:
        try:  # a file of another program, as timm's own
            return safetensors.torch.load(file.read_bytes()), False
        except (SafetensorError, ValueError):
            raise ours from None
    return weights, notes.get("kind") == KIND


def _load(network: nn.Module, weights: dict[str, Tensor], model: str, file: Path) -> None:
    """Weights into the network, names and shapes matched strictly."""
    expected = network.state_dict()
    reshaped = [key for key in expected.keys() & weights.keys() if expected[key].shape != weights[key].shape]
    missing, unused = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    if missing or unused or reshaped:
        key = sorted(reshaped or missing or unused)[0]
        found = tuple(weights[key].shape) if key in weights else "absent"
        wanted = tuple(expected[key].shape) if key in expected else "no such entry"
        raise RuntimeError(
            f"{file} does not hold weights of {model}: {len(missing)} entries missing, {len(unused)} unused, "
            f"{len(reshaped)} of another shape; {key}: {found} in the file, {wanted} in the network"
        )
    network.load_state_dict(weights)


@contextmanager
def _statistics(network: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Inside, batch normalisations use the batch's statistics without keeping them, if so asked."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)] if statistics == "batch" else []
    before = [(norm, norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    try:
        yield
    finally:
        for norm, training, tracked in before:
            norm.training, norm.track_running_stats = training, tracked
