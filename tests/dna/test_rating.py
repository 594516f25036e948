"""Ratings: measures by their laws, and the walk over prefixes against the loop over paths."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dna.archs import path_ops
from dna.losses import MEASURES, guide_loss, measures
from dna.rating import StageBatches, potential_of, rate_block, stage_batches
from dna.space import BlockSpace
from dna.supernet import Block, Supernet
from dna.teacher import Teacher


def named(student: Tensor, teacher: Tensor) -> dict[str, float]:
    return dict(zip(MEASURES, measures(student, teacher).tolist(), strict=True))


def test_measures_equal_their_formulas() -> None:
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=(3, 4, 5, 5)), draws.normal(1, 2, size=(3, 4, 5, 5))
    found = named(torch.from_numpy(x), torch.from_numpy(y))
    error = ((x - y) ** 2).mean()
    expected = {
        "cl_loss": abs(x - y).mean() / y.std(ddof=1),
        "gr_loss": abs(x - y).mean() / abs(y).mean(),
        "loss": error,
        "rela_loss": error / y.var(ddof=1),
        "sq_loss": error**0.5 / y.var(ddof=1),
    }
    assert found == pytest.approx(expected, rel=1e-5)
    assert float(guide_loss(torch.from_numpy(x), torch.from_numpy(y))) == pytest.approx(error, rel=1e-5)


def test_measures_keep_their_laws() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    base, scaled, shifted = named(x, y), named(3 * x, 3 * y), named(x + 5, y + 5)
    for name in ("cl_loss", "rela_loss"):
        assert scaled[name] == pytest.approx(base[name], rel=1e-5)
        assert shifted[name] == pytest.approx(base[name], rel=1e-4)
    assert scaled["gr_loss"] == pytest.approx(base["gr_loss"], rel=1e-5)
    assert scaled["sq_loss"] == pytest.approx(base["sq_loss"] / 3, rel=1e-5)
    assert base["cl_loss"] <= base["rela_loss"] ** 0.5 + 1e-6  # Jensen
    assert not measures(y, y).any()


@pytest.fixture
def supernet(toy_space: BlockSpace, toy_widths: tuple[int, ...]) -> Supernet:
    """A supernet with statistics that are not those of a new one."""
    supernet = Supernet(toy_space, toy_widths)
    torch.manual_seed(7)
    for module in supernet.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.weight.data.uniform_(0.5, 1.5)
    return supernet


@pytest.fixture
def stages(toy_teacher: Teacher) -> list[StageBatches]:
    draws = torch.Generator().manual_seed(1)
    images = [torch.randn(num, 3, 16, 16, generator=draws) for num in (6, 4, 4, 3)]
    return stage_batches(toy_teacher, images[0], images[1:])


def one_by_one(block: Block, path: tuple[int, ...], batches: StageBatches) -> list[float]:
    """The released way: for every batch all statistics are reset and taken anew of the whole path."""
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    sums, total = np.zeros(len(MEASURES)), 0
    for before, after in zip(batches.inputs, batches.targets, strict=True):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = 1.0
        with torch.no_grad():
            block.train()(batches.recalibration, path)
            output = block.eval()(before, path)
        sums += len(before) * np.array(measures(output, after).tolist())
        total += len(before)
    return list(sums / total)


@pytest.mark.parametrize("stage", [0, 1, 5])
def test_the_walk_over_prefixes_equals_the_loop_over_paths(
    stage: int, supernet: Supernet, stages: list[StageBatches]
) -> None:
    block = supernet.block(stage, 1 if stage == 1 else 0)
    rated = rate_block(block, stages[stage])
    expected = [one_by_one(block, path_ops(path, len(block.layers)), stages[stage]) for path in range(block.num_paths)]
    assert rated.shape == (block.num_paths, len(MEASURES))
    np.testing.assert_allclose(rated.numpy(), expected, rtol=1e-12)  # the same sums of the same float32 values
    assert (rated > 0).all()


def test_every_prefix_is_computed_once(supernet: Supernet, stages: list[StageBatches]) -> None:
    block = supernet.block(0)
    calls = [0]
    for layer in block.layers:
        for op in layer:  # type: ignore[attr-defined]
            op.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    done: list[int] = []
    rate_block(block, stages[0], done.append)
    num_batches = 1 + len(stages[0].inputs)
    assert calls[0] == (6 + 6**2) * num_batches
    assert sum(done) == 36


def test_rating_leaves_everything_as_it_was(
    supernet: Supernet, toy_teacher: Teacher, stages: list[StageBatches]
) -> None:
    block = supernet.block(0).train()
    block.op(0, 1).eval()
    before = {name: value.clone() for name, value in block.state_dict().items()}
    modes = [module.training for module in block.modules()]
    teacher = {name: value.clone() for name, value in toy_teacher.network.state_dict().items()}
    first = rate_block(block, stages[0])
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    assert [module.training for module in block.modules()] == modes
    assert {norm.momentum for norm in block.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.1}
    assert torch.equal(rate_block(block, stages[0]), first), "repeatable bit for bit"
    assert all(torch.equal(value, teacher[name]) for name, value in toy_teacher.network.state_dict().items())


def test_ratings_do_not_depend_on_how_images_are_split_over_calls(
    supernet: Supernet, stages: list[StageBatches]
) -> None:
    block, batches = supernet.block(2), stages[2]
    parts = [replace(batches, inputs=[x], targets=[y]) for x, y in zip(batches.inputs, batches.targets, strict=True)]
    sizes = [len(x) for x in batches.inputs]
    joined = sum(size * rate_block(block, part) for size, part in zip(sizes, parts, strict=True)) / sum(sizes)
    torch.testing.assert_close(joined, rate_block(block, batches), rtol=1e-6, atol=0)


def test_features_to_rate_on_have_the_statistics_of_the_recalibration_batch(toy_teacher: Teacher) -> None:
    torch.manual_seed(3)
    fixed, images = torch.randn(6, 3, 16, 16), torch.randn(4, 3, 16, 16)
    stages = stage_batches(toy_teacher, fixed, [images, fixed])
    assert torch.equal(stages[0].recalibration, fixed)
    assert torch.equal(stages[0].inputs[0], images)
    during = toy_teacher.features(fixed, statistics="batch")
    assert torch.equal(stages[3].recalibration, during[2])
    after = toy_teacher.recalibrated(fixed).features(images)
    assert torch.equal(stages[3].inputs[0], after[2])
    assert torch.equal(stages[3].targets[0], after[3])


def test_a_rating_that_is_not_finite_is_an_error_and_the_pool_follows_the_training_loss() -> None:
    rated = torch.rand(6, 5, dtype=torch.float64)
    potential = potential_of(rated, stage=5, width=8)
    assert potential.top_index.tolist() == rated[:, MEASURES.index("loss")].argsort().tolist()
    assert potential.metrics["cl_loss"].tolist() == rated[:, 0].tolist()
    assert not potential.metrics["prec1"].any()
    rated[2, 1] = float("nan")
    with pytest.raises(RuntimeError, match="stage 5: the rating of path 2 is not finite"):
        potential_of(rated, stage=5, width=8)
