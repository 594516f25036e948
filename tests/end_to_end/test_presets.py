import dataclasses
import importlib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.experiment.commands import Step
from common.experiment.config import StepConfig, parse_config
from common.experiment.presets import from_yaml, read_preset

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "configs").glob("*/*.yaml"))

WHERE_NOT_HOW = {field.name for field in dataclasses.fields(StepConfig)} - {"seed"} | {
    *("data", "arch", "teacher.file", "predictor", "database"),
    *("pair", "features.weights", "features.cache", "features.imported"),
    *("zoo", "networks", "query", "query_classes", "base_file", "space"),
}
"""Fields that say on what and where a step works; a preset says how."""


NEEDED = {"zoo add": ["--network", "timm:resnet18", "--weights", "x.pt", "--data", "digits"]}
"""Flags without which a step says nothing."""


def steps_of(file: Path) -> Mapping[str, Step]:
    module = importlib.import_module(f"{file.parent.name}.__main__")
    steps: Mapping[str, Step] = module.NETWORK_STEPS if file.stem.startswith("mobilenetv3") else module.STEPS
    return steps


def sections() -> list[Any]:
    return [
        pytest.param(file, step, id=f"{file.parent.name}-{file.stem}-{step}")
        for file in FILES
        for step in from_yaml(file.read_text())
    ]


def parse(file: Path, step: str, argv: list[str]) -> Any:
    steps = steps_of(file)
    return parse_config(steps[step].config, argv, program=file.parent.name, step=step, steps=list(steps))


