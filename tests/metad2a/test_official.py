"""Released checkpoints: our models give what plain code over the released names gives; names and shapes are strict."""

import math
from pathlib import Path

import pytest
import torch
from released import released_shapes, released_state
from torch import Tensor

from common.graphs import DagBatch
from common.spaces.nasbench201 import NasBench201Space
from metad2a.generator import Generator
from metad2a.official import OfficialModel, read_checkpoint, to_model
from metad2a.predictor import Predictor

State = dict[str, Tensor]
HEADS = 4


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attention(state: State, name: str, queries: Tensor, keys: Tensor) -> Tensor:
    q, k, v = (linear(state, f"{name}.fc_{p}", x) for p, x in zip("qkv", (queries, keys, keys), strict=True))
    heads = []
    for qh, kh, vh in zip(q.chunk(HEADS, 1), k.chunk(HEADS, 1), v.chunk(HEADS, 1), strict=True):
        heads.append(qh + torch.softmax(qh @ kh.T / math.sqrt(q.shape[1]), 1) @ vh)
    attended = torch.cat(heads, 1)
    return attended + torch.relu(linear(state, f"{name}.fc_o", attended))


def pooled(state: State, name: str, elements: Tensor) -> Tensor:
    """`sabPF` of one set (n, D): -> (z,)."""
    for block in ("enc.0", "enc.1"):
        elements = attention(state, f"{name}.{block}.mab", elements, elements)
    one = attention(state, f"{name}.dec.0.mab", state[f"{name}.dec.0.S"][0], elements)
    return linear(state, f"{name}.dec.1", one)[0]


def set_vector(state: State, features: Tensor) -> Tensor:
    """Of one data set (C, S, D)."""
    return pooled(state, "inter_setpool", torch.stack([pooled(state, "intra_setpool", images) for images in features]))


def gru(state: State, name: str, kind: int, hidden: Tensor) -> Tensor:
    onehot = torch.zeros(state[f"{name}.weight_ih"].shape[1])
    onehot[kind] = 1
    ours = [state[f"{name}.weight_ih"] @ onehot + state[f"{name}.bias_ih"]]
    ours.append(state[f"{name}.weight_hh"] @ hidden + state[f"{name}.bias_hh"])
    (r_in, z_in, n_in), (r_hid, z_hid, n_hid) = (part.chunk(3) for part in ours)
    r, z = torch.sigmoid(r_in + r_hid), torch.sigmoid(z_in + z_hid)
    return (1 - z) * torch.tanh(n_in + r * n_hid) + z * hidden


def message(state: State, gate: str, mapper: str, hidden: Tensor, position: int) -> Tensor:
    onehot = torch.zeros(state[f"{gate}.0.weight"].shape[1] - len(hidden))
    onehot[position] = 1
    known = torch.cat([hidden, onehot])
    return torch.sigmoid(linear(state, f"{gate}.0", known)) * (state[f"{mapper}.0.weight"] @ known)


def graph_vector(state: State, types: list[int], edges: set[tuple[int, int]]) -> Tensor:
    ends = []
    for direction, vertices in (("forward", range(len(types))), ("backward", reversed(range(len(types))))):
        hidden: dict[int, Tensor] = {}
        for v in vertices:
            near = [u for u in hidden if ((u, v) if direction == "forward" else (v, u)) in edges]
            parts = [message(state, f"gate_{direction}", f"mapper_{direction}", hidden[u], u) for u in near]
            total = sum(parts, torch.zeros(len(state["hg_unify.0.bias"])))
            hidden[v] = gru(state, f"grue_{direction}", types[v], total)
        ends.append(hidden[v])
    return linear(state, "fc1", linear(state, "hg_unify.0", torch.cat(ends)))


def released_score(state: State, features: Tensor, types: list[int], edges: set[tuple[int, int]]) -> Tensor:
    both = torch.cat([set_vector(state, features), graph_vector(state, types, edges)])
    return linear(state, "pred_fc.2", torch.tanh(linear(state, "pred_fc.0", both)))[0]


