from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipelines as files
import pytest
import torch
import torch.nn.functional as F
import yaml

from common.experiment.config import UsageError
from common.kd.objectives import Outputs, objective
from common.spaces.mobilenet_v2 import DEFAULT_MOBILENET_V2, MobileNetV2Space
from common.spaces.simple_cnn import SimpleCnnSpace
from mfkd.config import Mfkd1Config, StepConfig
from mfkd.pipeline import Pipeline, SearchStep, TrainStep, read_pipeline

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "configs/mfkd").glob("*.yml"))
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Pipeline]:
    def from_text(text: str) -> Pipeline:
        file = tmp_path / "pipeline.yml"
        file.write_text(text)
        return read_pipeline(file, folder=None, default=tmp_path / "runs")

    return from_text


@pytest.fixture
def changed(read: Callable[[str], Pipeline]) -> Callable[[Change], Pipeline]:
    def after(change: Change) -> Pipeline:
        content = yaml.safe_load(files.OLD_DIALECT.replace("CLASSES", "100"))
        change(content)
        return read(yaml.safe_dump(content))

    return after


def searches(pipeline: Pipeline) -> list[SearchStep]:
    return [step for step in pipeline.steps if isinstance(step, SearchStep)]


def test_the_published_file_of_algorithm_2_is_read_in_full(read: Callable[[str], Pipeline]) -> None:
    pipeline = read(files.OLD_DIALECT.replace("CLASSES", "10"))
    low, high = searches(pipeline)
    final = pipeline.steps[2]
    assert pipeline.folder == Path("exp/tasks/mfkd")
    assert low.algorithm == high.algorithm == StepConfig(init_samples=5, max_samples=10, seed=7)
    assert low.space == high.space == MobileNetV2Space()
    assert low.num_classes == low.training.teacher_num_classes == 10
    assert low.training.teacher == "exp/tasks/mfkd/teacher.pth"
    assert (low.images.train_portion, high.images.train_portion, low.images.valid_from) == (0.03, 1.0, None)
    assert low.images.data_path == "~/cifar100"
    recipe = low.training.recipe
    assert (recipe.learning_rate, recipe.weight_decay, recipe.momentum, recipe.nesterov) == (0.1, 5e-4, 0.9, False)
    assert (recipe.epochs, recipe.batch_size, recipe.schedule, recipe.validate_every) == (100, 128, "cosine", 1)
    assert (recipe.padding, recipe.flip) == (4, "yes")
    assert (recipe.loss, recipe.temperature, recipe.alpha) == ("kd", 32, 0), "all weight on the teacher's term"
    assert high.training.recipe.loss == "ce"
    assert high.training.teacher is None
    assert isinstance(final, TrainStep)
    assert final.model_file == Path("exp/tasks/mfkd/best_model_desc.json")
    assert any("parallel_search" in note for note in pipeline.notes)


def test_the_example_of_vega_is_read_in_full(read: Callable[[str], Pipeline], tmp_path: Path) -> None:
    pipeline = read(files.NEW_DIALECT)
    (step,) = searches(pipeline)
    assert pipeline.folder == tmp_path / "runs/pipeline"
    assert step.space == SimpleCnnSpace()
    assert step.space.size() == 233_280
    assert step.algorithm == Mfkd1Config(max_samples=30, seed=7)
    assert (step.images.train_portion, step.images.valid_from) == (0.5, 0.5), "a common portion leaves the rest"
    recipe = step.training.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("adamw", 0.001, 0)
    assert (recipe.schedule, recipe.milestones, recipe.gamma) == ("step", (0.4, 0.8), 0.5)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_pipeline_is_read_without_notes(file: Path) -> None:
    pipeline = read_pipeline(file, folder=None, default=Path("exp"))
    assert pipeline.notes == ()
    for step in searches(pipeline):
        assert step.space.size() == (16_384 if file.stem.startswith("cpu") else 2_097_152)
        assert step.training.teacher is None or step.training.teacher.endswith("teacher.safetensors")


def test_there_are_shipped_pipelines() -> None:
    kinds = ("mfkd1", "mfkd2", "teacher")
    assert {file.stem for file in SHIPPED} == {*(f"cpu_{kind}" for kind in kinds), "mfkd1", "mfkd2", "train_teacher"}


def test_a_teacher_without_layers_is_the_default_network(read: Callable[[str], Pipeline]) -> None:
    (step,) = read(yaml.safe_dump(files.teacher())).steps
    assert isinstance(step, TrainStep)
    assert step.model is not None
    space = MobileNetV2Space(first_stride=2, last_channel=32)
    assert step.model.text == space.format(DEFAULT_MOBILENET_V2)
    assert step.model.cost(10, 16) == space.cost(DEFAULT_MOBILENET_V2, 10, 16)


