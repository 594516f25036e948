"""The predictor: sizes, the order of its inputs, its equality with plain convolutions, and its file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dass.predictor import (
    InputType,
    Predictor,
    PredictorArtifact,
    PredictorConfig,
    load_predictor,
    map_patches,
    new_predictor,
    new_step_sizes,
    save_predictor,
)


def by_convolutions(state: dict[str, Tensor], student: Tensor, codes: Tensor, teacher: Tensor) -> Tensor:
    """The released forward pass, written again over the names of its state dict."""

    def encode(maps: Tensor, name: str) -> Tensor:
        hidden = functional.conv2d(maps, state[f"{name}.conv1.weight"], stride=2, padding=1).relu()
        return functional.conv2d(hidden, state[f"{name}.conv2.weight"], stride=2, padding=1).relu().mean((2, 3))

    parts = [
        encode(student, "func_encoder"),
        functional.linear(codes, state["arch_encoder.fc.weight"], state["arch_encoder.fc.bias"]),
        encode(teacher, "teacher_encoder").repeat(len(codes), 1),
    ]
    hidden = functional.linear(torch.cat(parts, 1), state["proj_layers.0.weight"], state["proj_layers.0.bias"]).tanh()
    return functional.linear(hidden, state["proj_layers.2.weight"], state["proj_layers.2.bias"])[:, 0]


def inputs(config: PredictorConfig, num: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    student = torch.randn(num, config.map_channels, side, side, generator=random).relu()
    codes = (torch.rand(num, config.arch_dim, generator=random) < 0.1).float()
    return student, codes, torch.randn(1, config.map_channels, side, side, generator=random).relu()


def predict(predictor: Predictor, student: Tensor, codes: Tensor, teacher: Tensor) -> Tensor:
    with torch.inference_mode():
        scores: Tensor = predictor(student, codes, teacher)
    return scores


@pytest.mark.parametrize(
    ("input_type", "num_params"),
    [("STA", 1_228_289), ("S", 606_337), ("T", 606_337), ("A", 15_873), ("ST", 589_824 * 2 + 512 * 64 + 64 + 65)],
)
def test_each_choice_of_inputs_has_the_published_number_of_parameters(input_type: InputType, num_params: int) -> None:
    predictor = Predictor(PredictorConfig(input_type=input_type))
    assert sum(weight.numel() for weight in predictor.parameters()) == num_params


def test_the_state_dict_has_the_released_names_and_shapes() -> None:
    shapes = {name: tuple(value.shape) for name, value in Predictor(PredictorConfig()).state_dict().items()}
    assert shapes == {
        "func_encoder.conv1.weight": (128, 256, 3, 3),
        "func_encoder.conv2.weight": (256, 128, 3, 3),
        "arch_encoder.fc.weight": (64, 181),
        "arch_encoder.fc.bias": (64,),
        "teacher_encoder.conv1.weight": (128, 256, 3, 3),
        "teacher_encoder.conv2.weight": (256, 128, 3, 3),
        "proj_layers.0.weight": (64, 576),
        "proj_layers.0.bias": (64,),
        "proj_layers.2.weight": (1, 64),
        "proj_layers.2.bias": (1,),
    }


@pytest.mark.parametrize("side", [2, 4, 8, 12])
def test_maps_and_patches_give_the_released_forward_pass_in_the_order_student_code_teacher(side: int) -> None:
    predictor = new_predictor(PredictorConfig(), seed=0)
    student, codes, teacher = inputs(predictor.config, 5, side)
    expected = by_convolutions(predictor.state_dict(), student, codes, teacher)
    for layout in (torch.clone, map_patches):
        found = predict(predictor, layout(student), codes, layout(teacher))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("input_type", ["STA", "ST", "SA", "TA", "S", "T", "A"])
def test_a_prediction_depends_on_no_other_candidate(input_type: InputType) -> None:
    predictor = new_predictor(PredictorConfig(input_type=input_type), seed=0)
    student, codes, teacher = inputs(predictor.config, 12, 8)
    scores = predict(predictor, student, codes, teacher)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(predict(predictor, student[order], codes[order], teacher), scores[order])
    torch.testing.assert_close(predict(predictor, student[:1], codes[:1], teacher), scores[:1])


@pytest.mark.parametrize(("input_type", "used"), [("STA", "STA"), ("SA", "SA"), ("TA", "TA"), ("T", "T"), ("A", "A")])
def test_predictions_change_with_the_inputs_in_use_and_with_no_other(input_type: InputType, used: str) -> None:
    predictor = new_predictor(PredictorConfig(input_type=input_type), seed=0)
    given = dict(zip("SAT", inputs(predictor.config, 3, 8), strict=True))
    before = predict(predictor, *given.values())
    for letter in "SAT":
        after = predict(predictor, *(given | {letter: given[letter] + 1}).values())
        assert torch.equal(before, after) == (letter not in used)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(small: PredictorConfig) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = (new_predictor(small, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["proj_layers.0.weight"], third["proj_layers.0.weight"])


def test_maps_that_are_not_square_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 4\).*side, side"):
        map_patches(torch.zeros(2, 3, 8, 4))


@pytest.mark.parametrize(
    ("changes", "message"), [({"hidden_dim": 0}, "hidden_dim is 0"), ({"input_type": "ATS"}, "STA")]
)
def test_wrong_sizes_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictorConfig(**changes)  # type: ignore[arg-type]


def artifact(config: PredictorConfig) -> PredictorArtifact:
    predictor = new_predictor(config, seed=3)
    step_sizes = {name: torch.rand_like(value) - 0.5 for name, value in new_step_sizes(predictor, 0.1).items()}
    return PredictorArtifact(
        predictor=predictor,
        step_sizes=step_sizes,
        space_name="toy",
        resolution=16,
        pr_type="copy_paste_first",
        probe=torch.randn(1, 3, 16, 16),
        num_inner_updates=2,
        origin="official",
        score=0.5,
        notes={"tasks": ["a", "b"]},
    )


@pytest.mark.parametrize("input_type", ["STA", "A"])
def test_a_saved_predictor_comes_back_with_its_step_sizes_and_description(
    tmp_path: Path, input_type: InputType
) -> None:
    saved = artifact(PredictorConfig(map_channels=16, input_type=input_type))
    save_predictor(tmp_path / "predictor.safetensors", saved)
    loaded = load_predictor(tmp_path / "predictor.safetensors")
    given = inputs(saved.predictor.config, 4, 4)
    assert torch.equal(predict(loaded.predictor, *given), predict(saved.predictor, *given))
    assert all(torch.equal(loaded.step_sizes[name], value) for name, value in saved.step_sizes.items())
    assert loaded.probe is not None
    assert saved.probe is not None
    assert torch.equal(loaded.probe, saved.probe)
    for name in (
        "space_name",
        "resolution",
        "pr_type",
        "adapt",
        "num_inner_updates",
        "score",
        "unit",
        "origin",
        "notes",
    ):
        assert getattr(loaded, name) == getattr(saved, name), name


def test_a_predictor_without_a_step_size_is_not_written(tmp_path: Path, small: PredictorConfig) -> None:
    saved = artifact(small)
    del saved.step_sizes["proj_layers.0.bias"]
    with pytest.raises(ValueError, match="step sizes and weights differ"):
        save_predictor(tmp_path / "predictor.safetensors", saved)


def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    from common.store.weights import save_weights

    save_weights(tmp_path / "student.safetensors", {"fc.weight": torch.zeros(2, 2)}, {})
    with pytest.raises(RuntimeError, match=r"student\.safetensors holds 'plain weights', not 'dass-predictor'"):
        load_predictor(tmp_path / "student.safetensors")
