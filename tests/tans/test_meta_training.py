import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from menagerie import DATASETS, SETTINGS

from common.experiment.run import open_run
from tans.artifacts import SpaceArtifact, check_fits, load_space, save_space
from tans.encoders import CrossModalSpace, SpaceSizes, new_space
from tans.meta_training import (
    ResidentZoo,
    SpaceLearning,
    describe,
    feature_statistics,
    load_resident,
    measure,
    meta_train,
)
from tans.zoo import Zoo, create_zoo, open_zoo
from tans.zoo_spaces import store_space, stored_space, vectors_of
from tans.zoo_tables import DatasetRow, NetworkRow, QueryRow, masked

SIZES = SpaceSizes(functional_dim=160, embedding_dim=16)
SHORT = SpaceLearning(steps=60, validate_every=10, num_networks=3)
CPU = torch.device("cpu")


def toy_zoo(folder: Path, num: int = 10, each: int = 6) -> Zoo:
    """A separable one: each dataset and its networks scatter around a direction of their own."""
    zoo = create_zoo(folder, SETTINGS)
    draws = torch.Generator().manual_seed(0)
    for place in range(num):
        name = f"set{place:02d}"
        zoo.put_dataset(
            DatasetRow(name=name, source=name, class_names=("a", "b"), num_train=9, num_evaluation=9, resolution=32)
        )
        centre, answer = torch.rand(1, 512, generator=draws), torch.randn(1, 128, generator=draws)
        for partition in ("train", "test"):
            means = centre + 0.05 * torch.rand(2, 512, generator=draws)
            zoo.put_query(
                QueryRow(
                    dataset=name,
                    partition=partition,
                    extractor=SETTINGS.extractor,
                    counts=torch.tensor([5, 4]),
                    class_means=means,
                )
            )
        topologies = zoo.settings.space.topologies(zoo.settings.space.sample(each, draws))
        rows = [
            NetworkRow(
                dataset=name,
                topology=tuple(row),
                key=str(number),
                num_params=1,
                macs=1,
                feature_dim=128,
                accuracy=0.05 * place + 0.01 * number,
            )
            for number, row in enumerate(topologies.tolist())
        ]
        zoo.add(rows, 10 * answer + torch.randn(each, 128, generator=draws))
    return zoo


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy") / "zoo"
    toy_zoo(folder).close()
    return folder


def learn(
    folder: Path, run_folder: Path, learning: SpaceLearning, stop: int | None = None
) -> tuple[CrossModalSpace, dict[str, float]]:
    with open_zoo(folder) as zoo, open_run(run_folder, program="tans", step="test", config=learning) as run:
        mean, std = feature_statistics(zoo, learning)
        space = new_space(SIZES, 5, mean, std)
        resident = load_resident(zoo, space, learning, CPU)
        found = meta_train(space, resident, learning, seed=5, run=run)
    return space, found


def losses(run_folder: Path) -> list[str]:
    with (run_folder / "metrics.csv").open() as file:
        return [row["value"] for row in csv.DictReader(file) if row["name"] == "contrastive"]


def test_a_separable_zoo_is_learned(toy: Path, tmp_path: Path) -> None:
    learning = SpaceLearning(steps=200, validate_every=1)
    _, found = learn(toy, tmp_path, learning)
    course = [float(value) for value in losses(tmp_path)]
    assert course[-1] < 0.2 * course[0]
    assert found["recall_1"] >= 0.9
    assert found["mean_rank"] < 1.2
    assert found["cosine_own"] > found["cosine_other"] + 0.3


def test_the_same_seed_gives_the_same_losses(toy: Path, tmp_path: Path) -> None:
    first, _ = learn(toy, tmp_path / "a", SHORT)
    again, _ = learn(toy, tmp_path / "b", SHORT)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))


