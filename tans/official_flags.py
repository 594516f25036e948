"""The released code's command line, so that it runs here.

Source: Jeong et al., NeurIPS 2021, released code (`parser.py`).
"""

import logging
from collections.abc import Sequence

from common.experiment.config import UsageError
from common.experiment.flags import flag_groups, flag_name

_LOG = logging.getLogger(__name__)

_RENAMED = {
    "meta-train": {
        "n_epochs": "learning.steps",
        "batch_size": "learning.batch-size",
        "n_groups": "learning.max-negatives",
        "n_nets": "learning.num-networks",
        "n_dims": "embedding-dim",
        "lr": "learning.learning-rate",
        "model_zoo": "zoo",
        "base_path": "out",
    },
    "search": {"n_retrievals": "num-retrieved", "model_zoo": "zoo", "load_path": "space", "base_path": "out"},
}
_WITHOUT_EFFECT = {
    "meta-train": {"mode", "data_path", "model_zoo_raw", "n_retrievals", "n_eps_finetuning", "load_path"},
    "search": {"mode", "data_path", "model_zoo_raw", "n_epochs", "n_groups", "n_nets", "n_dims", "lr", "batch_size"}
    | {"n_eps_finetuning"},
}
_STEPS = {"train": "meta-train", "test": "search"}
_GROUPS = ("zoo",)


def step_of(arguments: Sequence[str]) -> list[str]:
    """A command line that begins with a step of one word, or, of the released code, with a flag.

    `zoo list` is one step; `--mode train` is meta-train and `--mode test` is search.

    Raises:
        UsageError: the mode is neither.
    """
    words = list(arguments)
    if len(words) > 1 and words[0] in _GROUPS and not words[1].startswith("-"):
        return [f"{words[0]} {words[1]}", *words[2:]]
    if not words or not words[0].startswith("--") or words[0] == "--help":
        return words
    modes = [values[0] for flag, values in flag_groups(words, {"mode"}) if flag_name(flag) == "mode" and values]
    mode = modes[-1] if modes else "train"
    return [_STEPS.get(mode, mode), *words]


def translate(step: str, arguments: Sequence[str]) -> list[str]:
    """Our spelling of a command line.

    Flags of the released code are renamed; those that change nothing here are left out with a warning. Our own flags
    pass unchanged, and so does everything that is unknown, for the parser to complain about.

    Raises:
        UsageError: --gpu names several GPUs.
    """
    renamed, inert = _RENAMED.get(step, {}), _WITHOUT_EFFECT.get(step, set())
    translated: list[str] = []
    dropped: list[str] = []
    for flag, values in flag_groups(arguments, renamed.keys() | inert | {"gpu"}):
        name = flag_name(flag)
        if name == "gpu" and values == ["-1"]:
            translated += ["--gpu", "cpu"]
        elif name == "gpu" and values and "," in values[0]:
            raise UsageError(f"--gpu {values[0]}: one GPU is used; give its number")
        elif name in renamed and renamed[name] != name:
            translated += [f"--{renamed[name]}", *values]
        elif name in inert:
            dropped.append(" ".join([flag, *values]))
        else:
            translated += [flag, *values] if flag else values
    if dropped:
        _LOG.warning("flags of the released code that have no effect here: %s", ", ".join(dropped))
    return translated
