from pathlib import Path

import numpy as np
import pytest
import torch
from menagerie import make_zoo
from torch import nn

from common.experiment.config import UsageError
from common.spaces import MobileNetV3Space, MobileNetV3Supernet
from common.store.released import read_released
from tans.encoders import SpaceSizes, new_space
from tans.networks import load_network
from tans.official import read_meta_test, read_meta_train, read_model_zoo, read_space, read_supernet
from tans.official_flags import step_of, translate
from tans.zoo import open_zoo
from tans.zoo_import import ExportConfig, ImportConfig, export, import_zoo
from tans.zoo_spaces import stored_space
from tans.zoo_verify import verify

SPACE = MobileNetV3Space(width_mult=1.2)
NAMES = ("birds_0_20", "signs_0_10")


def released(folder: Path, num: int = 6) -> dict[str, object]:
    """Files in the released layouts, with random numbers."""
    draws = torch.Generator().manual_seed(0)
    topologies = SPACE.topologies(SPACE.sample(num, draws))
    topologies[2] = topologies[0]
    topologies[2, 3], topologies[0, 3], topologies[[0, 2], 40] = 7, 3, 2  # one network, written in two ways
    content = {
        "dataset": [NAMES[place % 2] for place in range(num)],
        "topol": [row.tolist() if place % 3 else row for place, row in enumerate(topologies)],
        "acc": [0.1 * (1 + place) for place in range(num)],
        "f_emb": [torch.randn(1536, generator=draws) for _ in range(num)],
        "n_params": [3_000_000 + place for place in range(num)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / "p_mod_zoo.pt")
    features = {
        name: {
            "x_query_train": [torch.rand(512, generator=draws) for _ in range(5)],
            "x_query_test": [torch.rand(512, generator=draws) for _ in range(3)],
            "clss": ["a", "b"],
            "nclss": 2,
        }
        for name in NAMES
    }
    torch.save(features, folder / "p_m_train.pt")
    torch.save(
        {"query": [torch.rand(512, generator=draws) for _ in range(4)], "nclss": 5, "x_train": torch.zeros(2, 3, 8, 8)},
        folder / "meta_test_dessert_0_5.pt",
    )
    space = new_space(SpaceSizes(), 1)
    torch.save(
        {
            **{"enc_q": space.query.state_dict(), "enc_m": space.model.state_dict()},
            **{"predictor": space.predictor.state_dict(), "epoch": 12, "recall": {1: 81.25, 5: 96.0}},
            **{"medr": np.float64(1.0), "meanr": np.float64(1.5), "mse": 0.01},
        },
        folder / "saved_model_max_recall.pt",
    )
    return content


def test_a_released_zoo_goes_in_and_out_bit_for_bit(tmp_path: Path) -> None:
    content = released(tmp_path / "released")
    import_zoo(ImportConfig(source=tmp_path / "released", zoo=tmp_path / "zoo"))
    with open_zoo(tmp_path / "zoo") as zoo:
        assert len(zoo) == 6
        assert verify(zoo, 6) == []
        assert zoo.settings.functional_dim == 1536
        cost = SPACE.cost(SPACE.from_topologies(torch.tensor([zoo.network(2).topology]))[0], 1, 224)
        assert zoo.network(2).macs == cost.macs - 1536
        assert [*zoo.queries("train", "meta-test")] == ["dessert_0_5"]
        torch.testing.assert_close(
            zoo.queries("test")[NAMES[0]].mean,
            torch.stack(
                torch.load(tmp_path / "released/p_m_train.pt", weights_only=True)[NAMES[0]]["x_query_test"]
            ).mean(0),
        )
    export(ExportConfig(file=tmp_path / "again.pt", zoo=tmp_path / "zoo"))
    again = torch.load(tmp_path / "again.pt", weights_only=True)
    assert again["dataset"] == content["dataset"]
    assert again["acc"] == content["acc"]
    assert again["n_params"] == content["n_params"]
    assert all(torch.equal(one, two) for one, two in zip(again["f_emb"], content["f_emb"], strict=True))
    assert again["topol"] == [list(map(int, row)) for row in content["topol"]]


def test_importing_twice_adds_nothing(tmp_path: Path) -> None:
    released(tmp_path / "released")
    for _ in range(2):
        import_zoo(ImportConfig(source=tmp_path / "released", zoo=tmp_path / "zoo"))
    with open_zoo(tmp_path / "zoo") as zoo:
        assert len(zoo) == 6


def test_a_released_checkpoint_gives_the_same_vectors(tmp_path: Path) -> None:
    released(tmp_path / "released")
    import_zoo(ImportConfig(source=tmp_path / "released", zoo=tmp_path / "zoo"))
    content = read_released(tmp_path / "released/saved_model_max_recall.pt")
    with open_zoo(tmp_path / "zoo") as zoo:
        artifact, table = stored_space(zoo), zoo.table()
    assert artifact.notes["measures"] == {
        "recall_1": 0.8125, "recall_5": 0.96, "mean_rank": 1.5, "median_rank": 1.0, "squared_error": 0.01
    }  # fmt: skip
    topology, functional = table.topologies[:1].float(), torch.from_numpy(table.functional[0][:1])
    joined = nn.functional.normalize(torch.cat([topology, functional], 1))
    expected = nn.functional.normalize(joined @ content["enc_m"]["fc.weight"].T + content["enc_m"]["fc.bias"])
    found = artifact.space.encode_models(artifact.space.model.describe(topology, functional))
    torch.testing.assert_close(found, expected)


def test_a_released_zoo_takes_no_network_of_ours_and_gives_none_without_supernets(tmp_path: Path) -> None:
    released(tmp_path / "released")
    import_zoo(ImportConfig(source=tmp_path / "released/p_mod_zoo.pt", zoo=tmp_path / "zoo"))
    with open_zoo(tmp_path / "zoo") as zoo:
        with pytest.raises(UsageError, match="noise that its embeddings are answers to is not known"):
            _ = zoo.probe
        with pytest.raises(UsageError, match=r"no weights of network 1.*birds_0_20\.pt"):
            load_network(zoo, zoo.network(1))
        with pytest.raises(FileNotFoundError, match="no trained encoders"):
            stored_space(zoo)


class _Fake(nn.Module):
    """Stands for a module of OFA's in a file."""


def pickled_supernet(path: Path, num_classes: int) -> MobileNetV3Supernet:
    """A whole pickled module, with classes under OFA's dotted names."""
    import sys
    import types

    supernet = MobileNetV3Supernet(SPACE.plan, num_classes)
    module = types.ModuleType("ofa.networks")
    holder = type("OFAMobileNetV3", (_Fake,), {"__module__": "ofa.networks", "__qualname__": "OFAMobileNetV3"})
    module.OFAMobileNetV3 = holder  # type: ignore[attr-defined]
    saved = {name: sys.modules.get(name) for name in ("ofa", "ofa.networks")}
    sys.modules |= {"ofa": types.ModuleType("ofa"), "ofa.networks": module}
    try:
        root = holder()
        for name, tensor in supernet.state_dict().items():
            *parents, leaf = name.split(".")
            place = root
            for part in parents:
                if part not in place._modules:
                    place.add_module(part, holder())
                place = place._modules[part]
            if "running" in leaf or "num_batches" in leaf:
                place.register_buffer(leaf, tensor)
            else:
                place.register_parameter(leaf, nn.Parameter(tensor))
        torch.save(root, path)
    finally:
        for name, value in saved.items():
            if value is None:
                del sys.modules[name]
            else:
                sys.modules[name] = value
    return supernet


def test_a_pickled_supernet_is_read_without_running_its_code(tmp_path: Path) -> None:
    supernet = pickled_supernet(tmp_path / "birds_0_20.pt", 20)
    found = read_supernet(tmp_path / "birds_0_20.pt").state_dict()
    expected = supernet.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_imported_supernet_gives_the_networks_of_its_dataset(tmp_path: Path) -> None:
    released(tmp_path / "released")
    supernet = pickled_supernet(tmp_path / "released/birds_0_20.pt", 20).eval()
    import_zoo(ImportConfig(source=tmp_path / "released", zoo=tmp_path / "zoo"))
    with open_zoo(tmp_path / "zoo") as zoo:
        network = load_network(zoo, zoo.network(1))
        images = torch.randn(1, 3, 32, 32)
        arch = SPACE.from_topologies(torch.tensor([zoo.network(1).topology]))[0]
        with torch.no_grad():
            torch.testing.assert_close(network(images), supernet.activate(arch)(images), atol=1e-5, rtol=1e-5)
        with pytest.raises(UsageError, match="no weights of network 2"):
            load_network(zoo, zoo.network(2))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("evil",)


def test_a_file_with_other_objects_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": _Evil()}, tmp_path / "x.pt")
    with pytest.raises(RuntimeError, match="print"):
        read_supernet(tmp_path / "x.pt")
    assert "evil" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acc": [0.1, 95.0]}, "an accuracy is 95; they are shares"),
        ({"acc": [0.1]}, "equal ones"),
        ({"topol": [[3] * 40] * 2}, "a topology has 40 numbers"),
        ({"topol": [[4] * 45] * 2}, "4 is none of the kernels"),
        ({"f_emb": [torch.full((1536,), torch.nan)] * 2}, "not finite"),
        ({"n_params": None}, "no list 'n_params'"),
    ],
)
def test_wrong_zoo_files_are_explained(change: dict[str, object], message: str, tmp_path: Path) -> None:
    content = released(tmp_path / "released", num=6)
    broken = {key: list(value)[:2] for key, value in content.items()} | change  # type: ignore[call-overload]
    torch.save({key: value for key, value in broken.items() if value is not None}, tmp_path / "p_mod_zoo.pt")
    with pytest.raises(ValueError, match=message):
        import_zoo(ImportConfig(source=tmp_path / "p_mod_zoo.pt", zoo=tmp_path / "zoo"))