def test_the_hash_seed_of_python_changes_nothing(toy: Path, tmp_path: Path) -> None:
    program = (
        "import sys, torch; sys.path.insert(0, 'tests/tans'); from pathlib import Path; torch.set_num_threads(1)\n"
        "from test_meta_training import SHORT, learn, losses\n"
        "learn(Path(sys.argv[1]), Path(sys.argv[2]), SHORT); print(losses(Path(sys.argv[2])))"
    )
    root = Path(__file__).resolve().parents[2]
    shown = [
        subprocess.run(
            [sys.executable, "-c", program, str(toy), str(tmp_path / seed)],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert shown[0] == shown[1] != "[]\n"


def test_an_interrupted_training_goes_on_to_the_same_end(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learning = replace(SHORT, steps=70, validate_every=2)
    whole, _ = learn(toy, tmp_path / "whole", learning)
    import tans.meta_training as module

    calls, original = iter(range(1000)), module.contrastive_loss

    def killed(*args: object, **settings: object) -> torch.Tensor:
        if next(calls) == 55:
            raise KeyboardInterrupt
        return original(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "contrastive_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        learn(toy, tmp_path / "parts", learning)
    monkeypatch.setattr(module, "contrastive_loss", original)
    parts, _ = learn(toy, tmp_path / "parts", learning)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), parts.parameters(), strict=True))


def test_the_state_with_the_best_recall_is_kept(toy: Path, tmp_path: Path) -> None:
    learning = replace(SHORT, validate_every=1, learning_rate=0.03)
    _, found = learn(toy, tmp_path, learning)
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "valid"]
    recalls = [float(row["value"]) for row in rows if row["name"] == "recall_1"]
    errors = [float(row["value"]) for row in rows if row["name"] == "squared_error"]
    best = max(range(len(recalls)), key=lambda step: (recalls[step], -errors[step], -step))
    assert found["step"] == best


def test_released_validation_takes_the_first_best_of_fresh_draws(toy: Path, tmp_path: Path) -> None:
    _, found = learn(toy, tmp_path, replace(SHORT, official_eval=True))
    with (tmp_path / "metrics.csv").open() as file:
        recalls = [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "recall_1"]
    assert len(recalls) == SHORT.steps
    assert found["step"] == recalls.index(max(recalls))


def test_networks_are_grouped_by_dataset_and_the_first_count(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        space = new_space(SIZES, 0)
        resident, table = load_resident(zoo, space, SHORT, CPU), zoo.table()
        described = describe(space, table, "raw")
    assert resident.names == tuple(sorted(DATASETS))
    assert resident.counts.tolist() == [3, 3, 3]
    for place, name in enumerate(resident.names):
        members = [i for i in range(len(table)) if table.datasets[int(table.dataset[i])] == name][:3]
        start = int(resident.starts[place])
        torch.testing.assert_close(resident.described[start : start + 3], described[members])
        torch.testing.assert_close(resident.accuracies[start : start + 3], table.accuracy[members])


def test_leaving_classes_out_takes_the_mean_of_the_others(pristine: Path) -> None:
    with open_zoo(pristine) as zoo:
        resident: ResidentZoo = load_resident(zoo, new_space(SIZES, 0), SHORT, CPU)
        queries = zoo.queries("train")
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(
        resident.queries(rows), torch.stack([queries[resident.names[place]].mean for place in rows.tolist()])
    )
    kept = torch.tensor([[True, False, True], [False, False, False]])
    found = resident.queries(rows, kept)
    first = queries[resident.names[2]]
    expected = (10 * first.class_means[0] + 8 * first.class_means[2]) / 18
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], queries[resident.names[0]].mean), "nothing left means nothing left out"


