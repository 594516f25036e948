"""The released code's command lines, so that they run here.

Source: Lee et al., ICLR 2021, README and parsers of the released code (MetaD2A_nas_bench_201, MetaD2A_mobilenetV3).
"""

import logging
from collections.abc import Sequence

from common.experiment.config import UsageError
from common.experiment.flags import flag_groups, flag_name

_LOG = logging.getLogger(__name__)

_BOTH = {"data_path": "data-root", "save_path": "out"}
_RENAMED = {  # MODEL is what --model says
    "meta-train": {
        **_BOTH,
        "model": "model",  # the release knows it as an abbreviation only
        "model_name": "model",
        "hs": "MODEL.hidden-dim",
        "nz": "latent-dim",
        "max_epoch": "MODEL.epochs",
        "batch_size": "MODEL.batch-size",
        "num_sample": "num-sample",
    },
    "search": {
        **_BOTH,
        "data_name": "data",
        "num_gen_arch": "generation.num-generated",
        "hs": "sizes.MODEL-hidden-dim",
        "nz": "sizes.latent-dim",
        "bound": "max-macs",
    },
}
_WITHOUT_EFFECT = {
    "meta-train": {
        *("save_epoch", "index", "imgnet", "data_name", "num_class", "num_gen_arch", "load_epoch", "train_arch"),
    },
    "search": {
        *("test", "load_epoch", "model", "model_name", "num_sample", "num_class", "train_arch", "index"),
        *("imgnet", "max_epoch", "save_epoch", "batch_size"),
    },
    "collect": {"collect", "model", "model_name", "index", "imgnet"},
}
_SPACES = {
    ("graph_data_name", "nasbench201"): "nasbench201",
    ("graph_data_name", "ofa_mbv3"): "mobilenetv3",
    ("nvt", "7"): "nasbench201",
    ("nvt", "27"): "mobilenetv3",
}
"""Flags of the release that say which space, with their values."""
_SAYS_SPACE = {name for name, _ in _SPACES}
_MACS_OF_BOUND = 1_000_000
_EVERYTHING = "all"
_CELLS, _NETWORKS = "nasbench201", "mobilenetv3"
_HAS_NO_SPACE = ("collect", "train", "evaluate")


def step_of(arguments: Sequence[str]) -> list[str]:
    """A command line that begins with a step; one of the release, which begins with a flag, gets its step in front.

    The release's two tests, of the generator and then of the predictor, are one search here, which does both.
    """
    if not arguments or not arguments[0].startswith("--") or arguments[0] == "--help":
        return list(arguments)
    if "--collect" in arguments:
        return ["collect", "--space", _NETWORKS, *arguments]
    return ["search" if "--test" in arguments else "meta-train", *arguments]


def is_of_networks(arguments: Sequence[str]) -> bool:
    """Whether a command line says `--space mobilenetv3`."""
    return ("--space", [_NETWORKS]) in [(flag, values) for flag, values in flag_groups(arguments, {"space"})]


def translate(step: str, arguments: Sequence[str]) -> list[str]:
    """Our spelling of a command line.

    Flags of the released code are renamed; those that change nothing here are left out with a warning. Our own flags
    pass unchanged, and so does everything that is unknown, for the parser to complain about.

    Args:
        step: name of the step.
        arguments: what the user wrote behind it.

    Raises:
        UsageError: a value that has no meaning here, or two released flags that are one here have different values.
    """
    renamed, inert = _RENAMED.get(step, {}), _WITHOUT_EFFECT.get(step, set())
    groups = list(flag_groups(arguments, renamed.keys() | inert | {"space", *_SAYS_SPACE}))
    chosen = [values[0] for flag, values in groups if flag_name(flag) in ("model", "model_name") and values]
    model = chosen[-1] if chosen else "generator"
    translated: list[str] = []
    dropped: list[str] = []
    given: dict[str, list[str]] = {}
    for flag, values in groups:
        name = flag_name(flag)
        _check(name, flag, values, is_ours=name not in renamed and name not in inert)
        if name in _SAYS_SPACE:
            flag, name, values = "--space", "space", [_space_of(flag, values)]
        if name == "space" and values == [_CELLS] and step in _HAS_NO_SPACE:
            continue  # these steps are of cells unless they are told otherwise
        if name in renamed:
            target = renamed[name].replace("MODEL", model)
            if name == "bound":
                values = [_macs(flag, values)]
            if given.setdefault(target, values) != values:
                raise UsageError(f"{flag} {' '.join(values)}: --{target} is {' '.join(given[target])} already")
            translated += [f"--{target}", *values]
        elif name in inert:
            dropped.append(" ".join([flag, *values]))
        elif name == "space" and given.setdefault("space", values) != values:
            raise UsageError(f"{flag} {' '.join(values)}: --space is {' '.join(given['space'])} already")
        else:
            translated += [flag, *values] if flag else values
    if dropped:
        _LOG.warning("flags of the released code that have no effect here: %s", ", ".join(dropped))
    return translated


def _check(name: str, flag: str, values: Sequence[str], *, is_ours: bool) -> None:
    if is_ours:
        return
    if name == "data_name" and _EVERYTHING in values:
        raise UsageError(
            f"{flag} {_EVERYTHING}: one search takes one dataset; for several: bash script/run_search.sh cpu metad2a "
            "cifar10 cifar100 mnist svhn aircraft pets"
        )


def _space_of(flag: str, values: Sequence[str]) -> str:
    """The space that a flag of the release says."""
    known = {value: space for (name, value), space in _SPACES.items() if name == flag_name(flag)}
    if len(values) != 1 or values[0] not in known:
        listed = ", ".join(f"{value} ({space})" for value, space in known.items())
        raise UsageError(f"{flag} {' '.join(values)}: the spaces here have {flag_name(flag)} {listed}")
    return known[values[0]]


def _macs(flag: str, values: Sequence[str]) -> str:
    """A bound in millions, as the release counts."""
    try:
        return str(round(float(values[0]) * _MACS_OF_BOUND))
    except (ValueError, IndexError, OverflowError):
        raise UsageError(f"{flag} {' '.join(values)}: give the largest number of MACs in millions, like 300") from None
