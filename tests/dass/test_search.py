"""Search: bounds hold, scores are the adapted predictor's, the order is stable, misfits are refused."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from common.data.tasks import Task
from common.experiment.config import UsageError
from common.spaces import ResNetArch, ResNetSpace
from dass.networks import TrainedNetwork
from dass.prediction import adapt_and_predict
from dass.predictor import Predictor, PredictorArtifact, PredictorConfig, new_predictor, new_step_sizes
from dass.probe import embed, make_probe
from dass.search import SearchConfig, check_predictor, draw_candidates, rank

SPACE = ResNetSpace(teacher_widths=(16, 32, 48, 64), max_depth=2)
FILE = Path("predictor.safetensors")


def new_task(resolution: int = 16) -> Task:
    labels = torch.arange(12) % 3
    return Task(
        id="noise",
        description="noise",
        images=torch.zeros(12, 3, resolution, resolution, dtype=torch.uint8),
        labels=labels,
        class_names=("a", "b", "c"),
        train=torch.arange(6),
        evaluation=torch.arange(6, 12),
        flip=True,
    )


def new_artifact(**changes: Any) -> PredictorArtifact:
    sizes = PredictorConfig(
        map_channels=64, hidden_channels=8, out_channels=12, hidden_dim=10, arch_dim=SPACE.code_length
    )
    predictor = new_predictor(changes.pop("config", sizes), 0)
    values: dict[str, Any] = {
        "predictor": predictor,
        "step_sizes": new_step_sizes(predictor, 0.05),
        "space_name": SPACE.code_name,
        "resolution": 16,
        "pr_type": "copy_paste_first",
        "probe": torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(4)),
    }
    return PredictorArtifact(**(values | changes))


def new_teacher(space: ResNetSpace = SPACE) -> TrainedNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = space.build(space.teacher, 3, 16)
        network(torch.randn(8, 3, 16, 16))
    return TrainedNetwork(
        network=network.eval(),
        role="teacher",
        space=space,
        arch=space.teacher,
        task="noise",
        description="noise",
        class_names=("a", "b", "c"),
        resolution=16,
        best_accuracy=0.8,
        final_accuracy=0.7,
        initial_accuracy=0.3,
        notes={},
    )


def candidates(num: int = 9) -> list[ResNetArch]:
    return SPACE.sample(num, torch.Generator().manual_seed(1))


def config(**changes: Any) -> SearchConfig:
    values: dict[str, Any] = {"resolution": 16, "space": SPACE, "num_candidates": 40}
    return SearchConfig(**(values | changes))


def costs(archs: list[ResNetArch]) -> list[tuple[int, int]]:
    found = [SPACE.cost(arch, 3, 16) for arch in archs]
    return [(cost.num_params, cost.macs) for cost in found]


def test_without_bounds_as_many_distinct_students_are_drawn_as_asked_for() -> None:
    found = draw_candidates(config(), new_task())
    assert len(found) == len(set(found)) == 40
    assert found == draw_candidates(config(), new_task())
    assert found != draw_candidates(config(seed=1), new_task())


@pytest.mark.parametrize("quantile", [0.05, 0.5])
def test_no_student_violates_a_bound(quantile: float) -> None:
    free = costs(draw_candidates(config(num_candidates=200), new_task()))
    max_params, max_macs = (sorted(values)[int(quantile * 200)] for values in zip(*free, strict=True))
    either: list[dict[str, int]] = [
        {"max_params": max_params},
        {"max_macs": max_macs},
        {"max_params": max_params, "max_macs": max_macs},
    ]
    for bounds in either:
        found = draw_candidates(config(**bounds), new_task())
        assert len(found) > 20
        assert all(params <= bounds.get("max_params", math.inf) for params, _ in costs(found))
        assert all(macs <= bounds.get("max_macs", math.inf) for _, macs in costs(found))


def test_a_bound_may_be_met_exactly() -> None:
    params, macs = costs([SPACE.smallest])[0]
    assert draw_candidates(config(max_params=params, max_macs=macs, num_candidates=5), new_task()) == [SPACE.smallest]


@pytest.mark.parametrize(
    "bounds", [{"max_params": 1000}, {"max_macs": 1000}, {"max_params": 0}, {"max_macs": 0}, {"max_params": -1}]
)
def test_impossible_bounds_name_what_the_smallest_student_costs(bounds: dict[str, int]) -> None:
    params, macs = costs([SPACE.smallest])[0]
    expected = rf"the smallest of {SPACE.name} on noise has {params:,} parameters and {macs:,} MACs"
    with pytest.raises(UsageError, match=expected):
        draw_candidates(config(**bounds), new_task())


def test_a_bound_that_only_macs_break_is_impossible_too() -> None:
    params, macs = costs([SPACE.smallest])[0]
    with pytest.raises(UsageError, match="no student satisfies"):
        draw_candidates(config(max_params=params, max_macs=macs - 1), new_task())


def by_hand(artifact: PredictorArtifact, archs: list[ResNetArch], step_size: Tensor | float) -> tuple[Tensor, Tensor]:
    """Scores and the teacher's squared error after one written-out step."""
    teacher = new_teacher()
    assert artifact.probe is not None
    maps = embed(teacher.network.state_dict(), teacher.arch, [teacher.arch, *archs], artifact.probe, "copy_paste_first")
    codes = SPACE.encode([teacher.arch, *archs])
    params: dict[str, Tensor] = dict(artifact.predictor.named_parameters())

    def scores(weights: dict[str, Tensor], rows: slice) -> Tensor:
        found: Tensor = functional_call(
            artifact.predictor, weights, (maps[rows].clone(), codes[rows], maps[:1].clone())
        )
        return found

    error = (scores(params, slice(0, 1)) - 0.8).square().mean()
    gradients = torch.autograd.grad(error, list(params.values()))
    adapted = {
        name: (weight - step_size * gradient).detach()
        for (name, weight), gradient in zip(params.items(), gradients, strict=True)
    }
    with torch.no_grad():
        return scores(adapted, slice(1, None)), (scores(adapted, slice(0, 1)) - 0.8).square()