def test_measures_of_a_validation_are_those_of_plain_code(toy: Path) -> None:
    with open_zoo(toy) as zoo:
        space = new_space(SIZES, 1)
        resident = load_resident(zoo, space, SHORT, CPU)
    draws = torch.stack([resident.starts, resident.starts + 1])
    found = measure(space, resident, draws)
    with torch.no_grad():
        queries = space.encode_queries(resident.held_out)
    ranks, own, other = [], [], []
    for row in draws:
        with torch.no_grad():
            models = space.encode_models(resident.described[row])
        for i in range(len(queries)):
            cosines = [float(F.cosine_similarity(queries[i], models[j], dim=0)) for j in range(len(models))]
            ranks.append(sum(value > cosines[i] for value in cosines))
            own.append(cosines[i])
            other += cosines[:i] + cosines[i + 1 :]
    assert found["mean_rank"] == pytest.approx(1 + sum(ranks) / len(ranks))
    assert found["recall_1"] == pytest.approx(sum(rank < 1 for rank in ranks) / len(ranks))
    assert found["cosine_own"] == pytest.approx(sum(own) / len(own), abs=1e-5)
    assert found["cosine_other"] == pytest.approx(sum(other) / len(other), abs=1e-5)


def test_a_zoo_without_two_datasets_teaches_nothing(tmp_path: Path) -> None:
    with toy_zoo(tmp_path, num=1) as zoo, pytest.raises(ValueError, match="at least 2 are needed"):
        load_resident(zoo, new_space(SIZES, 0), SHORT, CPU)


def test_masked_topologies_are_those_of_the_space() -> None:
    space = SETTINGS.space
    archs = space.sample(20, torch.Generator().manual_seed(1))
    assert torch.equal(masked(space.topologies(archs)), space.topologies(archs, is_masked=True))


def artifact_of(zoo: Zoo, **changes: object) -> SpaceArtifact:
    values = {
        "space": new_space(SIZES, 3),
        "extractor": zoo.settings.extractor,
        "probe": zoo.settings.probe,
        "topology": "raw",
        "sources": tuple(zoo.datasets()),
        "origin": "tans",
        "notes": {"measures": {"recall_1": 0.5}},
    }
    return SpaceArtifact(**values | changes)  # type: ignore[arg-type]


def test_a_space_comes_back_from_its_file_and_says_what_is_wrong_with_another(pristine: Path, tmp_path: Path) -> None:
    with open_zoo(pristine) as zoo:
        artifact = artifact_of(zoo)
        save_space(tmp_path / "space.safetensors", artifact)
        loaded = load_space(tmp_path / "space.safetensors")
        assert loaded.id == artifact.id
        assert loaded.sources == artifact.sources
        assert loaded.has_seen("letters/2-3")
        assert not loaded.has_seen("birds")
        with pytest.raises(RuntimeError, match="holds 'mobilenet_v3-supernet', no cross-modal space"):
            load_space(next((pristine / "supernets").iterdir()))
        with pytest.raises(ValueError, match="answers to probe"):
            check_fits(artifact_of(zoo, probe="other"), zoo.settings, zoo.folder)
        with pytest.raises(ValueError, match="and the space takes 64"):
            check_fits(artifact_of(zoo, space=new_space(SpaceSizes(functional_dim=64), 0)), zoo.settings, zoo.folder)


def test_vectors_of_a_stored_space_are_kept_and_grow_with_the_zoo(zoo_folder: Path) -> None:
    with open_zoo(zoo_folder) as zoo:
        artifact = artifact_of(zoo)
        table = zoo.table()
        with torch.no_grad():
            expected = artifact.space.encode_models(describe(artifact.space, table, "raw"))
        elsewhere = vectors_of(zoo, artifact, table)
        torch.testing.assert_close(torch.cat([torch.as_tensor(part) for part in elsewhere]), expected)
        assert not list((zoo_folder / "vectors").glob("embedding-*"))
        store_space(zoo, artifact)
        assert stored_space(zoo).id == artifact.id
        row = NetworkRow(dataset="animals", num_params=1, macs=1, feature_dim=1, accuracy=0.5, key="x", family="timm:x")
        zoo.add([row], torch.ones(1, 5))
        grown = torch.cat([torch.as_tensor(part) for part in vectors_of(zoo, artifact, zoo.table())])
        torch.testing.assert_close(grown[:-1], expected)
        assert grown[-1].norm().item() == pytest.approx(1, abs=1e-5)
