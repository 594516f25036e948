from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common.experiment.config import UsageError
from common.store.weights import load_weights, save_weights
from metad2a.artifacts import (
    Artifact,
    Pair,
    load_generator,
    load_pair,
    load_predictor,
    save_artifact,
)
from metad2a.generator import GeneratorSizes, new_generator
from metad2a.predictor import Normaliser, PredictorSizes, new_predictor
from metad2a.spaces import space_of

MakePair = Callable[..., Pair]


def rewritten(path: Path, **tensors: torch.Tensor) -> None:
    """Writes a weights file again with some tensors replaced; its checksum is right."""
    weights, metadata = load_weights(path)
    metadata.pop("format")
    save_weights(path, weights | tensors, metadata)


def test_models_come_back_with_all_that_is_known_of_them(make_pair: MakePair, tmp_path: Path) -> None:
    pair = make_pair(tmp_path, normaliser=Normaliser(0.7, 0.1), notes={"seed": 3})
    model = new_generator(GeneratorSizes(hidden_dim=8, latent_dim=8, feature_dim=12), 0)
    for name, value in model.state_dict().items():
        assert torch.equal(pair.generator.model.state_dict()[name], value), name
    artifact = pair.predictor
    assert (artifact.kind, artifact.space_name, artifact.extractor) == (
        "predictor",
        "nasbench201-16x5",
        "random-0123abcd",
    )
    assert (artifact.sources, artifact.num_sample, artifact.normaliser) == (("hills", "lakes"), 3, Normaliser(0.7, 0.1))
    assert artifact.training_cells.tolist() == [3, 77, 15_624]
    assert artifact.notes == {"seed": 3}
    assert not pair.generator.model.training
    assert (artifact.space.channels, artifact.space.cells_per_stage) == (16, 5)


def test_equal_models_are_equal_bytes(make_pair: MakePair, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make_pair(tmp_path / folder)
    for name in ("generator", "predictor"):
        first, second = (tmp_path / folder / f"{name}.safetensors" for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_a_pair_is_found_in_one_folder_or_in_one_a_model(make_pair: MakePair, tmp_path: Path) -> None:
    make_pair(tmp_path)
    for name in ("generator", "predictor"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.safetensors").rename(tmp_path / name / f"{name}.safetensors")
    assert load_pair(tmp_path).sources == ("hills", "lakes")
    (tmp_path / "predictor/predictor.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no predictor in .*meta-train --model predictor"):
        load_pair(tmp_path)


@pytest.mark.parametrize(
    ("task", "seen"),
    [("hills", True), ("hills/0-9", True), ("hills/3+5", True), ("hill", False), ("folder:hills", False)],
)
def test_a_pair_has_seen_its_sources_and_their_parts(
    task: str, seen: bool, make_pair: MakePair, tmp_path: Path
) -> None:
    assert make_pair(tmp_path).has_seen(task) == seen
    assert make_pair(tmp_path, sources=("hills/0-4",)).has_seen(task) == seen


@pytest.mark.parametrize(("name", "value"), [("extractor", "compact-00000000"), ("space_name", "nasbench201-8x1")])
def test_models_that_do_not_go_together_are_refused(name: str, value: str, make_pair: MakePair, tmp_path: Path) -> None:
    make_pair(tmp_path / "a")
    make_pair(tmp_path / "b", **{name: value})
    (tmp_path / "b/generator.safetensors").replace(tmp_path / "a/generator.safetensors")
    with pytest.raises(UsageError, match=f"do not go together: {name} of the generator is {value}"):
        load_pair(tmp_path / "a")


def test_a_model_in_the_place_of_the_other_is_refused(make_pair: MakePair, tmp_path: Path) -> None:
    make_pair(tmp_path)
    with pytest.raises(RuntimeError, match=r"generator.safetensors holds 'generator', no predictor of ours"):
        load_predictor(tmp_path / "generator.safetensors")
    save_weights(tmp_path / "foreign.safetensors", {"weight": torch.ones(1)}, {"kind": "dass-predictor"})
    with pytest.raises(RuntimeError, match=r"holds 'dass-predictor', no generator of ours: make one with"):
        load_generator(tmp_path / "foreign.safetensors")


def test_weights_that_are_not_finite_are_named(make_pair: MakePair, tmp_path: Path) -> None:
    make_pair(tmp_path)
    rewritten(tmp_path / "generator.safetensors", **{"model.mean.bias": torch.full((8,), torch.nan)})
    with pytest.raises(RuntimeError, match=r"model.mean.bias is not finite: its training went wrong"):
        load_generator(tmp_path / "generator.safetensors")


def test_weights_that_do_not_fit_the_description_are_refused(make_pair: MakePair, tmp_path: Path) -> None:
    make_pair(tmp_path)
    rewritten(tmp_path / "generator.safetensors", **{"model.mean.bias": torch.zeros(9)})
    with pytest.raises(RuntimeError, match=r"generator.safetensors does not fit its own description \(.*mean.bias"):
        load_generator(tmp_path / "generator.safetensors")
    make_pair(tmp_path)
    rewritten(tmp_path / "generator.safetensors", training_cells=torch.tensor([15_625], dtype=torch.int16))
    with pytest.raises(RuntimeError, match="training_cells holds numbers outside 0 to 15624"):
        load_generator(tmp_path / "generator.safetensors")


def test_a_pair_for_other_graphs_is_refused(make_pair: MakePair, tmp_path: Path) -> None:
    make_pair(tmp_path)
    model = new_predictor(PredictorSizes(num_types=29, max_nodes=22, hidden_dim=8, embedding_dim=8, feature_dim=12), 0)
    kept = load_predictor(tmp_path / "predictor.safetensors")
    fields = {name: value for name, value in vars(kept).items() if name != "model"}
    save_artifact(tmp_path / "predictor.safetensors", Artifact(model=model, **fields))
    with pytest.raises(UsageError, match="graphs with 22 vertices of 29 types"):
        load_pair(tmp_path)


@pytest.mark.parametrize("name", ["resnet-16x2", "nasbench201-16", "nasbench201-0x5"])
def test_names_of_other_spaces_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no space of NAS-Bench-201|at least 1"):
        space_of(name)
