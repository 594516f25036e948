"""Configs come from defaults, presets and flags; a mistake in either is one line with the nearest real name."""

import dataclasses
import io
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from common.experiment.config import StepConfig, UsageError, digest, parse_config, to_dict, to_yaml


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train."""

    epochs: int = 50
    """Passes over the data."""
    learning_rate: float = 0.05
    flip: Literal["auto", "yes", "no"] = "auto"
    milestones: tuple[float, ...] = (0.4, 0.7)
    nesterov: bool = True
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}: give 1 or more")


@dataclass(frozen=True, kw_only=True)
class DistilConfig(StepConfig):
    """Train a student from its teacher."""

    name: str = "student"
    """What the run is called."""
    max_macs: int | None = None
    span: tuple[int, float] = (1, 2.0)
    teacher: Path | None = None
    verbose: bool | None = None
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=5))
    """Recipe of the student."""

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name is 'bad': choose another one")


def parse(*argv: str, **more: Any) -> DistilConfig:
    return parse_config(DistilConfig, argv, program="python -m dass distil", **more)


def preset(tmp_path: Path, text: str, name: str = "preset.yaml") -> str:
    (tmp_path / name).write_text(text)
    return f"--config={tmp_path / name}"


def test_without_arguments_the_defaults_hold() -> None:
    assert parse() == DistilConfig()


def test_flags_set_fields_of_every_type_in_both_spellings() -> None:
    config = parse(
        *("--max-macs", "7", "--recipe.learning_rate", "1e-3", "--recipe.flip", "no", "--recipe.milestones", "0.1"),
        *("--recipe.no-nesterov", "--teacher", "a/b.safetensors", "--span", "3", "4", "--gpu", "0", "--data_root=x"),
        *("--recipe.clip-norm", "-1.5", "--verbose", "False", "--deterministic"),
    )
    recipe = Recipe(epochs=5, learning_rate=1e-3, flip="no", milestones=(0.1,), nesterov=False, clip_norm=-1.5)
    assert config == DistilConfig(
        max_macs=7, teacher=Path("a/b.safetensors"), span=(3, 4.0), gpu="0", data_root=Path("x"), verbose=False,
        deterministic=True, recipe=recipe,
    )  # fmt: skip


def test_a_preset_sets_fields_of_every_type(tmp_path: Path) -> None:
    text = """
gpu: 0
max-macs: null
name: -dash
span: [3, 4]
teacher: a/b.safetensors
verbose: false
deterministic: true
recipe:
  learning_rate: 1e-3
  flip: no
  milestones: []
  nesterov: false
  clip_norm: 2
