"""Step `validate`: top-1 and top-5 accuracy of a retrained network.

Source: released code of Li et al., CVPR 2020, retraining part, validate.py.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.data.batches import normalise
from common.experiment.config import StepConfig, UsageError
from common.experiment.device import resolve_device
from common.experiment.names import slug
from common.experiment.progress import track
from common.experiment.run import open_run
from common.experiment.seeds import derive_seed
from common.kd.evaluate import eval_mode
from dna.archs import format_arch, parse_arch
from dna.costs import network_costs
from dna.import_official import IMPORTED, name_of
from dna.models import CROP_PCT, RESOLUTION
from dna.networks import OUR_SCALING
from dna.official_files import RetrainedNetwork, check_model, read_checkpoint
from dna.pictures import Interpolation, Part, Pictures, View, decoded, normalised, open_pictures

TOP = 5


@dataclass(frozen=True, kw_only=True)
class ValidateConfig(StepConfig):
    """Measure the accuracy of a checkpoint: `python -m dna validate IMAGES --model DNA_a --checkpoint FILE`."""

    data: str = "imagenet"
    """A folder in ImageNet's layout, a folder of class folders, a packed .npz, or a known name (`digits`)."""
    part: Part = "auto"
    """Which images; auto takes the validation part of a folder and the test part of other sets."""
    num_images: int | None = None
    """Take so many, drawn at random by the seed; None takes all."""
    model: str | None = None
    """What the checkpoint must be: DNA_a to DNA_d, or widths and ops; None takes whatever it is."""
    checkpoint: Path | None = None
    """Released checkpoint, or a .safetensors of ours; None takes the one of --model that import-official wrote."""
    ema: bool = False
    """Take the moving average of a released checkpoint's weights; the released validation does not."""
    batch_size: int = 128
    """Images at once."""
    resolution: int = RESOLUTION
    """Height and width that the network sees, in pixels."""
    crop_pct: float = CROP_PCT
    """The same over the shorter side of the resized image: 224 out of 256."""
    interpolation: Interpolation = "bicubic"
    """How images are resized."""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be 1 or more")
        if self.num_images is not None and self.num_images < 1:
            raise ValueError(f"num_images is {self.num_images}; it must be 1 or more")
        if self.model is not None:
            parse_arch(self.model)
        self.view()

    def view(self) -> View:
        """How images are resized and cut."""
        return View(resolution=self.resolution, crop_pct=self.crop_pct, interpolation=self.interpolation)


@dataclass(frozen=True)
class Accuracies:
    """What a network achieves.

    Attributes:
        top1: share of images whose class has the largest output.
        top5: share of images whose class is among the five largest.
        loss: mean cross-entropy in nats.
        num_images: images that were taken.
    """

    top1: float
    top5: float
    loss: float
    num_images: int


