"""Networks that do not come from our supernets: any classifier of timm or torchvision with weights of the user's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from common.experiment.config import UsageError
from common.kd.evaluate import eval_mode
from common.store.released import read_released

Normalisation = Literal["symmetric", "imagenet"]
NORMALISATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation that pixels in [0, 1] were normalised with; symmetric is what our own networks take."""
LIBRARIES = ("timm", "torchvision")


class Renormalised(nn.Module):
    """A network that takes images in [-1, 1] and shows them to another one with other constants."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, normalisation: Normalisation) -> None:
        super().__init__()
        self.network = network
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALISATIONS[normalisation])
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, K)
        """Logits."""
        logits: Tensor = self.network((images * 0.5 + 0.5 - self.mean) / self.std)
        return logits


def create_foreign(family: str, num_classes: int) -> nn.Module:
    """A classifier by name, with weights of no use.

    Args:
        family: `timm:resnet18` or `torchvision:resnet18`.
        num_classes: outputs.

    Raises:
        UsageError: there is no such library or network.
    """
    library, _, name = family.partition(":")
    try:
        if library == "timm":
            import timm

            network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
        elif library == "torchvision":
            from torchvision.models import get_model

            network = get_model(name, weights=None, num_classes=num_classes)
        else:
            raise ValueError(f"libraries are {', '.join(LIBRARIES)}")
    except (ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"there is no network {family!r} ({reason}): give one like timm:resnet18") from error
    return network.eval()


def load_foreign(family: str, weights: Mapping[str, Tensor], normalisation: Normalisation) -> nn.Module:
    """A network with weights; the number of classes is that of the last linear layer in them.

    Raises:
        UsageError: no such network, or the weights are not of it.
    """
    probe = create_foreign(family, 2)
    head = head_name(probe, family)
    if f"{head}.weight" not in weights:
        raise UsageError(f"the weights are not of {family}: they have no {head}.weight")
    network = create_foreign(family, len(weights[f"{head}.weight"]))
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UsageError(f"the weights are not of {family}: {reason}") from error
    return Renormalised(network, normalisation).eval()


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Weights of a checkpoint of PyTorch's, as it comes out of most training programs, or of a safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or holds something else than tensors by name.
    """
    if path.suffix == ".safetensors":
        import safetensors.torch
        from safetensors import SafetensorError

        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            return safetensors.torch.load_file(path)
        except SafetensorError as error:
            raise RuntimeError(f"{path} is damaged or no safetensors file ({error})") from error
    state = read_released(path)
    for name in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(name), Mapping):
            state = state[name]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise RuntimeError(f"{path} holds no tensors by name: save `network.state_dict()`")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def head_name(network: nn.Module, family: str) -> str:
    """Name of the last linear layer, whose input is what the network makes of an image.

    Raises:
        UsageError: there is none.
    """
    found = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not found:
        raise UsageError(f"{family} has no linear classifier, which a zoo needs: choose another network")
    return str(found[-1])


def replace_head(network: Renormalised, num_classes: int) -> None:
    """A fresh last layer for other classes, from torch's global generator."""
    name = head_name(network.network, "the network")
    parent, _, child = name.rpartition(".")
    old = network.network.get_submodule(name)
    assert isinstance(old, nn.Linear)
    setattr(network.network.get_submodule(parent), child, nn.Linear(old.in_features, num_classes))


@torch.no_grad()
def pooled_features(network: Renormalised, images: Tensor) -> Tensor:  # (B, 3, R, R) -> (B, D)
    """What the last linear layer sees, in eval mode. Images are as the inner network takes them."""
    seen: list[Tensor] = []
    head = network.network.get_submodule(head_name(network.network, "the network"))
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with eval_mode(network):
            network.network(images)
    finally:
        hook.remove()
    return seen[-1].flatten(1).clone()


def foreign_cost(network: Renormalised, resolution: int) -> tuple[int, int, int]:
    """Parameters and MACs without the last layer, and the numbers that it sees.

    MACs are of convolutions and products of matrices, of one image.
    """
    head = network.network.get_submodule(head_name(network.network, "the network"))
    assert isinstance(head, nn.Linear)
    with eval_mode(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.network(torch.zeros(1, 3, resolution, resolution))
    num_params = sum(parameter.numel() for parameter in network.network.parameters())
    return (
        num_params - sum(parameter.numel() for parameter in head.parameters()),
        counter.get_total_flops() // 2 - head.weight.numel(),
        head.in_features,
    )
