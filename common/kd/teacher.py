"""Teachers by name: classifiers of the timm library, with or without weights of ours."""

import difflib
from pathlib import Path

import torch
from torch import nn

from common.kd.evaluate import check_outputs, eval_mode
from common.store.weights import load_weights

_PREFIX = "timm:"


def is_named_teacher(spec: str) -> bool:
    """Whether a teacher is given as `timm:NAME` or `timm:NAME@FILE`, and not as a file alone."""
    return spec.startswith(_PREFIX)


def load_teacher(spec: str, *, num_classes: int, resolution: int, device: torch.device) -> nn.Module:
    """A classifier from timm in eval mode, without gradients.

    Args:
        spec: `timm:NAME`, randomly initialised (to be trained), or `timm:NAME@FILE` with the weights of a safetensors
            file that this program wrote.
        num_classes: outputs.
        resolution: height and width of its images in pixels.
        device: where it shall live.

    Raises:
        ValueError: not such a spec; timm has no such network; it cannot take images of this size.
        FileNotFoundError: there is no such file.
        RuntimeError: the file is damaged, or holds the weights of another network.
    """
    if not is_named_teacher(spec):
        raise ValueError(f"teacher {spec!r} has no known form: give timm:NAME or timm:NAME@FILE, e.g. timm:resnet18")
    name, separator, file = spec.removeprefix(_PREFIX).partition("@")
    network = _create(name, num_classes)
    if separator:
        _load(network, name, Path(file))
    network.requires_grad_(False).eval()
    _probe(network, name, num_classes, resolution)
    return network.to(device)


def _create(name: str, num_classes: int) -> nn.Module:
    import timm

    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(nearest)}" if nearest else "; timm.list_models() has the names"
        raise ValueError(f"timm has no network {name!r}{hint}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=3)
    return network


def _load(network: nn.Module, name: str, file: Path) -> None:
    """Weights into the network, names and shapes matched strictly."""
    weights, _ = load_weights(file)
    expected = network.state_dict()
    missing, unused = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    reshaped = [key for key in expected.keys() & weights.keys() if expected[key].shape != weights[key].shape]
    if missing or unused or reshaped:
        key = (reshaped or missing or unused)[0]
        found = tuple(weights[key].shape) if key in weights else "absent"
        wanted = tuple(expected[key].shape) if key in expected else "no such entry"
        raise RuntimeError(
            f"{file} does not hold weights of {name}: {len(missing)} entries missing, {len(unused)} unused, "
            f"{len(reshaped)} of another shape; {key}: {found} in the file, {wanted} in the network"
        )
    network.load_state_dict(weights)


def _probe(network: nn.Module, name: str, num_classes: int, resolution: int) -> None:
    """One blank image through the network; its own complaint about the size becomes ours."""
    try:
        with eval_mode(network), torch.inference_mode():
            logits = network(torch.zeros(1, 3, resolution, resolution))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{name} cannot take images of {resolution} x {resolution} pixels ({reason}): "
            "choose another --resolution or a convolutional network such as timm:resnet18"
        ) from error
    check_outputs(logits, num_classes, name)
