"""Command lines of the released code run here: flags are renamed, switches and tasks understood, the rest is said."""

import logging
from typing import Any

import pytest

from common.experiment.config import UsageError, parse_config
from dass.official_flags import translate


def parsed(step: str, command: str) -> Any:
    """Config of a step, through the same calls as `python -m dass`."""
    from dass.__main__ import STEPS

    return parse_config(
        STEPS[step].config, translate(step, command.split()), program="dass", step=step, steps=list(STEPS)
    )


def warned(caplog: pytest.LogCaptureFixture) -> str:
    return " ".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


META_TRAIN = """
    --gpu 0 --mode meta_train --folder_name dass --manual_seed 7 --mtrn_ds_split 0 1 2 --mvld_ds_split 8 9
    --meta_lr 1e-3 --num_episodes 200 --mvld_frequency 10 --num_inner_updates 2 --first_order F --step_size 0.01
    --task_lr T --n_s 1 --n_q 25 --hidden_channels 64 --out_channels 128 --h_dim 32 --acc_type final_acc --bilevel T
    --tc_spp T --input_type STA --a_inp_dim 181 --a_out_dim 32 --load_mtrn T --load_mvld T --load_data F
    --predictor_type dass --use_wandb F --wandb_project_name dass --d_inp_dim 512 --d_out_dim 64 --nz 56 --num_sample 20
    --f_inp_dim 256 --f_out_dim 64 --m_inp_dim 256 --func_conv T --pr_type copy_paste_first --image_size 64
    --batch_size 64 --user me
"""


def test_the_released_meta_training_command_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    cfg = parsed("meta-train", META_TRAIN)
    assert (cfg.gpu, cfg.seed) == ("0", 7)
    assert cfg.meta_train_tasks == ("tiny_imagenet/0", "tiny_imagenet/1", "tiny_imagenet/2")
    assert cfg.meta_valid_tasks == ("tiny_imagenet/8", "tiny_imagenet/9")
    assert (cfg.learning_rate, cfg.num_episodes, cfg.validate_every) == (1e-3, 200, 10)
    assert (cfg.num_inner_updates, cfg.step_size, cfg.num_queries, cfg.label) == (2, 0.01, 25, "final")
    assert (cfg.first_order, cfg.learn_step_size, cfg.adapt) == (False, True, True)
    sizes = cfg.predictor
    assert (sizes.hidden_channels, sizes.out_channels, sizes.hidden_dim, sizes.input_type) == (64, 128, 32, "STA")
    said = warned(caplog)
    inert = """mode folder_name n_s tc_spp a_inp_dim load_mtrn load_mvld load_data predictor_type use_wandb
        wandb_project_name d_inp_dim d_out_dim nz num_sample f_inp_dim f_out_dim m_inp_dim func_conv pr_type image_size
        batch_size user"""
    for name in inert.split():
        assert f"--{name} " in said
    assert "n_q" not in said


def test_the_released_distillation_command_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    cfg = parsed(
        "distill",
        """--gpu 1 --default_data_path ./dataset --manual_seed 3 --task kd_student --folder_name dass --mode meta_test
        --batch_size 32 --image_size 32 --ds_name cub --ds_split 0 --valid_frequency 2 --kd_optimizer_type sgd
        --kd_starting_lr .01 --kd_lr_schedule_type step --kd_epochs 20 --alpha .25 --temp 4 --momentum .8
        --weight_decay 1e-4 --nesterov F --pr_type copy_paste_last --proxy_type dass --net_index 4""",
    )
    assert (cfg.gpu, cfg.data, cfg.resolution, cfg.seeds, str(cfg.data_root)) == ("1", "cub", 32, (3,), "dataset")
    recipe = cfg.recipe
    assert (recipe.batch_size, recipe.validate_every, recipe.optimizer, recipe.schedule) == (32, 2, "sgd", "step")
    assert (recipe.learning_rate, recipe.epochs, recipe.alpha, recipe.temperature) == (0.01, 20, 0.25, 4.0)
    assert (recipe.momentum, recipe.weight_decay, recipe.nesterov) == (0.8, 1e-4, False)
    assert cfg.pr_type == "copy_paste_last"
    said = warned(caplog)
    for name in ("task kd_student", "folder_name", "mode", "ds_split 0", "proxy_type", "net_index 4"):
        assert f"--{name}" in said


def test_the_released_teacher_command_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    cfg = parsed(
        "train-teacher",
        """--default_data_path ./dataset --folder_name teacher --gpu 2 --ds_name tiny_imagenet --ds_split 4
        --valid_frequency 3 --manual_seed 5 --batch_size 16 --image_size 40 --n_epochs 90 --lr 0.02 --weight_decay 2e-5
        --optimizer_type sgd --lr_schedule_type cosine --momentum .85 --nesterov T --label_smoothing .2
        --mixup_alpha none --mul_seeds_on F --mode meta_train --aug F""",
    )
    assert (cfg.gpu, cfg.data, cfg.resolution, cfg.seed) == ("2", "tiny_imagenet/4", 40, 5)
    recipe = cfg.recipe
    assert (recipe.epochs, recipe.learning_rate, recipe.weight_decay, recipe.label_smoothing) == (90, 0.02, 2e-5, 0.2)
    assert (recipe.validate_every, recipe.batch_size, recipe.momentum, recipe.nesterov) == (3, 16, 0.85, True)
    said = warned(caplog)
    assert "--aug F" in said
    assert "--mixup_alpha none" in said
    assert "ds_split" not in said


