"""Step `train-compact`: the small feature network, from an ImageNet teacher and the labels of real sets."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from common.data.dataset import ImageDataset
from common.data.open import open_dataset
from common.experiment.config import StepConfig, digest, to_dict
from common.experiment.device import resolve_device
from common.experiment.run import Run, open_run
from common.features.compact import ARCHITECTURE, CompactNetwork, fold
from common.features.distillation import DistillConfig, Student, accuracy, distill
from common.features.extractors import KIND, RESOLUTION, load_extractor
from common.features.squeezenet import load_squeezenet
from common.features.views import SOURCE_RESOLUTION, Pool, SetViews, ViewConfig, make_views
from common.store.weights import save_weights

COMPACT_FILE = "compact.safetensors"

UNSEEN = ("cifar10", "cifar100", "mnist", "cub", "dtd", "quickdraw", "quickdraw6", "stanford_cars", "cats_dogs", "svhn")
"""Sets that the features are judged and used on as unseen ones: no image of theirs may be trained on."""


@dataclass(frozen=True, kw_only=True)
class TrainCompactConfig(StepConfig):
    """Train the compact feature network."""

    teacher: Path = Path("checkpoint", "features", "squeezenet1_0-b66bff10.pth")
    """Weights of SqueezeNet 1.0 on ImageNet: arrays (.npz), or the file that `python -m download.features` brings."""
    sets: tuple[str, ...] = (
        "tiny_imagenet",
        "imagenet1k_samples",
        "caltech101",
        "clothing10",
        "flowers5",
        "rsscn7",
        "trashnet",
        "gtsrb",
        "ants_bees",
        "blood_cells",
        "brain_mri",
        "fruit_shapes",
        "omniglot_small",
        "sign_digits",
    )
    """Sets whose training and validation images and labels are used."""
    views: ViewConfig = field(default_factory=ViewConfig)
    """Fixed views and the teacher."""
    distill: DistillConfig = field(default_factory=DistillConfig)
    """Optimisation."""

    def __post_init__(self) -> None:
        """Check the sets; raises ValueError."""
        forbidden = [name for name in self.sets if name in UNSEEN]
        if forbidden:
            raise ValueError(f"sets has {', '.join(forbidden)}, which must stay unseen: leave out {', '.join(UNSEEN)}")
        if not self.sets or len({*self.sets}) < len(self.sets):
            raise ValueError(f"sets is {', '.join(self.sets) or 'empty'}: name at least one set, each once")


def train_compact(cfg: TrainCompactConfig) -> Path:
    """Run the step; returns the file of the network."""
    folder = cfg.out or Path("exp", "features", "train-compact")
    file = folder / COMPACT_FILE
    with open_run(folder, program="common.features", step="train-compact", config=cfg, products=[COMPACT_FILE]) as run:
        if run.result is None:
            print(f"compact feature network from {cfg.teacher} and {len(cfg.sets)} sets, into {folder}", flush=True)
            _train(cfg, run, file)
        assert run.result is not None
        print(f"{run.result['id']}: {run.result['num_images']} images, label accuracy on unseen images of the sets:")
        for name, value in run.result["accuracy"].items():
            print(f"  {name:<20} {100 * value:5.1f} %")
    print(f"weights: {file}")
    print(f"next: python -m common.features evaluate --compact {file} --teacher {cfg.teacher}")
    return file


def _train(cfg: TrainCompactConfig, run: Run, file: Path) -> None:
    device = resolve_device(cfg.gpu)
    begin = time.monotonic()
    pool = _pool(cfg, run, device)
    prepared = time.monotonic() - begin
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        student = Student(pool.num_classes).to(device)
    seconds = distill(student, pool, cfg.distill, run, device=device)
    accuracies = {}
    for index, name in enumerate(cfg.sets):
        dataset = _open(cfg, name, RESOLUTION)
        if len(dataset.test):
            accuracies[name] = accuracy(student, pool, index, dataset, device=device)
    identifier = _export(cfg, student.network, file)
    run.finish(
        {
            "id": identifier,
            "num_images": len(pool),
            "steps": cfg.distill.epochs * pool.steps,
            "seconds": seconds,
            "seconds_of_preparation": prepared,
            "config": digest(_what_counts(cfg)),
            "accuracy": accuracies,
        }
    )


def _pool(cfg: TrainCompactConfig, run: Run, device: torch.device) -> Pool:
    """The views of all sets; one set's source images are in memory at a time."""
    teacher = load_squeezenet(cfg.teacher).to(device)
    sets: list[SetViews] = []
    for name in cfg.sets:
        dataset = _open(cfg, name, SOURCE_RESOLUTION)
        kept = run.checkpoint / "targets" / f"{name}.safetensors"
        sets.append(make_views(dataset, teacher, cfg.views, seed=cfg.seed, file=kept))
    return Pool(sets, cfg.views, batch_size=cfg.distill.batch_size, seed=cfg.seed, device=device)


def _open(cfg: TrainCompactConfig, name: str, resolution: int) -> ImageDataset:
    return open_dataset(name, resolution=resolution, data_root=cfg.data_root, seed=cfg.seed)


def _what_counts(cfg: TrainCompactConfig) -> dict[str, object]:
    """Settings that the weights depend on, without the place of files."""
    config = to_dict(cfg)
    return {name: config[name] for name in ("sets", "views", "distill", "seed")}


def _export(cfg: TrainCompactConfig, network: CompactNetwork, file: Path) -> str:
    """Write the folded network in half precision; returns its id as an extractor."""
    state = {name: tensor.half() for name, tensor in fold(network).state_dict().items()}
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise RuntimeError("a weight is too large for half precision: train with a higher --distill.weight-decay")
    metadata = {
        "kind": KIND,
        "architecture": ARCHITECTURE,
        "config": digest(_what_counts(cfg)),
        "settings": json.dumps(_what_counts(cfg)),
        "seed": str(cfg.seed),
        "teacher": cfg.teacher.name,
    }
    save_weights(file, state, metadata)
    return load_extractor("compact", weights=file).id
