"""How a classifier is trained: the settings that one training run depends on."""

from dataclasses import dataclass
from typing import Literal

Loss = Literal["ce", "kd", "nst", "attention", "similarity", "pkt", "hint"]
FEATURE_LOSSES: tuple[Loss, ...] = ("nst", "attention", "similarity", "pkt", "hint")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training of one classifier. The defaults distil a student as DaSS publishes it."""

    epochs: int = 50
    """Passes over the training images."""
    epoch_images: int | None = None
    """Images of an epoch, drawn anew for each, where a training set has more: bounds the time on large sets. None takes
    all of them."""
    batch_size: int = 64
    """Images a step; a last partial batch of an epoch is left out of training, never out of evaluation."""
    optimizer: Literal["sgd", "adamw", "lamb", "lion", "rmsproptf"] = "sgd"
    """Weight decay acts on all parameters, those of batch normalisation included, but for rmsproptf, which leaves
    vectors alone."""
    learning_rate: float = 0.05
    """At the first step; the schedule lowers it."""
    momentum: float = 0.9
    """Of sgd and rmsproptf; the others keep their own constants."""
    nesterov: bool = True
    """Of sgd."""
    weight_decay: float = 3e-5
    """Times the weights, added to the gradient (sgd, rmsproptf) or taken off directly (adamw, lamb, lion)."""
    schedule: Literal["cosine", "step", "exponential", "swing"] = "cosine"
    """Set for every step: cosine falls to 0 at the end, step multiplies by gamma at each milestone, exponential once
    more every decay_epochs, swing falls to 0 in as many steps as there are epochs and rises again, on and on, as in
    TANS's released code."""
    milestones: tuple[float, ...] = (0.4, 0.7, 0.9)
    """Of the step schedule, as fractions of all steps, rising."""
    gamma: float = 0.3
    """Of the step and exponential schedules."""
    decay_epochs: float = 3.0
    """Of the exponential schedule."""
    warmup_epochs: int = 0
    """Epochs in which the rate rises from 1e-4, epoch by epoch; they count as epochs of the schedule."""
    label_smoothing: float = 0.0
    """Of the cross-entropy with the labels, in training only."""
    loss: Loss = "kd"
    """ce: labels only; kd: softened teacher; the others add beta times a feature loss to the cross-entropy."""
    temperature: float = 6.0
    """Softens both sides of kd."""
    alpha: float = 0.5
    """Weight of the label term of kd; 1 - alpha is on the teacher's."""
    beta: float = 12.5
    """Weight of a feature loss (published: nst 12.5, attention 1000, similarity 750, pkt 480000, hint 100)."""
    padding: int | None = None
    """Zero pixels around an image before the random crop; None takes resolution // 8."""
    flip: Literal["auto", "yes", "no"] = "auto"
    """Mirror images at random; auto asks the dataset whether a mirrored image keeps its label."""
    validate_every: int = 5
    """Epochs between evaluations; the last epoch is always evaluated."""
    clip_norm: float | None = None
    """Largest norm of a step's gradient; None leaves it."""
    ema_decay: float | None = None
    """Keep and evaluate a moving average of the weights with this decay; None evaluates the weights themselves."""
    amp: Literal["off", "bf16", "fp16"] = "off"
    """Mixed precision of training; evaluation is in float32. fp16 needs a GPU."""
    channels_last: bool = False
    """Memory format of images and networks, faster on GPUs with mixed precision."""
    views: int = 0
    """0: fresh augmentation in every epoch. V > 0: V fixed augmented copies of the training set, used in turn, for
    which the teacher's logits are computed once."""
    official_eval: bool = False
    """Leave the last partial batch out of evaluation, as the published code does."""
    compile: bool = False
    """Train through torch.compile."""

    def __post_init__(self) -> None:
        """Check every field; raises ValueError naming the field, its value and what is allowed."""
        _check_counts(self)
        _check_optimisation(self)
        _check_loss(self)


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value}, it must be {allowed}")


def _check_counts(recipe: Recipe) -> None:
    _require(recipe.epochs >= 1, "epochs", recipe.epochs, "1 or more")
    _require(recipe.batch_size >= 2, "batch_size", recipe.batch_size, "2 or more (batch statistics need two images)")
    enough = recipe.epoch_images is None or recipe.epoch_images >= recipe.batch_size
    _require(enough, "epoch_images", recipe.epoch_images, f"a batch ({recipe.batch_size}) or more, or none")
    _require(recipe.validate_every >= 1, "validate_every", recipe.validate_every, "1 or more epochs")
    _require(recipe.padding is None or recipe.padding >= 0, "padding", recipe.padding, "0 or more pixels, or none")
    _require(recipe.views >= 0, "views", recipe.views, "0 (fresh augmentation) or a number of copies")


def _check_optimisation(recipe: Recipe) -> None:
    _require(recipe.learning_rate > 0, "learning_rate", recipe.learning_rate, "positive")
    _require(0 <= recipe.momentum < 1, "momentum", recipe.momentum, "in [0, 1)")
    _require(
        recipe.optimizer != "sgd" or not recipe.nesterov or recipe.momentum > 0,
        "momentum",
        recipe.momentum,
        "positive with nesterov; turn nesterov off for plain sgd",
    )
    _require(recipe.weight_decay >= 0, "weight_decay", recipe.weight_decay, "0 or more")
    rising = all(a < b for a, b in zip((0.0, *recipe.milestones), (*recipe.milestones, 1.0), strict=True))
    _require(rising, "milestones", recipe.milestones, "rising fractions between 0 and 1")
    _require(0 < recipe.gamma <= 1, "gamma", recipe.gamma, "in (0, 1]")
    _require(recipe.decay_epochs > 0, "decay_epochs", recipe.decay_epochs, "positive")
    _require(recipe.warmup_epochs >= 0, "warmup_epochs", recipe.warmup_epochs, "0 or more")
    _require(recipe.clip_norm is None or recipe.clip_norm > 0, "clip_norm", recipe.clip_norm, "positive, or none")
    _require(recipe.ema_decay is None or 0 < recipe.ema_decay < 1, "ema_decay", recipe.ema_decay, "in (0, 1), or none")


def _check_loss(recipe: Recipe) -> None:
    _require(0 <= recipe.label_smoothing < 1, "label_smoothing", recipe.label_smoothing, "in [0, 1)")
    _require(recipe.temperature > 0, "temperature", recipe.temperature, "positive")
    _require(0 <= recipe.alpha <= 1, "alpha", recipe.alpha, "in [0, 1]: the weight of the label term")
    _require(recipe.beta >= 0, "beta", recipe.beta, "0 or more")