def leaves_of(config: type, prefix: str = "") -> Iterator[str]:
    for name, hint in typing.get_type_hints(config).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from leaves_of(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def keys_of(section: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict):
            yield from keys_of(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_method_ships_both_presets() -> None:
    methods = {file.parent.name for file in ROOT.glob("*/__main__.py")}
    presets = {(m, p) for m in methods for p in ("cpu", "paper")}
    assert {(file.parent.name, file.stem) for file in FILES} == presets | {
        ("metad2a", "mobilenetv3_cpu"),
        ("metad2a", "mobilenetv3_paper"),
    }


@pytest.mark.parametrize(("file", "step"), sections())
def test_every_section_of_a_preset_is_a_step_that_takes_it(file: Path, step: str) -> None:
    assert step in steps_of(file), f"{file}: {step} is no step"
    config = parse(file, step, ["--config", str(file), *NEEDED.get(step, [])])
    if (file.parent.name, file.stem) == ("dass", "cpu") and step != "meta-train":
        assert config.resolution == 32, "the shipped predictor reads 32 px"


def test_steps_of_the_cpu_preset_agree_on_the_teacher() -> None:
    file = ROOT / "configs/dass/cpu.yaml"
    parsed = {step: parse(file, step, ["--config", str(file)]) for step in from_yaml(file.read_text())}
    assert len({config.space for step, config in parsed.items() if step != "meta-train"}) == 1
    recipe = parsed["train-teacher"].recipe
    assert recipe == parsed["search"].teacher.recipe == parsed["distill"].teacher.recipe
    assert recipe == parsed["evaluate"].teacher_recipe
    bounded = replace(recipe, epoch_images=2048)  # of the database's many teachers, to collect it within an hour
    assert parsed["collect"].teacher_recipe == bounded


@pytest.mark.parametrize(("file", "step"), [p for p in sections() if p.values[0].stem == "paper"])
def test_the_paper_preset_says_the_defaults_in_full(file: Path, step: str) -> None:
    steps = steps_of(file)
    assert parse(file, step, ["--config", str(file)]) == parse(file, step, [])
    said = set(keys_of(read_preset(file, step, list(steps))))
    assert said == set(leaves_of(steps[step].config)) - WHERE_NOT_HOW


def test_the_paper_preset_holds_the_published_numbers() -> None:
    file = ROOT / "configs/dass/paper.yaml"
    train, collect, meta, search, distill, evaluate = (
        parse(file, step, ["--config", str(file)])
        for step in ("train-teacher", "collect", "meta-train", "search", "distill", "evaluate")
    )
    for config in (train, collect, search, distill, evaluate):
        assert (config.resolution, config.space.teacher_widths, config.space.max_depth) == (64, (32, 64, 128, 256), 5)
    for recipe, rate in ((train.recipe, 0.01), (collect.teacher_recipe, 0.05), (evaluate.teacher_recipe, 0.01)):
        assert (recipe.loss, recipe.epochs, recipe.learning_rate, recipe.label_smoothing) == ("ce", 180, rate, 0.1)
    for recipe in (collect.pool.recipe, distill.recipe, evaluate.pool.recipe):
        assert (recipe.loss, recipe.epochs, recipe.learning_rate, recipe.label_smoothing) == ("kd", 50, 0.05, 0.0)
        assert (recipe.temperature, recipe.alpha) == (6.0, 0.5)
    for recipe in (train.recipe, collect.teacher_recipe, collect.pool.recipe, distill.recipe, search.teacher.recipe):
        assert (recipe.batch_size, recipe.validate_every, recipe.epoch_images, recipe.views) == (64, 5, None, 0)
        assert (recipe.optimizer, recipe.momentum, recipe.nesterov, recipe.weight_decay) == ("sgd", 0.9, True, 3e-5)
        assert recipe.schedule == "cosine"
    assert (collect.pool.num_students, evaluate.pool.num_students) == (100, 50)
    assert (collect.pool.pr_type, distill.pr_type, distill.seeds) == ("copy_paste_first",) * 2 + ((1, 2, 3),)
    assert collect.tasks == tuple(f"tiny_imagenet/{k}" for k in range(10))
    assert meta.meta_valid_tasks == ("tiny_imagenet/8", "tiny_imagenet/9")
    assert (meta.num_episodes, meta.num_queries, meta.validate_every, meta.learning_rate) == (1000, 50, 20, 5e-4)
    assert (meta.first_order, meta.step_size, meta.learn_step_size, meta.num_inner_updates) == (False, 0.005, True, 1)
    assert (meta.adapt, meta.label, meta.seed) == (True, "best", 2)
    assert dataclasses.astuple(meta.predictor) == (128, 256, 64, "STA", "raw")
    assert (meta.outer_loss, collect.space.code) == ("error", "onehot")


def test_the_published_preset_of_metad2a_holds_the_published_numbers() -> None:
    file = ROOT / "configs/metad2a/paper.yaml"
    collect, meta, search, train, evaluate = (
        parse(file, step, ["--config", str(file)]) for step in ("collect", "meta-train", "search", "train", "evaluate")
    )
    drawing = collect.drawing
    assert (drawing.num_tasks, drawing.num_valid_tasks, drawing.min_classes, drawing.max_classes) == (5000, 400, 20, 20)
    assert (meta.seed, meta.num_sample, meta.latent_dim) == (333, 20, 56)
    assert (meta.generator.hidden_dim, meta.predictor.hidden_dim) == (56, 512)
    for learning in (meta.generator, meta.predictor):
        assert (learning.epochs, learning.batch_size, learning.learning_rate) == (400, 32, 1e-4)
        assert (learning.schedule, learning.epoch_steps) == ("plateau", None)
    assert (meta.predictor.cells_per_task, meta.predictor.good_share, meta.predictor.target) == (1, 0.0, "accuracy")
    for config in (search, evaluate):
        assert (config.generation.num_generated, config.generation.draws_per_batch, config.num_draws) == (500, 100, 10)
        assert (config.generation.graphs_per_draw, config.features.extractor) == (1, "resnet18-imagenet")
    for recipe in (train.recipe, collect.training.recipe):
        assert (recipe.loss, recipe.epochs, recipe.batch_size, recipe.learning_rate) == ("ce", 200, 256, 0.1)
        assert (recipe.momentum, recipe.nesterov, recipe.weight_decay, recipe.schedule) == (0.9, True, 5e-4, "cosine")
        assert (recipe.padding, recipe.flip) == (0, "no")
    assert (train.space.channels, train.space.cells_per_stage, train.resolution) == (16, 5, 32)
    assert train.seeds == (777, 888, 999)


def test_the_published_preset_of_networks_holds_the_published_numbers() -> None:
    file = ROOT / "configs/metad2a/mobilenetv3_paper.yaml"
    collect, meta, search, train = (
        parse(file, step, ["--config", str(file)]) for step in ("collect", "meta-train", "search", "train")
    )
    assert (collect.drawing.min_classes, collect.drawing.max_classes, collect.num_calibration) == (10, 990, 2000)
    assert (meta.generator.hidden_dim, meta.generator.epochs, meta.generator.batch_size) == (56, 120, 1)
    assert (meta.predictor.hidden_dim, meta.predictor.target, meta.seed, meta.num_sample) == (512, "accuracy", 333, 20)
    assert (search.generation.num_generated, search.space, search.resolution) == (200, "mobilenetv3", 224)
    recipe = train.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.momentum) == (150, 96, 0.01, 0.9)
    assert (recipe.weight_decay, recipe.clip_norm, recipe.nesterov) == (4e-5, 5.0, False)


def test_steps_of_the_cpu_preset_of_networks_agree() -> None:
    file = ROOT / "configs/metad2a/mobilenetv3_cpu.yaml"
    steps = ("train-supernet", "collect", "meta-train", "search", "train", "evaluate")
    supernet, collect, meta, search, train, evaluate = (parse(file, step, ["--config", str(file)]) for step in steps)
    assert meta.features == search.features == evaluate.features
    assert (search.generation, train.seeds) == (evaluate.generation, evaluate.seeds)
    assert train.recipe.learning_rate == evaluate.recipe.learning_rate
    assert supernet.num_calibration == collect.num_calibration
    assert meta.space == search.space == "mobilenetv3"


def test_steps_of_the_cpu_preset_of_metad2a_see_datasets_alike() -> None:
    file = ROOT / "configs/metad2a/cpu.yaml"
    seen = {parse(file, step, ["--config", str(file)]).features for step in ("meta-train", "search", "evaluate")}
    assert len(seen) == 1
    search, evaluate = (parse(file, step, ["--config", str(file)]) for step in ("search", "evaluate"))
    assert (search.generation, search.num_draws) == (evaluate.generation, evaluate.num_draws)


def test_the_published_preset_of_mfkd_holds_the_published_numbers() -> None:
    file = ROOT / "configs/mfkd/paper.yaml"
    train, search, distill = (
        parse(file, step, ["--config", str(file)]) for step in ("train-teacher", "search", "distill")
    )
    for recipe in (train.recipe, search.teacher.recipe, search.low.recipe, search.high.recipe, distill.recipe):
        assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.momentum) == (100, 128, 0.1, 0.9)
        assert (recipe.nesterov, recipe.weight_decay, recipe.schedule) == (False, 5e-4, "cosine")
    assert (train.recipe.loss, search.low.recipe.loss, search.low.recipe.beta) == ("ce", "nst", 12.5)
    assert (search.low.portion, search.high.portion, search.high.recipe.loss) == (0.03, 1.0, "ce")
    assert (search.num_low, search.init_low, search.num_high, search.init_high) == (10, 5, 10, 5)
    assert (search.kappa, search.risk, search.space.space.size()) == (0.5, 0.0, 2_097_152)


