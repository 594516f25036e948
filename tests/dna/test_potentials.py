from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dna.potentials import METRICS, Potential, load, read_official, read_pool, save, write_official, write_pool


def draw(num_layers: int = 2, seed: int = 0, **changes: Any) -> Potential:
    draws = np.random.default_rng(seed)
    metrics = {name: draws.random(6**num_layers) * 10.0 ** draws.integers(-9, 3) for name in METRICS}
    order = np.argsort(metrics["loss"])
    return Potential(**({"metrics": metrics, "top_index": order} | changes))


def same(first: Potential, second: Potential) -> bool:
    values = all(np.array_equal(first.metrics[name], second.metrics[name]) for name in METRICS)
    return values and np.array_equal(first.top_index, second.top_index)


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_both_forms_give_the_same_ratings_back(tmp_path: Path, num_layers: int) -> None:
    potential = draw(num_layers, stage=3, width=96)
    write_official(tmp_path / "potential-3.yaml", potential)
    save(tmp_path / "potential-3.npz", potential)
    official, ours = read_official(tmp_path / "potential-3.yaml"), load(tmp_path / "potential-3.npz")
    assert same(official, potential)
    assert same(ours, potential)
    assert (ours.stage, ours.width, ours.num_layers) == (3, 96, num_layers)
    assert (official.stage, official.width) == (None, None)
    again = (tmp_path / "again.yaml", tmp_path / "again.npz")
    write_official(again[0], official)
    save(again[1], ours)
    assert again[0].read_bytes() == (tmp_path / "potential-3.yaml").read_bytes()
    assert again[1].read_bytes() == (tmp_path / "potential-3.npz").read_bytes()


def test_the_official_form_is_block_style_with_one_number_a_line(tmp_path: Path) -> None:
    lines = [f"{name}:\n" + "".join(f"- {0.5 + index / 8}\n" for index in range(6)) for name in METRICS]
    text = "".join(lines) + "top_index:\n" + "".join(f"- {index}\n" for index in (3, 0, 1, 2, 5, 4))
    (tmp_path / "potential-5.yaml").write_text(text)
    potential = read_official(tmp_path / "potential-5.yaml")
    assert potential.rating().tolist() == [0.5, 0.625, 0.75, 0.875, 1.0, 1.125]
    assert potential.top_index.tolist() == [3, 0, 1, 2, 5, 4]
    write_official(tmp_path / "written.yaml", potential)
    assert (tmp_path / "written.yaml").read_text() == text


def test_missing_stage_and_width_stay_missing(tmp_path: Path) -> None:
    save(tmp_path / "ratings.npz", draw())
    found = load(tmp_path / "ratings.npz")
    assert (found.stage, found.width) == (None, None)


def test_the_model_pool_gives_paths_back(tmp_path: Path) -> None:
    write_pool(tmp_path / "modelpool-1.yaml", [0, 7, 1295], 4)
    assert yaml.safe_load((tmp_path / "modelpool-1.yaml").read_text()) == [[0, 0, 0, 0], [0, 0, 1, 1], [5, 5, 5, 5]]
    assert read_pool(tmp_path / "modelpool-1.yaml", 4) == [0, 7, 1295]
    with pytest.raises(RuntimeError, match="no list of encodings of 3 layers"):
        read_pool(tmp_path / "modelpool-1.yaml", 3)


def test_ratings_without_a_signal_are_refused_with_the_reason() -> None:
    metrics = dict(draw().metrics)
    zero = Potential(metrics=metrics | {"cl_loss": np.zeros(36)})
    with pytest.raises(
        ValueError, match="cl_loss is zero for all paths, as the released code writes it when run in one"
    ):
        zero.rating()
    assert np.array_equal(zero.rating("loss"), metrics["loss"])
    broken = metrics["cl_loss"].copy()
    broken[7] = np.nan
    with pytest.raises(ValueError, match="cl_loss of path 7 is not finite"):
        Potential(metrics=metrics | {"cl_loss": broken}).rating()
    with pytest.raises(ValueError, match="metric is 'accuracy': known are cl_loss"):
        zero.rating("accuracy")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda metrics: {name: metrics[name] for name in METRICS[1:]}, r"ratings without \['cl_loss'\]"),
        (lambda metrics: metrics | {"extra": np.zeros(36)}, r"with \['extra'\] that is unknown"),
        (lambda metrics: metrics | {"loss": np.zeros(6)}, "all must be of one length, a power of 6"),
        (lambda metrics: {name: np.zeros(35) for name in METRICS}, "a power of 6"),
        (lambda metrics: {name: np.zeros(0) for name in METRICS}, "a power of 6"),
        (lambda metrics: {name: np.zeros(1) for name in METRICS}, "a power of 6"),
    ],
)
def test_incomplete_ratings_are_refused(change: Callable[[dict[str, Any]], dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Potential(metrics=change(dict(draw().metrics)))


@pytest.mark.parametrize("order", [[0, 0], [36], [-1]])
def test_an_order_of_other_paths_is_refused(order: list[int]) -> None:
    with pytest.raises(ValueError, match="top_index does not hold different paths of the 36"):
        draw(top_index=np.array(order))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "holds a list"),
        ("loss: [1", "is not valid YAML"),
        ("loss: [1, 2]\n", "is no file of ratings: ratings without"),
        ("loss: [a, b]\n", "is no file of ratings"),
        ("cl_loss: !!python/tuple [1]\n", "is not valid YAML"),
        ("", "holds a NoneType"),
    ],
)
def test_damaged_official_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(RuntimeError, match=f"bad.yaml .*{message}|bad.yaml {message}"):
        read_official(tmp_path / "bad.yaml")


def test_damaged_compact_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    save(path, draw())
    content = path.read_bytes()
    for data in (
        content[: len(content) // 2],
        b"",
        b"text",
        content.replace("MB6_3".encode("utf-32-le"), b"X" * 20),
    ):
        path.write_bytes(data)
        with pytest.raises(RuntimeError, match="is damaged or no file of ratings"):
            load(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(RuntimeError, match=r"array\.npy is damaged or no file of ratings"):
        load(tmp_path / "array.npy")
    for read in (load, read_official):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            read(tmp_path / "none")
