"""Files of trained generators and predictors: weights with all that is needed to use them on a new dataset.

A pair is a folder with both: `generator.safetensors` and `predictor.safetensors`, or each in a folder of its name.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from common.experiment.config import UsageError
from common.store.weights import load_weights, save_weights
from metad2a.generator import Generator, GeneratorSizes, new_generator
from metad2a.predictor import Normaliser, Predictor, PredictorSizes, new_predictor
from metad2a.spaces import Space, View, space_of, view_of

Model = TypeVar("Model", bound=Generator | Predictor)
MODELS = ("generator", "predictor")

_KIND = "metad2a-model"
_CELLS = "training_cells"
_DESCRIBED = ("space_name", "extractor", "sources", "num_sample", "origin", "notes")


@dataclass(frozen=True, kw_only=True, eq=False)
class Artifact(Generic[Model]):
    """A trained generator or predictor.

    Attributes:
        model: on the CPU when loaded.
        space_name: networks that its labels belong to.
        extractor: id of the network that its features come from.
        sources: ids of the sets that it learned from or was selected on.
        num_sample: images of a class in a draw.
        training_cells: (M,) int64 rising, what it learned from, as `View.keys`; empty where that is not known.
        normaliser: between a predictor's scores and accuracies; None where scores only rank, and for a generator.
        origin: "metad2a", or "official" for an imported checkpoint.
        notes: how it was trained, as plain JSON values.
    """

    model: Model
    space_name: str
    extractor: str
    sources: tuple[str, ...]
    num_sample: int
    training_cells: Tensor
    normaliser: Normaliser | None
    origin: str
    notes: dict[str, Any]

    @property
    def kind(self) -> str:
        """`generator` or `predictor`."""
        return "generator" if isinstance(self.model, Generator) else "predictor"

    @property
    def space(self) -> Space:
        """The networks that its labels belong to."""
        found: Space = space_of(self.space_name)
        return found

    @property
    def view(self) -> View:
        """What the architectures of its space are."""
        return view_of(self.space_name)

    def has_seen(self, task: str) -> bool:
        """Whether it learned from the set that a task is a part of."""
        return task.partition("/")[0] in {source.partition("/")[0] for source in self.sources}


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A generator and a predictor that go together."""

    folder: Path
    generator: Artifact[Generator]
    predictor: Artifact[Predictor]

    @property
    def sources(self) -> tuple[str, ...]:
        """Sets that either of them has seen."""
        return tuple(dict.fromkeys((*self.generator.sources, *self.predictor.sources)))

    def has_seen(self, task: str) -> bool:
        """Whether either of them learned from the set that a task is a part of."""
        return self.generator.has_seen(task) or self.predictor.has_seen(task)


def save_artifact(path: Path, artifact: Artifact[Any]) -> None:
    """Write a model with its description into one safetensors file."""
    described = {name: getattr(artifact, name) for name in _DESCRIBED} | {
        "model": artifact.kind,
        "sizes": asdict(artifact.model.sizes),
        "normaliser": None if artifact.normaliser is None else asdict(artifact.normaliser),
    }
    tensors = {f"model.{name}": value for name, value in artifact.model.state_dict().items()}
    text = json.dumps(described, sort_keys=True, allow_nan=False)
    keys = artifact.training_cells
    is_short = not len(keys) or int(keys.max()) <= torch.iinfo(torch.int16).max
    stored = keys.to(torch.int16) if is_short else keys
    save_weights(path, tensors | {_CELLS: stored}, {"kind": _KIND, "artifact": text})


def load_generator(path: Path) -> Artifact[Generator]:
    """Read a trained generator.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, holds something else, or its weights are not finite.
    """
    return _load(path, "generator", lambda sizes: new_generator(GeneratorSizes(**sizes), 0))


def load_predictor(path: Path) -> Artifact[Predictor]:
    """Read a trained predictor; errors as `load_generator`."""
    return _load(path, "predictor", lambda sizes: new_predictor(PredictorSizes(**sizes), 0))


def load_pair(folder: Path) -> Pair:
    """Read both models of a folder.

    Raises:
        FileNotFoundError: one of them is not there; the message says how to make it.
        RuntimeError: a file is damaged or holds something else.
        UsageError: the two do not go together; the message says in what.
    """
    generator, predictor = (_find(folder, model) for model in MODELS)
    pair = Pair(folder=folder, generator=load_generator(generator), predictor=load_predictor(predictor))
    for artifact, path in ((pair.generator, generator), (pair.predictor, predictor)):
        _check_graphs(artifact, path)
    for name in ("extractor", "space_name", "num_sample"):
        ours, theirs = getattr(pair.generator, name), getattr(pair.predictor, name)
        if ours != theirs:
            raise UsageError(
                f"the models of {folder} do not go together: {name} of the generator is {ours}, of the predictor "
                f"{theirs}; meta-train one of them again"
            )
    return pair


def _find(folder: Path, model: str) -> Path:
    places = [folder / f"{model}.safetensors", folder / model / f"{model}.safetensors"]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f"there is no {model} in {folder} (neither {places[0].name} nor {model}/{places[1].name}): make one with "
        f"`python -m metad2a meta-train --model {model}`"
    )


def _check_graphs(artifact: Artifact[Any], path: Path) -> None:
    """Refuse a model of other graphs than those of its space.

    Raises:
        UsageError: naming the sizes.
    """
    sizes, view = artifact.model.sizes, artifact.view
    if (sizes.num_types, sizes.max_nodes) != (view.num_types, view.num_vertices):
        raise UsageError(
            f"{path} is of graphs with {sizes.max_nodes} vertices of {sizes.num_types} types; {view.word} of "
            f"{artifact.space_name} have {view.num_vertices} of {view.num_types}: give a pair for them"
        )


def _load(path: Path, model: str, make: Callable[[Mapping[str, Any]], Model]) -> Artifact[Model]:
    weights, metadata = load_weights(path)
    described = json.loads(metadata.get("artifact", "{}"))
    found = described.get("model") if metadata.get("kind") == _KIND else metadata.get("kind", "plain weights")
    if found != model:
        raise RuntimeError(
            f"{path} holds {found!r}, no {model} of ours: make one with `python -m metad2a meta-train --model "
            f"{model}`, or bring an official checkpoint in with `python -m metad2a import-official`"
        )
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise RuntimeError(f"{path}: {name} is not finite: its training went wrong, train it again")
    try:
        return _restored(described, weights, make)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise RuntimeError(f"{path} does not fit its own description ({reason}): write or download it anew") from error


def _restored(
    described: Mapping[str, Any], weights: Mapping[str, Tensor], make: Callable[[Mapping[str, Any]], Model]
) -> Artifact[Model]:
    model = make(described["sizes"])
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items() if name != _CELLS})
    cells = weights[_CELLS].long()
    size = view_of(described["space_name"]).space.size()
    if len(cells) and not 0 <= int(cells.min()) <= int(cells.max()) < size:
        raise ValueError(f"{_CELLS} holds numbers outside 0 to {size - 1}")
    normaliser = described["normaliser"]
    return Artifact(
        model=cast(Model, model.eval()),
        training_cells=cells,
        normaliser=None if normaliser is None else Normaliser(**normaliser),
        **{name: described[name] for name in _DESCRIBED} | {"sources": tuple(described["sources"])},
    )