def test_scores_are_those_of_the_predictor_after_one_step_on_the_teacher() -> None:
    artifact, archs = new_artifact(), candidates()
    ranking = rank(artifact, new_teacher(), SPACE, archs)
    expected, error = by_hand(artifact, archs, 0.05)
    torch.testing.assert_close(ranking.prediction.scores, expected)
    assert ranking.prediction.error_after == pytest.approx(float(error), rel=1e-4)
    assert ranking.prediction.error_before > ranking.prediction.error_after
    assert ranking.archs == archs
    assert costs(archs) == [(cost.num_params, cost.macs) for cost in ranking.costs]


def test_scores_equal_adaptation_and_prediction_called_by_hand() -> None:
    artifact, archs, teacher = new_artifact(num_inner_updates=2), candidates(), new_teacher()
    ranking = rank(artifact, teacher, SPACE, archs)
    assert artifact.probe is not None
    maps = embed(teacher.network.state_dict(), teacher.arch, [teacher.arch, *archs], artifact.probe, "copy_paste_first")
    maps, codes = maps.clone(), SPACE.encode([teacher.arch, *archs])
    found = adapt_and_predict(
        artifact.predictor, artifact.step_sizes, maps[:1], codes[:1], 0.8, maps=maps[1:], codes=codes[1:], num_steps=2
    )
    assert torch.equal(ranking.prediction.scores, found.scores)
    assert ranking.prediction.error_after == found.error_after


def test_one_step_size_can_replace_the_learned_ones() -> None:
    artifact, archs = new_artifact(), candidates()
    ranking = rank(artifact, new_teacher(), SPACE, archs, step_size=0.005)
    torch.testing.assert_close(ranking.prediction.scores, by_hand(artifact, archs, 0.005)[0])
    assert all((value == 0.05).all() for value in artifact.step_sizes.values())


def test_a_predictor_that_learned_without_adaptation_searches_without() -> None:
    archs = candidates()
    ranking = rank(new_artifact(adapt=False), new_teacher(), SPACE, archs)
    torch.testing.assert_close(ranking.prediction.scores, by_hand(new_artifact(), archs, 0.0)[0])
    assert ranking.prediction.error_before == ranking.prediction.error_after


