"""Files of supernets."""

import pytest
import torch
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

from common.spaces import MobileNetV3Plan
from common.store.weights import save_weights
from common.supernet import (
    StoredSupernet,
    fold_normalisation,
    load_supernet,
    read_official_supernet,
    save_supernet,
)
from common.supernet.files import official_supernet


def stored(supernet) -> StoredSupernet:
    return StoredSupernet(
        supernet=supernet, class_names=("a", "b", "c"), resolution=32, sources=("tiny_imagenet",), notes={"seed": 1}
    )


def test_a_supernet_is_read_back_with_all_that_is_needed(make_supernet, tmp_path):
    supernet = make_supernet()
    save_supernet(tmp_path / "one.safetensors", stored(supernet))
    found = load_supernet(tmp_path / "one.safetensors", plan=supernet.plan)
    for name, value in supernet.state_dict().items():
        assert torch.equal(found.supernet.state_dict()[name], value)
    assert (found.class_names, found.resolution, found.sources, found.notes) == (
        ("a", "b", "c"), 32, ("tiny_imagenet",), {"seed": 1},
    )  # fmt: skip
    assert found.has_seen("tiny_imagenet/0-9")
    assert not found.has_seen("cifar10")


def test_half_precision_halves_the_file_and_keeps_the_outputs_near(make_supernet, tmp_path):
    supernet = make_supernet().eval()
    for name, is_half in (("whole", False), ("half", True)):
        save_supernet(tmp_path / name, stored(supernet), is_half=is_half)
    assert (tmp_path / "half").stat().st_size < 0.65 * (tmp_path / "whole").stat().st_size
    found = load_supernet(tmp_path / "half").supernet
    images = torch.randn(4, 3, 16, 16)
    assert next(found.parameters()).dtype == torch.float32
    assert torch.allclose(found(images), supernet(images), atol=2e-2)


def test_a_supernet_of_another_width_is_refused_with_both_named(make_supernet, tmp_path):
    save_supernet(tmp_path / "one", stored(make_supernet()))
    with pytest.raises(ValueError, match=r"of width 0\.1 and first stride 1.*width 0\.5 and first stride 1 are asked"):
        load_supernet(tmp_path / "one", plan=MobileNetV3Plan(width_mult=0.5, first_stride=1))


def test_damaged_and_foreign_files_are_refused_in_one_line(make_supernet, tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights file"):
        load_supernet(tmp_path / "none")
    save_supernet(tmp_path / "one", stored(make_supernet()))
    (tmp_path / "cut").write_bytes((tmp_path / "one").read_bytes()[:5000])
    with pytest.raises(RuntimeError, match="cut is damaged"):
        load_supernet(tmp_path / "cut")
    save_weights(tmp_path / "other", {"x": torch.zeros(1)}, {"kind": "something"})
    with pytest.raises(RuntimeError, match="holds 'something', no supernet"):
        load_supernet(tmp_path / "other")
    broken = make_supernet()
    broken.classifier[-1].bias.data[0] = torch.nan
    save_supernet(tmp_path / "nan", stored(broken))
    with pytest.raises(RuntimeError, match=r"classifier\.linear\.bias is not finite"):
        load_supernet(tmp_path / "nan")


@pytest.mark.parametrize("width_mult", [0.2, 1.2])
def test_released_supernets_of_present_and_older_names_are_read(width_mult, tmp_path):
    options = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    released = OFAMobileNetV3(n_classes=4, dropout_rate=0.0, width_mult=width_mult, **options).eval()
    state = released.state_dict()
    torch.save({"state_dict": state}, tmp_path / "new")
    older = {
        name.replace(".conv.inverted_bottleneck.", ".mobile_inverted_conv.inverted_bottleneck.")
        .replace(".bn.bn.", ".bn.")
        .replace("classifier.linear.", "classifier."): value
        for name, value in state.items()
    }
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "old")
    images = torch.randn(2, 3, 32, 32)
    for name in ("new", "old"):
        found = read_official_supernet(tmp_path / name)
        assert found.plan == MobileNetV3Plan(width_mult=width_mult)
        assert torch.allclose(found(images), released(images), atol=1e-5)


def test_what_is_no_released_supernet_is_named(make_supernet, tmp_path):
    torch.save([1, 2], tmp_path / "list")
    with pytest.raises(ValueError, match="holds a list"):
        read_official_supernet(tmp_path / "list")
    with pytest.raises(ValueError, match="no supernet"):
        official_supernet({"fc.weight": torch.zeros(2, 2)}, "x")
    state = make_supernet().state_dict()
    lacking = {name: value for name, value in state.items() if "blocks.3" not in name}
    with pytest.raises(ValueError, match=r"weights missing, 0 unknown; blocks\.3\."):
        official_supernet(lacking, "x")
    state["blocks.3.conv.point_linear.conv.conv.weight"] = torch.zeros(1, 1, 1, 1)
    with pytest.raises(ValueError, match="size mismatch"):
        official_supernet(state, "x")


def test_a_folded_normalisation_leaves_the_inner_pixels_as_they_were(make_supernet):
    supernet = make_supernet().eval()
    norm = supernet.first_conv[1]
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = torch.rand(2, 3, 12, 12)
    before = supernet.first_conv((pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None])
    fold_normalisation(supernet, mean, std)
    after = supernet.first_conv(2 * pixels - 1)
    assert torch.allclose(before[..., 1:-1, 1:-1], after[..., 1:-1, 1:-1], atol=1e-5)
