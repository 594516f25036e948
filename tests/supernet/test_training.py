"""Training of a supernet: its gradients, its resumption, its effect."""

import copy
import dataclasses

import pytest
import torch
import torch.nn.functional as F

from common.experiment.seeds import generator
from common.kd.recipe import Recipe
from common.kd.trainer import train
from common.kd.views import TrainingSet
from common.spaces import MobileNetV3Arch
from common.supernet import Shrinking, calibration_images, networks_of_step, subnet_accuracies, train_supernet
from common.supernet.training import LARGEST, SupernetLearner

CPU = torch.device("cpu")
SMALL = Recipe(
    loss="ce",
    epochs=2,
    batch_size=16,
    learning_rate=0.05,
    validate_every=1,
    padding=1,
    channels_last=True,
    clip_norm=5.0,
)
RULE = Shrinking(num_random=1)


class Interruption(Exception):
    pass


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_a_step_sums_the_gradients_of_its_networks(task, make_supernet, alpha):
    shrinking = Shrinking(num_random=1, alpha=alpha, temperature=2.0)
    supernet = make_supernet()
    plain = copy.deepcopy(supernet).train()
    data = TrainingSet(task, SMALL, CPU, 0)
    batch = data.batch(0)
    learner = SupernetLearner(
        supernet, SMALL, CPU, steps=data.steps, example=batch.images[:2], teacher=None, name="supernet",
        shrinking=shrinking, seed=3, num_calibration=16,
    )  # fmt: skip
    learner.network.train()
    loss = learner.accumulate(0, batch, None)

    archs = networks_of_step(shrinking, 0, 6, generator(3, "subnets", 0))
    logits = [plain.activate(arch)(batch.images) for arch in archs]
    targets = (logits[0].detach() / 2).softmax(1)
    expected = F.cross_entropy(logits[0], batch.labels)
    assert torch.allclose(loss, expected, atol=1e-6)
    for each in logits[1:]:
        soft = -(targets * (each / 2).log_softmax(1)).sum(1).mean() * 4
        expected = expected + alpha * F.cross_entropy(each, batch.labels) + (1 - alpha) * soft
    expected.backward()
    for (name, ours), theirs in zip(supernet.named_parameters(), plain.parameters(), strict=True):
        wanted = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        assert torch.allclose(ours.grad, wanted, atol=1e-4, rtol=1e-3), name


def test_a_run_stopped_and_resumed_equals_the_whole_run_bit_for_bit(task, make_supernet, tmp_path):
    recipe = dataclasses.replace(SMALL, ema_decay=0.9)
    whole = make_supernet(seed=1)
    expected = train_supernet(whole, task, recipe, RULE, device=CPU, seed=3)
    calls = []

    def stop(step, prefix, values):
        calls.append(step)
        if len(calls) == 2:
            raise Interruption

    file = tmp_path / "state.pt"
    options = {"device": CPU, "seed": 3, "checkpoint": file}
    with pytest.raises(Interruption):
        train_supernet(make_supernet(seed=1), task, recipe, RULE, log=stop, checkpoint_every_seconds=0, **options)
    resumed = make_supernet(seed=7)  # other weights: all of them come from the file
    found = train_supernet(resumed, task, recipe, RULE, **options)
    assert_same(whole.state_dict(), resumed.state_dict())
    assert found.curve == expected.curve
    with pytest.raises(RuntimeError, match=r"of another run \(shrinking.num_random differ\)"):
        train_supernet(make_supernet(), task, recipe, Shrinking(num_random=2), **options)


def test_the_largest_and_the_smallest_network_learn(task, make_supernet):
    recipe = dataclasses.replace(SMALL, epochs=30, optimizer="adamw", learning_rate=0.01, validate_every=30)
    supernet = make_supernet()
    outcome = train_supernet(supernet, task, recipe, Shrinking(num_random=1), device=CPU, seed=0)
    assert outcome.initial_accuracy < 0.6
    assert outcome.final_accuracy > 0.9
    assert outcome.curve[-1]["smallest_accuracy"] > 0.9
    images = calibration_images(task, 48, seed=0, device=CPU)
    archs = [MobileNetV3Arch.uniform(5, 4, 3), LARGEST]
    found = subnet_accuracies(supernet, archs, task, calibration=images, device=CPU)
    assert found.min() > 0.8
    assert supernet.active == LARGEST


def test_a_rule_of_the_largest_network_alone_is_plain_training(task, make_supernet):
    alone = Shrinking(kernels=(1, 1), depths=(1, 1), expansions=(1, 1))
    plain, sandwich = make_supernet(seed=2), make_supernet(seed=2)
    recipe = dataclasses.replace(
        SMALL, weight_decay=0.0, clip_norm=None
    )  # decay would shrink the kernels' maps, which get no gradient
    train([plain], task, recipe, device=CPU, seed=4)
    train_supernet(sandwich, task, recipe, alone, device=CPU, seed=4)
    ours, theirs = dict(sandwich.named_parameters()), dict(plain.named_parameters())
    assert_same(ours, theirs)


def test_what_a_supernet_cannot_learn_by_is_refused(task, make_supernet):
    for changes, reason in (({"loss": "nst"}, "loss is nst"), ({"compile": True}, "compile is on")):
        with pytest.raises(ValueError, match=reason):
            train_supernet(
                make_supernet(), task, dataclasses.replace(SMALL, **changes), RULE, device=CPU, seed=0
            )  # fmt: skip
    with pytest.raises(ValueError, match="needs a teacher"):
        train_supernet(make_supernet(), task, dataclasses.replace(SMALL, loss="kd"), RULE, device=CPU, seed=0)
