import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import squeezenet1_0

from common.data.dataset import ImageDataset
from common.features import views
from common.features.squeezenet import SqueezeNetFeatures
from common.features.views import Pool, SetViews, ViewConfig, make_views

CPU = torch.device("cpu")
CFG = ViewConfig(num=3, smallest_crop=40, teacher_resolution=32, teacher_bf16=False, jitter=1)


def noise(name: str = "noise", num: int = 70, *, flip: bool = True, num_classes: int = 2) -> ImageDataset:
    """Images whose red and green channels say where a pixel is, and whose blue one is the class."""
    places = torch.arange(64, dtype=torch.uint8)
    images = torch.zeros(num, 3, 64, 64, dtype=torch.uint8)
    images[:, 0] = places[:, None]
    images[:, 1] = places[None, :]
    labels = torch.arange(num) % num_classes
    images[:, 2] = (100 * labels)[:, None, None]
    rows = torch.arange(num)
    return ImageDataset(
        name=name,
        images=images,
        labels=labels,
        class_names=tuple(map(str, range(num_classes))),
        train=rows[: num - 10],
        valid=rows[num - 10 : num - 5],
        test=rows[num - 5 :],
        description=name,
        flip=flip,
    )


class Corners(SqueezeNetFeatures):
    """A teacher that tells what it saw: side of the crop and values of two corners."""

    def __init__(self) -> None:
        super().__init__(squeezenet1_0(weights=None))
        self.calls = 0

    def forward(self, images: Tensor, resolution: int, *, bf16: bool = False) -> Tensor:
        self.calls += 1
        seen = torch.zeros(len(images), 512)
        seen[:, 0] = images.shape[-1]
        seen[:, 1:3], seen[:, 3:5] = images[:, :2, 0, 0], images[:, :2, -1, -1]
        return seen


@pytest.fixture
def made(tmp_path: Path) -> SetViews:
    return make_views(noise(), Corners(), CFG, seed=0, file=tmp_path / "noise.safetensors")


def test_the_first_view_is_the_whole_image_and_the_test_part_is_left_out(made: SetViews) -> None:
    assert made.images.shape == (3, 65, 3, 32, 32)
    assert made.targets.shape == (3, 65, 512)
    assert made.labels.tolist() == [index % 2 for index in range(65)]
    assert made.targets[0, :, :5].float().unique(dim=0).tolist() == [[64, 0, 0, 63, 63]]
    whole = torch.nn.functional.avg_pool2d(noise().images[:1, :2].float(), 2)
    assert torch.allclose(made.images[0, 0, :2, 4:28, 4:28].float(), whole[0, :, 4:28, 4:28], atol=1.0)


def test_teacher_and_student_see_the_same_crop(made: SetViews) -> None:
    for view in (1, 2):
        side, top, left, bottom, right = made.targets[view, :, :5].float().unbind(dim=1)
        assert bool(((side >= 40) & (side <= 64)).all())
        assert torch.equal(bottom - top, side - 1)
        assert torch.equal((right - left).abs(), side - 1)
        student = made.images[view].float()
        assert torch.allclose(student[:, 0].mean(dim=(1, 2)), (top + bottom) / 2, atol=0.6)
        assert torch.allclose(student[:, 1].mean(dim=(1, 2)), (left + right) / 2, atol=0.6)
        mirrored = right < left
        assert torch.equal(student[:, 1, 0, 0] > student[:, 1, 0, -1], mirrored)
        assert 15 <= int(mirrored.sum()) <= 50
        assert torch.equal(student[:, 2].mean(dim=(1, 2)), 100.0 * made.labels)


def test_images_that_may_not_be_mirrored_are_not(tmp_path: Path) -> None:
    made = make_views(noise(flip=False), Corners(), CFG, seed=0, file=tmp_path / "noise.safetensors")
    assert bool((made.targets[..., 4] > made.targets[..., 2]).all())