def test_wrong_feature_and_checkpoint_files_are_explained(tmp_path: Path) -> None:
    torch.save({"a": {"x_query_train": []}}, tmp_path / "f.pt")
    with pytest.raises(ValueError, match="has no features 'x_query_train'"):
        read_meta_train(tmp_path / "f.pt")
    with pytest.raises(ValueError, match="has no features 'query'"):
        read_meta_test(tmp_path / "f.pt")
    with pytest.raises(ValueError, match="enc_q is not a layer"):
        read_space(tmp_path / "f.pt")
    (tmp_path / "g.pt").write_bytes(b"no file of PyTorch's")
    for read in (read_model_zoo, read_supernet):
        with pytest.raises(RuntimeError, match=r"g\.pt is damaged"):
            read(tmp_path / "g.pt")


def test_released_command_lines_are_ours() -> None:
    train = [
        "--mode",
        "train",
        "--gpu",
        "0",
        "--n-epochs",
        "50",
        "--n_dims",
        "64",
        "--model-zoo",
        "Z",
        "--n-groups",
        "9",
    ]
    assert step_of(train)[0] == "meta-train"
    assert translate("meta-train", train) == (
        ["--gpu", "0", "--learning.steps", "50", "--embedding-dim", "64", "--zoo", "Z", "--learning.max-negatives", "9"]
    )
    test = ["--mode=test", "--gpu", "-1", "--n-retrievals", "5", "--load-path", "S", "--lr", "0.1"]
    assert step_of(test)[0] == "search"
    assert translate("search", test) == ["--gpu", "cpu", "--num-retrieved", "5", "--space", "S"]
    assert step_of(["zoo", "list", "--zoo", "Z"]) == ["zoo list", "--zoo", "Z"]
    assert step_of(["--help"]) == ["--help"]
    assert translate("search", ["--data", "cub", "--unknown", "1"]) == ["--data", "cub", "--unknown", "1"]
    with pytest.raises(UsageError, match="one GPU is used"):
        translate("search", ["--gpu", "0,1"])


def test_a_zoo_of_ours_is_exported_too(tmp_path: Path) -> None:
    with make_zoo(tmp_path / "zoo") as zoo:
        rows = zoo.networks()
    export(ExportConfig(file=tmp_path / "p_mod_zoo.pt", zoo=tmp_path / "zoo"))
    found = read_model_zoo(tmp_path / "p_mod_zoo.pt")
    assert found.accuracies == [row.accuracy for row in rows]
    export(ExportConfig(file=tmp_path / "n.safetensors", zoo=tmp_path / "zoo", network=3))
    assert (tmp_path / "n.safetensors").stat().st_size > 10_000
