"""The MobileNetV3 space: architectures, text, index, codes, topologies and graphs."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ofa.nas.accuracy_predictor.arch_encoder import MobileNetArchEncoder

from common.graphs import DagBatch
from common.spaces import MobileNetV3Arch, MobileNetV3Space, SearchSpace

SPACE = MobileNetV3Space()
SIDES = MobileNetV3Space(resolutions=(160, 192, 224))
TEXT = "k3e3-k5e4_k7e6-k3e3-k3e4_k3e3-k3e3_k5e6-k5e6_k3e4-k7e3-k3e3-k3e6"


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


DRAWN = SPACE.sample(300, draws(5))
DRAWN_SIDES = SIDES.sample(300, draws(6))


def raw(arch: MobileNetV3Arch) -> tuple[object, ...]:
    """All settings, those of blocks not in use too."""
    return arch.kernels, arch.expansions, arch.depths, arch.resolution


def with_spare(arch: MobileNetV3Arch, kernel: int, expansion: int) -> MobileNetV3Arch:
    """The same network with other settings of the blocks not in use."""
    spare = [place % 4 >= arch.depths[place // 4] for place in range(20)]
    kernels = tuple(kernel if free else value for free, value in zip(spare, arch.kernels, strict=True))
    expansions = tuple(expansion if free else value for free, value in zip(spare, arch.expansions, strict=True))
    return replace(arch, kernels=kernels, expansions=expansions)


def test_the_space_has_the_published_size() -> None:
    space: SearchSpace[MobileNetV3Arch] = SPACE
    assert space.name == "mobilenet_v3-w1.0"
    assert SPACE.size() == 21_758_655_492_572_485_851
    assert SIDES.size() == 3 * SPACE.size()
    assert MobileNetV3Space(width_mult=0.5, first_stride=1).name == "mobilenet_v3-w0.5-stride1"
    assert SIDES.name == "mobilenet_v3-w1.0-r160_192_224"


def test_architectures_are_equal_if_their_networks_are() -> None:
    for arch in DRAWN[:50]:
        other = with_spare(arch, 7, 6)
        assert other == arch
        assert hash(other) == hash(arch)
        assert SPACE.format(other) == SPACE.format(arch)
        assert SPACE.index(other) == SPACE.index(arch)
    assert replace(SPACE.largest, depths=(4, 4, 4, 4, 3)) != SPACE.largest
    assert replace(SPACE.largest, kernels=(5,) + (7,) * 19) != SPACE.largest
    assert replace(SPACE.largest, resolution=224) != SPACE.largest
    assert SPACE.largest != "k7e6"


def test_stages_are_the_blocks_in_use() -> None:
    arch = SPACE.parse(TEXT)
    assert arch.depths == (2, 3, 2, 2, 4)
    assert arch.stages[1] == ((7, 6), (3, 3), (3, 4))
    assert arch.kernels[:9] == (3, 5, 3, 3, 7, 3, 3, 3, 3)
    assert arch.expansions[:9] == (3, 4, 3, 3, 6, 3, 4, 3, 3)


def test_text_and_index_are_inverted() -> None:
    for space, archs in ((SPACE, DRAWN), (SIDES, DRAWN_SIDES)):
        assert [space.parse(space.format(arch)) for arch in archs] == archs
        assert [space.at(space.index(arch)) for arch in archs] == archs
    assert SPACE.format(SPACE.parse(f" {TEXT}\n")) == TEXT
    assert SIDES.format(SIDES.parse(f"{TEXT}@192")) == f"{TEXT}@192"


def test_indices_run_from_the_smallest_to_the_largest_architecture() -> None:
    assert SPACE.index(SPACE.smallest) == 0
    assert SPACE.index(SPACE.largest) == SPACE.size() - 1
    assert SIDES.index(SIDES.smallest) == 0
    assert SIDES.index(SIDES.largest) == SIDES.size() - 1
    near = [SPACE.at(index) for index in range(7371 + 5)]
    assert len(set(near)) == 7376
    assert [SPACE.index(arch) for arch in near] == list(range(7376))
    assert near[1] == SPACE.parse("_".join(["k3e3-k3e3"] * 4 + ["k3e3-k3e4"]))
    assert near[81] == SPACE.parse("_".join(["k3e3-k3e3"] * 4 + ["k3e3-k3e3-k3e3"]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "'' is no block like 'k3e6'"),
        ("k3e3-k3e3", "1 depths are given; 5 are needed"),
        ("_".join(["k3e3"] * 5), "1 is none of the depths 2, 3, 4"),
        ("_".join(["k3e3-k3e3"] * 4 + ["-".join(["k3e3"] * 5)]), "5 is none of the depths 2, 3, 4"),
        ("_".join(["k3e3-k3e3"] * 4 + ["k4e3-k3e3"]), "4 is none of the kernels 3, 5, 7"),
        ("_".join(["k3e3-k3e3"] * 4 + ["k3e5-k3e3"]), "5 is none of the expansions 3, 4, 6"),
        ("_".join(["k3e3-k3e3"] * 4 + ["k3e-k3e3"]), "'k3e' is no block"),
        (f"{TEXT}@", "resolution '' is no number"),
        (f"{TEXT}@-1", "resolution '-1' is no number"),
        (f"{TEXT}@0", "resolution 0 is not positive"),
        (f"{TEXT}@224", "resolutions of the space are none"),
    ],
)
def test_malformed_texts_are_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        SPACE.parse(text)
    assert str(caught.value).startswith(f"architecture {text!r}: ")
    assert "\n" not in str(caught.value)


def edited(case: tuple[int, list[tuple[int, int, str]]]) -> str:
    text = SIDES.format(DRAWN_SIDES[case[0]])
    for place, kept, letter in case[1]:
        text = text[:place] + letter + text[place + kept :]
    return text


EDITS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 2), st.sampled_from("ke-_@0123467 \n")), max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.tuples(st.integers(0, 299), EDITS).map(edited) | st.text(max_size=30))
def test_every_text_is_an_architecture_or_a_value_error_in_one_line(text: str) -> None:
    try:
        arch = SIDES.parse(text)
    except ValueError as error:
        message = str(error)
    else:
        assert SIDES.parse(SIDES.format(arch)) == arch
        return
    assert message.startswith("architecture ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: MobileNetV3Arch((3,) * 19, (3,) * 20, (2,) * 5), "19 kernels are given; 20 are needed"),
        (lambda: MobileNetV3Arch((3,) * 20, (5,) * 20, (2,) * 5), "5 is none of the expansions 3, 4, 6"),
        (lambda: MobileNetV3Arch((3,) * 20, (3,) * 20, (1,) * 5), "1 is none of the depths 2, 3, 4"),
        (lambda: replace(SPACE.smallest, resolution=0), "resolution 0 is not positive"),
        (lambda: MobileNetV3Space(width_mult=0), "width_mult 0: a positive number is needed"),
        (lambda: MobileNetV3Space(first_stride=3), "first_stride 3: 1"),
        (lambda: MobileNetV3Space(resolutions=(224, 224)), "different positive numbers are needed"),
        (lambda: MobileNetV3Space(resolutions=(0, 224)), "different positive numbers are needed"),
        (lambda: SPACE.at(-1), "index -1: 0 to 21758655492572485850 are architectures"),
        (lambda: SPACE.at(SPACE.size()), "are architectures of the space"),
        (lambda: SIDES.index(SPACE.smallest), r"resolution None of an architecture is none of \(160, 192, 224\)"),
        (lambda: SPACE.index(SIDES.smallest), "resolutions of the space are none"),
    ],
)
def test_what_is_not_in_the_space_is_refused(build: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build()


def test_samples_repeat_with_the_seed_and_longer_ones_begin_with_shorter_ones() -> None:
    for space in (SPACE, SIDES):
        first = [raw(arch) for arch in space.sample(100, draws(1))]
        assert first == [raw(arch) for arch in space.sample(100, draws(1))]
        assert first != [raw(arch) for arch in space.sample(100, draws(2))]
        assert first[:17] == [raw(arch) for arch in space.sample(17, draws(1))]
    assert SPACE.sample(0, draws()) == []


def test_samples_are_uniform_in_every_setting() -> None:
    archs = SIDES.sample(3000, draws(3))
    rows = torch.tensor([(*arch.kernels, *arch.expansions, *arch.depths, arch.resolution or 0) for arch in archs])
    for column in rows.T:
        values, counts = column.unique(return_counts=True)
        assert len(values) == 3
        assert (counts - 1000).abs().max() < 5 * (3000 * 2 / 9) ** 0.5


def test_settings_have_the_released_names_and_are_inverted() -> None:
    for arch in [*DRAWN, *DRAWN_SIDES]:
        listed = arch.settings()
        assert raw(MobileNetV3Arch.of_settings(listed)) == raw(arch)
    assert DRAWN[0].settings() == {
        "ks": list(DRAWN[0].kernels),
        "e": list(DRAWN[0].expansions),
        "d": list(DRAWN[0].depths),
    }
    assert DRAWN_SIDES[0].settings()["image_size"] == DRAWN_SIDES[0].resolution


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ({}, "no list of whole numbers 'ks'"),
        ({"ks": [3] * 20, "e": [3] * 20, "d": 2}, "no list of whole numbers 'd'"),
        ({"ks": [3] * 20, "e": [3.0] * 20, "d": [2] * 5}, "no list of whole numbers 'e'"),
        ({"ks": [3] * 21, "e": [3] * 20, "d": [2] * 5}, "21 kernels are given"),
        ({"ks": [0] * 20, "e": [3] * 20, "d": [2] * 5}, "0 is none of the kernels"),
        ({"ks": [3] * 20, "e": [3] * 20, "d": [0] * 5}, "0 is none of the depths"),
        ({"ks": [3] * 20, "e": [3] * 20, "d": [2] * 5, "image_size": "224"}, "image_size '224' of settings"),
    ],
)
def test_settings_of_no_architecture_are_refused(listed: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        MobileNetV3Arch.of_settings(listed)


def test_codes_are_those_of_the_released_encoder() -> None:
    for space, archs in ((SPACE, DRAWN), (SIDES, DRAWN_SIDES)):
        encoder = MobileNetArchEncoder(image_size_list=list(space.resolutions) or [224])
        codes = space.encode(archs)
        assert codes.shape == (300, space.code_length)
        assert codes.dtype == torch.float32
        for code, arch in zip(codes, archs, strict=True):
            assert code.tolist() == encoder.arch2feature({"image_size": 224} | arch.settings()).tolist()
            decoded = encoder.feature2arch(code.numpy())
            read = MobileNetV3Arch.of_settings(decoded)
            assert replace(read, resolution=arch.resolution) == arch
    assert SPACE.code_length == 121
    assert SIDES.code_length == 123


def test_codes_are_inverted() -> None:
    for space, archs in ((SPACE, DRAWN), (SIDES, DRAWN_SIDES)):
        assert space.decode(space.encode(archs)) == archs
        assert space.decode(space.encode([])) == []


def test_codes_of_no_architecture_are_refused() -> None:
    code = SPACE.encode(DRAWN[:1])
    with pytest.raises(ValueError, match=r"codes of shape \(1, 121\); \(N, 123\) is needed"):
        SIDES.decode(code)
    for place, value in ((0, 0.0), (1, 1 - code[0, 1].item()), (100, 0.5), (64, 2.0)):
        spoilt = code.clone()
        spoilt[0, place] = value
        with pytest.raises(ValueError, match="does not encode back to itself"):
            SPACE.decode(spoilt)
    with pytest.raises(ValueError, match="resolution None of an architecture is none of"):
        SIDES.encode(DRAWN[:1])
    with pytest.raises(ValueError, match="resolution 160 of an architecture is none of"):
        SPACE.encode([SIDES.smallest])


def test_topologies_keep_every_setting_and_masked_ones_only_those_in_use() -> None:
    plain, masked = SPACE.topologies(DRAWN), SPACE.topologies(DRAWN, is_masked=True)
    assert plain.shape == masked.shape == (300, 45)
    assert [raw(arch) for arch in SPACE.from_topologies(plain)] == [raw(arch) for arch in DRAWN]
    assert [raw(arch) for arch in SPACE.from_topologies(plain.float())] == [raw(arch) for arch in DRAWN]
    assert SPACE.from_topologies(masked) == DRAWN
    assert torch.equal(SPACE.topologies(SPACE.from_topologies(masked), is_masked=True), masked)
    for row, arch in zip(masked.tolist(), DRAWN, strict=True):
        for place in range(20):
            used = place % 4 < arch.depths[place // 4]
            assert row[place] == used * arch.kernels[place]
            assert row[20 + place] == used * arch.expansions[place]
        assert tuple(row[40:]) == arch.depths
    assert SPACE.topologies([]).shape == (0, 45)
    assert SPACE.from_topologies(SPACE.topologies([])) == []


def test_topologies_of_no_architecture_are_refused() -> None:
    row = SPACE.topologies([SPACE.largest])
    for place, value, reason in ((0, 0, "0 is none of the kernels"), (20, 5, "5 is none of"), (40, 5, "5 is none of")):
        spoilt = row.clone()
        spoilt[0, place] = value
        with pytest.raises(ValueError, match=reason):
            SPACE.from_topologies(spoilt)
    with pytest.raises(ValueError, match=r"topologies of shape \(1, 44\); \(N, 45\) is needed"):
        SPACE.from_topologies(row[:, 1:])
    with pytest.raises(ValueError, match="numbers that are not whole"):
        SPACE.from_topologies(row + 0.5)


def test_graphs_are_paths_with_the_published_types() -> None:
    graphs = SPACE.graphs(DRAWN).check(num_types=29)
    assert graphs.max_nodes == 22
    assert graphs.num_nodes.tolist() == [22] * 300
    for types, adjacency, arch in zip(graphs.types.tolist(), graphs.adjacency, DRAWN, strict=True):
        assert [(int(u), int(v)) for u, v in adjacency.nonzero()] == [(vertex, vertex + 1) for vertex in range(21)]
        assert (types[0], types[-1]) == (0, 1)
        for place in range(20):
            kernel, expansion = (3, 5, 7).index(arch.kernels[place]), (3, 4, 6).index(arch.expansions[place])
            assert types[1 + place] == 2 + 9 * (arch.depths[place // 4] - 2) + 3 * kernel + expansion
    assert SPACE.graphs([SPACE.smallest, SPACE.largest]).types[:, 1:-1].unique(dim=1).tolist() == [[2], [28]]


def test_architecture_to_graph_to_architecture_is_the_identity() -> None:
    graphs = SPACE.graphs(DRAWN)
    again = [arch for arch in SPACE.from_graphs(graphs) if arch is not None]
    assert [raw(arch) for arch in again] == [raw(arch) for arch in DRAWN]
    assert torch.equal(SPACE.graphs(again).types, graphs.types)
    assert SPACE.from_graphs(SPACE.graphs([])) == []


def slow_arch(graphs: DagBatch, row: int) -> MobileNetV3Arch | None:
    """The rule as it is published, vertex by vertex."""
    num = int(graphs.num_nodes[row])
    types = graphs.types[row, :num].tolist()
    edges = [(int(u), int(v)) for u, v in graphs.adjacency[row].nonzero()]
    if num != 22 or types.count(0) != 1 or types.count(1) != 1 or any(u >= v or v >= num for u, v in edges):
        return None
    for vertex, kind in enumerate(types):
        if kind != 0 and not any(v == vertex for _, v in edges):
            return None
        if kind != 1 and not any(u == vertex for u, _ in edges):
            return None
    if any(kind not in range(2, 29) for kind in types[1:21]):
        return None
    depths = [2 + (kind - 2) // 9 for kind in types[1:21]]
    if any(len(set(depths[stage : stage + 4])) > 1 for stage in range(0, 20, 4)):
        return None
    kernels = tuple((3, 5, 7)[(kind - 2) % 9 // 3] for kind in types[1:21])
    return MobileNetV3Arch(kernels, tuple((3, 4, 6)[(kind - 2) % 3] for kind in types[1:21]), tuple(depths[::4]))


@pytest.mark.parametrize("length", [21, 22, 25])
def test_reading_graphs_equals_the_rule_vertex_by_vertex(length: int) -> None:
    torch.manual_seed(length)
    whole = SPACE.graphs(DRAWN)
    types = torch.zeros(300, length, dtype=torch.int64)
    adjacency = torch.zeros(300, length, length, dtype=torch.bool)
    num = min(22, length)
    types[:, :num] = whole.types[:, :num]
    adjacency[:, :num, :num] = (whole.adjacency[:, :num, :num] | (torch.rand(300, num, num) < 0.3)).triu(1)
    spoilt = (torch.rand(300, length) < 0.01) & (torch.arange(length) < num)
    types[spoilt] = torch.randint(0, 31, (int(spoilt.sum()),))
    adjacency[torch.rand(300, length, length) < 2e-4] = True
    adjacency[::9, :, 7] = False
    num_nodes = torch.full((300,), num)
    num_nodes[::11] = torch.randint(1, length + 1, (len(num_nodes[::11]),))
    graphs = DagBatch(types, adjacency, num_nodes)
    archs = SPACE.from_graphs(graphs)
    expected = [slow_arch(graphs, row) for row in range(300)]
    assert [arch and raw(arch) for arch in archs] == [arch and raw(arch) for arch in expected]
    assert (length >= 22) == any(arch is not None for arch in archs)
    assert None in archs


def test_a_stage_with_mixed_depths_and_a_broken_path_are_invalid() -> None:
    graphs = SPACE.graphs([SPACE.largest] * 4)
    graphs.types[0, 7] -= 9
    graphs.adjacency[1, 3, 4] = False
    graphs.adjacency[1, 3, 5] = graphs.adjacency[1, 2, 4] = True
    graphs.adjacency[2, 3, 4] = False
    graphs.types[3, 20] = 29
    archs = SPACE.from_graphs(graphs)
    assert archs == [None, SPACE.largest, None, None]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_graphs_and_codes_on_a_gpu_are_read_as_on_the_cpu() -> None:
    cuda = torch.device("cuda")
    graphs = SPACE.graphs(DRAWN)
    graphs.types[::5, 3] = 0
    assert SPACE.from_graphs(graphs.to(cuda)) == SPACE.from_graphs(graphs)
    assert SPACE.decode(SPACE.encode(DRAWN).to(cuda)) == DRAWN
    assert SPACE.from_topologies(SPACE.topologies(DRAWN).to(cuda)) == DRAWN
