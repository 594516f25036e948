"""Meta-training: it learns, one seed gives one result, a run in two halves equals a whole one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from common.experiment.run import open_run
from dass.database import TaskTable, load_database, save_table, table_path
from dass.episodes import TaskTensors, to_tensors
from dass.meta_train import MetaTrainConfig, run_meta_train
from dass.meta_training import MetaLearner, MetaLearning, Validation, accumulate_gradients, meta_train, validate
from dass.predictor import PredictorConfig, PredictorSizes, load_predictor, new_predictor

MakeTable = Callable[..., TaskTable]
SHORT = MetaLearning(num_episodes=12, num_queries=8, validate_every=4, learning_rate=0.01)


@pytest.fixture
def tasks(make_table: MakeTable) -> list[TaskTensors]:
    return [to_tensors(make_table(str(seed), num=30, seed=seed), "best", torch.device("cpu")) for seed in range(4)]


def learn(
    folder: Path, config: PredictorConfig, learning: MetaLearning, tasks: list[TaskTensors]
) -> tuple[MetaLearner, Validation]:
    learner = MetaLearner(new_predictor(config, 2), learning)
    with open_run(folder, program="dass", step="meta-train", config=PredictorSizes()) as run:
        return learner, meta_train(learner, tasks[:3], tasks[3:], learning, seed=2, run=run)


def same(first: MetaLearner, second: MetaLearner) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("first_order", [True, False])
def test_the_loss_falls_and_an_unseen_task_is_ranked(
    tmp_path: Path, small: PredictorConfig, tasks: list[TaskTensors], first_order: bool
) -> None:
    learning = replace(SHORT, num_episodes=120, num_queries=30, validate_every=20, first_order=first_order)
    before = validate(MetaLearner(new_predictor(small, 2), learning), tasks[3:], learning).score
    _, found = learn(tmp_path, small, learning, tasks)
    losses = [
        float(line.split(",")[3]) for line in (tmp_path / "metrics.csv").read_text().splitlines() if ",loss," in line
    ]
    assert losses[-1] < 0.2 * losses[0]
    assert found.score > max(0.5, before)


def test_one_seed_gives_one_result(tmp_path: Path, small: PredictorConfig, tasks: list[TaskTensors]) -> None:
    first, second = (learn(tmp_path / name, small, SHORT, tasks) for name in "ab")
    assert same(first[0], second[0])
    assert first[1].metrics() == second[1].metrics()
    assert (tmp_path / "a/metrics.csv").read_bytes() == (tmp_path / "b/metrics.csv").read_bytes()


@pytest.mark.parametrize("stop_after", [4, 6, 8])
def test_a_run_in_two_parts_equals_a_whole_one(
    tmp_path: Path,
    small: PredictorConfig,
    tasks: list[TaskTensors],
    monkeypatch: pytest.MonkeyPatch,
    stop_after: int,
) -> None:
    whole, found = learn(tmp_path / "whole", small, SHORT, tasks)

    real, done = accumulate_gradients, [0]

    def interrupted(*arguments: Any) -> Any:
        done[0] += 1
        if done[0] > stop_after:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr("dass.meta_training.accumulate_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "parts", small, SHORT, tasks)
    monkeypatch.undo()
    resumed, found_again = learn(tmp_path / "parts", small, SHORT, tasks)
    assert same(whole, resumed)
    assert found.metrics() == found_again.metrics()
    assert (tmp_path / "parts/metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


def test_the_learner_ends_at_the_best_validation_not_at_the_last(
    tmp_path: Path, small: PredictorConfig, tasks: list[TaskTensors], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_scores(name: str, num_episodes: int, scores: list[float]) -> MetaLearner:
        left = iter(scores)

        def scripted(*_: object) -> Validation:
            return Validation(spearman={"3": next(left)}, pearson={}, error_before={}, error_after={}, undefined=())

        monkeypatch.setattr("dass.meta_training.validate", scripted)
        return learn(tmp_path / name, small, replace(SHORT, num_episodes=num_episodes), tasks)[0]

    best_of_all = with_scores("all", 12, [0.1, 0.9, 0.2, 0.9, 0.9])  # after 0, 4, 8, 12 episodes; then of the best
    after_four = with_scores("four", 4, [0.1, 0.9, 0.9])
    assert same(best_of_all, after_four)
    assert not same(best_of_all, MetaLearner(new_predictor(small, 2), SHORT))


@pytest.mark.parametrize(("learn_step_size", "adapt"), [(True, True), (False, True), (True, False)])
def test_step_sizes_change_only_where_they_are_learned(
    tmp_path: Path, small: PredictorConfig, tasks: list[TaskTensors], learn_step_size: bool, adapt: bool
) -> None:
    learning = replace(SHORT, learn_step_size=learn_step_size, adapt=adapt, learning_rate=0.02)
    learner = MetaLearner(new_predictor(small, 2), learning)
    with open_run(tmp_path, program="dass", step="meta-train", config=PredictorSizes()) as run:
        meta_train(learner, tasks[:3], tasks[:3], learning, seed=2, run=run)
    moved = [not torch.equal(size, torch.full_like(size, 0.005)) for size in learner.step_sizes.values()]
    assert any(moved) == (learn_step_size and adapt)


@pytest.mark.parametrize("changes", [{"adapt": False}, {"first_order": True}, {"num_inner_updates": 2}])
def test_each_option_changes_what_is_learned(
    tmp_path: Path, small: PredictorConfig, tasks: list[TaskTensors], changes: dict[str, Any]
) -> None:
    learning = replace(SHORT, step_size=0.1)
    plain, other = (MetaLearner(new_predictor(small, 2), learning) for _ in range(2))
    accumulate_gradients(plain, tasks, learning)
    accumulate_gradients(other, tasks, replace(learning, **changes))
    first, second = (learner.predictor.proj_layers[2].weight.grad for learner in (plain, other))
    assert (first - second).abs().max() > 1e-6  # type: ignore[operator]


def test_an_episode_is_the_mean_over_tasks(small: PredictorConfig, tasks: list[TaskTensors]) -> None:
    learner = MetaLearner(new_predictor(small, 2), SHORT)
    together, _ = accumulate_gradients(learner, tasks, SHORT)
    alone = [accumulate_gradients(learner, [task], SHORT)[0] for task in tasks]
    torch.testing.assert_close(together, torch.stack(alone).mean())


def test_constant_predictions_count_as_minus_one_and_are_reported(
    tmp_path: Path, small: PredictorConfig, tasks: list[TaskTensors], caplog: pytest.LogCaptureFixture
) -> None:
    learning = replace(SHORT, num_episodes=1, validate_every=1)
    learner = MetaLearner(new_predictor(small, 2), learning)
    torch.nn.init.zeros_(learner.predictor.proj_layers[2].weight)  # type: ignore[arg-type]
    for size in learner.step_sizes.values():
        size.data.zero_()
    found = validate(learner, tasks[2:], learning)
    assert (found.score, found.undefined) == (-1, ("2", "3"))
    assert found.metrics()["undefined"] == 2
    with open_run(tmp_path, program="dass", step="meta-train", config=PredictorSizes()) as run:
        meta_train(learner, tasks[:3], tasks[3:], learning, seed=2, run=run)
    assert "episode 0: constant predictions on 3 count as -1" in caplog.text


def test_validation_leaves_weights_and_step_sizes_alone(small: PredictorConfig, tasks: list[TaskTensors]) -> None:
    learner, untouched = (MetaLearner(new_predictor(small, 2), SHORT) for _ in range(2))
    validate(learner, tasks, SHORT)
    assert same(learner, untouched)
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_a_loss_that_is_not_finite_stops_the_run_and_says_what_to_change(
    tmp_path: Path, small: PredictorConfig, tasks: list[TaskTensors]
) -> None:
    with pytest.raises(RuntimeError, match=r"loss is (nan|inf) at episode 3: lower learning_rate"):
        learn(tmp_path, small, replace(SHORT, step_size=1e30), tasks)


@pytest.mark.parametrize(("name", "value"), [("num_episodes", 0), ("learning_rate", -1.0), ("validate_every", 0)])
def test_values_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        MetaLearning(**{name: value})  # type: ignore[arg-type]


@pytest.fixture
def config(tmp_path: Path, make_table: MakeTable) -> MetaTrainConfig:
    for seed, task in enumerate(["a/0", "a/1", "a/8", "cub"]):
        save_table(table_path(tmp_path / "database", task), make_table(task, num=20, seed=seed))
    return MetaTrainConfig(
        database=tmp_path / "database",
        meta_valid_tasks=("a/8",),
        meta_test_tasks=("cub",),
        num_episodes=6,
        validate_every=3,
        gpu="cpu",
        predictor=PredictorSizes(hidden_channels=8, out_channels=12, hidden_dim=10),
        out=tmp_path / "run",
    )


def test_the_step_writes_a_predictor_that_reproduces_its_figures(
    config: MetaTrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run_meta_train(config)
    printed = capsys.readouterr().out
    assert "valid a/8: rho" in printed
    assert "test cub: rho" in printed
    assert "next: python -m dass search --predictor" in printed
    artifact = load_predictor(config.database.parent / "run/predictor.safetensors")
    assert artifact.notes["meta_train_tasks"] == ["a/0", "a/1"]
    assert (artifact.space_name, artifact.resolution, artifact.pr_type) == ("toy", 16, "copy_paste_first")
    learner = MetaLearner(artifact.predictor, config)
    for name, size in learner.step_sizes.items():
        size.data.copy_(artifact.step_sizes[name])
    task = to_tensors(load_database(config.database)["a/8"], "best", torch.device("cpu"))
    assert validate(learner, [task], config).score == pytest.approx(artifact.score)


def test_a_finished_run_says_so_and_prints_its_result_again(
    config: MetaTrainConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_meta_train(config)
    first = capsys.readouterr().out.splitlines()
    monkeypatch.setattr("dass.meta_train.meta_train", lambda *_, **__: pytest.fail("trained again"))
    run_meta_train(config)
    second = capsys.readouterr().out.splitlines()
    assert "is finished; --restart begins anew" in second[1]
    assert second[2:] == first[1:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta_valid_tasks": ("a/9",)}, "no task a/9"),
        ({"meta_test_tasks": ("dtd",)}, "no task dtd"),
        ({"meta_test_tasks": ("a/8",)}, "a/8: a task that"),
        ({"meta_train_tasks": ("cub",)}, "cub: a task that is learned from"),
    ],
)
def test_tasks_in_two_roles_or_in_none_are_refused(
    config: MetaTrainConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_meta_train(replace(config, **changes))