def test_the_released_search_command_is_understood(caplog: pytest.LogCaptureFixture) -> None:
    cfg = parsed(
        "search",
        """--gpu 3 --manual_seed 0 --proxy_type dass --topk 2 --load_path ./exp/meta_train --save_path ./exp/search
        --net_path ./preprocessed/search""",
    )
    assert (cfg.gpu, cfg.seed, cfg.top_k) == ("3", 0, 2)
    said = warned(caplog)
    for name in ("proxy_type dass", "load_path", "save_path", "net_path"):
        assert f"--{name}" in said


@pytest.mark.parametrize("step", ["train-teacher", "distill"])
@pytest.mark.parametrize(
    "command",
    [
        "--ds_name tiny_imagenet --ds_split 3",
        "--ds_split 3 --ds_name tiny_imagenet",
        "--ds_split=3 --gpu cpu --ds_name=tiny_imagenet",
    ],
)
def test_a_released_split_is_one_of_our_tasks(step: str, command: str, caplog: pytest.LogCaptureFixture) -> None:
    assert parsed(step, command).data == "tiny_imagenet/3"
    assert not warned(caplog)


@pytest.mark.parametrize(
    ("word", "on"),
    [("t", True), ("T", True), ("true", True), ("True", True), ("F", False), ("no", False), ("1", False)],
)
@pytest.mark.parametrize("form", ["--{} {}", "--{}={}"])
def test_released_switches_take_words(word: str, on: bool, form: str) -> None:
    cfg = parsed("meta-train", " ".join(form.format(name, word) for name in ("first_order", "task_lr", "bilevel")))
    assert (cfg.first_order, cfg.learn_step_size, cfg.adapt) == (on, on, on)
    for step in ("train-teacher", "distill"):
        assert parsed(step, form.format("nesterov", word)).recipe.nesterov is on


def test_our_own_switches_pass() -> None:
    assert parsed("meta-train", "--first-order --no-learn-step-size").first_order
    assert not parsed("meta-train", "--first-order --no-learn-step-size").learn_step_size
    assert parsed("meta-train", "--first_order --num_queries 7").num_queries == 7
    assert not parsed("meta-train", "--no-first-order").first_order


def test_values_may_stand_behind_an_equals_sign() -> None:
    cfg = parsed("distill", "--kd_epochs=7 --manual_seed=4 --alpha=.75 --ds_name=dtd --recipe.gamma=0.5")
    assert (cfg.recipe.epochs, cfg.seeds, cfg.recipe.alpha, cfg.data, cfg.recipe.gamma) == (7, (4,), 0.75, "dtd", 0.5)


def test_several_seeds_are_several_students() -> None:
    assert parsed("distill", "--seeds 4 5 6").seeds == (4, 5, 6)
    assert parsed("distill", "--manual_seed 4 5").seeds == (4, 5)


def test_our_own_flags_pass_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    ours = [
        "--data",
        "cub",
        "--recipe.epochs=3",
        "--pr-type",
        "copy_paste_last",
        "--seeds",
        "1",
        "2",
        "--config",
        "x.yaml",
    ]
    assert translate("distill", ours) == ours
    assert translate("collect", ["--tasks", "cub", "dtd", "--restart"]) == ["--tasks", "cub", "dtd", "--restart"]
    assert not warned(caplog)


@pytest.mark.parametrize(
    ("step", "released", "ours"),
    [
        ("distill", "copy_paste_uniform", "copy_paste_uniform"),
        ("distill", "copy_paste_uniform_last", "copy_paste_uniform_last"),
        ("distill", "copy_paste_last_copy_paste_uniform", "copy_paste_uniform_last"),
        ("distill", "random_init", "random_init"),
    ],
)
def test_all_released_ways_of_remapping_are_known(step: str, released: str, ours: str) -> None:
    assert parsed(step, f"--pr_type {released}").pr_type == ours


@pytest.mark.parametrize(("released", "ours"), [("STA", "STA"), ("SAT", "STA"), ("AS", "SA"), ("A", "A"), ("TS", "ST")])
def test_inputs_may_be_named_in_any_order(released: str, ours: str) -> None:
    assert parsed("meta-train", f"--input_type {released}").predictor.input_type == ours


def test_two_released_flags_for_one_of_ours_must_agree() -> None:
    assert parsed("meta-train", "--h_dim 32 --a_out_dim 32").predictor.hidden_dim == 32
    with pytest.raises(UsageError, match=r"--a_out_dim 64: --predictor.hidden-dim is 32 already"):
        parsed("meta-train", "--h_dim 32 --a_out_dim 64")


@pytest.mark.parametrize(
    ("step", "command", "complaint"),
    [
        ("distill", "--kd_epoch 3", "unknown flag --kd-epoch"),
        ("collect", "--task cub", r"unknown flag --task: did you mean --tasks\?"),
        ("evaluate", "--mode meta_test", "unknown flag --mode"),
        ("search", "--kd_epochs 3", "unknown flag --kd-epochs"),
        ("distill", "--kd_epochs many", "epochs"),
        ("distill", "--kd_epochs", "epochs"),
        ("distill", "--kd_optimizer_type adagrad", "optimizer"),
        ("train-teacher", "--lr -1", "learning_rate is -1.0, it must be positive"),
    ],
)
def test_mistakes_reach_the_parser(step: str, command: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parsed(step, command)


def test_nothing_stays_nothing() -> None:
    assert translate("distill", []) == []
    assert translate("search", ["--help"]) == ["--help"]
