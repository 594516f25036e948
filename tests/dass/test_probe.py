"""Embeddings from views of the teacher equal those of networks that were built and remapped."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from common.kd.remap import RemapKind, remap
from common.spaces import ResidualNetwork, ResNetArch, ResNetSpace
from dass.probe import embed, make_probe

SPACE = ResNetSpace(teacher_widths=(16, 32, 48, 64), max_depth=3)
KINDS: list[RemapKind] = ["copy_paste_first", "copy_paste_last", "copy_paste_uniform", "copy_paste_uniform_last"]


def trained_like(space: ResNetSpace, resolution: int) -> ResidualNetwork:
    """A teacher whose running statistics are those of some images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ResidualNetwork(space.teacher.widths, 5)
        with torch.no_grad():
            for _ in range(3):
                network(torch.randn(8, 3, resolution, resolution))
    return network.eval()


@pytest.fixture(scope="module")
def teacher() -> ResidualNetwork:
    return trained_like(SPACE, 16)


def through_modules(teacher: ResidualNetwork, archs: Sequence[ResNetArch], probe: Tensor, kind: RemapKind) -> Tensor:
    maps = []
    for arch in archs:
        student = ResidualNetwork(arch.widths, 5).eval()
        remap(teacher.state_dict(), ResNetArch(teacher.widths), student, arch, kind)
        with torch.no_grad():
            maps.append(student.features(probe)[4])
    return torch.cat(maps)


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_equal_those_of_built_and_remapped_students(teacher: ResidualNetwork, kind: RemapKind) -> None:
    archs = SPACE.sample(12, torch.Generator().manual_seed(1))
    probe = make_probe(16)
    maps = embed(teacher.state_dict(), SPACE.teacher, archs, probe, kind)
    assert maps.shape == (12, 64, 2, 2)
    torch.testing.assert_close(maps, through_modules(teacher, archs, probe, kind))
    assert maps.flatten(1).std(0).mean() > 0.01  # students do differ


def test_at_the_published_size_embeddings_equal_those_of_modules() -> None:
    space = ResNetSpace()
    teacher = trained_like(space, 16)
    archs = space.sample(2, torch.Generator().manual_seed(1))
    maps = embed(teacher.state_dict(), space.teacher, archs, make_probe(64), "copy_paste_first")
    assert maps.shape == (2, 256, 8, 8)
    torch.testing.assert_close(maps, through_modules(teacher, archs, make_probe(64), "copy_paste_first"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_students_map_does_not_depend_on_which_others_are_probed(teacher: ResidualNetwork, kind: RemapKind) -> None:
    texts = [
        "8_16_24_64",
        "8-8_16_24_64",
        "8-8_16_24-24_64",
        "8_16-16_24_64",
        "8_16_24_64",
        "10_16_24_64",
        "8-10_16_24_64",
    ]
    archs = [SPACE.parse(text) for text in texts] + SPACE.sample(10, torch.Generator().manual_seed(2))
    probe = make_probe(16)
    together = embed(teacher.state_dict(), SPACE.teacher, archs, probe, kind)
    alone = torch.cat([embed(teacher.state_dict(), SPACE.teacher, [arch], probe, kind) for arch in archs])
    assert torch.equal(together, alone)
    backwards = embed(teacher.state_dict(), SPACE.teacher, archs[::-1], probe, kind)
    assert torch.equal(backwards.flip(0), together)
    assert torch.equal(together[0], together[4])


@pytest.mark.parametrize("kind", KINDS)
def test_the_teachers_own_map_is_the_last_of_its_features(teacher: ResidualNetwork, kind: RemapKind) -> None:
    probe = make_probe(16)
    maps = embed(teacher.state_dict(), SPACE.teacher, [SPACE.teacher], probe, kind)
    with torch.no_grad():
        assert torch.equal(maps, teacher.features(probe)[4])


def test_probing_changes_neither_teacher_nor_probe(teacher: ResidualNetwork) -> None:
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    probe = make_probe(16)
    embed(teacher.state_dict(), SPACE.teacher, [SPACE.teacher, SPACE.smallest], probe, "copy_paste_first")
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert torch.equal(probe, make_probe(16))


def test_maps_are_those_of_evaluation_whatever_mode_the_teacher_is_in(teacher: ResidualNetwork) -> None:
    probe = make_probe(16)
    expected = embed(teacher.state_dict(), SPACE.teacher, [SPACE.smallest], probe, "copy_paste_first")
    found = embed(teacher.train().state_dict(), SPACE.teacher, [SPACE.smallest], probe, "copy_paste_first")
    teacher.eval()
    assert torch.equal(found, expected)


def test_no_students_give_no_maps(teacher: ResidualNetwork) -> None:
    assert embed(teacher.state_dict(), SPACE.teacher, [], make_probe(16), "copy_paste_first").shape == (0, 64, 2, 2)


def test_random_init_leaves_nothing_to_probe(teacher: ResidualNetwork) -> None:
    with pytest.raises(ValueError, match="random_init takes no weights from the teacher, so there is no embedding"):
        embed(teacher.state_dict(), SPACE.teacher, [SPACE.smallest], make_probe(16), "random_init")


def test_students_of_another_space_are_refused(teacher: ResidualNetwork) -> None:
    with pytest.raises(ValueError, match="last width is 256; the teacher's classifier needs 64"):
        embed(teacher.state_dict(), SPACE.teacher, [ResNetSpace().smallest], make_probe(16), "copy_paste_first")


def test_the_probe_is_one_fixed_image_for_a_resolution() -> None:
    torch.manual_seed(11)
    first = make_probe(64)
    torch.manual_seed(12)
    assert torch.equal(first, make_probe(64))
    assert first.shape == (1, 3, 64, 64)
    assert make_probe(32).shape == (1, 3, 32, 32)
    assert not torch.equal(first, make_probe(64, seed=1))


def test_the_probe_is_normal_noise() -> None:
    values = make_probe(64).flatten().sort().values
    num = len(values)
    assert abs(float(values.mean())) < 4 / num**0.5
    assert abs(float(values.std()) - 1) < 4 / (2 * num) ** 0.5
    expected = torch.special.ndtri((torch.arange(num) + 0.5) / num)
    assert float(torch.corrcoef(torch.stack([values, expected]))[0, 1]) > 0.999
