"""Labels, targets, candidates and teachers of MobileNetV3 networks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from common.data.tasks import Task
from common.features.extractors import load_extractor
from common.kd.evaluate import evaluate
from common.spaces import MobileNetV3Space
from metad2a.database import MetaDatabase, MetaTask, load_database, save_database
from metad2a.draws import TaskDraws
from metad2a.feature_teacher import fit_teacher
from metad2a.generation import Generation, generate
from metad2a.generator import Generator, GeneratorSizes, new_generator
from metad2a.learners import GeneratorLearner, GeneratorLearning, PredictorLearner, PredictorLearning
from metad2a.official_flags import is_of_networks, translate
from metad2a.predictor import PredictorSizes, new_predictor
from metad2a.spaces import VIEWS
from metad2a.subnet_labels import subset_accuracies

SPACE = MobileNetV3Space(width_mult=0.1, first_stride=1)
VIEW = VIEWS["mobilenetv3"]
CPU = torch.device("cpu")
SIZES = {"num_types": VIEW.num_types, "max_nodes": VIEW.num_vertices}


def database_of(num: int = 12, *, is_opposite: bool = True) -> MetaDatabase:
    """Two tasks; larger networks are better on the first, and smaller ones on the second where that is opposite."""
    archs = SPACE.sample(num, torch.Generator().manual_seed(2))
    macs = torch.tensor([float(SPACE.cost(arch, 10, 32).macs) for arch in archs])
    size = (macs - macs.min()) / (macs.max() - macs.min())
    return MetaDatabase(
        tasks=(MetaTask("hills", (0, 2)), MetaTask("hills", (1, 3))),
        task_index=torch.arange(2).repeat_interleave(num),
        codes=VIEW.codes(archs).repeat(2, 1),
        accuracy=torch.cat([size, 1 - size if is_opposite else size]),
        is_valid=torch.zeros(2 * num, dtype=torch.bool),
        space_name=SPACE.name,
        meta={"labels": "supernet"},
    )


def test_accuracy_on_some_classes_is_that_of_their_images_and_outputs_alone() -> None:
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 7, generator=random), torch.randint(7, (200,), generator=random)
    tasks = [MetaTask("x", classes) for classes in ((0, 3), (1, 2, 6), tuple(range(7)))]
    found = subset_accuracies(logits, labels, tasks)
    for task, accuracy in zip(tasks, found.tolist(), strict=True):
        hits = [
            max(task.classes, key=lambda label, row=row: float(logits[row, label])) == int(labels[row])
            for row in range(200)
            if int(labels[row]) in task.classes
        ]
        assert accuracy == pytest.approx(sum(hits) / len(hits))
    assert float(found[-1]) == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    with pytest.raises(ValueError, match="x/7\\+8 has no held-out image"):
        subset_accuracies(logits, labels, [MetaTask("x", (7, 8))])


def test_a_database_of_networks_is_read_back(tmp_path) -> None:
    database = database_of()
    save_database(tmp_path / "one", database)
    found = load_database(tmp_path / "one")
    rows = torch.arange(database.num_rows)
    assert found.archs(rows) == database.archs(rows)
    assert found.view.name == "mobilenetv3"
    codes = database.codes.clone()
    codes[3, 44] = 5
    with pytest.raises(ValueError, match="row 3 has a code of no architecture"):
        MetaDatabase(**{**vars(database), "codes": codes})


def test_the_best_of_every_part_by_cost_are_targets(make_set: Callable[..., object]) -> None:
    database = database_of(12)
    draws = TaskDraws(database.tasks, {"hills": make_set("hills")}, 3)  # type: ignore[dict-item]
    model = new_generator(GeneratorSizes(hidden_dim=8, latent_dim=8, feature_dim=12, **SIZES), 0)
    learning = GeneratorLearning(hidden_dim=8, cost_bins=3, num_targets=1)
    learner = GeneratorLearner(model, database, draws, learning=learning, seed=0, device=CPU)
    macs = [SPACE.cost(arch, 10, 32).macs for arch in database.archs(torch.arange(12))]
    order = sorted(range(12), key=macs.__getitem__)
    expected = [order[3], order[7], order[11], *(12 + order[place] for place in (0, 4, 8))]
    assert sorted(learner.train.tolist()) == sorted(expected)
    assert (database.task_index[learner.train].diff() >= 0).all()
    losses = learner.losses(torch.arange(6), torch.Generator().manual_seed(0))
    assert (
        0.5 * 230.8 < float(losses["reconstruction"].detach()) / 6 < 1.5 * 230.8
    )  # untrained: 231 ln 2 + 21 ln 29, spec
    assert learner.training_cells().tolist() == sorted({*VIEW.keys(database.archs(learner.train)).tolist()})


def test_a_predictor_of_networks_learns_their_ranks(make_set: Callable[..., object]) -> None:
    database = database_of(12, is_opposite=False)
    draws = TaskDraws(database.tasks, {"hills": make_set("hills")}, 3)  # type: ignore[dict-item]
    model = new_predictor(PredictorSizes(hidden_dim=16, embedding_dim=8, feature_dim=12, **SIZES), 0)
    learning = PredictorLearning(hidden_dim=16, cells_per_task=6, target="task_rank")
    learner = PredictorLearner(model, database, draws, learning=learning, seed=0, device=CPU)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    random = torch.Generator().manual_seed(0)
    values = []
    for _ in range(40):
        loss = learner.losses(torch.randint(24, (8,), generator=random), random)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.6 * sum(values[:5])


class Scripted(Generator):
    """Grows graphs of drawn networks, all of them valid."""

    def __init__(self) -> None:
        super().__init__(GeneratorSizes(hidden_dim=8, latent_dim=8, feature_dim=4, **SIZES))
        self.calls = 0
        self.decoder = self  # type: ignore[assignment]

    def latent(self, features: Tensor, num_classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return features[:, 0, 0, :2], features[:, 0, 0, :2]

    def sample(self, mean: Tensor, generator: torch.Generator) -> object:  # type: ignore[override]
        self.calls += 1
        return SPACE.graphs(SPACE.sample(len(mean), torch.Generator().manual_seed(self.calls)))


def grow(accept: Callable[[object], bool], **plan: object) -> object:
    def draw(num: int, random: torch.Generator) -> Tensor:
        return torch.zeros(num, 2, 3, 4)

    random = torch.Generator().manual_seed(0)
    return generate(Scripted(), draw, Generation(**plan), random, view=VIEW, accept=accept)  # type: ignore[arg-type]


@pytest.mark.parametrize("candidates", ["generated", "random"])
def test_candidates_are_within_the_bounds(candidates: str) -> None:
    costs = sorted(SPACE.cost(arch, 10, 32).macs for arch in SPACE.sample(200, torch.Generator().manual_seed(9)))
    bound = costs[60]

    def accept(arch: object) -> bool:
        return SPACE.cost(arch, 10, 32).macs <= bound  # type: ignore[arg-type]

    found = grow(accept, num_generated=20, draws_per_batch=25, candidates=candidates)
    assert len({*found.archs}) == 20  # type: ignore[attr-defined]
    assert all(map(accept, found.archs))  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="raise the bounds"):
        grow(lambda arch: False, num_generated=2, draws_per_batch=25, patience=20, candidates=candidates)


def test_a_teacher_of_features_reads_images_as_classifiers_do() -> None:
    random = torch.Generator().manual_seed(1)
    labels = torch.arange(60) % 3
    images = torch.randint(0, 90, (60, 3, 32, 32), generator=random) + (labels * 80)[:, None, None, None]
    task = Task(
        id="noise",
        description="noise",
        images=images.to(torch.uint8),
        labels=labels,
        class_names=("a", "b", "c"),
        train=torch.arange(45),
        evaluation=torch.arange(45, 60),
        flip=True,
    )
    teacher = fit_teacher(load_extractor("compact"), task, CPU)
    assert evaluate(teacher, task, device=CPU)[1] == 1.0
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    with pytest.raises(ValueError, match="takes 32: give --teacher none"):
        fit_teacher(load_extractor("compact"), Task(**{**vars(task), "images": task.images[..., :16, :16]}), CPU)


def test_the_space_of_a_command_line() -> None:
    assert is_of_networks(["collect", "--space", "mobilenetv3", "--seed", "1"])
    assert is_of_networks(["collect", "--space=mobilenetv3"])
    assert not is_of_networks(["train", "--space.channels", "4"])
    assert not is_of_networks(["collect", "--space", "nasbench201"])
    assert translate("train", ["--space", "nasbench201", "--data", "cifar10"]) == ["--data", "cifar10"]
    assert translate("search", ["--space", "nasbench201"]) == ["--space", "nasbench201"]
