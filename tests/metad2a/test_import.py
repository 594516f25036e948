from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from released import released_state

from common.experiment.files import read_json
from common.features.sets import FeatureSet
from common.spaces import MobileNetV3Plan, MobileNetV3Space, MobileNetV3Supernet, NasBench201Space
from common.supernet import load_supernet
from metad2a.artifacts import load_pair
from metad2a.database import load_database
from metad2a.feature_files import load_features
from metad2a.import_official import ImportConfig, import_official
from metad2a.predictor import Normaliser

SPACE = NasBench201Space()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder as the released code's downloads leave it, with the smallest models."""
    folder = tmp_path / "release"
    (folder / "results").mkdir(parents=True)
    torch.save(released_state("generator"), folder / "results/ckpt_400.pt")
    torch.save(released_state("predictor"), folder / "results/ckpt_max_corr.pt")
    sizes = {"h": 12, "z": 12, "n": 29, "nodes": 22}
    torch.save(released_state("generator", **sizes), folder / "results/ckpt_120.pt")
    torch.save([[torch.rand(4, 512)] for _ in range(3)], folder / "mnistbylabel.pt")
    torch.save([[1, 5], [2, 3]], folder / "meta_train_task_lst.pt")
    cells = [SPACE.format(cell) for cell in SPACE.sample(420, torch.Generator().manual_seed(0))]
    database = {"acc": [50.0 + row / 20 for row in range(420)], "task": [0, 1] * 210, "str": cells}
    torch.save(database, folder / "meta_train_tasks_predictor.pt")
    torch.save(torch.randperm(420), folder / "meta_train_tasks_predictor_idx.pt")
    torch.save({"arch": {}}, folder / "nasbench201.pt")
    return folder


def test_a_folder_of_the_release_becomes_a_pair_features_and_a_database(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_official(ImportConfig(source=release, out=tmp_path / "ours"))
    pair = load_pair(tmp_path / "ours")
    assert (pair.generator.origin, pair.generator.extractor, pair.sources) == (
        "official",
        "resnet18-imagenet",
        ("imagenet32",),
    )
    assert pair.predictor.normaliser == Normaliser(0.715715, 0.066932)
    assert pair.generator.normaliser is None
    features = load_features(tmp_path / "ours/features/mnist.safetensors")
    assert (features.source, features.num_classes, len(features.labels)) == ("mnist", 3, 12)
    database = load_database(tmp_path / "ours/predictor_database.safetensors")
    assert (database.num_rows, int(database.is_valid.sum()), database.sources) == (420, 400, ("imagenet32",))
    report = read_json(tmp_path / "ours/import.json")
    assert {Path(name).name for name in report} == {
        *("ckpt_400.pt", "ckpt_120.pt", "ckpt_max_corr.pt", "mnistbylabel.pt", "meta_train_tasks_predictor.pt")
    }
    assert "hv_unify.0.weight" in report[str(release / "results/ckpt_400.pt")]["unused"]
    assert "result: 5 files imported" in capsys.readouterr().out


def test_models_and_supernets_of_networks_have_a_folder_and_files_of_their_own(tmp_path: Path) -> None:
    sizes = {"h": 12, "z": 12, "n": 29, "nodes": 22}
    for kind, name in (("generator", "ckpt_120.pt"), ("predictor", "ckpt_max_corr.pt")):
        torch.save(released_state(kind, **sizes), tmp_path / name)
    supernet = MobileNetV3Supernet(MobileNetV3Plan(width_mult=0.2), 5)
    torch.save({"state_dict": supernet.state_dict()}, tmp_path / "ofa_mbv3_d234_e346_k357_w0.2")
    import_official(ImportConfig(source=tmp_path, out=tmp_path / "ours"))
    pair = load_pair(tmp_path / "ours/mobilenetv3")
    assert (pair.generator.space, pair.generator.view.name) == (MobileNetV3Space(), "mobilenetv3")
    assert pair.predictor.normaliser is None  # its mean and deviation were not published
    assert pair.predictor.notes["resolution"] == 224
    stored = load_supernet(tmp_path / "ours/supernet-w0.2.safetensors")
    assert (stored.supernet.plan.width_mult, stored.resolution, len(stored.class_names)) == (0.2, 224, 5)
    ours, theirs = stored.supernet.state_dict(), supernet.state_dict()
    assert all(ours[name].equal(theirs[name]) for name in ours if not name.startswith("first_conv"))
    with pytest.raises(ValueError, match="give both or none"):
        ImportConfig(source=tmp_path, mean=0.5)


def test_models_of_no_space_and_the_table_are_named_and_left_out(
    release: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(released_state("generator", h=12, z=12, n=9, nodes=5), release / "results/ckpt_5.pt")
    import_official(ImportConfig(source=release, out=tmp_path / "ours"))
    assert "ckpt_5.pt: not imported (graphs of 5 vertices, of no space here)" in caplog.text
    assert "nasbench201.pt: not imported" in caplog.text


def test_one_kind_can_be_asked_for(release: Path, tmp_path: Path) -> None:
    import_official(ImportConfig(source=release, kind="features", out=tmp_path / "ours"))
    assert [path.name for path in (tmp_path / "ours").iterdir()] in (
        ["features", "import.json"],
        ["import.json", "features"],
    )
    with pytest.raises(ValueError, match="holds nothing of kind database"):
        import_official(ImportConfig(source=release / "results", kind="database", out=tmp_path / "none"))


def test_a_database_without_its_tasks_is_named(release: Path, tmp_path: Path) -> None:
    (release / "meta_train_task_lst.pt").unlink()
    with pytest.raises(FileNotFoundError, match=r"is no use without .*meta_train_task_lst.pt, which is not there"):
        import_official(ImportConfig(source=release / "meta_train_tasks_predictor.pt", out=tmp_path / "ours"))


def test_a_source_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        import_official(ImportConfig(source=tmp_path / "nowhere", out=tmp_path / "ours"))


def test_a_checkpoint_that_does_not_map_is_refused(tmp_path: Path, make_set: Callable[..., FeatureSet]) -> None:
    state = released_state("generator")
    del state["fc1.bias"]
    torch.save(state, tmp_path / "ckpt_400.pt")
    with pytest.raises(ValueError, match=r"missing: fc1.bias"):
        import_official(ImportConfig(source=tmp_path / "ckpt_400.pt", out=tmp_path / "ours"))