"""
    recipe = Recipe(epochs=5, learning_rate=1e-3, flip="no", milestones=(), nesterov=False, clip_norm=2.0)
    assert parse(preset(tmp_path, text)) == DistilConfig(
        gpu="0", name="-dash", span=(3, 4.0), teacher=Path("a/b.safetensors"), verbose=False, deterministic=True,
        recipe=recipe,
    )  # fmt: skip


def test_later_presets_win_over_earlier_ones_and_flags_over_both(tmp_path: Path) -> None:
    first = preset(
        tmp_path, "{seed: 1, threads: 1, recipe: {epochs: 10, milestones: [0.1, 0.2], nesterov: false}}", "a"
    )
    second = preset(tmp_path, "{threads: 2, recipe: {milestones: [0.5], nesterov: true}}", "b")
    config = parse("--recipe.epochs", "3", first, second.replace("=", " ", 1).split()[0], str(tmp_path / "b"))
    assert (config.seed, config.threads) == (1, 2)
    assert (config.recipe.epochs, config.recipe.milestones, config.recipe.nesterov) == (3, (0.5,), True)


def test_a_preset_may_hold_a_section_for_each_step(tmp_path: Path) -> None:
    text = "{seed: 3, recipe: {epochs: 7, flip: yes}, distil: {name: x, recipe: {epochs: 9}}, search: {num: 5}}"
    config = parse(preset(tmp_path, text), step="distil", steps=("search", "distil"))
    assert (config.seed, config.name, config.recipe.epochs, config.recipe.flip) == (3, "x", 9, "yes")


def test_an_empty_preset_changes_nothing(tmp_path: Path) -> None:
    assert parse(preset(tmp_path, "# nothing\n")) == DistilConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeed: 1", r"preset\.yaml: unknown key 'seeed': did you mean seed\?"),
        ("recipe: {epoch: 1}", r"preset\.yaml: unknown key 'recipe\.epoch': did you mean recipe\.epochs\?"),
        ("zzzzzz: 1", r"preset\.yaml: unknown key 'zzzzzz': known are gpu, data_root"),
        ("seed: two", r"preset\.yaml: seed is 'two': it must be a whole number"),
        ("seed: 1.5", r"seed is 1\.5: it must be a whole number"),
        ("seed: true", r"seed is True: it must be a whole number"),
        ("seed: null", r"seed is None: it must be a whole number"),
        ("max_macs: a", r"max_macs is 'a': it must be a whole number or null"),
        ("recipe: {nesterov: no}", r"recipe\.nesterov is 'no': it must be true or false"),
        ("recipe: {flip: maybe}", r"recipe\.flip is 'maybe': it must be one of 'auto', 'yes', 'no'"),
        ("recipe: {milestones: 0.5}", r"recipe\.milestones is 0\.5: it must be a list, each a number"),
        ("recipe: {milestones: [a]}", r"recipe\.milestones is \['a'\]: it must be a list, each a number"),
        ("span: [1]", r"span is \[1\]: it must be a list of \(a whole number, a number\)"),
        ("recipe: 5", r"recipe is 5: it is a section"),
        ("recipe: {epochs: 0}", "epochs is 0: give 1 or more"),
        ("name: {a: 1}", r"name is \{'a': 1\}: it must be text"),
        ("[1, 2]", r"preset\.yaml holds a list"),
        ("a: [", r"preset\.yaml is not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", r"preset\.yaml is not valid YAML"),
    ],
)
def test_a_mistake_in_a_preset_is_one_line_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(preset(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--seeed", "1"], r"^unknown flag --seeed: did you mean --seed\?$"),
        (["--epochs", "1"], r"unknown flag --epochs: did you mean --recipe\.epochs\?"),
        (["--recipe.no-nestrov"], r"did you mean --recipe\.no-nesterov"),
        (["--seed", "two"], r"^--seed: invalid literal for int\(\) with base 10: 'two'$"),
        (["--seed"], r"^Missing value for argument '--seed'"),
        (["--recipe.flip", "maybe"], r"invalid choice 'maybe' for argument '--recipe\.flip'"),
        (["stray"], r"^Unrecognized options: stray$"),
        (["--recipe.epochs", "0"], r"epochs is 0: give 1 or more$"),
        (["--name", "bad"], r"^name is 'bad': choose another one$"),
        (["--config"], r"^--config needs the path of a YAML file$"),
        (["--config", "nowhere.yaml"], r"^cannot read the config file nowhere\.yaml: No such file"),
    ],
)
def test_a_mistake_in_the_flags_is_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_the_frame_around_an_error_is_dropped_on_terminals_of_either_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in ("utf-8", "ascii"):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        with pytest.raises(UsageError, match=r"^invalid choice '0' .* Expected one of \('auto', 'yes', 'no'\)\.$"):
            parse("--recipe.flip", "0")


def test_a_missing_required_flag_is_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Needs(StepConfig):
        """Needs a data set."""

        data: str

    with pytest.raises(UsageError, match="missing: --data STR"):
        parse_config(Needs, [], program="python -m dass search")


def test_help_teaches_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("--help")
    assert caught.value.code == 0
    text = re.sub(r"[\s\u2502]+", " ", capsys.readouterr().out)
    for words in ("Train a student from its teacher.", "What the run is called.", "Passes over the data."):
        assert words in text
    for words in ("Seed of everything random", "--recipe.no-nesterov", "(default: 5)", "--config FILE"):
        assert words in text


def test_the_yaml_of_a_config_gives_an_equal_config(tmp_path: Path) -> None:
    config = DistilConfig(
        name="no", max_macs=3, teacher=Path("x y/z"), threads=2, verbose=True,
        recipe=Recipe(learning_rate=1e-7, clip_norm=float("inf"), flip="no", milestones=(), nesterov=False),
    )  # fmt: skip
    assert parse(preset(tmp_path, to_yaml(config))) == config
    for name in (
        "1e3",
        "12345e678901",
        "on",
        "0x1f",
        "1_0",
        "null",
        "~",
        "- a",
        "a: b",
        "2001-01-01",
        "=",
        "caf\u00e9",
    ):
        assert parse(preset(tmp_path, to_yaml(DistilConfig(name=name)))).name == name
    assert parse(preset(tmp_path, to_yaml(DistilConfig()))) == DistilConfig()


def test_a_config_as_a_mapping_holds_plain_values_only() -> None:
    values = to_dict(DistilConfig(teacher=Path("a/b")))
    assert values["teacher"] == "a/b"
    assert values["span"] == [1, 2.0]
    assert values["recipe"]["flip"] == "auto"


def test_digests_depend_on_values_only() -> None:
    base = digest(DistilConfig())
    assert re.fullmatch("[0-9a-f]{12}", base)
    assert digest(to_dict(DistilConfig())) == base
    assert digest(dict(reversed(to_dict(DistilConfig()).items()))) == base
    assert digest(DistilConfig(span=(1, 2))) == base
    assert digest(DistilConfig(recipe=Recipe(epochs=6))) != base
    assert digest({"a": "1"}) != digest({"a": 1})
    assert digest({"a": None, "b": [True]}) == digest({"b": (True,), "a": None})
    assert digest({"b": True}) != digest({"b": 1})


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DistilConfig().seed = 3  # type: ignore[misc]
