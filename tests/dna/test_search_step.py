"""Ratings in folders, ours and the released code's, and what is said when they do not fit."""

from pathlib import Path

import numpy as np
import pytest

from common.experiment.config import UsageError, to_dict
from common.experiment.files import write_json
from common.report.facts import RunFacts
from dna.archs import LAYERS, WIDTHS, DnaArch, path_index
from dna.budgets import Budget
from dna.evaluate import rankings_of, rating_of
from dna.potentials import METRICS, Potential, save, write_official
from dna.rate import file_name
from dna.report_inputs import FoundFacts, TrainedFacts
from dna.search import SearchConfig, random_network, read_ratings, search
from dna.space import BlockSpace

SPACE = BlockSpace(cells=("1x24", "1x40+2x48", "1x80", "1x112", "1x192", "1x320"))


def potential(num_layers: int, seed: int, **fields: int) -> Potential:
    draws = np.random.default_rng(seed)
    metrics = {name: draws.random(6**num_layers) for name in METRICS}
    return Potential(metrics=metrics, top_index=metrics["loss"].argsort(), **fields)


def write(folder: Path, *, official: bool = False) -> dict[tuple[int, int], Potential]:
    folder.mkdir(exist_ok=True)
    written = {}
    for stage, cells in enumerate(SPACE.stages()):
        for index, cell in enumerate(cells):
            known = {} if official else {"stage": stage, "width": cell.width}
            one = written[stage, index] = potential(cell.num_layers, 10 * stage + index, **known)
            if official:
                write_official(folder / file_name(stage, index, ".yaml"), one)
            else:
                save(folder / file_name(stage, index), one)
    return written


@pytest.mark.parametrize("official", [False, True])
def test_ratings_of_both_forms_are_read_cell_by_cell(official: bool, tmp_path: Path) -> None:
    written = write(tmp_path, official=official)
    rated = read_ratings(tmp_path, SPACE)
    for (stage, index), one in written.items():
        assert rated[stage][index].cell == SPACE.stages()[stage][index]
        np.testing.assert_allclose(rated[stage][index].losses, one.metrics["cl_loss"], rtol=1e-15)
    by_loss = read_ratings(tmp_path, SPACE, "loss")
    np.testing.assert_allclose(by_loss[2][0].losses, written[2, 0].metrics["loss"], rtol=1e-15)


def test_a_stage_without_ratings_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "potential-3.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no ratings of stage 3 \(potential-3.npz or potential-3.yaml\): run"):
        read_ratings(tmp_path, SPACE)
    write(tmp_path)
    (tmp_path / "potential-1-cell1.npz").unlink()
    with pytest.raises(FileNotFoundError, match="no ratings of stage 1, cell 1"):
        read_ratings(tmp_path, SPACE)


def test_ratings_of_another_space_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    deeper = BlockSpace(cells=("2x24", *SPACE.cells[1:]))
    with pytest.raises(ValueError, match=r"potential-0.npz rates 1 layers of width 24, and the cell is 2x24"):
        read_ratings(tmp_path, deeper)
    wider = BlockSpace(cells=("1x32", *SPACE.cells[1:]))
    with pytest.raises(ValueError, match=r"rates 1 layers of width 24, and the cell is 1x32"):
        read_ratings(tmp_path, wider)
    about = {"space": to_dict(SPACE), "resolution": 64, "num_classes": 10}
    write_json(tmp_path / "result.json", about)
    assert len(read_ratings(tmp_path, SPACE, resolution=64)) == 6
    with pytest.raises(UsageError, match=r"has ratings of dna-.*1x24\|.* and asked is dna-.*1x32\|"):
        read_ratings(tmp_path, wider)
    with pytest.raises(UsageError, match="was rated at 64 pixels, not 32"):
        read_ratings(tmp_path, SPACE, resolution=32)


def test_ratings_of_zero_which_the_release_writes_in_one_process_are_refused(tmp_path: Path) -> None:
    write(tmp_path, official=True)
    metrics = {name: np.zeros(6) for name in METRICS} | {"loss": np.arange(1.0, 7)}
    write_official(tmp_path / "potential-4.yaml", Potential(metrics=metrics))
    with pytest.raises(ValueError, match=r"cl_loss is zero for all paths.*or search by loss"):
        read_ratings(tmp_path, SPACE)
    assert len(read_ratings(tmp_path, SPACE, "loss")) == 6


def test_a_bound_that_nothing_satisfies_says_what_is_the_least(tmp_path: Path) -> None:
    write(tmp_path / "ratings")
    config = {"ratings": tmp_path / "ratings", "space": SPACE, "resolution": 64, "num_classes": 10}
    with pytest.raises(ValueError, match=r"no network fits the budget \[1000\]: the cheapest costs \d{7,} \(macs\)"):
        search(SearchConfig(**config, budget=Budget(macs=1000), out=tmp_path / "run"))  # type: ignore[arg-type]


def test_random_networks_are_uniform_and_rated_as_their_paths(tmp_path: Path) -> None:
    write(tmp_path)
    rated = read_ratings(tmp_path, SPACE)
    draws = np.random.default_rng(0)
    drawn = [random_network(rated, draws) for _ in range(400)]
    for arch, loss in drawn[:50]:
        assert sum(rating_of(arch, rated)) == pytest.approx(loss)
    deep = np.mean([len(arch.ops[1]) == 2 for arch, _ in drawn])
    assert deep == pytest.approx(0.5, abs=0.1)
    counts = np.bincount([arch.ops[0][0] for arch, _ in drawn], minlength=6)
    assert counts.min() > 30
    published = DnaArch(tuple((0,) * layers for layers in LAYERS), WIDTHS)
    with pytest.raises(ValueError, match=r"stage 0 of .* has a cell that was not rated: 2x24"):
        rating_of(published, rated)
    assert path_index((5, 5)) == 35


def test_rankings_turn_the_sign_of_ratings_and_not_of_costs() -> None:
    arch = DnaArch(tuple((0,) for _ in LAYERS), WIDTHS)
    trained = [
        TrainedFacts(
            name=str(place),
            network=FoundFacts(
                arch=arch, rating=10.0 - place, ratings=(), macs=100 - place, official_macs=1, num_params=place * 2
            ),
            runs=[RunFacts(seed=1, best_accuracy=0.1 * place, final_accuracy=0.1 * place)],
        )
        for place in range(5)
    ]
    found = {ranking.name: (ranking.kendall, ranking.spearman) for ranking in rankings_of(trained, "all")}
    assert found["rating, all (5)"] == pytest.approx((1, 1))
    assert found["MACs, all (5)"] == pytest.approx((-1, -1))
    assert found["parameters, all (5)"] == pytest.approx((1, 1))