def test_steps_of_the_cpu_preset_of_mfkd_search_one_space_and_agree_on_the_teacher() -> None:
    file = ROOT / "configs/mfkd/cpu.yaml"
    steps = ("train-teacher", "search", "distill", "evaluate", "correlate")
    parsed = {step: parse(file, step, ["--config", str(file)]) for step in steps}
    assert len({config.space for config in parsed.values()}) == 1
    recipe = parsed["train-teacher"].recipe
    assert recipe == parsed["search"].teacher.recipe == parsed["distill"].teacher.recipe
    low = parsed["search"].low.recipe
    assert low.epochs * (low.epoch_images // low.batch_size) >= 150, "fewer steps leave batch statistics unsettled"


def test_the_published_preset_of_tans_holds_the_published_numbers() -> None:
    file = ROOT / "configs/tans/paper.yaml"
    build, meta, search, finetune, evaluate = (
        parse(file, step, ["--config", str(file)])
        for step in ("build-zoo", "meta-train", "search", "finetune", "evaluate")
    )
    assert (build.width_mult, build.num_networks, build.functional_dim) == (1.2, 100, 1536)
    learning = meta.learning
    assert (learning.steps, learning.batch_size, learning.num_networks, learning.learning_rate) == (
        10_000,
        140,
        100,
        0.01,
    )
    assert (learning.margin, learning.max_negatives, learning.loss, learning.topology) == (0.2, None, "official", "raw")
    assert (meta.embedding_dim, meta.described_by, meta.branches, meta.seed) == (128, "both", "joint", 777)
    for config in (search, evaluate):
        assert (config.num_retrieved, config.features.extractor) == (10, "resnet18-imagenet")
    for recipe in (finetune.recipe, evaluate.recipe):
        assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.momentum) == (50, 32, 0.01, 0.9)
        assert (recipe.nesterov, recipe.weight_decay, recipe.padding, recipe.flip) == (False, 4e-5, 0, "no")
        assert (recipe.optimizer, recipe.loss, recipe.schedule, recipe.validate_every) == ("sgd", "ce", "cosine", 1)


def test_steps_of_the_cpu_preset_of_tans_see_datasets_alike() -> None:
    file = ROOT / "configs/tans/cpu.yaml"
    steps = ("build-zoo", "search", "evaluate", "zoo add")
    seen = {parse(file, step, ["--config", str(file), *NEEDED.get(step, [])]).features for step in steps}
    assert len(seen) == 1
