"""A frozen teacher's outputs: batch by batch, or computed once for fixed views and kept in a file."""

import hashlib
import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from common.data.tasks import Task
from common.kd.evaluate import check_outputs, predict
from common.kd.objectives import Outputs, needs_maps, run_network
from common.kd.recipe import Recipe
from common.kd.views import Batch, TrainingSet
from common.store.weights import load_weights, save_weights

_log = logging.getLogger(__name__)


class Guide:
    """The teacher's side of training: one forward pass a batch for all students, or none with fixed views.

    Args:
        teacher: on `data.device` and in eval mode, so that its batch statistics stay; None only for the loss ce.
        data: the training set whose views are scored.
        evaluation: (M,) indices of the evaluation images.
        cache: file for the logits of views and evaluation images, shared by runs with the same teacher and data.

    Raises:
        ValueError: the loss needs a teacher and there is none, or the teacher has other classes.
    """

    def __init__(self, teacher: nn.Module | None, data: TrainingSet, evaluation: Tensor, cache: Path | None) -> None:
        self.recipe, self.device = data.recipe, data.device
        if self.recipe.loss == "ce":
            teacher = None
        elif teacher is None:
            raise ValueError(f"loss {self.recipe.loss} needs a teacher and none is given: give one, or take loss ce")
        self.teacher = teacher
        self.view_logits: Tensor | None = None
        self.evaluation_logits: Tensor | None = None
        if teacher is None or self.recipe.loss != "kd":
            return
        found = _cached_logits(teacher, data, evaluation, cache)
        check_outputs(found["evaluation"], data.task.num_classes, "the teacher")
        self.evaluation_logits = found["evaluation"].to(self.device)
        if self.recipe.views:
            self.view_logits = found["views"].to(self.device)

    def __call__(self, batch: Batch) -> Outputs | None:
        """The teacher's outputs for a training batch, None for the loss ce."""
        if self.teacher is None:
            return None
        if self.view_logits is not None:
            assert batch.view is not None
            return Outputs(logits=self.view_logits[batch.view, batch.rows])
        return self.ask(batch.images)

    def ask(self, images: Tensor) -> Outputs:
        """One forward pass in the recipe's precision; without inference mode, so that losses may keep the outputs."""
        assert self.teacher is not None
        with torch.no_grad(), autocast(self.recipe, self.device):
            return run_network(self.teacher, images, with_maps=needs_maps(self.recipe), who="the teacher")


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The recipe's mixed precision as a context, one that does nothing for amp off."""
    dtype = torch.float16 if recipe.amp == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=recipe.amp != "off")


def weights_digest(network: nn.Module) -> str:
    """12 hex digits of the SHA-256 of a network's tensors and their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()[:12]


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _cached_logits(teacher: nn.Module, data: TrainingSet, evaluation: Tensor, cache: Path | None) -> dict[str, Tensor]:
    """Logits "views" (V, N, K) and "evaluation" (M, K), float32, from the file or computed and written there."""
    if cache is None:
        return _score(teacher, data, evaluation)
    key = _cache_key(teacher, data, evaluation)
    if cache.is_file():
        try:
            tensors, metadata = load_weights(cache)
        except RuntimeError as error:
            _log.warning("teacher outputs are computed again: %s", error)
        else:
            if metadata.get("key") == key:
                return tensors
            _log.warning("teacher outputs are computed again: %s is of another teacher, task, seed or recipe", cache)
    tensors = _score(teacher, data, evaluation)
    save_weights(cache, tensors, {"key": key})
    return tensors


def _score(teacher: nn.Module, data: TrainingSet, evaluation: Tensor) -> dict[str, Tensor]:
    logits = predict(teacher, data.images, evaluation, device=data.device)
    every_row = torch.arange(len(data.train))
    views = [
        predict(teacher, data.view(view), every_row, device=data.device) for view in range(_num_views(data.recipe))
    ]
    return {"evaluation": logits, "views": torch.stack(views) if views else logits.new_zeros(0)}


def _num_views(recipe: Recipe) -> int:
    return min(recipe.views, recipe.epochs)  # later ones have no turn


def _cache_key(teacher: nn.Module, data: TrainingSet, evaluation: Tensor) -> str:
    digest = hashlib.sha256()
    task: Task = data.task
    settings = (task.id, data.seed, _num_views(data.recipe), data.padding, data.flip, weights_digest(teacher))
    digest.update(repr(settings).encode())
    for tensor in (task.images, task.train, evaluation):
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()