def validate(cfg: ValidateConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError: the checkpoint or the images are not there.
        RuntimeError: the checkpoint is damaged, or no image can be read.
        ValueError: the checkpoint is no network of DNA or another one, or the classes of the images are not its own.
    """
    file = checkpoint_of(cfg)
    found = read_checkpoint(file, ema=cfg.ema)
    if cfg.model is not None:
        check_model(found, cfg.model, file)
    pictures = _drawn(open_pictures(cfg.data, cfg.part, found.num_classes, data_root=cfg.data_root, seed=cfg.seed), cfg)
    named = slug(f"{name_of(found.arch) or file.name.split('.')[0]}-{pictures.source.name}")
    folder = cfg.out or Path("exp/dna/validate") / named
    print(f"validate: {file} on {len(pictures.rows)} images of {pictures.source.name} ({pictures.part}) -> {folder}")
    with open_run(folder, program="dna", step="validate", config=cfg) as run:
        if run.result is None:
            run.finish(_measure(cfg, found, pictures, str(file)))
        assert run.result is not None
        _report(run.result, folder)


def checkpoint_of(cfg: ValidateConfig) -> Path:
    """The file that is validated.

    Raises:
        UsageError: neither a file nor a model is given.
        FileNotFoundError: the model was not imported.
    """
    if cfg.checkpoint is not None:
        return cfg.checkpoint
    if cfg.model is None:
        raise UsageError("which network? Give --checkpoint FILE, or --model DNA_a to DNA_d after import-official")
    name = name_of(parse_arch(cfg.model))
    file = IMPORTED / f"{name}.safetensors"
    if name is None or not file.is_file():
        raise FileNotFoundError(f"{cfg.model} was not imported: give --checkpoint FILE, or run import-official first")
    return file


def accuracies(
    network: nn.Module,
    pictures: Pictures,
    view: View,
    *,
    batch_size: int,
    device: torch.device,
    skipped: list[str],
    scale: Callable[[Tensor], Tensor] = normalised,
) -> Accuracies:
    """Accuracy of a network in eval mode, in float32.

    Args:
        network: on `device`; left in the mode that it had.
        pictures: what to take.
        view: how it is seen.
        batch_size: images at once.
        device: where to compute.
        skipped: is extended by the damaged images, each with the reason.
        scale: pixels to what the network takes.

    Raises:
        RuntimeError: no image can be read.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    num_images = 0
    num_batches = math.ceil(len(pictures.rows) / batch_size)
    with eval_mode(network), torch.inference_mode():
        batches = decoded(pictures, view, batch_size, skipped)
        for images, labels in track(batches, total=num_batches, description="validate"):
            inputs = scale(images.to(device)).contiguous(memory_format=torch.channels_last)
            sums += _scores(network(inputs), labels.to(device))
            num_images += len(labels)
    if not num_images:
        raise RuntimeError(f"{pictures.source.name}: none of the {len(pictures.rows)} images can be read")
    top1, top5, loss = (sums / num_images).tolist()
    return Accuracies(top1=top1, top5=top5, loss=loss, num_images=num_images)


def _scores(logits: Tensor, labels: Tensor) -> Tensor:
    """Sums over a batch, (3,): first guesses that are right, one of five that is right, cross-entropy."""
    ranked = logits.topk(min(TOP, logits.shape[1]), dim=1).indices  # (B, 5)
    right = ranked == labels[:, None]
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.stack([right[:, 0].sum(), right.sum(), loss]).to(torch.float64)


def _drawn(pictures: Pictures, cfg: ValidateConfig) -> Pictures:
    """So many of the images as asked for, in their old order."""
    if cfg.num_images is None or cfg.num_images >= len(pictures.rows):
        return pictures
    draws = np.random.default_rng(derive_seed(cfg.seed, "validate"))
    chosen = np.sort(draws.permutation(len(pictures.rows))[: cfg.num_images])
    return replace(
        pictures,
        rows=pictures.rows[chosen],
        labels=pictures.labels[torch.from_numpy(chosen)],
        part=f"{len(chosen)} drawn of {pictures.part}",
    )


def _measure(cfg: ValidateConfig, found: RetrainedNetwork, pictures: Pictures, file: str) -> dict[str, Any]:
    device = resolve_device(cfg.gpu)
    network = found.network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    skipped: list[str] = []
    start = time.perf_counter()
    measured = accuracies(
        network,
        pictures,
        cfg.view(),
        batch_size=cfg.batch_size,
        device=device,
        skipped=skipped,
        scale=normalise if found.notes.get("scaling") == OUR_SCALING else normalised,
    )
    costs = network_costs(found.arch, found.num_classes, cfg.resolution, found.skeleton)
    return {
        "checkpoint": file,
        "notes": dict(found.notes),
        "model": name_of(found.arch),
        "arch": format_arch(found.arch),
        "data": pictures.source.description,
        "part": pictures.part,
        "num_images": measured.num_images,
        "skipped": skipped,
        "top1_accuracy": measured.top1,
        "top5_accuracy": measured.top5,
        "loss": measured.loss,
        "num_params": int(costs.num_params),
        "macs": int(costs.macs),
        "official_macs": int(costs.official_macs),
        "seconds": time.perf_counter() - start,
    }


def _report(result: dict[str, Any], folder: Path) -> None:
    print(
        f"{result['model'] or result['arch']}: {result['num_params'] / 1e6:.2f} M parameters, "
        f"{result['macs'] / 1e6:.1f} M MACs ({result['official_macs'] / 1e6:.1f} M as the authors count)"
    )
    if result["skipped"]:
        print(f"  {len(result['skipped'])} damaged images were left out, the first: {result['skipped'][0]}")
    print(
        f"top-1 {100 * result['top1_accuracy']:.3f} %, top-5 {100 * result['top5_accuracy']:.3f} %, loss "
        f"{result['loss']:.4f} on {result['num_images']} images\nresult: {folder / 'result.json'}"
    )
