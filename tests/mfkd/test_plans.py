"""Presets as steps of a pipeline."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.experiment.config import UsageError
from common.kd.recipe import Recipe
from common.spaces.mobilenet_v2 import MobileNetV2Space
from mfkd.config import Mfkd1Config, MfKdConfig, StepConfig
from mfkd.plans import FidelityOptions, SpaceOptions, TeacherOptions, plain_settings
from mfkd.search import SearchConfig, search_steps
from mfkd.train_teacher import TrainTeacherConfig, teacher_folder
from mfkd.training import num_images_of

TEACHER = Path("teacher.safetensors")


def test_the_default_space_is_the_published_one() -> None:
    assert SpaceOptions().space == MobileNetV2Space()
    assert SpaceOptions().space.size() == 2_097_152


def test_one_option_is_fixed_and_several_are_searched() -> None:
    options = SpaceOptions(repetitions=("1,2", "1", "2", "3", "1", "1", "1"))
    assert options.space.size() == 2**7 * 2
    assert options.space.repetitions == ((1, 2), 1, 2, 3, 1, 1, 1)


@pytest.mark.parametrize("text", ["", "a,b", "8;16", "1.5,2"])
def test_options_that_are_no_whole_numbers_are_named(text: str) -> None:
    with pytest.raises(UsageError, match="repetitions has"):
        SpaceOptions(repetitions=(text, *("1",) * 6))


def test_the_second_algorithm_has_a_step_for_each_fidelity() -> None:
    cfg = SearchConfig(num_low=7, init_low=3, num_high=4, init_high=2, kappa=0.7, gp="legacy", seed=5)
    low, high = search_steps(cfg, TEACHER)
    assert low.algorithm == StepConfig(init_samples=3, max_samples=7, kappa=0.7, gp="legacy", seed=5)
    assert high.algorithm == StepConfig(init_samples=2, max_samples=4, kappa=0.7, gp="legacy", seed=5)
    assert (low.training.teacher, high.training.teacher) == (str(TEACHER), None), "labels need no teacher"
    assert (low.images.train_portion, high.images.train_portion) == (0.03, 1.0)
    assert {low.images.subset, high.images.subset} == {"stratified"}
    (fewest,) = search_steps(SearchConfig(algorithm="mfkd1", low=FidelityOptions(min_images=160)), TEACHER)
    assert fewest.images.min_images == 160
    assert {low.training.seed, high.training.seed} == {5}


def test_the_other_algorithms_have_one_step() -> None:
    (first,) = search_steps(SearchConfig(algorithm="mfkd1", num_low=30, risk=0.5), TEACHER)
    assert first.algorithm == Mfkd1Config(max_samples=30, risk=0.5, seed=0)
    (joint,) = search_steps(SearchConfig(algorithm="mf_kd", num_low=100, init_high=20, num_high=30), TEACHER)
    assert joint.algorithm == MfKdConfig(num_low=100, num_high=20, max_high=30, seed=0)
    assert joint.high is not None
    assert (joint.training.recipe.loss, joint.high.training.recipe.loss) == ("nst", "ce")


def test_a_teacher_has_a_folder_for_each_way_to_train_it_and_none_for_its_seed(tmp_path: Path) -> None:
    cfg = TrainTeacherConfig()
    narrow = SpaceOptions(channels=("8,16", *cfg.space.channels[1:]))
    assert teacher_folder(cfg) == teacher_folder(replace(cfg, seed=3, gpu="cpu"))
    assert teacher_folder(cfg) == teacher_folder(replace(cfg, space=narrow)), "its own widths are the published ones"
    others = [
        replace(cfg, resolution=16),
        replace(cfg, recipe=replace(cfg.recipe, epochs=3)),
        replace(cfg, space=SpaceOptions(first_stride=2)),
        replace(cfg, data="digits/0-4"),
    ]
    assert len({teacher_folder(one) for one in (cfg, *others)}) == 5


def test_a_teacher_that_learns_from_a_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="must be ce"):
        TeacherOptions(recipe=Recipe(loss="kd"))


def test_images_of_a_training_are_whole_batches_of_every_epoch() -> None:
    recipe = Recipe(epochs=3, batch_size=32)
    assert num_images_of(recipe, 100) == 3 * 96
    assert num_images_of(replace(recipe, epoch_images=70), 100) == 3 * 64
    assert num_images_of(replace(recipe, epoch_images=500), 100) == 3 * 96


def test_settings_are_said_in_a_line() -> None:
    text = plain_settings(FidelityOptions().recipe)
    assert "epochs 100, batch size 128" in text
    assert "loss ce" in text
    assert "weight of the labels 0.5" in plain_settings(Recipe(loss="kd"))