def test_the_teacher_is_asked_once_and_again_for_other_settings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher, file = Corners(), tmp_path / "noise.safetensors"
    first = make_views(noise(), teacher, CFG, seed=0, file=file)
    calls = teacher.calls
    second = make_views(noise(), teacher, CFG, seed=0, file=file)
    assert teacher.calls == calls
    assert torch.equal(first.targets, second.targets)
    assert torch.equal(first.images, second.images)
    with caplog.at_level(logging.WARNING):
        other = make_views(noise(), teacher, CFG, seed=1, file=file)
        file.write_bytes(b"damaged")
        make_views(noise(), teacher, CFG, seed=1, file=file)
    assert teacher.calls == 3 * calls
    assert not torch.equal(first.targets, other.targets)
    assert "of other images or settings" in caplog.text
    assert "is damaged" in caplog.text


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    sets = [
        make_views(noise(name, num, num_classes=classes), Corners(), CFG, seed=0, file=tmp_path / name)
        for name, num, classes in (("first", 70, 2), ("second", 55, 3))
    ]
    return Pool(sets, CFG, batch_size=16, seed=4, device=CPU)


def test_classes_of_all_sets_are_numbered_through(pool: Pool) -> None:
    assert (len(pool), pool.steps, pool.num_classes) == (65 + 50, 7, 5)
    assert pool.is_class_of.tolist() == [[True, True, False, False, False], [False, False, True, True, True]]
    batch = pool.batch(0)
    assert bool(pool.is_class_of[batch.sets, batch.labels].all())


def test_a_batch_is_a_function_of_seed_and_step(pool: Pool) -> None:
    later = pool.batch(9)
    for step in (0, 3, 9):
        again = pool.batch(step)
    assert torch.equal(later.images, again.images)
    assert torch.equal(later.targets, again.targets)
    assert not torch.equal(pool.batch(8).labels, pool.batch(9).labels)


def test_an_epoch_takes_one_view_of_each_image_once(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, list[int]]] = []

    class Watched:
        def __init__(self, values: Tensor) -> None:
            self.values = values

        def __getitem__(self, at: tuple[int, Tensor]) -> Tensor:
            asked.append((at[0], at[1].tolist()))
            return self.values[at]

    monkeypatch.setattr(pool, "images", Watched(pool.images))
    for step in range(2 * pool.steps):
        pool.batch(step)
    for epoch in (0, 1):
        calls = asked[epoch * pool.steps : (epoch + 1) * pool.steps]
        assert {view for view, _ in calls} == {epoch}
        rows = [row for _, part in calls for row in part]
        assert len(rows) == len({*rows}) == 7 * 16


def test_images_are_normalised_with_the_constants_of_their_own_set(tmp_path: Path) -> None:
    bright, dark = noise("bright"), noise("dark")
    bright.images.add_(120)
    cfg = replace(CFG, jitter=0, num=1)
    sets = [make_views(one, Corners(), cfg, seed=0, file=tmp_path / one.name) for one in (bright, dark)]
    batch = Pool(sets, cfg, batch_size=130, seed=0, device=CPU).batch(0)
    for index in (0, 1):
        mine = batch.images[batch.sets == index]
        assert torch.allclose(mine.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-3)
        assert torch.allclose(mine.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-2)


def test_targets_have_mean_0_and_deviation_1(pool: Pool) -> None:
    pool.targets = pool.targets + torch.randn(1, 115, 512, generator=torch.Generator().manual_seed(0)).half()
    again = Pool.__new__(Pool)
    again.__dict__ |= pool.__dict__
    first = pool.targets[0].float()
    again.target_mean, again.target_std = first.mean(0), first.std(0)
    found = torch.cat([again.batch(step).targets for step in range(again.steps)])
    assert float(found.mean(dim=0).abs().max()) < 0.1
    assert float((found.std(dim=0) - 1).abs().max()) < 0.1


def test_settings_that_cannot_work_are_refused(made: SetViews) -> None:
    with pytest.raises(ValueError, match="fewer than a batch of 500"):
        Pool([made], CFG, batch_size=500, seed=0, device=CPU)
    for wrong, message in (
        ({"num": 0}, "views.num is 0"),
        ({"jitter": -1}, "views.jitter -1"),
        ({"smallest_crop": 20}, "views.smallest_crop is 20: 32 to 64 pixels"),
        ({"teacher_resolution": 16}, "views.teacher_resolution is 16"),
    ):
        with pytest.raises(ValueError, match=message):
            ViewConfig(**wrong)  # type: ignore[arg-type]


def test_views_of_a_set_do_not_depend_on_the_other_sets(tmp_path: Path, made: SetViews) -> None:
    make_views(noise("another"), Corners(), CFG, seed=0, file=tmp_path / "another")
    again = make_views(noise(), Corners(), CFG, seed=0, file=tmp_path / "again")
    assert torch.equal(again.images, made.images)
    assert views.SOURCE_RESOLUTION == 64