def released_recon(state: State, latent: Tensor, types: list[int], edges: set[tuple[int, int]]) -> Tensor:
    def vertex(v: int, near: list[int]) -> Tensor:
        parts = [message(state, "decoding_gate", "decoding_mapper", states[u], u) for u in near]
        return gru(state, "grud", types[v], sum(parts, torch.zeros(len(latent))))

    states = [gru(state, "grud", types[0], torch.tanh(linear(state, "fc3", latent)))]
    nats = torch.zeros(())
    for v in range(1, len(types)):
        logits = linear(state, "add_vertex.2", torch.relu(linear(state, "add_vertex.0", states[-1])))
        nats = nats - torch.log_softmax(logits, 0)[types[v]]
        near: list[int] = []
        for u in reversed(range(v)):
            pair = torch.cat([states[u], vertex(v, near)])
            p = torch.sigmoid(linear(state, "add_edge.2", torch.relu(linear(state, "add_edge.0", pair))))[0]
            nats = nats - (p if (u, v) in edges else 1 - p).log()
            near += [u] if (u, v) in edges else []
        states.append(vertex(v, near))
    return nats


def cells(num: int) -> DagBatch:
    space = NasBench201Space()
    return space.graphs(space.sample(num, torch.Generator().manual_seed(1)))


def plain(graphs: DagBatch, row: int) -> tuple[list[int], set[tuple[int, int]]]:
    return graphs.types[row].tolist(), {(int(u), int(v)) for u, v in graphs.adjacency[row].nonzero()}


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


@torch.no_grad()
def test_a_predictor_scores_as_plain_code_over_the_released_names(tmp_path: Path) -> None:
    state = released_state("predictor", h=24, z=12, n=7, nodes=8)
    predictor = read_checkpoint(saved(state, tmp_path / "ckpt_max_corr.pt")).model
    assert isinstance(predictor, Predictor)
    features, graphs = torch.rand(5, 3, 4, 512), cells(5)
    expected = [released_score(state, features[row], *plain(graphs, row)) for row in range(5)]
    found = predictor.score(predictor.encode_sets(features), predictor.encode_graphs(graphs))
    torch.testing.assert_close(found, torch.stack(expected), rtol=0, atol=1e-5)
    assert found.std() > 1e-3


@torch.no_grad()
def test_a_generator_has_the_latent_vectors_and_losses_of_plain_code(tmp_path: Path) -> None:
    state = released_state("generator")
    generator = read_checkpoint(saved(state, tmp_path / "ckpt_400.pt")).model
    assert isinstance(generator, Generator)
    features, graphs = torch.rand(5, 3, 4, 512), cells(5)
    vectors = torch.stack([set_vector(state, one) for one in features])
    mean, log_variance = generator.latent(features)
    torch.testing.assert_close(mean, linear(state, "fc1", vectors), rtol=0, atol=1e-5)
    torch.testing.assert_close(log_variance, linear(state, "fc2", vectors), rtol=0, atol=1e-5)
    expected = [released_recon(state, mean[row], *plain(graphs, row)) for row in range(5)]
    torch.testing.assert_close(generator.decoder.loss(mean, graphs), torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "sizes", "num_keys", "num_used", "params", "used_params"),
    [
        ("generator", {"h": 56, "z": 56, "n": 7, "nodes": 8}, 99, 75, 304_200, 220_144),
        ("predictor", {"h": 512, "z": 56, "n": 7, "nodes": 8}, 82, 76, 4_020_361, 3_438_105),
        ("generator", {"h": 56, "z": 56, "n": 29, "nodes": 22}, 99, 75, 322_478, 227_894),
        ("predictor", {"h": 512, "z": 56, "n": 29, "nodes": 22}, 82, 76, 4_116_617, 3_534_361),
    ],
)
def test_the_released_sizes_are_read_off_the_shapes(
    kind: str, sizes: dict[str, int], num_keys: int, num_used: int, params: int, used_params: int
) -> None:
    state = {name: torch.zeros(shape) for name, shape in released_shapes(kind, **sizes).items()}
    assert (len(state), sum(value.numel() for value in state.values())) == (num_keys, params)
    found = to_model(state, "file")
    assert len(state) - len(found.unused) == num_used
    assert sum(weight.numel() for weight in found.model.parameters()) == used_params
    assert (found.model.sizes.num_types, found.model.sizes.max_nodes) == (sizes["n"], sizes["nodes"])


