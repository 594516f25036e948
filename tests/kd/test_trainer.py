"""Training several classifiers in lock-step."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.data.batches import normalise
from common.kd.evaluate import evaluate
from common.kd.recipe import FEATURE_LOSSES, Recipe
from common.kd.schedules import learning_rate
from common.kd.trainer import train
from common.kd.views import TrainingSet

CPU = torch.device("cpu")
SMALL = Recipe(epochs=4, batch_size=8, learning_rate=0.05, validate_every=2)


class Interruption(Exception):
    """Stands for a killed process."""


def stop_after(step):
    def log(now, prefix, values):
        if now >= step:
            raise Interruption

    return log


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "ce", "label_smoothing": 0.1, "clip_norm": 0.5, "ema_decay": 0.9},
        {"loss": "hint", "beta": 1.0, "optimizer": "adamw", "learning_rate": 0.01},
        {"views": 2, "amp": "bf16", "channels_last": True},
    ],
)
def test_a_network_trained_with_others_equals_itself_trained_alone_bit_for_bit(task, make_network, changes):
    recipe = dataclasses.replace(SMALL, epochs=2, **changes)
    together = [make_network(4, seed=1), make_network(6, seed=2), make_network(5, seed=3)]
    alone = copy.deepcopy(together[1])
    teacher = make_network(8, seed=9)
    outcomes = train(together, task, recipe, device=CPU, seed=3, teacher=teacher)
    (outcome,) = train([alone], task, recipe, device=CPU, seed=3, teacher=teacher)
    assert_same(together[1].state_dict(), alone.state_dict())
    assert_same(outcomes[1].best_state, outcome.best_state)
    assert outcomes[1].curve == outcome.curve


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"loss": "nst", "clip_norm": 1.0, "ema_decay": 0.9},
        {"loss": "hint", "beta": 1.0, "optimizer": "lamb", "learning_rate": 0.01},
        {"views": 3, "schedule": "step", "channels_last": True},
    ],
)
def test_a_run_stopped_in_the_middle_and_resumed_equals_the_whole_run_bit_for_bit(
    task, make_network, tmp_path, changes
):
    recipe = dataclasses.replace(SMALL, **changes)
    teacher = make_network(8, seed=9)
    whole = [make_network(4, seed=1), make_network(6, seed=2)]
    expected = train(whole, task, recipe, device=CPU, seed=3, teacher=teacher)
    file = tmp_path / "state.pt"
    with pytest.raises(Interruption):
        train(
            [make_network(4, seed=1), make_network(6, seed=2)],
            task,
            recipe,
            device=CPU,
            seed=3,
            teacher=teacher,
            checkpoint=file,
            log=stop_after(18),
            checkpoint_every_seconds=0,
        )
    resumed = [make_network(4, seed=7), make_network(6, seed=8)]  # other weights: all of them come from the file
    steps = []
    found = train(
        resumed,
        task,
        recipe,
        device=CPU,
        seed=3,
        teacher=teacher,
        checkpoint=file,
        log=lambda step, prefix, values: steps.append(step),
    )
    assert steps == [18, 18, 24, 24]  # the two epochs before were not repeated
    for network, other in zip(whole, resumed, strict=True):
        assert_same(network.state_dict(), other.state_dict())
    for mine, theirs in zip(expected, found, strict=True):
        assert_same(mine.best_state, theirs.best_state)
        assert mine.curve == theirs.curve
        assert mine.initial_accuracy == theirs.initial_accuracy


def test_a_checkpoint_written_inside_an_epoch_continues_there(task, make_network, tmp_path, monkeypatch):
    whole, resumed = make_network(4, seed=1), make_network(4, seed=1)
    train([whole], task, SMALL, device=CPU, seed=3, teacher=make_network(8, seed=9))
    forward, calls = nn.Module.__call__, 0

    def stop_in_the_middle(module, *inputs, **named):
        nonlocal calls
        calls += module is resumed and module.training
        if calls == 10:  # the fourth step of the second epoch
            raise Interruption
        return forward(module, *inputs, **named)

    options = {"device": CPU, "seed": 3, "teacher": make_network(8, seed=9), "checkpoint": tmp_path / "state.pt"}
    monkeypatch.setattr(nn.Module, "__call__", stop_in_the_middle)
    with pytest.raises(Interruption):
        train([resumed], task, SMALL, checkpoint_every_seconds=0, **options)
    monkeypatch.undo()
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 9
    train([resumed], task, SMALL, **options)
    assert_same(whole.state_dict(), resumed.state_dict())


def test_a_finished_checkpoint_gives_its_outcomes_and_weights_without_training(task, make_network, tmp_path):
    options = {"device": CPU, "seed": 3, "teacher": make_network(8, seed=9), "checkpoint": tmp_path / "state.pt"}
    first, second = make_network(4, seed=1), make_network(4, seed=2)
    (outcome,) = train([first], task, SMALL, **options)
    (again,) = train([second], task, SMALL, log=stop_after(0), **options)
    assert_same(first.state_dict(), second.state_dict())
    assert again.curve == outcome.curve
    assert again.seconds == pytest.approx(outcome.seconds, abs=0.5)


def test_a_checkpoint_of_another_run_is_refused_and_the_differences_named(task, make_network, tmp_path):
    options = {"device": CPU, "teacher": make_network(8, seed=9), "checkpoint": tmp_path / "state.pt"}
    train([make_network(4)], task, SMALL, seed=3, **options)
    with pytest.raises(RuntimeError, match=r"another run \(recipe.learning_rate, seed, architectures differ\)"):
        train([make_network(5)], task, dataclasses.replace(SMALL, learning_rate=0.1), seed=4, **options)


def test_training_follows_a_plain_loop_over_the_same_batches(task, make_network):
    recipe = dataclasses.replace(SMALL, loss="ce", epochs=2, weight_decay=1e-3, validate_every=1)
    network = make_network(4, seed=1, dropout=0.0)
    plain = copy.deepcopy(network)
    train([network], task, recipe, device=CPU, seed=3)
    data = TrainingSet(task, recipe, CPU, 3)
    optimizer = torch.optim.SGD(plain.parameters(), lr=1.0, momentum=0.9, nesterov=True, weight_decay=1e-3)
    for step in range(12):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 12)) / 2
        batch = data.batch(step)
        optimizer.zero_grad()
        F.cross_entropy(plain(batch.images), batch.labels).backward()
        optimizer.step()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_a_student_learns_and_the_reported_accuracies_are_those_of_the_networks(task, make_network):
    recipe = dataclasses.replace(SMALL, epochs=12, validate_every=3)
    teacher, network = make_network(8, seed=9, dropout=0.0), make_network(6, seed=1, dropout=0.0)
    train([teacher], task, dataclasses.replace(recipe, loss="ce"), device=CPU, seed=1)
    before = evaluate(network, task, device=CPU)
    (outcome,) = train([network], task, recipe, device=CPU, seed=3, teacher=teacher)
    assert outcome.initial_accuracy == pytest.approx(before[1])
    assert outcome.final_accuracy == pytest.approx(evaluate(network, task, device=CPU)[1])
    assert outcome.final_accuracy > 0.8
    assert outcome.best_accuracy == max(row["accuracy"] for row in outcome.curve)
    assert [row["epoch"] for row in outcome.curve] == [3, 6, 9, 12]
    network.load_state_dict(outcome.best_state)
    assert outcome.best_accuracy == pytest.approx(evaluate(network, task, device=CPU)[1])


def test_the_validation_loss_of_kd_holds_the_teacher_and_leaves_label_smoothing_out(task, make_network):
    from common.kd.losses import distillation_loss

    network, teacher = make_network(4, seed=1), make_network(8, seed=9)
    recipe = dataclasses.replace(SMALL, epochs=1, label_smoothing=0.1)
    (outcome,) = train([network], task, recipe, device=CPU, seed=3, teacher=teacher)
    images = normalise(task.images[task.evaluation])
    labels = task.labels[task.evaluation]
    with torch.no_grad():
        student, soft = network.eval()(images), teacher.eval()(images)
    expected = distillation_loss(student, soft, labels, temperature=6, alpha=0.5)
    assert outcome.final_loss == pytest.approx(expected.item(), rel=1e-5)
    assert outcome.curve[-1]["cross_entropy"] == pytest.approx(F.cross_entropy(student, labels).item(), rel=1e-5)
    assert outcome.curve[-1]["top5"] == 1.0


@pytest.mark.parametrize("loss", ["kd", *FEATURE_LOSSES])
def test_the_teacher_is_left_unchanged_and_gets_no_gradient(task, make_network, loss):
    teacher = make_network(8, seed=9).train()
    before = copy.deepcopy(teacher.state_dict())
    network = make_network(4, seed=1)
    initial = copy.deepcopy(network.state_dict())
    recipe = dataclasses.replace(SMALL, epochs=1, loss=loss, beta=1.0)
    train([network], task, recipe, device=CPU, seed=3, teacher=teacher)
    assert_same(teacher.state_dict(), before)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(module.training for module in teacher.modules())
    assert not torch.equal(network.state_dict()["fc.weight"], initial["fc.weight"])


def test_evaluation_keeps_all_images_unless_the_official_protocol_is_asked_for(task, make_network):
    network = make_network(4, seed=1)
    recipe = dataclasses.replace(SMALL, epochs=1, loss="ce")
    (every,) = train([copy.deepcopy(network)], task, recipe, device=CPU, seed=3)
    (official,) = train([network], task, dataclasses.replace(recipe, official_eval=True), device=CPU, seed=3)
    assert (every.final_accuracy * 26) % 1 == pytest.approx(0, abs=1e-9)
    assert (official.final_accuracy * 24) % 1 == pytest.approx(0, abs=1e-9)  # 3 whole batches of 8 out of 26
    images, labels = task.images[task.evaluation[:24]], task.labels[task.evaluation[:24]]
    with torch.no_grad():
        hits = network.eval()(normalise(images)).argmax(1) == labels
    assert official.final_accuracy == pytest.approx(hits.double().mean().item())


def test_official_evaluation_without_a_whole_batch_is_an_error(make_task, make_network):
    recipe = dataclasses.replace(SMALL, loss="ce", official_eval=True)
    with pytest.raises(ValueError, match="5 evaluation images, fewer than a batch of 8"):
        train([make_network(4)], make_task(num_evaluation=5), recipe, device=CPU, seed=0)


def test_fewer_training_images_than_a_batch_is_an_error_with_the_way_out(make_task, make_network):
    with pytest.raises(ValueError, match=r"7 training images, fewer than a batch of 8: give --recipe.batch-size 7"):
        train([make_network(4)], make_task(num_train=7), SMALL, device=CPU, seed=0, teacher=make_network(4))


def test_a_network_with_other_classes_is_named(task, make_network):
    with pytest.raises(ValueError, match=r"network 1 gives outputs of shape \(4,\), the task has 3 classes"):
        train(
            [make_network(4), make_network(4, num_classes=4)],
            task,
            dataclasses.replace(SMALL, loss="ce"),
            device=CPU,
            seed=0,
        )


@pytest.mark.parametrize("loss", ["kd", "nst"])
def test_a_teacher_with_other_classes_is_an_error(task, make_network, loss):
    recipe = dataclasses.replace(SMALL, loss=loss)
    with pytest.raises(ValueError, match=r"the teacher gives outputs of shape \(10,\), the task has 3 classes"):
        train([make_network(4)], task, recipe, device=CPU, seed=0, teacher=make_network(4, num_classes=10))


@pytest.mark.parametrize("loss", ["kd", "pkt"])
def test_distillation_without_a_teacher_is_an_error(task, make_network, loss):
    with pytest.raises(ValueError, match=f"loss {loss} needs a teacher and none is given"):
        train([make_network(4)], task, dataclasses.replace(SMALL, loss=loss), device=CPU, seed=0)


def test_a_feature_loss_asks_for_a_network_with_maps(task, make_network):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    recipe = dataclasses.replace(SMALL, loss="nst")
    with pytest.raises(ValueError, match=r"the teacher \(Sequential\) has no features_and_logits"):
        train([make_network(4)], task, recipe, device=CPU, seed=0, teacher=plain)


def test_half_precision_with_fp16_needs_a_gpu(task, make_network):
    recipe = dataclasses.replace(SMALL, loss="ce", amp="fp16")
    with pytest.raises(ValueError, match="fp16 needs a GPU and the device is cpu"):
        train([make_network(4)], task, recipe, device=CPU, seed=0)


def test_a_loss_that_is_not_finite_names_the_step_and_the_last_good_checkpoint(task, make_network, tmp_path):
    class Breaks(type(make_network(4))):
        calls = 0

        def forward(self, images):
            self.calls += self.training
            return super().forward(images) * (math.nan if self.training and self.calls == 9 else 1)

    file = tmp_path / "state.pt"
    recipe = dataclasses.replace(SMALL, loss="ce")
    with pytest.raises(RuntimeError, match=r"loss of network 0 on noise is not finite at step 8; .*state.pt \(step"):
        train([Breaks(4)], task, recipe, device=CPU, seed=0, checkpoint=file, checkpoint_every_seconds=0)
    saved = torch.load(file, weights_only=True)
    assert saved["step"] <= 8
    assert all(tensor.isfinite().all() for tensor in saved["learners"][0]["network"].values())
    with pytest.raises(RuntimeError, match="at step 8; no checkpoint was kept"):
        train([Breaks(4)], task, recipe, device=CPU, seed=0)


def test_values_are_logged_for_each_network_at_each_epoch(task, make_network):
    seen = []
    recipe = dataclasses.replace(SMALL, loss="ce")
    networks = [make_network(4), make_network(5)]
    train(networks, task, recipe, device=CPU, seed=0, log=lambda *entry: seen.append(entry))
    assert [(step, prefix) for step, prefix, _ in seen] == [(s, p) for s in (6, 12, 18, 24) for p in ("0/", "1/")]
    assert set(seen[0][2]) == {"train_loss", "learning_rate"}
    assert set(seen[2][2]) - set(seen[0][2]) == {f"valid_{n}" for n in ("accuracy", "top5", "cross_entropy", "loss")}
    assert seen[0][2]["learning_rate"] == learning_rate(recipe, 5, 24)


def test_the_global_random_state_is_left_alone_and_does_not_matter(task, make_network):
    first, second = make_network(4, seed=1), make_network(4, seed=1)
    recipe = dataclasses.replace(SMALL, epochs=1, loss="ce")
    torch.manual_seed(0)
    train([first], task, recipe, device=CPU, seed=3)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(1)
    train([second], task, recipe, device=CPU, seed=3)
    assert_same(first.state_dict(), second.state_dict())


def test_seeds_change_the_batches(task):
    recipe = dataclasses.replace(SMALL, loss="ce")
    first, second = TrainingSet(task, recipe, CPU, 0).batch(0), TrainingSet(task, recipe, CPU, 1).batch(0)
    assert not torch.equal(first.rows, second.rows)


def test_averaged_weights_are_what_is_measured_and_returned(task, make_network):
    network = make_network(4, seed=1)
    plain = copy.deepcopy(network)
    recipe = dataclasses.replace(SMALL, loss="ce", validate_every=1)
    (outcome,) = train([network], task, dataclasses.replace(recipe, ema_decay=0.9), device=CPU, seed=3)
    train([plain], task, recipe, device=CPU, seed=3)
    assert outcome.final_accuracy == pytest.approx(evaluate(network, task, device=CPU)[1])
    assert not torch.equal(network.fc.weight, plain.fc.weight)
    assert network.stages[0][1].num_batches_tracked == plain.stages[0][1].num_batches_tracked


def test_mixed_precision_with_bf16_stays_near_full_precision(task, make_network):
    results = []
    for amp in ("off", "bf16"):
        network = make_network(6, seed=1, dropout=0.0)
        recipe = dataclasses.replace(SMALL, loss="ce", amp=amp, epochs=1)
        (outcome,) = train([network], task, recipe, device=CPU, seed=3)
        results.append(outcome.final_loss)
        assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert results[0] != results[1]
    assert results[0] == pytest.approx(results[1], rel=0.2)


def test_state_files_hold_only_what_safe_loading_reads(task, make_network, tmp_path):
    file: Path = tmp_path / "state.pt"
    recipe = dataclasses.replace(SMALL, loss="ce", ema_decay=0.9)
    train([make_network(4)], task, recipe, device=CPU, seed=0, checkpoint=file)
    saved = torch.load(file, weights_only=True)
    assert saved["step"] == 24
    assert saved["run"]["recipe.ema_decay"] == 0.9
