"""Weight-sharing supernets: train them, take networks out of them, rate these."""

from common.supernet.files import (
    StoredSupernet,
    fold_normalisation,
    load_supernet,
    read_official_supernet,
    save_supernet,
)
from common.supernet.shrinking import Shrinking, networks_of_step
from common.supernet.subnets import calibration_images, cut_subnet, subnet_accuracies, subnet_logits, with_new_head
from common.supernet.training import train_supernet

__all__ = [
    "Shrinking",
    "StoredSupernet",
    "calibration_images",
    "cut_subnet",
    "fold_normalisation",
    "load_supernet",
    "networks_of_step",
    "read_official_supernet",
    "save_supernet",
    "subnet_accuracies",
    "subnet_logits",
    "train_supernet",
    "with_new_head",
]
