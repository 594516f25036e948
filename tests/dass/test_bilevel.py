"""The bilevel objective on the predictor, and prediction after adaptation."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from common.meta.adaptation import Params
from dass.bilevel import bilevel_loss
from dass.database import TaskTable
from dass.episodes import TaskTensors, draw_queries, groups_of_tasks, to_tensors
from dass.prediction import Prediction, adapt_and_predict
from dass.predictor import Predictor, PredictorConfig, map_patches, new_predictor, new_step_sizes

MakeTable = Callable[..., TaskTable]
CPU = torch.device("cpu")


def ready(predictor: Predictor, value: float = 0.05) -> tuple[Params, Params]:
    """Weights and step sizes, both to be learned."""
    steps = {name: size.requires_grad_() for name, size in new_step_sizes(predictor, value).items()}
    return dict(predictor.named_parameters()), steps


def gradients(loss: Tensor, *groups: Params) -> list[dict[str, Tensor]]:
    found = iter(torch.autograd.grad(loss, [v for group in groups for v in group.values()], retain_graph=True))
    return [{name: next(found) for name in group} for group in groups]


@pytest.fixture
def task(make_table: MakeTable) -> TaskTensors:
    return to_tensors(make_table(), "best", CPU)


def test_the_objective_is_the_queries_error_after_one_written_out_step(
    small: PredictorConfig, task: TaskTensors
) -> None:
    predictor = new_predictor(small, 0)
    params, steps = ready(predictor)
    loss, inner = bilevel_loss(predictor, params, steps, [task])

    by_hand = new_predictor(small, 0)
    error = (by_hand(task.teacher, task.teacher_code, task.teacher) - 0.75).square().mean()
    error.backward()
    with torch.no_grad():
        for weight in by_hand.parameters():
            assert weight.grad is not None
            weight.sub_(weight.grad, alpha=0.05)
    expected = (by_hand(task.student, task.codes, task.teacher) - task.accuracy).square().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(inner, error.detach())


def test_orders_agree_on_loss_and_step_sizes_and_differ_on_weights(small: PredictorConfig, task: TaskTensors) -> None:
    predictor = new_predictor(small, 0)
    params, steps = ready(predictor)
    second, _ = bilevel_loss(predictor, params, steps, [task])
    first, _ = bilevel_loss(predictor, params, steps, [task], first_order=True)
    assert torch.equal(first, second)
    of_second, of_first = gradients(second, params, steps), gradients(first, params, steps)
    for name in params:
        torch.testing.assert_close(of_first[1][name], of_second[1][name])
    assert any((of_first[0][name] - of_second[0][name]).abs().max() > 1e-5 for name in params)


@pytest.mark.parametrize("num_steps", [1, 2])
def test_the_meta_gradient_equals_finite_differences_in_double_precision(make_table: MakeTable, num_steps: int) -> None:
    config = PredictorConfig(map_channels=2, hidden_channels=2, out_channels=2, arch_dim=3, hidden_dim=2)
    predictor = new_predictor(config, 0).double()
    random = torch.Generator().manual_seed(3)
    maps = torch.rand(4, 2, 4, 4, dtype=torch.float64, generator=random)
    codes = torch.rand(4, 3, dtype=torch.float64, generator=random)
    task = TaskTensors(
        task="t",
        student=map_patches(maps[:3]),
        codes=codes[:3],
        accuracy=torch.rand(3, dtype=torch.float64, generator=random),
        teacher=map_patches(maps[3:]),
        teacher_code=codes[3:],
        teacher_accuracy=torch.tensor([0.9], dtype=torch.float64),
    )
    params, steps = ready(predictor)
    names = list(params)

    def of_leaves(*leaves: Tensor) -> Tensor:
        weights, sizes = (dict(zip(names, part, strict=True)) for part in (leaves[: len(names)], leaves[len(names) :]))
        return bilevel_loss(predictor, weights, sizes, [task], num_steps=num_steps)[0]

    assert torch.autograd.gradcheck(of_leaves, [*params.values(), *steps.values()])


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("num_steps", [1, 2])
def test_tasks_at_once_equal_tasks_one_by_one(
    small: PredictorConfig, make_table: MakeTable, num_steps: int, first_order: bool
) -> None:
    predictor = new_predictor(small, 0)
    params, steps = ready(predictor)
    tasks = [to_tensors(make_table(str(seed), seed=seed), "best", CPU) for seed in range(3)]

    def loss_of(group: list[TaskTensors]) -> tuple[Tensor, Tensor]:
        return bilevel_loss(predictor, params, steps, group, num_steps=num_steps, first_order=first_order)

    together, inner_together = loss_of(tasks)
    alone = [loss_of([task]) for task in tasks]
    torch.testing.assert_close(together, torch.stack([loss for loss, _ in alone]).sum())
    torch.testing.assert_close(inner_together, torch.stack([inner for _, inner in alone]).sum())
    for at_once, one_by_one in zip(
        gradients(together, params, steps),
        gradients(torch.stack([loss for loss, _ in alone]).sum(), params, steps),
        strict=True,
    ):
        for name in params:
            torch.testing.assert_close(at_once[name], one_by_one[name], atol=1e-6, rtol=1e-4)


def test_without_adaptation_the_loss_is_the_plain_error_and_step_sizes_get_no_gradient(
    small: PredictorConfig, task: TaskTensors
) -> None:
    predictor = new_predictor(small, 0)
    loss, inner = bilevel_loss(predictor, dict(predictor.named_parameters()), None, [task])
    plain = (predictor(task.student, task.codes, task.teacher) - task.accuracy).square().mean()
    assert torch.equal(loss, plain)
    assert not inner.requires_grad


def predict(predictor: Predictor, steps: Params | None, task: TaskTensors, **options: int) -> Prediction:
    return adapt_and_predict(
        predictor,
        steps,
        task.teacher,
        task.teacher_code,
        float(task.teacher_accuracy),
        maps=task.student,
        codes=task.codes,
        **options,
    )


@pytest.mark.parametrize("num_steps", [1, 3])
def test_prediction_uses_the_adapted_weights_of_the_objective(
    small: PredictorConfig, task: TaskTensors, num_steps: int
) -> None:
    predictor = new_predictor(small, 0)
    params, steps = ready(predictor)
    found = predict(predictor, steps, task, num_steps=num_steps, chunk=5)
    loss, inner = bilevel_loss(predictor, params, steps, [task], num_steps=num_steps)
    torch.testing.assert_close((found.scores - task.accuracy).square().mean(), loss.detach())
    assert found.error_before == pytest.approx(float(inner), rel=1e-5)
    assert found.scores.shape == (12,)
    assert not found.scores.requires_grad


def test_a_small_positive_step_lowers_the_error_on_the_teacher(small: PredictorConfig, task: TaskTensors) -> None:
    for seed in range(5):
        predictor = new_predictor(small, seed)
        found = predict(predictor, new_step_sizes(predictor, 1e-4), task)
        assert found.error_after < found.error_before


def test_a_step_size_of_zero_predicts_as_without_adaptation(small: PredictorConfig, task: TaskTensors) -> None:
    predictor = new_predictor(small, 0)
    none, zero = (predict(predictor, steps, task) for steps in (None, new_step_sizes(predictor, 0.0)))
    assert torch.equal(none.scores, zero.scores)
    assert none.error_before == none.error_after == zero.error_after


def test_predicting_leaves_weights_and_step_sizes_alone_also_where_gradients_are_off(
    small: PredictorConfig, task: TaskTensors
) -> None:
    predictor = new_predictor(small, 0)
    params, steps = ready(predictor)
    before = {name: value.detach().clone() for name, value in [*params.items(), *steps.items()]}
    expected = predict(predictor, steps, task).scores
    with torch.no_grad():
        assert torch.equal(predict(predictor, steps, task).scores, expected)
    assert all(torch.equal(value, before[name]) for name, value in steps.items())
    assert all(weight.grad is None for weight in predictor.parameters())
    again = functional_call(predictor, params, (task.student, task.codes, task.teacher))
    assert torch.equal(again, predict(predictor, None, task).scores)


def test_predictions_of_maps_and_of_patches_agree(small: PredictorConfig, make_table: MakeTable) -> None:
    table, predictor = make_table(), new_predictor(small, 0)
    steps = new_step_sizes(predictor, 0.05)
    of_maps = adapt_and_predict(
        predictor, steps, table.teacher_actmap, table.teacher_enc, 0.75, maps=table.actmap, codes=table.arch_enc
    )
    torch.testing.assert_close(of_maps.scores, predict(predictor, steps, to_tensors(table, "best", CPU)).scores)


def test_a_teacher_accuracy_in_percent_is_refused(small: PredictorConfig, make_table: MakeTable) -> None:
    table, predictor = make_table(), new_predictor(small, 0)
    with pytest.raises(ValueError, match="accuracy is 75; a fraction"):
        predict(predictor, None, replace(to_tensors(table, "best", CPU), teacher_accuracy=torch.tensor(75.0)))


def test_an_episode_draws_other_students_each_time_and_the_same_ones_again(task: TaskTensors) -> None:
    first, again, other = (draw_queries(task, 5, 0, episode) for episode in (0, 0, 1))
    assert torch.equal(first.codes, again.codes)
    assert torch.equal(first.student, again.student)
    assert not torch.equal(first.codes, other.codes)
    rows = [(task.codes == code).all(1).nonzero()[0, 0].item() for code in first.codes]
    assert len(set(rows)) == 5
    assert torch.equal(first.accuracy, task.accuracy[rows])
    assert torch.equal(first.student, task.student[rows])


def test_a_task_with_fewer_students_than_asked_for_gives_all_of_them(task: TaskTensors) -> None:
    drawn = draw_queries(task, 50, 0, 0)
    assert torch.equal(drawn.accuracy.sort().values, task.accuracy.sort().values)


def test_the_label_may_be_the_last_accuracy(make_table: MakeTable) -> None:
    table = make_table()
    final = to_tensors(table, "final", CPU)
    assert torch.equal(final.accuracy, table.final_accuracy)
    assert float(final.teacher_accuracy) == pytest.approx(0.7)


def test_tasks_on_the_cpu_are_taken_one_by_one(make_table: MakeTable) -> None:
    tasks = [to_tensors(make_table(str(num), num=num), "best", CPU) for num in (4, 4, 5)]
    assert groups_of_tasks(tasks) == [[task] for task in tasks]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_tasks_of_one_size_are_taken_at_once_on_a_gpu(make_table: MakeTable) -> None:
    cuda = torch.device("cuda")
    tasks = [to_tensors(make_table(str(num), num=num), "best", cuda) for num in (4, 4, 5)]
    assert groups_of_tasks(tasks) == [tasks[:2], tasks[2:]]


def test_the_standardised_loss_compares_students_with_their_mean_in_units_of_their_spread(
    small: PredictorConfig, task: TaskTensors
) -> None:
    predictor = new_predictor(small, 0)
    loss, _ = bilevel_loss(predictor, dict(predictor.named_parameters()), None, [task], outer="standardised")
    scores, accuracy = predictor(task.student, task.codes, task.teacher).detach().numpy(), task.accuracy.numpy()
    expected = ((scores - scores.mean()) - (accuracy - accuracy.mean()) / accuracy.std()) ** 2
    assert float(loss) == pytest.approx(float(expected.mean()), rel=1e-4)


def test_the_standardised_loss_ignores_the_level_and_scale_of_the_accuracies(
    small: PredictorConfig, task: TaskTensors
) -> None:
    predictor = new_predictor(small, 0)
    params = dict(predictor.named_parameters())
    shifted = replace(task, accuracy=0.1 + 0.5 * task.accuracy)
    losses = [float(bilevel_loss(predictor, params, None, [t], outer="standardised")[0]) for t in (task, shifted)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_standardised_loss_of_tasks_at_once_is_the_sum_of_theirs(
    small: PredictorConfig, make_table: MakeTable
) -> None:
    predictor = new_predictor(small, 0)
    params, steps = ready(predictor)
    tasks = [to_tensors(make_table(seed=seed), "best", CPU) for seed in (0, 1)]
    together, _ = bilevel_loss(predictor, params, steps, tasks, outer="standardised")
    alone = sum(bilevel_loss(predictor, params, steps, [task], outer="standardised")[0] for task in tasks)
    torch.testing.assert_close(together, alone)
