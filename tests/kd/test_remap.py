"""A teacher's weights in a narrower, shallower student: every tensor against a loop over single numbers."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from common.kd.remap import REMAP_KINDS, RemapKind, block_offset, remap, remapped_state, slice_channels
from common.spaces import ResidualNetwork, ResNetArch, ResNetSpace
from common.spaces.resnet_network import ResidualBlock, match_shortcut

SPACE = ResNetSpace(teacher_widths=(16, 16, 32, 48), max_depth=3)
TEACHER = SPACE.teacher
COPYING: list[RemapKind] = ["copy_paste_first", "copy_paste_last", "copy_paste_uniform", "copy_paste_uniform_last"]
STUDENTS = ["8_8_16_48", "9-16_12-8-10_16-32_24-48", "16-8-16_16_30-16-32_48", "12_8-16_18-16_24-30-48"]
NORM = ("weight", "bias", "running_mean", "running_var")


def new_network(arch: ResNetArch, seed: int = 0, num_classes: int = 5) -> ResidualNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualNetwork(arch.widths, num_classes)


@pytest.fixture(scope="module")
def teacher() -> ResidualNetwork:
    """A teacher in which no two numbers are likely equal, with another count of batches in every normalisation."""
    network = new_network(TEACHER)
    draws = torch.Generator().manual_seed(1)
    state = network.state_dict()
    for index, value in enumerate(state.values()):
        if value.dtype == torch.int64:
            value.fill_(100 + index)
        else:
            value.copy_(torch.rand(value.shape, generator=draws) / value[0].numel() ** 0.5 + 0.1)
    return network.eval()


def taken(num: int, out_of: int, kind: str) -> list[int]:
    """Channels of the teacher by the published rules, one by one."""
    if kind == "copy_paste_first":
        return list(range(num))
    if kind == "copy_paste_last":
        return [out_of - num + index for index in range(num)]
    return [index * (out_of // num) for index in range(num)]


def by_hand(teacher: dict[str, Tensor], student: nn.Module, arch: ResNetArch, kind: str) -> dict[str, Tensor]:
    """What the student must hold, number by number."""
    expected = {name: value.clone() for name, value in student.state_dict().items()}
    stem = arch.widths[0][0]
    expected["conv1.weight"] = teacher["conv1.weight"][list(range(stem))]
    for entry in NORM:
        expected[f"bn1.{entry}"] = teacher[f"bn1.{entry}"][list(range(stem))]
    expected["fc.weight"], expected["fc.bias"] = teacher["fc.weight"], teacher["fc.bias"]
    num_in = stem
    for stage, widths in enumerate(arch.widths, start=1):
        for block, width in enumerate(widths):
            source = block + (3 - len(widths) if kind.endswith("last") else 0)
            for conv, into in ((1, num_in), (2, width)):
                theirs = teacher[f"layer{stage}.{source}.conv{conv}.weight"]
                outputs, inputs = taken(width, theirs.shape[0], kind), taken(into, theirs.shape[1], kind)
                kernel = torch.empty(width, into, 3, 3)
                for row, column in product(range(width), range(into)):
                    kernel[row, column] = theirs[outputs[row], inputs[column]]
                expected[f"layer{stage}.{block}.conv{conv}.weight"] = kernel
                name = f"bn{conv}"
                for entry in NORM:
                    values = teacher[f"layer{stage}.{source}.{name}.{entry}"]
                    expected[f"layer{stage}.{block}.{name}.{entry}"] = torch.stack([values[i] for i in outputs])
                tracked = teacher[f"layer{stage}.0.bn1.num_batches_tracked"]
                expected[f"layer{stage}.{block}.{name}.num_batches_tracked"] = tracked
            num_in = width
    return expected


@pytest.mark.parametrize("kind", COPYING)
@pytest.mark.parametrize("text", STUDENTS)
def test_every_number_comes_from_where_the_rules_say(teacher: ResidualNetwork, text: str, kind: RemapKind) -> None:
    arch = SPACE.parse(text)
    student = new_network(arch, seed=7)
    expected = by_hand(teacher.state_dict(), student, arch, kind)
    remap(teacher.state_dict(), TEACHER, student, arch, kind)
    found = student.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("kind", COPYING)
def test_the_full_student_answers_as_the_teacher_bit_for_bit(teacher: ResidualNetwork, kind: RemapKind) -> None:
    student = new_network(TEACHER, seed=3).eval()
    remap(teacher.state_dict(), TEACHER, student, TEACHER, kind)
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(student(images), teacher(images))


def test_at_the_published_size_the_full_student_answers_as_the_teacher() -> None:
    space = ResNetSpace()
    teacher = new_network(space.teacher, seed=1)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        teacher(images)  # running statistics move away from 0 and 1
        expected = teacher.eval()(images)
        for kind in COPYING:
            student = new_network(space.teacher, seed=2).eval()
            remap(teacher.state_dict(), space.teacher, student, space.teacher, kind)
            assert torch.equal(student(images), expected), kind


@pytest.mark.parametrize("text", STUDENTS)
def test_leading_weights_answer_as_the_teacher_with_silenced_channels_and_skipped_blocks(
    teacher: ResidualNetwork, text: str
) -> None:
    arch = SPACE.parse(text)
    student = new_network(arch).eval()
    remap(teacher.state_dict(), TEACHER, student, arch, "copy_paste_first")
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))

    def silenced(x: Tensor, width: int) -> Tensor:
        return x * (torch.arange(x.shape[1]) < width)[:, None, None]

    with torch.no_grad():
        x = silenced(teacher.bn1(teacher.conv1(images)).relu(), arch.widths[0][0])
        for stage, widths in enumerate(arch.widths, start=1):
            for position, width in enumerate(widths):
                block: nn.Module = teacher.get_submodule(f"layer{stage}.{position}")
                assert isinstance(block, ResidualBlock)
                y = silenced(block.bn1(block.conv1(x)).relu(), width)
                y = block.bn2(block.conv2(y)) + match_shortcut(x, TEACHER.widths[stage - 1][0], block.stride)
                x = silenced(y.relu(), width)
        torch.testing.assert_close(student(images), teacher.fc(x.mean((2, 3))))


@pytest.mark.parametrize("kind", COPYING)
def test_the_stem_keeps_its_own_count_of_batches_and_blocks_take_the_first_of_the_teachers_stage(
    teacher: ResidualNetwork, kind: RemapKind
) -> None:
    arch = SPACE.parse("12-9_8-16_18_24-30-48")
    student = new_network(arch)
    remap(teacher.state_dict(), TEACHER, student, arch, kind)
    assert student.bn1.num_batches_tracked == 0
    state = student.state_dict()
    counts = [
        {int(value) for name, value in state.items() if name.startswith(f"layer{stage}.") and name.endswith("tracked")}
        for stage in (1, 2, 3, 4)
    ]
    theirs = teacher.state_dict()
    assert counts == [{int(theirs[f"layer{s}.0.bn1.num_batches_tracked"])} for s in (1, 2, 3, 4)]
    assert len(set.union(*counts)) == 4


@pytest.mark.parametrize("kind", COPYING)
def test_the_students_own_first_weights_do_not_matter(teacher: ResidualNetwork, kind: RemapKind) -> None:
    arch = SPACE.parse(STUDENTS[1])
    students = [new_network(arch, seed) for seed in (1, 2)]
    for student in students:
        remap(teacher.state_dict(), TEACHER, student, arch, kind)
    one, other = (student.state_dict() for student in students)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", COPYING)
def test_training_the_student_leaves_the_teacher_alone(teacher: ResidualNetwork, kind: RemapKind) -> None:
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = new_network(TEACHER)
    remap(teacher.state_dict(), TEACHER, student, TEACHER, kind)
    places = {value.untyped_storage().data_ptr() for value in teacher.state_dict().values()}
    assert not places & {value.untyped_storage().data_ptr() for value in student.state_dict().values()}
    with torch.no_grad():
        for value in student.state_dict().values():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_student_can_be_trained_after_taking_weights(teacher: ResidualNetwork) -> None:
    arch = SPACE.parse(STUDENTS[0])
    student = new_network(arch)
    remap(teacher.state_dict(), TEACHER, student, arch, "copy_paste_first")
    student(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert all(parameter.is_leaf and parameter.grad is not None for parameter in student.parameters())


def test_the_state_is_made_of_views(teacher: ResidualNetwork) -> None:
    theirs = teacher.state_dict()
    places = {value.untyped_storage().data_ptr() for value in theirs.values()}
    for kind in COPYING:
        state = remapped_state(theirs, TEACHER, SPACE.parse(STUDENTS[1]), kind)
        assert all(value.untyped_storage().data_ptr() in places for value in state.values())


def test_random_init_takes_nothing(teacher: ResidualNetwork) -> None:
    arch = SPACE.parse(STUDENTS[0])
    student, untouched = new_network(arch, 5), new_network(arch, 5).state_dict()
    remap(teacher.state_dict(), TEACHER, student, arch, "random_init")
    assert all(torch.equal(value, untouched[name]) for name, value in student.state_dict().items())


def test_without_a_kind_stem_and_classifier_are_taken_alone(teacher: ResidualNetwork) -> None:
    arch = SPACE.parse("9_12_16_48")
    student, untouched = new_network(arch, 5), new_network(arch, 5).state_dict()
    remap(teacher.state_dict(), TEACHER, student, arch, None)
    expected = by_hand(teacher.state_dict(), student, arch, "copy_paste_first")
    for name, value in student.state_dict().items():
        assert torch.equal(value, (untouched if name.startswith("layer") else expected)[name]), name


@pytest.mark.parametrize(
    ("num", "out_of", "kind", "channels"),
    [
        (3, 8, "copy_paste_first", [0, 1, 2]),
        (3, 8, "copy_paste_last", [5, 6, 7]),
        (3, 8, "copy_paste_uniform", [0, 2, 4]),
        (4, 8, "copy_paste_uniform", [0, 2, 4, 6]),
        (5, 8, "copy_paste_uniform", [0, 1, 2, 3, 4]),
        (2, 9, "copy_paste_uniform_last", [0, 4]),
        (8, 8, "copy_paste_last", list(range(8))),
        (8, 8, "copy_paste_uniform", list(range(8))),
    ],
)
def test_channels_are_the_documented_ones(num: int, out_of: int, kind: str, channels: list[int]) -> None:
    assert list(range(out_of))[slice_channels(num, out_of, kind)] == channels


def test_kinds_that_end_in_last_take_the_last_blocks() -> None:
    assert [block_offset(5, depth, "copy_paste_last") for depth in (1, 3, 5)] == [4, 2, 0]
    assert [block_offset(5, depth, "copy_paste_uniform_last") for depth in (1, 3, 5)] == [4, 2, 0]
    assert all(block_offset(5, 2, kind) == 0 for kind in ("copy_paste_first", "copy_paste_uniform"))


@pytest.mark.parametrize("kind", COPYING)
@pytest.mark.parametrize(
    ("widths", "reason"),
    [
        (((8,), (8,), (16,), (24,)), "last width is 24; the teacher's classifier needs 48"),
        (((8,), (8,), (16,), (48, 64)), "last width is 64; the teacher's classifier needs 48"),
        (((18,), (8,), (16,), (48,)), r"stage 1 of the student, \(18,\), does not fit in the teacher's \(16, 16, 16\)"),
        (((8,), (8, 8, 8, 8), (16,), (48,)), "stage 2 of the student"),
    ],
)
def test_students_that_do_not_fit_are_refused(
    teacher: ResidualNetwork, widths: tuple[tuple[int, ...], ...], reason: str, kind: RemapKind
) -> None:
    with pytest.raises(ValueError, match=reason):
        remapped_state(teacher.state_dict(), TEACHER, ResNetArch(widths), kind)


def test_a_stage_that_is_narrower_than_the_one_before_is_refused_where_it_would_not_fit() -> None:
    teacher = ResNetArch(((16, 16), (8, 8), (8, 8), (8, 8)))
    student = ResNetArch(((16,), (8,), (8,), (8,)))
    state = new_network(teacher).state_dict()
    remapped_state(state, teacher, student, "copy_paste_first")
    with pytest.raises(ValueError, match="16 channels of the student do not fit in the teacher's 8"):
        remapped_state(state, teacher, student, "copy_paste_last")


def test_another_number_of_classes_is_refused_before_anything_is_written(teacher: ResidualNetwork) -> None:
    arch = SPACE.parse(STUDENTS[0])
    student = new_network(arch, num_classes=6)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(ValueError, match=r"fc.weight: the teacher gives shape \(5, 48\), the student has \(6, 48\)"):
        remap(teacher.state_dict(), TEACHER, student, arch, "copy_paste_first")
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_an_unknown_kind_is_refused_with_the_known_ones(teacher: ResidualNetwork) -> None:
    with pytest.raises(ValueError, match=f"pr_type 'copy': one of {', '.join(REMAP_KINDS)}"):
        remapped_state(teacher.state_dict(), TEACHER, SPACE.parse(STUDENTS[0]), "copy")  # type: ignore[arg-type]
