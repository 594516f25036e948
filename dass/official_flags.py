"""The released code's flags, so that its command lines run here.

Source: Lee et al., ICLR 2023, released scripts.
"""

import logging
from collections.abc import Mapping, Sequence

from common.experiment.config import UsageError
from common.experiment.flags import flag_groups, flag_name

_LOG = logging.getLogger(__name__)

_TRAINING = {
    "default_data_path": "data-root",
    "image_size": "resolution",
    "ds_name": "data",
    "batch_size": "recipe.batch-size",
    "weight_decay": "recipe.weight-decay",
    "momentum": "recipe.momentum",
    "nesterov": "recipe.nesterov",
    "valid_frequency": "recipe.validate-every",
}
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "train-teacher": {
        **_TRAINING,
        "n_epochs": "recipe.epochs",
        "lr": "recipe.learning-rate",
        "optimizer_type": "recipe.optimizer",
        "lr_schedule_type": "recipe.schedule",
        "label_smoothing": "recipe.label-smoothing",
        "manual_seed": "seed",
    },
    "distill": {
        **_TRAINING,
        "kd_epochs": "recipe.epochs",
        "kd_starting_lr": "recipe.learning-rate",
        "kd_optimizer_type": "recipe.optimizer",
        "kd_lr_schedule_type": "recipe.schedule",
        "temp": "recipe.temperature",
        "alpha": "recipe.alpha",
        "pr_type": "pr-type",
        "manual_seed": "seeds",
    },
    "meta-train": {
        "meta_lr": "learning-rate",
        "mvld_frequency": "validate-every",
        "n_q": "num-queries",
        "mtrn_ds_split": "meta-train-tasks",
        "mvld_ds_split": "meta-valid-tasks",
        "first_order": "first-order",
        "task_lr": "learn-step-size",
        "bilevel": "adapt",
        "input_type": "predictor.input-type",
        "hidden_channels": "predictor.hidden-channels",
        "out_channels": "predictor.out-channels",
        "h_dim": "predictor.hidden-dim",
        "a_out_dim": "predictor.hidden-dim",
        "acc_type": "label",
        "manual_seed": "seed",
    },
    "search": {"topk": "top-k", "manual_seed": "seed"},
}
_SWITCHES = frozenset({"nesterov", "first_order", "task_lr", "bilevel"})
"""Flags that take a word; the release takes `t` and `true` for true and all else for false."""
_WITHOUT_EFFECT: Mapping[str, frozenset[str]] = {
    "train-teacher": frozenset({"mode", "folder_name", "ds_split", "mixup_alpha", "mul_seeds_on", "aug"}),
    "distill": frozenset({"mode", "folder_name", "ds_split", "task", "proxy_type", "net_index"}),
    "meta-train": frozenset(
        {
            *("mode", "folder_name", "load_mtrn", "load_mvld", "load_data", "use_wandb", "wandb_project_name", "user"),
            *(
                "predictor_type",
                "tc_spp",
                "n_s",
                "a_inp_dim",
                "d_inp_dim",
                "d_out_dim",
                "nz",
                "num_sample",
                "func_conv",
            ),
            *("f_inp_dim", "f_out_dim", "m_inp_dim", "pr_type", "image_size", "batch_size"),
        }
    ),
    "search": frozenset({"proxy_type", "load_path", "save_path", "net_path"}),
}


def translate(step: str, arguments: Sequence[str]) -> list[str]:
    """Our spelling of a command line.

    Flags of the released code are renamed; those that change nothing here are left out with a warning. Our own flags
    pass unchanged, and so does everything that is unknown, for the parser to complain about.

    Args:
        step: name of the step.
        arguments: what the user wrote behind it.

    Raises:
        UsageError: two released flags that are one here have different values.
    """
    renamed, inert = _RENAMED.get(step, {}), _WITHOUT_EFFECT.get(step, frozenset())
    translated: list[str] = []
    dropped: list[str] = []
    given: dict[str, list[str]] = {}
    for flag, values in _with_split(list(flag_groups(arguments, renamed.keys() | inert))):
        name = flag_name(flag)
        if name in renamed and name in _SWITCHES and values:
            translated += [_switch(renamed[name], values[0]), *values[1:]]
        elif name in renamed and name not in _SWITCHES:
            ours = [_value(name, value) for value in values]
            if given.setdefault(renamed[name], ours) != ours:
                raise UsageError(
                    f"{flag} {' '.join(ours)}: --{renamed[name]} is {' '.join(given[renamed[name]])} already"
                )
            translated += [f"--{renamed[name]}", *ours]
        elif name in inert:
            dropped.append(" ".join([flag, *values]))
        else:
            translated += [flag, *values] if flag else values
    if dropped:
        _LOG.warning("flags of the released code that have no effect here: %s", ", ".join(dropped))
    return translated


def _with_split(groups: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """`--ds_name tiny_imagenet --ds_split 3` is the task `tiny_imagenet/3`."""
    names = [values for flag, values in groups if flag_name(flag) == "ds_name"]
    splits = [values for flag, values in groups if flag_name(flag) == "ds_split" and len(values) == 1]
    if names != [["tiny_imagenet"]] or not splits:
        return groups
    names[0][0] = f"tiny_imagenet/{splits[-1][0]}"
    return [(flag, values) for flag, values in groups if flag_name(flag) != "ds_split"]


def _switch(name: str, value: str) -> str:
    if value.lower() in ("t", "true"):
        return f"--{name}"
    section, dot, last = name.rpartition(".")
    return f"--{section}{dot}no-{last}"


def _value(name: str, value: str) -> str:
    if name in ("mtrn_ds_split", "mvld_ds_split"):
        return f"tiny_imagenet/{value}"
    if name == "acc_type":
        return value.removesuffix("_acc")
    if name == "input_type":
        return "".join(sorted(value, key="STA".find))  # the release takes any order
    if name == "pr_type" and "copy_paste_uniform" in value and "last" in value:
        return "copy_paste_uniform_last"
    return value
