"""Read checkpoints of the released MetaD2A code into our generators and predictors.

Source: released code of Lee et al., ICLR 2021 (names and shapes only).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.store.released import read_released
from metad2a.generator import Generator, GeneratorSizes, new_generator
from metad2a.predictor import Predictor, PredictorSizes, new_predictor


@dataclass(frozen=True, kw_only=True, eq=False)
class OfficialModel:
    """A model made from a released checkpoint.

    Attributes:
        model: on the CPU. Accuracies behind a predictor's scores are not in its file: see `metad2a.official_data`.
        unused: names of weights that the released models hold and never use.
    """

    model: Generator | Predictor
    unused: tuple[str, ...]


@dataclass(frozen=True)
class _Widths:
    """Letters as in the released code's flags: hs, nz, nvt, the largest number of vertices, the features' width."""

    h: int
    z: int
    n: int
    nodes: int
    features: int


@dataclass(frozen=True)
class _Entry:
    """A released weight, and which of ours it becomes or, with those of the same target, is joined into by rows."""

    name: str
    shape: tuple[int, ...]
    target: str | None


def read_checkpoint(path: Path | str) -> OfficialModel:
    """Read a released `ckpt_400.pt`, `ckpt_120.pt` or `ckpt_max_corr.pt`; sizes are read off the shapes.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: it is damaged, or holds other types than tensors and plain values.
        ValueError: it holds no weights of a generator or predictor, or they do not map onto ours; all are named.
    """
    content = read_released(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; a checkpoint is a dictionary of weights")
    return to_model(content, str(path))


def to_model(state: Mapping[str, Any], where: str) -> OfficialModel:
    """Make the model of a released state dict; see `read_checkpoint`.

    Args:
        state: weights by released names.
        where: names the file in errors.
    """
    if "fc3.weight" not in state and "pred_fc.0.weight" not in state:
        raise ValueError(
            f"{where} is no checkpoint of the released generator (with fc3.weight) or predictor (with "
            f"pred_fc.0.weight); it holds {', '.join(sorted(map(str, state))[:5]) or 'nothing'}"
        )
    is_generator = "fc3.weight" in state
    widths = _widths(state, where)
    layout = list(_generator(widths) if is_generator else _predictor(widths))
    _check(state, layout, where)
    parts: dict[str, list[Tensor]] = {}
    for entry in layout:
        if entry.target is not None:
            parts.setdefault(entry.target, []).append(state[entry.name].float())
    model = _new_model(widths, is_generator=is_generator)
    model.load_state_dict({target: torch.cat(tensors) for target, tensors in parts.items()})
    return OfficialModel(model=model, unused=tuple(entry.name for entry in layout if entry.target is None))


def _new_model(w: _Widths, *, is_generator: bool) -> Generator | Predictor:
    sizes = {"num_types": w.n, "max_nodes": w.nodes, "hidden_dim": w.h, "feature_dim": w.features}
    if is_generator:
        return new_generator(GeneratorSizes(latent_dim=w.z, **sizes), seed=0)
    return new_predictor(PredictorSizes(embedding_dim=w.z, **sizes), seed=0)


def _widths(state: Mapping[str, Any], where: str) -> _Widths:
    names = ("fc1.weight", "grue_forward.weight_ih", "gate_forward.0.weight", "intra_setpool.enc.0.mab.fc_q.weight")
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"{where} does not map onto the model: missing: {', '.join(missing)}")
    flat = [name for name in names if not isinstance(state[name], Tensor) or state[name].dim() != 2]
    if flat:
        raise ValueError(f"{where} does not map onto the model: no matrices: {', '.join(flat)}")
    (z, h), (_, n), (_, gate), (_, features) = (state[name].shape for name in names)
    return _Widths(h=h, z=z, n=n, nodes=gate - h, features=features)


def _check(state: Mapping[str, Any], layout: list[_Entry], where: str) -> None:
    shapes = {entry.name: entry.shape for entry in layout}
    found = {name: value for name, value in state.items() if name in shapes}
    wrong = [name for name, value in found.items() if getattr(value, "shape", None) != shapes[name]]
    infinite = [name for name in found.keys() - set(wrong) if not bool(torch.isfinite(found[name]).all())]
    parts = {
        "missing": shapes.keys() - found.keys(),
        "unknown": map(str, state.keys() - found.keys()),
        "of another shape": (f"{n} {tuple(getattr(state[n], 'shape', ()))}, not {shapes[n]}" for n in wrong),
        "not finite": infinite,
    }
    complaints = [f"{what}: {', '.join(listed)}" for what, names in parts.items() if (listed := sorted(names))]
    if complaints:
        raise ValueError(f"{where} does not map onto the model: {'; '.join(complaints)}")


def _generator(w: _Widths) -> Iterator[_Entry]:
    for name in ("grue_forward", "grue_backward"):
        yield from _cell(name, None, w)
    yield from _cell("grud", "decoder.update.cell", w)
    for name in ("enc_g_mu", "enc_g_var"):
        yield from _linear(name, None, w.z, w.h)
    yield from _linear("fc1", "mean", w.z, w.h)
    yield from _linear("fc2", "log_variance", w.z, w.h)
    yield from _linear("fc3", "decoder.start", w.h, w.z)
    yield from _linear("add_vertex.0", "decoder.type_head.0", 2 * w.h, w.h)
    yield from _linear("add_vertex.2", "decoder.type_head.2", w.n, 2 * w.h)
    yield from _linear("add_edge.0", "decoder.edge_hidden", 4 * w.h, 2 * w.h)
    yield from _linear("add_edge.2", "decoder.edge_output", 1, 4 * w.h)
    yield from _messages("decoding_gate", "decoding_mapper", "decoder.update", w)
    for direction in ("forward", "backward"):
        yield from _messages(f"gate_{direction}", f"mapper_{direction}", None, w)
    for name in ("hv_unify.0", "hg_unify.0"):
        yield from _linear(name, None, w.h, 2 * w.h)
    yield from _sets(w)


def _predictor(w: _Widths) -> Iterator[_Entry]:
    for direction, ours in (("forward", "graph_encoder.ahead"), ("backward", "graph_encoder.back")):
        yield from _cell(f"grue_{direction}", f"{ours}.cell", w)
        yield from _messages(f"gate_{direction}", f"mapper_{direction}", ours, w)
    yield from _linear("hv_unify.0", None, w.h, 2 * w.h)
    yield from _linear("hg_unify.0", "graph_encoder.unify", w.h, 2 * w.h)
    yield from _linear("fc1", "graph_embedding", w.z, w.h)
    yield from _linear("fc2", None, w.z, w.h)
    yield from _linear("pred_fc.0", "head_hidden", w.h, 2 * w.z)
    yield from _linear("pred_fc.2", "head_output", 1, w.h)
    yield from _sets(w)


def _sets(w: _Widths) -> Iterator[_Entry]:
    for theirs, ours, into in (("intra_setpool", "within", w.features), ("inter_setpool", "across", w.z)):
        target = f"set_encoder.{ours}"
        yield from _attention(f"{theirs}.enc.0.mab", f"{target}.encoder.0.attention", w.z, into)
        yield from _attention(f"{theirs}.enc.1.mab", f"{target}.encoder.1.attention", w.z, w.z)
        yield _Entry(f"{theirs}.dec.0.S", (1, 1, w.z), f"{target}.pooling.seeds")
        yield from _attention(f"{theirs}.dec.0.mab", f"{target}.pooling.attention", w.z, w.z)
        yield from _linear(f"{theirs}.dec.1", f"{target}.head.0", w.z, w.z)
    yield from _linear("set_fc.0", None, w.z, w.features)


def _attention(theirs: str, ours: str, out: int, into: int) -> Iterator[_Entry]:
    yield from _linear(f"{theirs}.fc_q", f"{ours}.query", out, into)
    yield from _linear(f"{theirs}.fc_k", f"{ours}.key_value", out, into)
    yield from _linear(f"{theirs}.fc_v", f"{ours}.key_value", out, into)
    yield from _linear(f"{theirs}.fc_o", f"{ours}.output", out, out)


def _messages(gate: str, mapper: str, ours: str | None, w: _Widths) -> Iterator[_Entry]:
    weight = None if ours is None else f"{ours}.message.weight"
    yield _Entry(f"{gate}.0.weight", (w.h, w.h + w.nodes), weight)
    yield _Entry(f"{mapper}.0.weight", (w.h, w.h + w.nodes), weight)
    yield _Entry(f"{gate}.0.bias", (w.h,), None if ours is None else f"{ours}.gate_bias")


def _cell(theirs: str, ours: str | None, w: _Widths) -> Iterator[_Entry]:
    shapes = {"weight_ih": (3 * w.h, w.n), "weight_hh": (3 * w.h, w.h), "bias_ih": (3 * w.h,), "bias_hh": (3 * w.h,)}
    for name, shape in shapes.items():
        yield _Entry(f"{theirs}.{name}", shape, None if ours is None else f"{ours}.{name}")


def _linear(theirs: str, ours: str | None, out: int, into: int) -> Iterator[_Entry]:
    for name, shape in (("weight", (out, into)), ("bias", (out,))):
        yield _Entry(f"{theirs}.{name}", shape, None if ours is None else f"{ours}.{name}")
