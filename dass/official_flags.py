"""The released code's flags, so that its command lines run here.

Source: Lee et al., ICLR 2023, released scripts.
"""

import logging
from collections.abc import Mapping, Sequence

_LOG = logging.getLogger(__name__)

_SHARED = {"default_data_path": "data-root", "image_size": "resolution", "ds_name": "data"}
_TEACHER = {
    **_SHARED,
    "n_epochs": "recipe.epochs",
    "lr": "recipe.learning-rate",
    "manual_seed": "seed",
    **{name: f"recipe.{name.replace('_', '-')}" for name in ("batch_size", "weight_decay", "momentum")},
    "label_smoothing": "recipe.label-smoothing",
    "valid_frequency": "recipe.validate-every",
    "optimizer_type": "recipe.optimizer",
    "lr_schedule_type": "recipe.schedule",
}
_DISTILL = {
    **_SHARED,
    "kd_epochs": "recipe.epochs",
    "kd_starting_lr": "recipe.learning-rate",
    "kd_optimizer_type": "recipe.optimizer",
    "kd_lr_schedule_type": "recipe.schedule",
    "temp": "recipe.temperature",
    "alpha": "recipe.alpha",
    "manual_seed": "seeds",
    "valid_frequency": "recipe.validate-every",
    **{name: f"recipe.{name.replace('_', '-')}" for name in ("batch_size", "weight_decay", "momentum")},
    "pr_type": "pr-type",
}
_META_TRAIN = {
    "meta_lr": "learning-rate",
    "mvld_frequency": "validate-every",
    "n_q": "num-queries",
    "mtrn_ds_split": "meta-train-tasks",
    "mvld_ds_split": "meta-valid-tasks",
    "a_out_dim": "predictor.hidden-dim",
    "h_dim": "predictor.hidden-dim",
    **{name: f"predictor.{name.replace('_', '-')}" for name in ("hidden_channels", "out_channels", "input_type")},
    "acc_type": "label",
    "manual_seed": "seed",
}
_SEARCH = {"topk": "top-k", "manual_seed": "seed"}
_RENAMED: Mapping[str, Mapping[str, str]] = {
    "train-teacher": _TEACHER,
    "distill": _DISTILL,
    "meta-train": _META_TRAIN,
    "search": _SEARCH,
}
_SWITCHES = {
    "train-teacher": {"nesterov": "recipe.nesterov"},
    "distill": {"nesterov": "recipe.nesterov"},
    "meta-train": {"first_order": "first-order", "task_lr": "learn-step-size", "bilevel": "adapt"},
}
"""Flags that take a word for true or false; the release takes `t` and `true` for true and all else for false."""
_INERT = """
    mode folder_name load_mtrn load_mvld load_data use_wandb wandb_project_name predictor_type proxy_type tc_spp n_s
    a_inp_dim d_inp_dim d_out_dim nz num_sample f_inp_dim f_out_dim m_inp_dim func_conv user ds_split task load_path
    save_path net_path net_index mixup_alpha mul_seeds_on aug
"""
_WITHOUT_EFFECT = frozenset(_INERT.split())
_VALUES = {"best_acc": "best", "final_acc": "final"}


def translate(step: str, arguments: Sequence[str]) -> list[str]:
    """Our spelling of a command line.

    Flags of the released code are renamed; those that change nothing here are left out with a warning. Our own flags
    pass unchanged, and so does everything that is unknown, for the parser to complain about.

    Args:
        step: name of the step.
        arguments: what the user wrote behind it.
    """
    translated: list[str] = []
    for flag, values in _groups(arguments):
        name = flag.removeprefix("--")
        if name in _SWITCHES.get(step, {}) and values:
            translated.append(_switch(_SWITCHES[step][name], values[0]))
        elif name in _RENAMED.get(step, {}):
            ours = _RENAMED[step][name]
            translated += [f"--{ours}", *(_value(name, value) for value in values)]
        elif flag.startswith("--") and name in _WITHOUT_EFFECT:
            _LOG.warning("%s %s of the released code has no effect here", flag, " ".join(values))
        else:
            translated += [flag, *values] if flag else values
    return translated


def _groups(arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Flags, each with the values behind it."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for argument in arguments:
        if argument.startswith("--"):
            groups.append((argument, []))
        else:
            groups[-1][1].append(argument)
    return groups


def _switch(name: str, value: str) -> str:
    if value.lower() in ("t", "true"):
        return f"--{name}"
    section, _, last = name.rpartition(".")
    return f"--{section}{'.' if section else ''}no-{last}"


def _value(name: str, value: str) -> str:
    if name in ("mtrn_ds_split", "mvld_ds_split"):
        return f"tiny_imagenet/{value}"
    return _VALUES.get(value, value)
