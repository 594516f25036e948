from collections.abc import Callable

import pytest
import torch
from scipy import stats

from common.features.sets import FeatureSet
from common.meta.ranking import pearson
from common.spaces.nasbench201 import Cell, NasBench201Space
from metad2a.database import MetaDatabase
from metad2a.draws import TaskDraws
from metad2a.generator import Generator, GeneratorSizes, new_generator
from metad2a.learners import GeneratorLearner, GeneratorLearning, PredictorLearner, PredictorLearning
from metad2a.predictor import PredictorSizes, new_predictor
from metad2a.targets import targets_of

CPU = torch.device("cpu")
SPACE = NasBench201Space()
MakeDatabase = Callable[..., MetaDatabase]


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generator_learner(database: MetaDatabase, sets: dict[str, FeatureSet], **learning: object) -> GeneratorLearner:
    return GeneratorLearner(
        new_generator(GeneratorSizes(hidden_dim=8, latent_dim=8, feature_dim=12), 0),
        database,
        TaskDraws(database.tasks, sets, 3),
        learning=GeneratorLearning(**learning),  # type: ignore[arg-type]
        seed=0,
        device=CPU,
    )


def predictor_learner(database: MetaDatabase, sets: dict[str, FeatureSet], **learning: object) -> PredictorLearner:
    return PredictorLearner(
        new_predictor(PredictorSizes(hidden_dim=10, embedding_dim=8, feature_dim=12), 0),
        database,
        TaskDraws(database.tasks, sets, 3),
        learning=PredictorLearning(**learning),  # type: ignore[arg-type]
        seed=0,
        device=CPU,
    )


def cell(database: MetaDatabase, row: int) -> Cell:
    return Cell(tuple(database.codes[row].tolist()))


def test_the_generator_learns_the_best_cells_of_the_tasks_to_learn_from(
    make_database: MakeDatabase, sets: dict[str, FeatureSet]
) -> None:
    database = make_database()
    learner = generator_learner(database, sets, num_targets=2)
    assert learner.num_rows == 8
    assert not database.is_valid[learner.train].any()
    assert {database.tasks[int(i)].source for i in database.task_index[learner.train]} == {"hills", "lakes"}
    all_cells = SPACE.all()
    expected = {cell(database, row) for row in learner.train.tolist()}
    assert {all_cells[i] for i in learner.training_cells().tolist()} == expected


def test_the_generator_s_loss_is_the_sum_of_its_model_s_over_the_same_draws(
    make_database: MakeDatabase, sets: dict[str, FeatureSet]
) -> None:
    database = make_database()
    learner, rows = generator_learner(database, sets), torch.tensor([2, 0, 3])
    found = learner.losses(rows, random(5))
    chosen, draws = learner.train[rows], random(5)
    features, num_classes = TaskDraws(database.tasks, sets, 3).draw(database.task_index[chosen], draws)
    graphs = SPACE.graphs([cell(database, row) for row in chosen.tolist()])
    assert isinstance(learner.model, Generator)
    reconstruction, divergence = learner.model.loss(features, num_classes, graphs, draws)
    assert torch.equal(found["loss"], (reconstruction + 0.005 * divergence).sum())
    assert torch.equal(found["reconstruction"], reconstruction.sum())


def test_the_generator_is_measured_on_held_out_tasks_the_same_way_each_time(
    make_database: MakeDatabase, sets: dict[str, FeatureSet]
) -> None:
    learner = generator_learner(make_database(), sets)
    with torch.no_grad():
        first, again = learner.validate(), learner.validate()
    assert first == again
    assert {"validity", "canonical", "uniqueness", "loss"} <= first.keys()
    assert "score" not in first, "the last state is kept, as published"
    assert first["loss"] == pytest.approx(first["reconstruction"] + 0.005 * first["divergence"])


