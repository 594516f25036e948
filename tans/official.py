"""Files of the released TANS code: model zoo, features, supernets and checkpoints.

Source: Jeong et al., NeurIPS 2021, released code (formats only).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.spaces.mobilenet_v3_codes import NUM_SETTINGS
from common.spaces.mobilenet_v3_supernet import MobileNetV3Supernet
from common.store.released import read_released
from common.supernet.files import official_supernet
from tans.artifacts import SpaceArtifact
from tans.encoders import CrossModalSpace, SpaceSizes

ZOO_KEYS = ("dataset", "topol", "acc", "f_emb", "n_params")
_OFA = "ofa."
_TORCH_TYPES = (nn.ReLU, nn.BatchNorm2d, nn.ModuleList, nn.Sequential, nn.Conv2d, nn.Linear, nn.Dropout)
EXTRACTOR = "resnet18-imagenet"
"""What the released features are thought to be of; the files do not say it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OfficialZoo:
    """A released model zoo; equally long lists, one network each."""

    dataset: list[str]
    topologies: Tensor
    """(N, 45) int64."""
    accuracies: list[float]
    functional: Tensor
    """(N, D) float32."""
    num_params: list[int]


def read_model_zoo(path: Path) -> OfficialZoo:
    """Read `p_mod_zoo.pt`.

    Raises:
        FileNotFoundError, RuntimeError: as `read_released`.
        ValueError: a list is missing or of another length, or a value is out of range; the message says which.
    """
    content = read_released(path)
    missing = [key for key in ZOO_KEYS if not isinstance(content, Mapping) or key not in content]
    if missing:
        raise ValueError(f"{path} is no released model zoo: it has no list {missing[0]!r}")
    lengths = {key: len(content[key]) for key in ZOO_KEYS}
    if len(set(lengths.values())) > 1 or lengths["acc"] == 0:
        raise ValueError(f"{path}: its lists have lengths {lengths}; equal ones, of one network or more, are needed")
    accuracies = [float(value) for value in content["acc"]]
    wrong = [value for value in accuracies if not 0 <= value <= 1]
    if wrong:
        raise ValueError(f"{path}: an accuracy is {wrong[0]:g}; they are shares in [0, 1], so divide percents by 100")
    topologies = torch.stack([torch.as_tensor(row).long().flatten() for row in content["topol"]])
    if topologies.shape[1] != NUM_SETTINGS:
        raise ValueError(f"{path}: a topology has {topologies.shape[1]} numbers, and {NUM_SETTINGS} are needed")
    functional = torch.stack([torch.as_tensor(row).float().flatten() for row in content["f_emb"]])
    if not torch.isfinite(functional).all():
        raise ValueError(f"{path}: a functional embedding is not finite")
    return OfficialZoo(
        dataset=[str(name) for name in content["dataset"]],
        topologies=topologies,
        accuracies=accuracies,
        functional=functional,
        num_params=[int(value) for value in content["n_params"]],
    )


def read_meta_train(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read `p_m_train.pt` or `meta_train.pt`: dataset -> `train` and `test` features, (n, D) each.

    Raises:
        FileNotFoundError, RuntimeError: as `read_released`.
        ValueError: a dataset lacks its features.
    """
    content = read_released(path)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{path} holds no features by dataset")
    return {
        str(name): {part: _features(entry, f"x_query_{part}", f"{path}: {name}") for part in ("train", "test")}
        for name, entry in sorted(content.items())
    }


def read_meta_test(path: Path) -> Tensor:
    """Features of the query, (n, D), in a `meta_test_NAME.pt`; its images are not used.

    Raises:
        FileNotFoundError, RuntimeError, ValueError: as `read_meta_train`.
    """
    return _features(read_released(path), "query", str(path))


def _features(entry: Any, key: str, where: str) -> Tensor:
    if not isinstance(entry, Mapping) or key not in entry or len(entry[key]) == 0:
        raise ValueError(f"{where} has no features {key!r}")
    features = torch.stack([torch.as_tensor(row).float().flatten() for row in entry[key]])
    if not torch.isfinite(features).all():
        raise ValueError(f"{where}: a feature is not finite")
    return features


def read_space(path: Path, sources: Sequence[str] = ()) -> SpaceArtifact:
    """Read `saved_model.pt` or `saved_model_max_recall.pt`.

    Args:
        path: the file.
        sources: datasets that it learned from, which the file does not name.

    Raises:
        FileNotFoundError, RuntimeError: as `read_released`.
        ValueError: a module is missing or has other weights.
    """
    content = read_released(path)
    states: dict[str, Mapping[str, Tensor]] = {}
    for name in ("enc_q", "enc_m", "predictor"):
        state = content.get(name) if isinstance(content, Mapping) else None
        if not isinstance(state, Mapping) or {*state} != {"fc.weight", "fc.bias"}:
            raise ValueError(f"{path} is no released checkpoint: {name} is not a layer fc with weight and bias")
        states[name] = state
    query, model = states["enc_q"]["fc.weight"], states["enc_m"]["fc.weight"]
    sizes = SpaceSizes(
        image_dim=query.shape[1],
        topology_dim=NUM_SETTINGS,
        functional_dim=model.shape[1] - NUM_SETTINGS,
        embedding_dim=len(query),
    )
    space = CrossModalSpace(sizes)
    try:
        space.query.load_state_dict(states["enc_q"])
        space.model.load_state_dict(states["enc_m"])
        space.predictor.load_state_dict(states["predictor"])
    except RuntimeError as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())[:200]}") from error
    recall = content.get("recall", {})
    measures = {f"recall_{k}": float(value) / 100 for k, value in recall.items()}
    measures |= {name: float(content[key]) for name, key in _MEASURES.items() if key in content}
    return SpaceArtifact(
        space=space.eval(),
        extractor=EXTRACTOR,
        probe="",
        topology="raw",
        sources=tuple(sources),
        origin="official",
        notes={"file": path.name, "measures": measures, "epoch": int(content.get("epoch", -1))},
    )


_MEASURES = {"mean_rank": "meanr", "median_rank": "medr", "squared_error": "mse"}


def read_supernet(path: Path) -> MobileNetV3Supernet:
    """Read a released supernet, which is a whole pickled module or a dictionary of its weights.

    None of the file's own code is run: classes of OFA become empty modules that only hold what was pickled into them,
    and anything but these and six layers of PyTorch is refused.

    Raises:
        FileNotFoundError, RuntimeError: as `read_released`.
        ValueError: the weights are not those of such a supernet.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    stand_ins: list[tuple[type, str]] = [
        (type(name.rpartition(".")[2], (nn.Module,), {}), name) for name in _names_in(path) if name.startswith(_OFA)
    ]
    stand_ins += [(kind, f"{kind.__module__}.{kind.__name__}") for kind in _TORCH_TYPES]
    content = read_released(path, stand_ins)
    if isinstance(content, Mapping):
        state = content.get("state_dict", content)
    elif isinstance(content, nn.Module):
        state = content.state_dict()
    else:
        raise ValueError(f"{path} holds a {type(content).__name__}, no supernet")
    return official_supernet(state, str(path))


def _names_in(path: Path) -> list[str]:
    """Names of types that a file asks for beyond PyTorch's own safe ones."""
    try:
        return list(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception as error:  # the reader raises a dozen types on damaged files
        raise RuntimeError(f"{path} is damaged or no file of PyTorch's: download it anew") from error
