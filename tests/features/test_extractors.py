import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from common.features import extractors
from common.features.compact import ARCHITECTURE, CompactNetwork
from common.features.extractors import EXTRACTORS, Extractor, embed, load_extractor
from common.store.weights import save_weights

Means = Callable[..., Extractor]
MEAN, STD = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.5])


def pixels(num: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (num, 3, 32, 32), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.fixture
def compact_file(tmp_path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        state = {name: tensor.half() for name, tensor in CompactNetwork(folded=True).state_dict().items()}
    save_weights(tmp_path / "mine.safetensors", state, {"kind": extractors.KIND, "architecture": ARCHITECTURE})
    return tmp_path / "mine.safetensors"


@pytest.fixture
def resnet_file(tmp_path: Path) -> Path:
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(2)
        torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def test_images_are_normalised_with_the_constants_of_their_dataset(means: Means) -> None:
    images = pixels(4)
    found = means()(images, MEAN, STD)
    expected = (images.numpy() / 255.0 - MEAN.numpy()[:, None, None]) / STD.numpy()[:, None, None]
    assert np.allclose(found[:, :3].numpy(), expected.mean(axis=(2, 3)), atol=1e-5)
    assert found.shape == (4, 512)
    assert found.dtype == torch.float32


def test_an_extractor_is_frozen_whatever_is_asked(compact_file: Path) -> None:
    extractor = load_extractor("compact", weights=compact_file)
    extractor.train()
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not extractor(pixels(2), MEAN, STD).requires_grad


def test_features_of_an_image_do_not_depend_on_the_rest_of_its_batch(compact_file: Path) -> None:
    extractor, images = load_extractor("compact", weights=compact_file), pixels(9)
    alone = torch.cat([extractor(image[None], MEAN, STD) for image in images])
    assert torch.allclose(extractor(images, MEAN, STD), alone, atol=1e-5)
    device = torch.device("cpu")
    assert torch.allclose(embed(extractor, images, MEAN, STD, device=device, batch_size=4), alone, atol=1e-5)
    assert embed(extractor, images[:0], MEAN, STD, device=device).shape == (0, 512)


def test_features_may_be_used_in_a_backward_pass(compact_file: Path) -> None:
    weight = torch.ones(512, requires_grad=True)
    (load_extractor("compact", weights=compact_file)(pixels(2), MEAN, STD) * weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("images", [pixels(2).float(), pixels(2)[:, :1], pixels(2)[..., :28, :28], pixels(2)[0]])
def test_other_images_are_refused(means: Means, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"an extractor takes uint8 images \(B, 3, 32, 32\), got"):
        means()(images, MEAN, STD)


def test_the_id_changes_with_the_weights_alone(means: Means, compact_file: Path) -> None:
    assert means(1.0).id == means(1.0).id != means(2.0).id
    found = load_extractor("compact", weights=compact_file).id
    assert found == load_extractor("compact", weights=compact_file).id
    name, digest = found.rsplit("-", 1)
    assert name == "compact"
    assert len(digest) == 8
    assert int(digest, 16) >= 0


def test_the_random_extractor_is_always_the_same_and_says_what_it_is() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = load_extractor("random")
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are left alone"
    torch.manual_seed(6)
    second = load_extractor("random")
    assert first.id == second.id
    assert first.id.startswith("random-")
    features = first(pixels(3), MEAN, STD)
    assert bool(features.isfinite().all())
    assert bool((features >= 0).all())
    assert torch.equal(features, second(pixels(3), MEAN, STD))


def test_resnet_features_are_what_stands_before_the_last_layer(resnet_file: Path) -> None:
    from torchvision.models import resnet18

    network = resnet18(weights=None)
    network.load_state_dict(torch.load(resnet_file, weights_only=True))
    images = pixels(3)
    normalised = (images / 255 - MEAN[:, None, None]) / STD[:, None, None]
    extractor = load_extractor("resnet18-imagenet", weights=resnet_file)
    with torch.no_grad():
        logits = network.fc(extractor(images, MEAN, STD))
        assert torch.allclose(logits, network.eval()(normalised), rtol=1e-4, atol=1e-4)
    assert extractor.id.startswith("resnet18-imagenet-")


def test_missing_weights_name_the_command_that_brings_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"at checkpoint.*f37072fd\.pth: run `python -m download\.features`"):
        load_extractor("resnet18-imagenet")
    with pytest.raises(FileNotFoundError, match=r"train one with `python -m common\.features train-compact`"):
        load_extractor("compact", weights=Path("nowhere.safetensors"))


def test_the_downloaded_file_is_found_and_its_hash_is_checked(
    resnet_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = extractors.RESNET18_FILE
    place.parent.mkdir(parents=True)
    place.write_bytes(resnet_file.read_bytes())
    with pytest.raises(RuntimeError, match="SHA-256 does not begin with f37072fd"):
        load_extractor("resnet18-imagenet")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    monkeypatch.setattr(extractors, "_RESNET18_SHA256", digest[:8])
    by_hand = load_extractor("resnet18-imagenet", weights=resnet_file)
    assert load_extractor("resnet18-imagenet").id == by_hand.id


def test_wrong_files_are_refused_by_name(tmp_path: Path, compact_file: Path, resnet_file: Path) -> None:
    damaged = tmp_path / "damaged.pth"
    damaged.write_bytes(resnet_file.read_bytes()[:5000])
    with pytest.raises(RuntimeError, match=r"damaged\.pth"):
        load_extractor("resnet18-imagenet", weights=damaged)
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(RuntimeError, match=r"other\.pth holds the weights of another network"):
        load_extractor("resnet18-imagenet", weights=tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(RuntimeError, match="it holds a list"):
        load_extractor("resnet18-imagenet", weights=tmp_path / "list.pth")
    save_weights(tmp_path / "teacher.safetensors", {"a": torch.zeros(1)}, {"kind": "network"})
    with pytest.raises(RuntimeError, match=r"teacher\.safetensors holds 'network'"):
        load_extractor("compact", weights=tmp_path / "teacher.safetensors")
    compact_file.write_bytes(compact_file.read_bytes()[:-8])
    with pytest.raises(RuntimeError, match=r"mine\.safetensors is damaged"):
        load_extractor("compact", weights=compact_file)


def test_unknown_names_and_needless_files_are_refused(tmp_path: Path) -> None:
    assert tuple(EXTRACTORS) == ("compact", "resnet18-imagenet", "random")
    with pytest.raises(ValueError, match="unknown extractor 'vgg': known are compact, resnet18-imagenet, random"):
        load_extractor("vgg")
    with pytest.raises(ValueError, match="it takes no file"):
        load_extractor("random", weights=tmp_path)


def test_the_network_that_is_shipped_loads_and_is_small() -> None:
    extractor = load_extractor("compact")
    assert extractors.SHIPPED_COMPACT.stat().st_size < 4e6
    assert extractor.id in (extractors.SHIPPED_COMPACT.parent / "README.md").read_text()
    features = extractor(pixels(4), MEAN, STD)
    assert bool((features >= 0).all())
    assert float(features.std(dim=0).mean()) > 0