def test_sections_may_refer_to_those_of_another_step(changed: Callable[[Change], Pipeline]) -> None:
    def refer(content: dict[str, Any]) -> None:
        content["fully_train"]["trainer"] = {"ref": "nas_high_fidelity.trainer", "seed": 9}

    final = changed(refer).steps[2]
    assert final.training.seed == 9
    assert final.training.recipe.learning_rate == 0.1


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_kd_loss_weighs_the_terms_as_published(
    changed: Callable[[Change], Pipeline], temperature: float, alpha: float
) -> None:
    def weigh(content: dict[str, Any]) -> None:
        content["nas_low_fidelity"]["trainer"]["loss"] = {"type": "KDLoss", "T": temperature, "alpha": alpha}

    recipe = searches(changed(weigh))[0].training.recipe
    random = torch.Generator().manual_seed(0)
    student = torch.randn(6, 5, generator=random, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(6, 5, generator=random, dtype=torch.float64)
    truth = torch.arange(6) % 5
    ours = objective(recipe, Outputs(logits=student), Outputs(logits=teacher), truth, None)
    soft = F.kl_div((student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="batchmean")
    published = (1 - alpha) * F.cross_entropy(student, truth) + alpha * temperature**2 * soft
    torch.testing.assert_close(*(torch.autograd.grad(loss, student)[0] for loss in (ours, published)))


def test_nst_loss_takes_its_weight(changed: Callable[[Change], Pipeline]) -> None:
    def take(content: dict[str, Any]) -> None:
        content["nas_low_fidelity"]["trainer"]["loss"] = {"type": "NSTLoss", "params": {"beta": "25"}}

    recipe = searches(changed(take))[0].training.recipe
    assert (recipe.loss, recipe.beta) == ("nst", 25)


def put(path: str, value: object) -> Change:
    *outer, last = path.split(".")

    def change(content: dict[str, Any]) -> None:
        for name in outer:
            content = content.setdefault(name, {})
        content[last] = value

    return change


LOW = "nas_low_fidelity"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("generel", {}, "unknown key 'generel': did you mean general"),
        ("general.backend", "tensorflow", "general.backend is 'tensorflow': known are pytorch"),
        ("pipeline", ["nas_low_fidelty"], "did you mean nas_low_fidelity"),
        ("pipeline", "nas", "a list of names"),
        (f"{LOW}.pipe_step.type", "MFKDNasPipeline", "did you mean MFKDNasPipeStep"),
        (f"{LOW}.dataset.comon", {}, "unknown key 'nas_low_fidelity.dataset.comon': did you mean"),
        (f"{LOW}.dataset.train.batchsize", 3, "did you mean nas_low_fidelity.dataset.train.batch_size"),
        (f"{LOW}.dataset.train.transforms", [{"type": "RandomCorp"}], "did you mean RandomCrop"),
        (f"{LOW}.dataset.valid", {"shuffle": True}, "val and valid, which mean the same"),
        (f"{LOW}.dataset.train.train_portion", 1.5, "train_portion is 1.5"),
        (f"{LOW}.dataset.val.train_portion", 0.02, "images from the latter on are validated on"),
        (f"{LOW}.search_space.custom.name", "MobileNetV3", "did you mean MobileNetV2"),
        (f"{LOW}.search_space.custom.layer_7", {"channels": [8]}, "did you mean .*layer_"),
        (f"{LOW}.search_space.custom.layer_0.chanels", [8], "did you mean .*layer_0.channels"),
        (f"{LOW}.search_space.custom.layer_0.channels", ["a", 8], "layer_0.channels has the option 'a'"),
        (f"{LOW}.search_algorithm.type", "MFKD3", "did you mean MFKD"),
        (f"{LOW}.search_algorithm.max_sample", 5, "did you mean nas_low_fidelity.search_algorithm.max_samples"),
        (f"{LOW}.search_algorithm.max_samples", "many", "'many': a whole number"),
        (f"{LOW}.search_algorithm.init_samples", 11, "init_samples is 11"),
        (f"{LOW}.search_algorithm.gp", "wellpose", "did you mean wellposed"),
        (f"{LOW}.trainer.type", "MFKDTrainr", "did you mean MFKDTrainer"),
        (f"{LOW}.trainer.type", "Trainer", "MFKDTrainer goes with KDLoss"),
        (f"{LOW}.trainer.loss.type", "KDLos", "did you mean KDLoss"),
        (f"{LOW}.trainer.loss.temperature", 4, "unknown key 'nas_low_fidelity.trainer.loss.temperature'"),
        (f"{LOW}.trainer.loss.alpha", 2, "loss.alpha is 2: the weight of the teacher"),
        (f"{LOW}.trainer.teacher", None, "trainer.teacher is missing"),
        (f"{LOW}.trainer.epochs", None, "trainer.epochs is missing"),
        (f"{LOW}.trainer.optim.lr", "fast", "'fast': a number"),
        (f"{LOW}.trainer.optim.type", "SDG", "did you mean SGD"),
        (f"{LOW}.trainer.optimizer", {"type": "SGD"}, "optimizer and optim, which mean the same"),
        (f"{LOW}.trainer.lr_scheduler.T_max", 90, "T_max is 90: the cosine ends with the last epoch, so give 100"),
        ("fully_train.model", {}, "give one of model.model_desc"),
        ("fully_train.trainer.ref", "nas.trainer", "there is no such section"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    changed: Callable[[Change], Pipeline], path: str, value: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        changed(put(path, value))


def test_a_file_that_is_no_pipeline_is_refused(read: Callable[[str], Pipeline], tmp_path: Path) -> None:
    for text, message in (("- 1", "holds a list"), ("a: [", "not valid YAML"), ("", "holds a NoneType")):
        with pytest.raises(UsageError, match=message):
            read(text)
    with pytest.raises(UsageError, match="cannot read"):
        read_pipeline(tmp_path / "none.yml", folder=None, default=tmp_path)


def test_a_step_that_the_pipeline_does_not_name_is_noted(changed: Callable[[Change], Pipeline]) -> None:
    pipeline = changed(put("pipeline", ["nas_low_fidelity", "nas_high_fidelity"]))
    assert len(pipeline.steps) == 2
    assert any(note.startswith("fully_train has no effect") for note in pipeline.notes)
