"""The settings of presets as the steps that pipeline files are made of."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from common.experiment.config import UsageError, to_dict
from common.kd.recipe import Recipe
from common.spaces.grid import Options
from common.spaces.mobilenet_v2 import MobileNetV2Space
from mfkd.images import Images
from mfkd.recipes import Training

_SGD = {
    "batch_size": 128,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "epochs": 100,
    "validate_every": 10,
}


def published(**changes: object) -> Recipe:
    """SGD with cosine as published for CIFAR-100, for 100 epochs in batches of 128.

    Source: Trofimov et al., released code for Vega.
    """
    return Recipe(**{**_SGD, **changes})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class SpaceOptions:
    """MobileNetV2 networks of seven stages.

    Raises:
        ValueError: not seven stages, or options that are no positive integers.
    """

    channels: tuple[str, ...] = ("16,24", "24,32", "32,64", "64,96", "96,160", "160,320", "320,640")
    """Output channels of each of the seven stages: several are searched, one is fixed."""
    repetitions: tuple[str, ...] = ("1,2,3,4",) * 7
    """Blocks of each stage."""
    first_stride: int = 1
    """Of the stem: 1 for small images, 2 for large ones or less time."""
    last_channel: int = 1280
    """Channels of the last convolution."""

    def __post_init__(self) -> None:
        """Check the options."""
        _ = self.space

    @cached_property
    def space(self) -> MobileNetV2Space:
        """The space that these are options of."""
        return MobileNetV2Space(
            channels=tuple(_options("channels", text) for text in self.channels),
            repetitions=tuple(_options("repetitions", text) for text in self.repetitions),
            first_stride=self.first_stride,
            last_channel=self.last_channel,
        )


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Which teacher to learn from."""

    file: Path | None = None
    """A teacher's weights (.safetensors of ours, or a bare state dict); none takes the one that train-teacher keeps for
    the dataset, which is trained first where it is not there."""
    recipe: Recipe = field(default_factory=lambda: published(loss="ce"))
    """How a missing teacher is trained."""

    def __post_init__(self) -> None:
        """Check the loss."""
        if self.recipe.loss != "ce":
            raise ValueError(f"a teacher learns from labels: recipe.loss is {self.recipe.loss!r} and must be ce")


@dataclass(frozen=True, kw_only=True)
class FidelityOptions:
    """How networks are trained to be compared."""

    portion: float = 1.0
    """Part of the training images that they are trained on, in (0, 1], the same share of every class."""
    min_images: int = 0
    """Take a larger part where that is fewer images, so that small sets can be searched, too."""
    recipe: Recipe = field(default_factory=lambda: published(loss="ce", validate_every=100))
    """The training."""

    def __post_init__(self) -> None:
        """Check the portion."""
        if not 0 < self.portion <= 1:
            raise ValueError(f"portion is {self.portion}: a part in (0, 1] is needed")
        if self.min_images < 0:
            raise ValueError(f"min_images is {self.min_images}: 0 or more are needed")


def low_fidelity() -> FidelityOptions:
    """3 % of the images, distilled from the teacher's feature maps, as published."""
    return FidelityOptions(portion=0.03, recipe=published(loss="nst", beta=12.5, validate_every=100))


def images_of(data: str, resolution: int, options: FidelityOptions | None = None) -> Images:
    """A part of a dataset, or all of it, every class in proportion: own folders are sorted by class."""
    images = Images(dataset=data, resolution=resolution, subset="stratified")
    if options is None:
        return images
    return replace(images, train_portion=options.portion, min_images=options.min_images)


def training_of(recipe: Recipe, seed: int, teacher: Path | None) -> Training:
    """A training with the teacher where its loss has one."""
    return Training(recipe=recipe, seed=seed, teacher=None if recipe.loss == "ce" else str(teacher))


def check_resolution(resolution: int) -> None:
    """Refuse sizes that no image has.

    Raises:
        ValueError: it is not positive.
    """
    if resolution < 1:
        raise ValueError(f"resolution is {resolution}: 1 or more pixels are needed")


def plain_settings(recipe: Recipe) -> str:
    """The settings of a recipe that matter, in one line."""
    settings = to_dict(recipe)
    names = ("epochs", "epoch_images", "batch_size", "optimizer", "learning_rate", "loss")
    parts = [f"{name.replace('_', ' ')} {settings[name]}" for name in names if settings[name] is not None]
    if settings["loss"] == "kd":
        parts.append(f"temperature {settings['temperature']}, weight of the labels {settings['alpha']}")
    elif settings["loss"] != "ce":
        parts.append(f"beta {settings['beta']}")
    return ", ".join(parts)


Algorithm = Literal["mfkd1", "mfkd2", "mf_kd"]


def _options(name: str, text: str) -> Options:
    try:
        levels = tuple(int(level) for level in text.split(","))
    except ValueError:
        raise UsageError(f"space.{name} has {text!r}: whole numbers with commas between them, like 16,24") from None
    return levels if len(levels) > 1 else levels[0]
