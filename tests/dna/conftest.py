import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn

from dna.archs import DnaArch, Skeleton
from dna.models import build
from dna.space import BlockSpace
from dna.teacher import Teacher

SMALL = DnaArch(((4,), (0, 3), (1,), (5,), (2,), (3,)), (8, 8, 16, 16, 24, 24))


def draw_state(arch: DnaArch, num_classes: int, seed: int) -> dict[str, Tensor]:
    """Weights of a network whose statistics are not those of a new one."""
    torch.manual_seed(seed)
    state: dict[str, Tensor] = build(arch, num_classes).state_dict()
    vectors = [name for name, value in state.items() if value.ndim == 1]  # of normalisations, and biases
    moved = {name: 0.5 * torch.rand_like(state[name]) for name in vectors}
    return {name: value + moved.get(name, 0) for name, value in state.items()}


@pytest.fixture
def random_state() -> Callable[[DnaArch, int, int], dict[str, Tensor]]:
    """Draws the weights of a network from a seed."""
    return draw_state


@pytest.fixture
def small() -> DnaArch:
    """A network that takes milliseconds."""
    return SMALL


@pytest.fixture
def released_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a checkpoint as the released training does."""

    def write(arch: DnaArch = SMALL, num_classes: int = 7, name: str = "model_best.pth.tar", **changes: Any) -> Path:
        state = {f"module.{key}": value for key, value in draw_state(arch, num_classes, 0).items()}
        content = {
            "epoch": 499,
            "arch": "DNA_c",
            "state_dict": state,
            "optimizer": {"state": {0: {"square_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.064, "params": [0]}]},
            "args": argparse.Namespace(model="DNA_c", lr=0.064),
            "version": 2,
            "state_dict_ema": {key: 2 * value for key, value in state.items()},
            "metric": np.float64(77.8),
        }
        path = tmp_path / name
        torch.save({key: value for key, value in (content | changes).items() if value is not None}, path)
        return path

    return write


@pytest.fixture
def write_images() -> Callable[..., list[Path]]:
    """Fills class folders with random images of random shapes."""

    def write(folder: Path, classes: list[str], per_class: int = 3, seed: int = 0) -> list[Path]:
        draws, paths = np.random.default_rng(seed), []
        for name in classes:
            (folder / name).mkdir(parents=True)
            for index in range(per_class):
                height, width = draws.integers(20, 60, 2)
                pixels = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
                paths.append(folder / name / f"{index}.png")
                Image.fromarray(pixels).save(paths[-1])
        return paths

    return write


@pytest.fixture
def toy_space() -> BlockSpace:
    """A space of milliseconds, for images of 16 pixels, with two cells in one stage."""
    skeleton = Skeleton(stem_width=8, stem_stride=2, first_width=8, strides=(1, 2, 1, 1, 2, 1), head_width=16)
    return BlockSpace(skeleton=skeleton, cells=("2x8", "1x8+2x8", "2x8", "1x8", "1x8", "1x8"))


@pytest.fixture
def toy_widths() -> tuple[int, ...]:
    """Channels of the features of `toy_teacher`."""
    return (8, 12, 16, 16, 24, 24)


@pytest.fixture
def toy_teacher(toy_widths: tuple[int, ...]) -> Teacher:
    """A network of timm with statistics that are not those of a new one."""
    strides = (1, 2, 1, 1, 2, 1)
    blocks = [["ds_r1_k3_s1_c8"]]
    blocks += [[f"ir_r1_k3_s{stride}_e2_c{width}"] for stride, width in zip(strides, toy_widths, strict=True)]
    torch.manual_seed(5)
    network = EfficientNet(
        block_args=decode_arch_def(blocks),  # type: ignore[no-untyped-call]
        num_classes=5,
        num_features=32,
        stem_size=8,
        act_layer=nn.SiLU,
        round_chs_fn=partial(round_channels, divisor=4),
        drop_rate=0.3,
        drop_path_rate=0.3,
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return Teacher(network, (2, 3, 4, 5, 6, 7))
