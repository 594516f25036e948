"""The teacher: features of timm, statistics of the batch, and buffers that never change."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

import dna  # noqa: F401  registers dna_teacher
from common.kd.guide import weights_digest
from common.store.weights import save_weights
from dna.archs import Skeleton
from dna.space import BlockSpace
from dna.teacher import KIND, Teacher, TeacherConfig, check_sides, load_teacher

CPU = torch.device("cpu")


def by_hand(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Features of all blocks of an EfficientNet, one after the other."""
    features, found = network.bn1(network.conv_stem(images)), []  # type: ignore[operator]
    for block in network.blocks:  # type: ignore[union-attr]
        features = block(features)
        found.append(features)
    return found


def test_six_features_of_one_pass_are_those_of_the_blocks(toy_teacher: Teacher, toy_widths: tuple[int, ...]) -> None:
    images = torch.randn(2, 3, 16, 16)
    features = toy_teacher.features(images)
    expected = by_hand(toy_teacher.network, images)[1:]
    assert [feature.shape[1] for feature in features] == [*toy_widths]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(features, expected, strict=True))
    assert not any(feature.requires_grad for feature in features)


def test_later_parts_are_not_run_for_earlier_stages(toy_teacher: Teacher) -> None:
    images = torch.randn(2, 3, 16, 16)
    whole = toy_teacher.features(images, statistics="batch")
    ran: list[int] = []
    for index, block in enumerate(toy_teacher.network.blocks):  # type: ignore[arg-type,union-attr]
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    first = toy_teacher.features(images, last=2, statistics="batch")
    assert ran == [0, 1, 2, 3]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, whole[:3], strict=True))


def test_batch_statistics_are_those_of_train_mode_and_leave_no_trace(toy_teacher: Teacher) -> None:
    images, before = torch.randn(4, 3, 16, 16), weights_digest(toy_teacher.network)
    features = toy_teacher.features(images, statistics="batch")
    assert weights_digest(toy_teacher.network) == before
    assert not any(module.training for module in toy_teacher.network.modules())
    norms = [module for module in toy_teacher.network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()  # of these alone: dropout and stochastic depth stay off
    expected = by_hand(toy_teacher.network, images)[1:]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(features, expected, strict=True))
    assert weights_digest(toy_teacher.network) != before


def test_recalibration_gives_a_copy_the_statistics_of_one_batch(toy_teacher: Teacher) -> None:
    images, before = torch.randn(4, 3, 16, 16), weights_digest(toy_teacher.network)
    other = toy_teacher.recalibrated(images)
    assert weights_digest(toy_teacher.network) == before
    stem = toy_teacher.network.conv_stem(images)  # type: ignore[operator]
    norm = other.network.bn1
    assert isinstance(norm, nn.BatchNorm2d)
    torch.testing.assert_close(norm.running_mean, stem.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, stem.var((0, 2, 3), unbiased=True))
    assert not any(module.training for module in other.network.modules())


def test_images_are_scaled_as_the_network_was_trained(toy_teacher: Teacher) -> None:
    pixels = torch.rand(2, 3, 4, 4)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    scaled = Teacher(toy_teacher.network, toy_teacher.stages, (mean, std)).images(pixels * 2 - 1)
    expected = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(scaled, expected)
    assert toy_teacher.images(pixels) is pixels


def test_a_teacher_without_the_asked_stages_says_what_it_has(toy_teacher: Teacher) -> None:
    teacher = Teacher(toy_teacher.network, (2, 3, 4, 5, 6, 9))
    with pytest.raises(ValueError, match=r"no feature stage 9; at 16 pixels it has 0: 8 x 8 x 8, .*7: 24 x 2 x 2"):
        teacher.shapes(16, CPU)
    resnet = Teacher(timm.create_model("resnet10t"), (0, 1, 2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"no feature stage 5; at 64 pixels it has 0: 64 x 32 x 32, .*4: 512 x 2 x 2"):
        resnet.shapes(64, CPU)
    with pytest.raises(ValueError, match="has no feature stages"):
        Teacher(nn.Linear(2, 2), (0, 1, 2, 3, 4, 5))


def test_an_image_size_that_a_teacher_refuses_is_named() -> None:
    teacher = Teacher(timm.create_model("vit_tiny_patch16_224"), (0, 1, 2, 3, 4, 5))
    with pytest.raises(ValueError, match="the teacher cannot take images of 40 x 40 pixels"):
        teacher.shapes(40, CPU)


def test_sides_must_follow_the_strides(toy_teacher: Teacher, toy_space: BlockSpace) -> None:
    check_sides(toy_teacher.shapes(16, CPU), toy_space, 16)
    with pytest.raises(ValueError, match=r"sides 8, 4, 4, 4, 2, 2 and the space's stages 4, 2, 1, 1, 1, 1"):
        check_sides(toy_teacher.shapes(16, CPU), BlockSpace(skeleton=replaced(toy_space), cells=toy_space.cells), 16)


def replaced(space: BlockSpace) -> Skeleton:

    return replace(space.skeleton, strides=(2, 2, 2, 1, 1, 1))


def test_weights_of_ours_and_of_others_are_read(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = timm.create_model("dna_teacher", num_classes=7)
    cfg = TeacherConfig(model="dna_teacher", pretrained=False)
    save_weights(tmp_path / "ours.safetensors", network.state_dict(), {"kind": KIND})
    ours = load_teacher(cfg, tmp_path / "ours.safetensors", num_classes=7, device=CPU)
    assert weights_digest(ours.network) == weights_digest(network)
    torch.save({"state_dict": timm.create_model("dna_teacher").state_dict()}, tmp_path / "other.pth")
    other = load_teacher(cfg, tmp_path / "other.pth", num_classes=7, device=CPU)
    assert other.network.num_classes == 10
    with pytest.raises(RuntimeError, match="does not hold weights of dna_teacher: 0 entries missing, 0 unused, 2 of"):
        load_teacher(cfg, tmp_path / "ours.safetensors", num_classes=8, device=CPU)
    with pytest.raises(FileNotFoundError, match=r"no weights file .*none\.safetensors: train a teacher first"):
        load_teacher(cfg, tmp_path / "none.safetensors", num_classes=8, device=CPU)
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "ours.safetensors").read_bytes()[:5000])
    with pytest.raises(RuntimeError, match="is damaged"):
        load_teacher(cfg, tmp_path / "broken.safetensors", num_classes=7, device=CPU)
    with pytest.raises(ValueError, match="timm has no network 'dna_teachr'; nearest: dna_teacher"):
        load_teacher(TeacherConfig(model="dna_teachr"), None, num_classes=7, device=CPU)
    with pytest.raises(ValueError, match="give 6 rising numbers"):
        TeacherConfig(stages=(2, 3, 4))