def test_a_predictor_without_probe_takes_ours() -> None:
    archs = candidates()
    ranking = rank(new_artifact(probe=None), new_teacher(), SPACE, archs)
    same = rank(new_artifact(probe=make_probe(16)), new_teacher(), SPACE, archs)
    assert torch.equal(ranking.prediction.scores, same.prediction.scores)


def test_searching_changes_neither_predictor_nor_teacher() -> None:
    artifact, teacher = new_artifact(), new_teacher()
    rank(artifact, teacher, SPACE, candidates())
    fresh = new_artifact()
    theirs, weights = new_teacher().network.state_dict(), fresh.predictor.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in artifact.predictor.state_dict().items())
    assert all(torch.equal(value, fresh.step_sizes[name]) for name, value in artifact.step_sizes.items())
    assert all(torch.equal(value, theirs[name]) for name, value in teacher.network.state_dict().items())


def test_the_order_goes_from_the_best_score_down() -> None:
    ranking = rank(new_artifact(), new_teacher(), SPACE, candidates(30))
    scores = ranking.prediction.scores
    assert int(ranking.order[0]) == int(scores.argmax())
    assert (scores[ranking.order].diff() <= 0).all()
    assert sorted(ranking.order.tolist()) == list(range(30))


def test_equal_scores_stay_in_the_order_of_the_candidates() -> None:
    artifact = new_artifact()
    for weight in artifact.predictor.parameters():
        weight.data.zero_()  # so that all scores are equal, whatever the order of the sums inside
    ranking = rank(artifact, new_teacher(), SPACE, candidates(40))
    assert len(ranking.prediction.scores.unique()) == 1
    assert ranking.order.tolist() == list(range(40))


def test_a_single_candidate_is_scored_as_among_others() -> None:
    archs = candidates()
    alone = rank(new_artifact(), new_teacher(), SPACE, archs[:1]).prediction.scores
    torch.testing.assert_close(alone, rank(new_artifact(), new_teacher(), SPACE, archs).prediction.scores[:1])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"space_name": ResNetSpace().code_name},
            r"meta-trained on resnet-32-64-128-256x5 \(onehot codes\) at 16 px, and you search",
        ),
        ({"resolution": 64}, r"at 64 px, and you search resnet-16-32-48-64x2 \(onehot codes\) at 16 px"),
        ({"origin": "official"}, r"rank-imported"),
    ],
)
def test_a_predictor_of_another_space_or_size_is_refused(changes: dict[str, Any], reason: str) -> None:
    check_predictor(new_artifact(), SPACE, 16, FILE)
    with pytest.raises(UsageError, match=reason) as caught:
        check_predictor(new_artifact(**changes), SPACE, 16, FILE)
    assert str(FILE) in str(caught.value)


@pytest.mark.parametrize(
    "space", [replace(SPACE, max_depth=3), ResNetSpace(teacher_widths=(32, 32, 48, 64), max_depth=2)]
)
def test_a_teacher_of_another_space_is_refused(space: ResNetSpace) -> None:
    with pytest.raises(UsageError, match=f"the teacher of noise is of {space.name}.*{SPACE.name}"):
        rank(new_artifact(), new_teacher(space), SPACE, candidates())


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["conv1.weight", "layer3.1.conv2.weight", "layer4.1.bn2.bias"])
def test_a_teacher_with_broken_weights_is_named(name: str, value: float) -> None:
    teacher = new_teacher()
    teacher.network.state_dict()[name].view(-1)[-1] = value
    with pytest.raises(RuntimeError, match="scores of noise are not finite: the teacher or the predictor holds bad"):
        rank(new_artifact(), teacher, SPACE, candidates())


def test_a_predictor_with_broken_weights_is_refused() -> None:
    artifact = new_artifact()
    assert isinstance(artifact.predictor, Predictor)
    artifact.predictor.state_dict()["proj_layers.2.weight"][0, 0] = math.nan
    with pytest.raises(RuntimeError, match="not finite"):
        rank(artifact, new_teacher(), SPACE, candidates())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"top_k": 0}, r"top_k is 0; it must lie in 1 to num_candidates \(40\)"),
        ({"top_k": 41}, "top_k is 41"),
        ({"resolution": 20}, "resolution 20 is not a positive multiple of 8"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        config(**changes)