@pytest.mark.parametrize("target", ["accuracy", "source_rank", "task_rank"])
def test_the_predictor_s_loss_is_that_of_a_loop_over_pairs(
    target: str, make_database: MakeDatabase, sets: dict[str, FeatureSet]
) -> None:
    database = make_database()
    learner = predictor_learner(database, sets, target=target, cells_per_task=1)
    rows = torch.tensor([4, 17, 0])
    found = learner.losses(rows, random(5))["loss"]
    draws = random(5)
    torch.rand((3, 0), generator=draws)
    features, num_classes = TaskDraws(database.tasks, sets, 3).draw(database.task_index[learner.train[rows]], draws)
    targets, _ = targets_of(database, learner.train, target)  # type: ignore[arg-type]
    total = torch.zeros(())
    for place, row in enumerate(rows.tolist()):
        one = learner.model.encode_sets(features[place : place + 1], num_classes[place : place + 1])
        graph = learner.model.encode_graphs(SPACE.graphs([cell(database, int(learner.train[row]))]))
        total = total + (learner.model.score(one, graph)[0] - targets[row]) ** 2
    torch.testing.assert_close(found, total)


def test_other_cells_of_a_row_are_of_its_task_and_good_ones_among_its_best(
    make_database: MakeDatabase, sets: dict[str, FeatureSet]
) -> None:
    database = make_database(num_cells=40)
    learner = predictor_learner(database, sets, cells_per_task=60, good_share=1.0)
    rows = torch.arange(0, learner.num_rows, 7)
    together = learner._with_others(rows, random())
    assert torch.equal(together[:, 0], rows)
    tasks = database.task_index[learner.train]
    assert torch.equal(tasks[together], tasks[rows][:, None].expand_as(together))
    for row, others in zip(rows.tolist(), together[:, 1:], strict=True):
        best = database.best_rows(4, valid=False)
        best = best[database.task_index[best] == tasks[row]]
        assert set(learner.train[others].tolist()) == set(best.tolist()), "the best tenth of 40"
    learner = predictor_learner(database, sets, cells_per_task=400, good_share=0.0)
    seen = learner._with_others(torch.tensor([0]), random())[0].unique()
    assert seen.tolist() == list(range(40)), "all cells of the task, and no other"


def test_the_predictor_is_selected_by_the_ranking_inside_tasks(
    make_database: MakeDatabase, sets: dict[str, FeatureSet]
) -> None:
    database = make_database(num_cells=12)
    learner = predictor_learner(database, sets)
    with torch.no_grad():
        found = learner.validate()
        assert found == learner.validate()
        sets_encoded = learner._encode_tasks(torch.tensor([4, 5]))
        rhos, everything = [], []
        for place, task in enumerate((4, 5)):
            rows = (database.task_index == task).nonzero().flatten().tolist()
            graphs = learner.model.encode_graphs(SPACE.graphs([cell(database, row) for row in rows]))
            scores = torch.stack(
                [learner.model.score(one[place].expand(len(rows), -1), graphs) for one in sets_encoded]
            )
            rhos.append(stats.spearmanr(scores.mean(0).numpy(), database.accuracy[rows].numpy()).statistic)
            everything.append((scores.mean(0), database.accuracy[rows]))
    assert found["score"] == found["spearman"] == pytest.approx(sum(rhos) / 2, abs=1e-5)
    together = [torch.cat(parts) for parts in zip(*everything, strict=True)]
    assert found["pearson"] == pytest.approx(pearson(together[0], together[1]), abs=1e-5)


def test_one_cell_a_task_leaves_only_the_published_measure(
    make_database: MakeDatabase, sets: dict[str, FeatureSet]
) -> None:
    learner = predictor_learner(make_database(num_cells=1), sets)
    with torch.no_grad():
        found = learner.validate()
    assert found["score"] == found["pearson"]
    assert "spearman" not in found


@pytest.mark.parametrize(
    ("kind", "changes", "says"),
    [
        (GeneratorLearning, {"num_targets": 0}, "num_targets is 0"),
        (GeneratorLearning, {"epochs": 0}, "epochs is 0"),
        (GeneratorLearning, {"epoch_steps": 0}, "epoch_steps is 0"),
        (PredictorLearning, {"cells_per_task": 0}, "cells_per_task is 0"),
        (PredictorLearning, {"good_share": 1.5}, "good_share is 1.5"),
        (PredictorLearning, {"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_learning_that_cannot_be_is_refused(kind: type, changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kind(**changes)
