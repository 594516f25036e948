import pytest
import torch

from common.graphs import DagBatch
from common.spaces import MobileNetV3Arch, MobileNetV3Space, NasBench201Space
from metad2a.spaces import VIEWS, bounded, space_of, view_of

NETWORKS = MobileNetV3Space(width_mult=0.35, first_stride=1)


@pytest.mark.parametrize("space", [NasBench201Space(channels=8, cells_per_stage=2), MobileNetV3Space(), NETWORKS])
def test_spaces_are_known_by_their_names(space: object) -> None:
    assert space_of(space.name) == space  # type: ignore[attr-defined]
    for name in ("nasbench201", "mobilenet_v3-w", "mobilenet_v3-w1.0-stride2", "resnet-16"):
        with pytest.raises(ValueError, match="is no space of NAS-Bench-201 cells or of MobileNetV3 networks"):
            space_of(name)


@pytest.mark.parametrize("name", ["nasbench201", "mobilenetv3"])
def test_codes_and_graphs_are_inverted_and_keys_tell_architectures_apart(name: str) -> None:
    view = VIEWS[name]  # type: ignore[index]
    archs = [*dict.fromkeys(view.space.sample(300, torch.Generator().manual_seed(0)))]
    codes, graphs = view.codes(archs), view.space.graphs(archs)
    limits = torch.tensor(view.limits)
    assert ((codes >= limits[:, 0]) & (codes <= limits[:, 1])).all()
    assert view.archs(codes) == archs
    assert view.archs(codes.to(torch.uint8).long()) == archs  # as files hold them
    assert view.space.from_graphs(graphs) == archs
    assert (graphs.types.max() < view.num_types, graphs.max_nodes) == (True, view.num_vertices)
    assert view.canonical(graphs).all()
    keys = view.keys(archs)
    assert len(keys.unique()) == len(archs)
    assert keys.min() >= 0
    assert view.num_functions([*archs, archs[0]]) <= len(archs)


def test_settings_of_blocks_not_in_use_change_no_key() -> None:
    first = MobileNetV3Arch.uniform(3, 3, 2)
    other = MobileNetV3Arch(tuple(7 if place % 4 > 1 else 3 for place in range(20)), first.expansions, first.depths)
    view = VIEWS["mobilenetv3"]
    assert view.keys([first]).equal(view.keys([other]))
    assert view.codes([first]).equal(view.codes([other]))


def test_an_edge_more_or_a_vertex_less_is_not_canonical() -> None:
    view = VIEWS["mobilenetv3"]
    graphs = view.space.graphs([view.smallest] * 3)
    graphs.adjacency[1, 0, 5] = True
    short = DagBatch(graphs.types, graphs.adjacency, torch.tensor([22, 22, 21]))
    assert view.canonical(short).tolist() == [True, False, False]
    assert not view.canonical(VIEWS["nasbench201"].space.graphs([VIEWS["nasbench201"].smallest])).any()


def test_views_are_found_by_the_names_of_spaces() -> None:
    assert view_of(NETWORKS.name) is VIEWS["mobilenetv3"]
    assert view_of("nasbench201-16x5") is VIEWS["nasbench201"]


@pytest.mark.parametrize("space", [NasBench201Space(channels=4, cells_per_stage=1), NETWORKS])
def test_bounds_hold_down_to_the_smallest_network(space: NasBench201Space | MobileNetV3Space) -> None:
    smallest = view_of(space.name).smallest
    cost = space.cost(smallest, 10, 32)
    costs = [space.cost(arch, 10, 32).macs for arch in space.sample(200, torch.Generator().manual_seed(1))]
    assert min(costs) >= cost.macs
    accept = bounded(space, 10, 32, max_params=None, max_macs=cost.macs)
    assert accept(smallest)
    with pytest.raises(ValueError, match=f"within max_macs {cost.macs - 1:,}: the smallest has .* {cost.macs:,} MACs"):
        bounded(space, 10, 32, max_params=None, max_macs=cost.macs - 1)
    with pytest.raises(ValueError, match="within max_params 9: the smallest has"):
        bounded(space, 10, 32, max_params=9, max_macs=None)
