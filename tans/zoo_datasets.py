"""Enter a dataset into a zoo, with what it looks like through the zoo's extractor."""

import zlib

import numpy as np

from common.data.source import Indices
from common.data.tasks import plan_task
from common.experiment.config import StepConfig
from common.experiment.device import resolve_device
from common.features.extractors import Extractor
from tans.features import PARTITIONS, Features, class_means
from tans.zoo import Zoo
from tans.zoo_tables import DatasetRow, QueryRow


def put_dataset(
    zoo: Zoo, data: str, features: Features, extractor: Extractor, *, cfg: StepConfig, is_half: bool = False
) -> str:
    """Enter a dataset and its features, of the images that are trained on and of the others.

    With `is_half` features are rounded to half precision, which halves what they take.

    Returns:
        Name of the dataset.

    Raises:
        UsageError: the zoo knows another dataset by this name.
        FileNotFoundError, ValueError: as `open_task`.
    """
    source, plan = plan_task(data, data_root=cfg.data_root, seed=cfg.seed)
    zoo.put_dataset(
        DatasetRow(
            name=plan.id,
            source=plan.description,
            class_names=tuple(source.class_names[label] for label in plan.classes),
            num_train=len(plan.train),
            num_evaluation=len(plan.evaluation),
            resolution=zoo.settings.resolution,
            digest=f"{_crc(plan.train):08x}{_crc(plan.evaluation):08x}",
        )
    )
    device = resolve_device(cfg.gpu)
    for partition, part in PARTITIONS.items():
        found = features.of(data, extractor, data_root=cfg.data_root, device=device, part=part, seed=cfg.seed)
        counts, means = class_means(found)
        means = means.half().float() if is_half else means
        zoo.put_query(
            QueryRow(dataset=plan.id, partition=partition, extractor=found.extractor, counts=counts, class_means=means)
        )
    return plan.id


def _crc(rows: Indices) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).data)
