"""Step `zoo add`: put a network that the user has trained into a zoo."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch

from common.data.tasks import open_task, plan_task
from common.experiment.config import StepConfig, UsageError
from common.experiment.device import resolve_device
from common.kd.evaluate import evaluate
from common.kd.guide import weights_digest
from common.store.weights import save_weights
from tans.build_zoo import ZOO
from tans.features import Features, check_extractor
from tans.foreign import Normalisation, Renormalised, foreign_cost, load_foreign, read_checkpoint
from tans.networks import functional_embedding
from tans.zoo import open_zoo
from tans.zoo_datasets import put_dataset
from tans.zoo_tables import NetworkRow, file_stem


@dataclass(frozen=True, kw_only=True)
class AddConfig(StepConfig):
    """Add a trained classifier of timm or torchvision, with its accuracy, cost and functional embedding."""

    network: str
    """Its code: `timm:NAME` or `torchvision:NAME`."""
    weights: Path
    """Its weights: a safetensors file, or what `torch.save(network.state_dict(), FILE)` wrote."""
    data: str
    """What it was trained on; accuracy is measured on the evaluation side. Its classes are the network's, in order."""
    zoo: Path = ZOO
    """Folder of the zoo."""
    normalisation: Normalisation = "imagenet"
    """What the network takes: images with ImageNet's mean and deviation, or in [-1, 1] (symmetric)."""
    features: Features = field(default_factory=Features)
    """What the dataset is seen through, as in the zoo."""


def add(cfg: AddConfig) -> None:
    """Run the step.

    Raises:
        FileNotFoundError: there is no such zoo, dataset or file.
        UsageError: there is no such network, the weights are not of it, or its classes are not the dataset's.
        ValueError: the zoo keeps fewer numbers of a functional embedding than the network gives.
    """
    device = resolve_device(cfg.gpu)
    network = cast(Renormalised, load_foreign(cfg.network, read_checkpoint(cfg.weights), cfg.normalisation))
    with open_zoo(cfg.zoo) as zoo:
        settings = zoo.settings
        extractor = cfg.features.load()
        check_extractor(settings.extractor, extractor.id)
        _, plan = plan_task(cfg.data, data_root=cfg.data_root, seed=cfg.seed)
        with torch.no_grad():
            num_outputs = network(torch.zeros(1, 3, settings.resolution, settings.resolution)).shape[1]
        if num_outputs != len(plan.classes):
            raise UsageError(f"{cfg.weights} has {num_outputs} outputs, and {plan.id} has {len(plan.classes)} classes")
        print(f"zoo add: {cfg.network} on {plan.description} -> {zoo.folder}", flush=True)
        put_dataset(zoo, cfg.data, cfg.features, extractor, cfg=cfg)
        task = open_task(cfg.data, resolution=settings.resolution, data_root=cfg.data_root, seed=cfg.seed)
        _, accuracy = evaluate(network.to(device), task, device=device)
        network.cpu()
        num_params, macs, width = foreign_cost(network, settings.resolution)
        key = weights_digest(network.network)
        file = Path("weights", f"{file_stem(plan.id)}-{key}.safetensors")
        vector = functional_embedding(network, zoo.probe)
        row = NetworkRow(
            dataset=plan.id,
            family=cfg.network,
            key=key,
            num_params=num_params,
            macs=macs,
            feature_dim=width,
            accuracy=accuracy,
            num_evaluated=len(task.evaluation),
            weights_file=str(file),
            seed=cfg.seed,
            details={"normalisation": cfg.normalisation, "num_classes": num_outputs, "file": cfg.weights.name},
        )
        save_weights(zoo.folder / file, network.network.state_dict(), {"kind": "tans-foreign", "family": cfg.network})
        is_new = zoo.add([row], vector[None])
        number = zoo.networks("dataset = ? AND topology_key = ?", [plan.id, key])[0].id
        there = "" if is_new else " (it was there already)"
        print(
            f"result: network {number}{there}: {100 * accuracy:.1f} % on {len(task.evaluation):,} images of {plan.id}, "
            f"{num_params:,} parameters and {macs:,} MACs without its classifier\n"
            f"next: python -m tans meta-train --zoo {zoo.folder} --restart"
        )