def test_what_the_released_models_never_use_is_listed_and_has_no_say() -> None:
    changed = {"generator": "gate_forward.0.weight", "predictor": "fc2.bias"}
    for kind, name in changed.items():
        state = released_state(kind)
        found = to_model(state, "file")
        assert {"hv_unify.0.weight", "set_fc.0.bias", name} <= set(found.unused)
        other = to_model(state | {name: state[name] + 1}, "file")
        expected = found.model.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in other.model.state_dict().items())


@pytest.mark.parametrize("kind", ["generator", "predictor"])
def test_every_used_weight_changes_the_model(kind: str) -> None:
    state = released_state(kind)
    found = to_model(state, "file")
    before = found.model.state_dict()
    for name in state.keys() - set(found.unused):
        after = to_model(state | {name: state[name] + 1}, "file").model.state_dict()
        changed = [key for key, value in after.items() if not torch.equal(value, before[key])]
        assert len(changed) == 1, name
        difference = (after[changed[0]] - before[changed[0]]).round()
        assert int(difference.count_nonzero()) == state[name].numel(), name


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("generator", "grud.bias_hh", None, r"missing: grud\.bias_hh"),
        ("generator", "gate_backward.0.weight", None, r"missing: gate_backward\.0\.weight"),
        ("generator", "fc1.weight", None, r"missing: fc1\.weight"),
        ("generator", "fc9.weight", torch.zeros(1), r"unknown: fc9\.weight"),
        ("generator", "pred_fc.0.weight", torch.zeros(1), r"unknown: pred_fc\.0\.weight"),
        ("predictor", "pred_fc.2.bias", torch.zeros(2), r"of another shape: pred_fc\.2\.bias \(2,\), not \(1,\)"),
        ("predictor", "hv_unify.0.bias", torch.zeros(3), r"of another shape: hv_unify\.0\.bias"),
        ("predictor", "fc1.weight", torch.zeros(3), r"no matrices: fc1\.weight"),
        ("predictor", "inter_setpool.dec.0.S", "text", r"of another shape: inter_setpool\.dec\.0\.S"),
        ("predictor", "hg_unify.0.bias", torch.full((12,), math.nan), r"not finite: hg_unify\.0\.bias"),
    ],
)
def test_a_checkpoint_that_does_not_map_is_refused_by_name(
    tmp_path: Path, kind: str, name: str, value: Tensor | str | None, message: str
) -> None:
    state = dict(released_state(kind))
    state.pop(name, None)
    if value is not None:
        state[name] = value
    with pytest.raises(ValueError, match=rf"ckpt\.pt does not map onto the model: .*{message}"):
        read_checkpoint(saved(state, tmp_path / "ckpt.pt"))


def test_a_generator_of_two_widths_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden_dim 16 and latent_dim 12"):
        to_model(released_state("generator", h=16, z=12, n=7, nodes=8), "file")


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_checkpoint(tmp_path / "nowhere.pt")
    with pytest.raises(ValueError, match=r"no checkpoint of the released generator.*it holds conv1\.weight"):
        read_checkpoint(saved({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt"))
    with pytest.raises(ValueError, match="holds a list; a checkpoint is a dictionary"):
        read_checkpoint(saved([1, 2], tmp_path / "list.pt"))
    whole = saved(released_state("predictor"), tmp_path / "ckpt.pt")
    whole.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(RuntimeError, match=r"ckpt\.pt is damaged .* download it anew"):
        read_checkpoint(whole)


def test_an_imported_model_does_not_hang_on_its_file(tmp_path: Path) -> None:
    path = saved(released_state("predictor"), tmp_path / "ckpt.pt")
    found: OfficialModel = read_checkpoint(path)
    before = {name: value.clone() for name, value in found.model.state_dict().items()}
    path.write_bytes(b"\0" * path.stat().st_size)
    assert all(torch.equal(value, before[name]) for name, value in found.model.state_dict().items())
