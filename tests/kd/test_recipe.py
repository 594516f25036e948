"""Recipes, schedules, optimisers, averages, evaluation."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.data.batches import normalise
from common.kd.ema import WeightAverage
from common.kd.evaluate import evaluate
from common.kd.optimizers import build_optimizer
from common.kd.recipe import Recipe
from common.kd.schedules import learning_rate

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("epochs", 0, "1 or more"),
        ("batch_size", 1, "2 or more"),
        ("validate_every", 0, "1 or more"),
        ("padding", -1, "0 or more"),
        ("views", -1, "0 "),
        ("learning_rate", 0.0, "positive"),
        ("momentum", 1.0, r"in \[0, 1\)"),
        ("momentum", 0.0, "positive with nesterov"),
        ("weight_decay", -1e-4, "0 or more"),
        ("milestones", (0.7, 0.4), "rising"),
        ("milestones", (0.4, 1.0), "rising"),
        ("gamma", 0.0, r"in \(0, 1\]"),
        ("clip_norm", 0.0, "positive"),
        ("ema_decay", 1.0, r"in \(0, 1\)"),
        ("label_smoothing", 1.0, r"in \[0, 1\)"),
        ("temperature", 0.0, "positive"),
        ("alpha", 1.1, r"in \[0, 1\]"),
        ("beta", -1.0, "0 or more"),
    ],
)
def test_a_field_out_of_range_is_named_with_its_value_and_what_is_allowed(field, value, allowed):
    with pytest.raises(ValueError, match=rf"{field} is .*, it must be {allowed}") as caught:
        Recipe(**{field: value})
    assert str(value) in str(caught.value)


def test_the_defaults_are_those_of_the_published_distillation():
    recipe = Recipe()
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay) == (50, 64, 0.05, 3e-5)
    assert (recipe.temperature, recipe.alpha, recipe.loss, recipe.nesterov) == (6.0, 0.5, "kd", True)


def test_the_cosine_equals_torchs_stepped_for_every_batch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=37)
    for step in range(37):
        assert learning_rate(Recipe(), step, 37) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        schedule.step()


def test_the_swing_is_the_trace_of_the_released_tans_code():
    recipe = Recipe(schedule="swing", learning_rate=0.01, epochs=50)
    batches = (0, 1, 25, 49, 50, 51, 75, 100, 150)
    published = (0.01, 0.00999, 0.005, 9.87e-6, 0, 9.87e-6, 0.005, 0.01, 0)
    assert [learning_rate(recipe, step, 50 * 37) for step in batches] == pytest.approx(published, rel=1e-3, abs=1e-12)


def test_steps_fall_at_the_milestones():
    recipe = Recipe(schedule="step", learning_rate=1.0, milestones=(0.5, 0.9), gamma=0.1)
    rates = [learning_rate(recipe, step, 10) for step in range(10)]
    assert rates == pytest.approx([1.0] * 5 + [0.1] * 4 + [0.01])


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "lion"])
def test_every_optimiser_lowers_a_loss_and_decays_all_parameters(name):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    optimizer = build_optimizer(
        list(network.parameters()), Recipe(optimizer=name, learning_rate=0.01, weight_decay=0.1)
    )
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    images = torch.randn(16, 4)
    losses = []
    for _ in range(30):
        loss = (network(images) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_an_average_moves_by_the_warmed_up_decay(make_network):
    network = make_network(4)
    average = WeightAverage(network, 0.9)
    before = copy.deepcopy(network.fc.weight.detach())
    with torch.no_grad():
        network.fc.weight += 1
        network.stages[0][1].num_batches_tracked += 3
    average.update(0)
    torch.testing.assert_close(average.network.fc.weight, before + 0.9)  # decay 1 / 10 at the first step
    assert average.network.stages[0][1].num_batches_tracked == 3
    average.update(1000)
    torch.testing.assert_close(average.network.fc.weight, before + 0.91)


def test_evaluation_counts_every_image_and_keeps_the_mode(task, make_network):
    network = make_network(4).train()
    network.drop.eval()
    buffers = [buffer.clone() for buffer in network.buffers()]
    loss, accuracy = evaluate(network, task, device=CPU, batch_size=7)
    assert network.training
    assert not network.drop.training
    assert all(torch.equal(a, b) for a, b in zip(buffers, network.buffers(), strict=True))
    logits = network.eval()(normalise(task.images[task.evaluation]))
    labels = task.labels[task.evaluation]
    assert loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_evaluation_refuses_a_network_with_other_classes(task, make_network):
    with pytest.raises(ValueError, match="build it with num_classes=3"):
        evaluate(make_network(4, num_classes=9), task, device=CPU)
