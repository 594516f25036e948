"""Batches, fixed views, and the teacher's outputs for them."""

import copy
import dataclasses
import logging

import pytest
import torch

from common.data.batches import augment, normalise
from common.experiment.seeds import generator
from common.kd.guide import Guide, weights_digest
from common.kd.recipe import Recipe
from common.kd.trainer import train
from common.kd.views import TrainingSet

CPU = torch.device("cpu")
FRESH = Recipe(epochs=3, batch_size=8)
FIXED = dataclasses.replace(FRESH, views=2)


def test_an_epoch_shows_each_image_at_most_once_and_drops_the_partial_batch(task):
    data = TrainingSet(task, FRESH, CPU, 0)
    rows = torch.cat([data.batch(step).rows for step in range(data.steps)])
    assert data.steps == 6
    assert len(rows.unique()) == 48
    later = torch.cat([data.batch(data.steps + step).rows for step in range(data.steps)])
    assert not torch.equal(rows, later)


def test_a_batch_is_the_same_whenever_it_is_asked_for(task):
    first, second = TrainingSet(task, FRESH, CPU, 0), TrainingSet(task, FRESH, CPU, 0)
    for step in range(7):
        first.batch(step)
    expected, found = first.batch(7), second.batch(7)
    assert torch.equal(expected.images, found.images)
    assert torch.equal(expected.labels, found.labels)


def test_labels_belong_to_the_images(task):
    data = TrainingSet(task, dataclasses.replace(FRESH, padding=0, flip="no"), CPU, 0)
    batch = data.batch(3)
    assert torch.equal(batch.images, normalise(task.images[task.train[batch.rows]]))
    assert torch.equal(batch.labels, task.labels[task.train[batch.rows]])


@pytest.mark.parametrize(
    ("flip", "of_task", "mirrors"), [("auto", True, True), ("auto", False, False), ("yes", False, True)]
)
def test_mirroring_follows_the_dataset_unless_the_recipe_says(task, flip, of_task, mirrors):
    changed = dataclasses.replace(task, flip=of_task)
    data = TrainingSet(changed, dataclasses.replace(FRESH, padding=0, flip=flip), CPU, 0)
    batch = data.batch(0)
    same = (batch.images == normalise(task.images[task.train[batch.rows]])).flatten(1).all(1)
    assert same.all() != mirrors


def test_padding_defaults_to_an_eighth_of_the_resolution(make_task):
    assert TrainingSet(make_task(resolution=16), FRESH, CPU, 0).padding == 2
    assert TrainingSet(make_task(), dataclasses.replace(FRESH, padding=0), CPU, 0).padding == 0


def test_views_are_fixed_and_take_turns(task):
    data = TrainingSet(task, FIXED, CPU, 4)
    expected = augment(task.images[task.train], generator(4, "view", 1), padding=1, flip=True)
    assert torch.equal(data.view(1), expected)
    assert not torch.equal(data.view(0), expected)
    batches = [data.batch(epoch * data.steps) for epoch in range(3)]
    assert [batch.view for batch in batches] == [0, 1, 0]
    for batch in batches:
        assert torch.equal(batch.images, normalise(data.view(batch.view)[batch.rows]))


def test_cached_outputs_of_views_are_the_teachers_outputs_for_the_batches(task, make_network):
    teacher = make_network(6).eval()
    data = TrainingSet(task, FIXED, CPU, 4)
    guide = Guide(teacher, data, task.evaluation, None)
    for step in (0, 7, 13):
        batch = data.batch(step)
        torch.testing.assert_close(guide(batch).logits, guide.ask(batch.images).logits)


def test_with_views_the_teacher_runs_once_for_each_image_of_each_view(task, make_network):
    class Counting(type(make_network(4))):
        images = 0

        def forward(self, images):
            Counting.images += len(images)
            return super().forward(images)

    train([make_network(4)], task, dataclasses.replace(FIXED, epochs=6), device=CPU, seed=0, teacher=Counting(6))
    assert Counting.images == 2 * 52 + 26 + 2  # views, evaluation, the two images that show the shapes


def test_a_teacher_cache_is_reused_and_changes_nothing(task, make_network, tmp_path, monkeypatch):
    teacher, cache = make_network(6), tmp_path / "outputs.safetensors"
    first, second = make_network(4, seed=1), make_network(4, seed=1)
    options = {"device": CPU, "seed": 0, "teacher": teacher, "teacher_cache": cache}
    train([first], task, FIXED, **options)
    written = cache.read_bytes()
    monkeypatch.setattr("common.kd.guide.predict", lambda *_, **__: pytest.fail("the cache was not used"))
    train([second], task, FIXED, **options)
    assert cache.read_bytes() == written
    assert torch.equal(first.fc.weight, second.fc.weight)


@pytest.mark.parametrize("what", ["damaged", "teacher", "seed", "images", "views"])
def test_a_damaged_or_foreign_cache_is_computed_again_with_a_warning(task, make_network, tmp_path, caplog, what):
    cache = tmp_path / "outputs.safetensors"
    teacher, changed, seed, recipe = make_network(6), task, 0, FIXED
    Guide(teacher, TrainingSet(task, FIXED, CPU, 0), task.evaluation, cache)
    if what == "damaged":
        cache.write_bytes(cache.read_bytes()[:-5])
    teacher = make_network(6, seed=5) if what == "teacher" else teacher
    seed = 1 if what == "seed" else seed
    recipe = dataclasses.replace(FIXED, views=3) if what == "views" else recipe
    changed = dataclasses.replace(task, images=255 - task.images) if what == "images" else changed
    data = TrainingSet(changed, recipe, CPU, seed)
    with caplog.at_level(logging.WARNING):
        found = Guide(teacher, data, task.evaluation, cache)
    assert "computed again" in caplog.text
    expected = Guide(teacher, data, task.evaluation, None)
    assert torch.equal(found.view_logits, expected.view_logits)
    assert torch.equal(found.evaluation_logits, expected.evaluation_logits)


def test_the_digest_of_weights_sees_values_names_and_buffers(make_network):
    network = make_network(4)
    digest = weights_digest(network)
    assert digest == weights_digest(copy.deepcopy(network))
    network.stages[0][1].running_mean[0] += 1
    assert digest != weights_digest(network)
