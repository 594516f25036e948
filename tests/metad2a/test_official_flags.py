import logging

import pytest

from common.experiment.config import UsageError, parse_config
from metad2a.__main__ import STEPS
from metad2a.meta_train import MetaTrainConfig
from metad2a.official_flags import step_of, translate
from metad2a.search import SearchConfig


def parsed(line: str) -> object:
    step, *arguments = step_of(line.split())
    return parse_config(STEPS[step].config, translate(step, arguments), program="metad2a", step=step, steps=list(STEPS))


def test_published_command_lines_of_a_meta_training() -> None:
    found = parsed("--gpu 0 --model generator --hs 56 --nz 56")
    assert isinstance(found, MetaTrainConfig)
    assert (found.gpu, found.model, found.generator.hidden_dim, found.latent_dim, found.seed) == (
        "0",
        "generator",
        56,
        56,
        333,
    )
    found = parsed(
        "--gpu 0 --model predictor --hs 256 --nz 28 --max-epoch 7 --batch_size 9 --num-sample 5 --save-path there"
    )
    assert isinstance(found, MetaTrainConfig)
    assert (found.predictor.hidden_dim, found.predictor.epochs, found.predictor.batch_size) == (256, 7, 9)
    assert (found.generator.hidden_dim, found.generator.epochs) == (56, 400)
    assert (found.latent_dim, found.num_sample, str(found.out)) == (28, 5, "there")


@pytest.mark.parametrize("model", ["generator", "predictor"])
def test_published_command_lines_of_a_search(model: str, caplog: pytest.LogCaptureFixture) -> None:
    width = {"generator": 56, "predictor": 512}[model]
    line = (
        f"--gpu 0 --model {model} --hs {width} --nz 56 --test --load-epoch 400 --num-gen-arch 500 --data-name cifar10"
    )
    with caplog.at_level(logging.WARNING):
        found = parsed(line)
    assert isinstance(found, SearchConfig)
    assert (found.data, found.generation.num_generated, found.sizes.latent_dim) == ("cifar10", 500, 56)
    assert getattr(found.sizes, f"{model}_hidden_dim") == width
    other = {"generator": "predictor", "predictor": "generator"}[model]
    assert getattr(found.sizes, f"{other}_hidden_dim") is None
    assert f"no effect here: --model {model}, --test, --load-epoch 400" in caplog.text


def test_flags_of_ours_pass_unchanged() -> None:
    arguments = ["--data", "cifar10", "--generation.num-generated", "50", "--pair=there", "--hs", "8"]
    assert translate("search", arguments) == [*arguments[:5], "--sizes.generator-hidden-dim", "8"]
    assert translate("collect", ["--labels", "table"]) == ["--labels", "table"]


def test_a_line_with_a_step_keeps_it() -> None:
    assert step_of(["search", "--hs", "8"]) == ["search", "--hs", "8"]
    assert step_of(["--help"]) == ["--help"]
    assert step_of([]) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model generator --test --data-name all", "--data-name all: one search takes one dataset"),
        ("--model generator --nvt 28", r"--nvt 28: the spaces here have nvt 7 \(nasbench201\), 27 \(mobilenetv3\)"),
        ("--model generator --graph-data-name ofa", r"have graph_data_name nasbench201 .*, ofa_mbv3 \(mobilenetv3\)"),
        ("--model generator --nvt 27 --graph-data-name nasbench201", "--space is mobilenetv3 already"),
        ("--model generator --test --bound many", "give the largest number of MACs in millions"),
        ("--model generator --hs 8 --hs 9", "--hs 9: --generator.hidden-dim is 8 already"),
        ("--model generator --hss 8", "unknown flag --hss"),
    ],
)
def test_values_without_a_meaning_here_are_refused(line: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parsed(line)


def test_released_flags_with_their_only_value_pass() -> None:
    assert isinstance(parsed("--model generator --nvt 7 --graph-data-name=nasbench201"), MetaTrainConfig)


def test_lines_of_the_released_code_for_networks_say_their_space() -> None:
    line = (
        "--gpu 0 --model generator --hs 56 --nz 56 --test --nvt 27 --num-gen-arch 200 --data-name cifar10 --bound 300"
    )
    config = parsed(line)
    assert (config.space, config.max_macs, config.generation.num_generated) == ("mobilenetv3", 300_000_000, 200)
    trained = parsed("--gpu 0 --model predictor --hs 512 --nz 56 --graph-data-name ofa_mbv3")
    assert (trained.space, trained.predictor.hidden_dim) == ("mobilenetv3", 512)
    collected = step_of(["--gpu", "0", "--model_name", "generator", "--collect", "--imgnet", "there"])
    assert collected[:3] == ["collect", "--space", "mobilenetv3"]
    assert translate("collect", collected[1:]) == ["--space", "mobilenetv3", "--gpu", "0"]
