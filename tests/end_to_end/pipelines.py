"""Pipeline files in the format of Vega, for tests: a tiny one that runs, and the published ones in both dialects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

LAYERS = {
    f"layer_{stage}": {"repetitions": [1, 2], "channels": channels}
    for stage, channels in enumerate(([8, 16], [8, 16], [16, 24], [16, 24], [24, 32], [24, 32], [32, 40]))
}
SMALL = {"type": "MobileNetV2", "num_classes": 10, "first_stride": 2, "last_channel": 32}
SGD = {"type": "SGD", "params": {"lr": 0.05, "momentum": 0.9}}


def write(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a file with anchors resolved."""
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
    return path


def digits(portion: float = 0.1) -> dict[str, Any]:
    """A `dataset` section: images of 8 x 8 pixels that come with scikit-learn."""
    return {"type": "digits", "resolution": 8, "common": {"batch_size": 32}, "train": {"train_portion": portion}}


def labels(**changes: Any) -> dict[str, Any]:
    """A `trainer` section that learns from labels."""
    trainer = {"type": "Trainer", "epochs": 2, "optimizer": SGD, "lr_scheduler": {"type": "CosineAnnealingLR"}}
    return {**trainer, "loss": {"type": "CrossEntropyLoss"}, **changes}


def distilled(teacher: Path, loss: Mapping[str, Any]) -> dict[str, Any]:
    """A `trainer` section that learns from a teacher, too."""
    return labels(type="MFKDTrainer", teacher=str(teacher), teacher_num_classes=10, loss=dict(loss))


def search(algorithm: Mapping[str, Any], trainer: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """A step that searches the small space."""
    space = {"type": "SearchSpace", "modules": ["custom"], "custom": {**SMALL, **LAYERS}}
    step = {"pipe_step": {"type": "SearchPipeStep"}, "dataset": digits(), "search_space": space}
    return {**step, "search_algorithm": dict(algorithm), "trainer": dict(trainer), **changes}


def final(**changes: Any) -> dict[str, Any]:
    """A step that trains what a search found."""
    model = {"model_desc_file": "{local_base_path}/best_model_desc.json"}
    step = {"pipe_step": {"type": "TrainPipeStep"}, "dataset": digits(0.2), "model": model}
    return {**step, "trainer": labels(), **changes}


def teacher() -> dict[str, Any]:
    """A pipeline that trains the teacher of the small space."""
    model = {"model_desc": {"modules": ["custom"], "custom": dict(SMALL)}}
    return {"pipeline": ["teacher_train"], "teacher_train": final(model=model)}


MFKD1 = {"type": "MFKD1", "max_samples": 4}
MFKD2 = {"type": "MFKD2", "init_samples": 2, "max_samples": 3}

OLD_DIALECT = """
general:
  backend: pytorch
  parallel_search: False
  task: {local_base_path: exp/tasks/mfkd}
  logger: {level: info}
pipeline: [nas_low_fidelity, nas_high_fidelity, fully_train]
nas_low_fidelity:
  pipe_step: {type: MFKDNasPipeStep}
  dataset:
    type: Cifar100
    common: {data_path: ~/cifar100, batch_size: 128, num_workers: 8, drop_last: True}
    train:
      shuffle: True
      train_portion: 3e-2
      transforms:
        - {type: RandomCrop, size: 32, padding: 4}
        - {type: RandomHorizontalFlip}
        - {type: ToTensor}
        - {type: Normalize, mean: [0.507, 0.487, 0.441], std: [0.267, 0.256, 0.276]}
    val:
      shuffle: False
  search_space: &space
    type: SearchSpace
    modules: ['custom']
    custom:
      name: MobileNetV2
      num_classes: CLASSES
      layer_0: {repetitions: [1, 2, 3, 4], channels: [16, 24]}
      layer_1: {repetitions: [1, 2, 3, 4], channels: [24, 32]}
      layer_2: {repetitions: [1, 2, 3, 4], channels: [32, 64]}
      layer_3: {repetitions: [1, 2, 3, 4], channels: [64, 96]}
      layer_4: {repetitions: [1, 2, 3, 4], channels: [96, 160]}
      layer_5: {repetitions: [1, 2, 3, 4], channels: [160, 320]}
      layer_6: {repetitions: [1, 2, 3, 4], channels: [320, 640]}
  search_algorithm:
    type: MFKD2
    objective_keys: accuracy
    init_samples: 5
    max_samples: 10
  trainer: &trainer
    type: MFKDTrainer
    teacher: "{local_base_path}/teacher.pth"
    teacher_num_classes: CLASSES
    epochs: 100
    valid_freq: 1
    seed: 7
    optim: {type: SGD, lr: "1e-1", momentum: 0.9, weight_decay: 5e-4}
    lr_scheduler: {type: CosineAnnealingLR, T_max: 100}
    loss: {type: KDLoss, T: 32, alpha: 1}
nas_high_fidelity:
  pipe_step: {type: MFKDNasPipeStep}
  dataset: &all {type: Cifar100, common: {batch_size: 128}, train: {train_portion: 1.0}}
  search_space: *space
  search_algorithm: {type: MFKD2, init_samples: 5, max_samples: 10}
  trainer: &plain
    type: Trainer
    epochs: 100
    valid_freq: 1
    optim: {type: SGD, lr: 1e-1, momentum: 0.9, weight_decay: 5e-4}
    lr_scheduler: {type: CosineAnnealingLR, T_max: 100}
    loss: {type: CrossEntropyLoss}
fully_train:
  pipe_step: {type: FullyTrainPipeStep}
  dataset: *all
  model: {model_desc_file: "{local_base_path}/best_model_desc.json"}
  trainer: *plain
"""
"""The published file for algorithm 2; CLASSES is 10 in it, for data of 100 classes."""

NEW_DIALECT = """
general:
  backend: pytorch
pipeline: [nas]
nas:
  pipe_step: {type: SearchPipeStep}
  dataset:
    type: Cifar10
    common: {data_path: /cache/datasets/cifar10, train_portion: 0.5, batch_size: 64}
  search_space:
    type: SearchSpace
    modules: ['custom']
    custom:
      type: SimpleCnnMFKD
      num_classes: 10
      conv_layer_0: &layer {kernel_size: [1, 3, 5], bn: [False, True], relu: [False, True], filters: [8, 16, 32]}
      conv_layer_1: *layer
      conv_layer_2: *layer
      fully_connect: {output_unit: [16, 20, 24, 28, 32]}
  search_algorithm: {type: MFKD1, max_samples: 30}
  trainer:
    type: Trainer
    epochs: 10
    valid_interval: 5
    optimizer: {type: Adam, params: {lr: 0.001}}
    lr_scheduler: {type: MultiStepLR, params: {milestones: [4, 8, 12], gamma: 0.5}}
    loss: {type: CrossEntropyLoss}
"""
"""The example of Vega."""
