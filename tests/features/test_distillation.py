from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.dataset import ImageDataset
from common.experiment.run import Run, open_run
from common.features import distillation
from common.features.distillation import DistillConfig, Student, accuracy, distill
from common.features.views import Batch, Pool, SetViews, ViewConfig

CPU = torch.device("cpu")
VIEWS = ViewConfig(num=2, jitter=1)
CFG = DistillConfig(epochs=2, batch_size=8, learning_rate=2e-3, warmup_steps=2, amp="off")


@dataclass(frozen=True)
class Settings:
    seed: int = 0


def small_pool() -> Pool:
    """Two sets whose classes differ in colour; the teacher's features are functions of it."""
    draws = torch.Generator().manual_seed(0)
    sets = []
    for name, num, num_classes in (("first", 16, 2), ("second", 12, 3)):
        labels = torch.arange(num) % num_classes
        images = torch.randint(0, 60, (2, num, 3, 32, 32), generator=draws)
        images[:, :, 0] += (60 * labels)[None, :, None, None]
        brightness = images.float().mean(dim=(2, 3, 4))[..., None]
        targets = (brightness * torch.randn(512, generator=draws)).half()
        sets.append(
            SetViews(
                name=name,
                images=images.to(torch.uint8),
                targets=targets,
                labels=labels,
                num_classes=num_classes,
                mean=torch.full((3,), 0.3),
                std=torch.full((3,), 0.2),
            )
        )
    return Pool(sets, VIEWS, batch_size=CFG.batch_size, seed=1, device=CPU)


def fresh(pool: Pool) -> Student:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Student(pool.num_classes)


def opened(folder: Path) -> Run:
    return open_run(folder, program="test", step="distill", config=Settings())


def test_labels_compete_within_their_own_set_only() -> None:
    draws = torch.Generator().manual_seed(0)
    student = Student(5)
    is_class_of = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], dtype=torch.bool)
    features, targets = (torch.rand(6, 512, generator=draws) for _ in range(2))
    labels, sets = torch.tensor([0, 1, 1, 2, 4, 3]), torch.tensor([0, 0, 0, 1, 1, 1])
    batch = Batch(images=torch.empty(0), targets=targets, labels=labels, sets=sets)
    distance, label_loss = student.losses(features, batch, is_class_of)
    logits = student.classifier(features)
    expected = (
        3 * F.cross_entropy(logits[:3, :2], labels[:3]) + 3 * F.cross_entropy(logits[3:, 2:], labels[3:] - 2)
    ) / 6
    assert torch.allclose(label_loss, expected, atol=1e-5)
    assert torch.allclose(distance, (student.regressor(features) - targets).square().mean(), atol=1e-5)


def test_training_lowers_both_losses_and_gives_features_that_tell_the_classes(tmp_path: Path) -> None:
    pool = small_pool()
    student = fresh(pool)
    cfg = replace(CFG, epochs=12)
    with opened(tmp_path) as run:
        distill(student, pool, cfg, run, device=CPU)
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()[1:]]
    for name in ("distance", "label_loss"):
        values = [float(value) for _, _, key, value in rows if key == name]
        assert len(values) == 12
        assert values[-1] < 0.6 * values[0]


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("last", [2, 3, 4])
def test_an_interrupted_training_ends_as_a_whole_one_does(
    last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distillation, "_SAVE_SECONDS", 0.0)
    pool = small_pool()
    whole, parted = fresh(pool), fresh(pool)
    with opened(tmp_path / "whole") as run:
        distill(whole, pool, CFG, run, device=CPU)
    batch = Pool.batch

    def stop(self: Pool, step: int) -> Batch:
        if step == last:
            raise Interrupted
        return batch(self, step)

    with monkeypatch.context() as patch, opened(tmp_path / "parted") as run:
        patch.setattr(Pool, "batch", stop)
        with pytest.raises(Interrupted):
            distill(parted, pool, CFG, run, device=CPU)
    parted = fresh(pool)
    with opened(tmp_path / "parted") as run:
        distill(parted, small_pool(), CFG, run, device=CPU)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parted.state_dict()[name]), name
    assert (tmp_path / "parted/metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


def test_the_rate_rises_from_near_zero_and_falls_to_zero() -> None:
    rates = [distillation._rate(CFG.recipe, 2, step, 9) for step in range(9)]
    assert rates[0] == pytest.approx(CFG.learning_rate / 3)
    assert max(rates) == rates[2] > rates[1] > rates[0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.05 * CFG.learning_rate


def test_a_loss_that_is_not_finite_ends_the_training(tmp_path: Path) -> None:
    pool = small_pool()
    pool.targets[:] = float("nan")
    with opened(tmp_path) as run, pytest.raises(RuntimeError, match="the loss is not finite up to step 2"):
        distill(fresh(pool), pool, CFG, run, device=CPU)


def test_accuracy_is_that_of_a_plain_loop_over_the_test_images() -> None:
    pool = small_pool()
    student = fresh(pool).eval()
    draws = torch.Generator().manual_seed(2)
    dataset = ImageDataset(
        name="second",
        images=torch.randint(0, 256, (30, 3, 32, 32), generator=draws).to(torch.uint8),
        labels=torch.arange(30) % 3,
        class_names=("a", "b", "c"),
        train=torch.arange(5),
        valid=torch.arange(0),
        test=torch.arange(5, 30),
        description="",
        flip=True,
    )

    def guess(image: Tensor) -> int:
        return int(student.classifier(student.network(((image[None] / 255) - 0.3) / 0.2))[0, 2:].argmax())

    expected = sum(guess(dataset.images[row]) == dataset.labels[row] for row in range(5, 30)) / 25
    assert accuracy(student, pool, 1, dataset, device=CPU) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0"),
        ({"warmup_steps": -1}, "must be 0 or more"),
        ({"label_weight": -0.5}, "must be 0 or more"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, float], message: str) -> None:
    make: Callable[..., DistillConfig] = DistillConfig
    with pytest.raises(ValueError, match=message):
        make(**change)
