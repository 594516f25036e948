"""The network around a cell: published parameters and MACs, and the function as it is written in the paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.spaces.nasbench201 import EDGES, OPERATIONS, Cell, NasBench201Space
from common.spaces.nasbench201_classes import is_connected
from common.spaces.nasbench201_network import CellBlock, CellNetwork, DownBlock

SPACE = NasBench201Space()
TINY = NasBench201Space(channels=4, cells_per_stage=1)
COSTS = [  # index, operations, parameters, MACs for 10 classes at 32 x 32
    (6111, (3, 3, 3, 1, 3, 2), 1_073_466, 153_272_960),
    (9930, (3, 3, 3, 1, 3, 3), 1_288_506, 184_730_240),
    (857, (2, 2, 3, 1, 3, 3), 858_426, 121_815_680),
    (11_472, (3, 0, 3, 1, 0, 1), 559_386, 78_561_920),
    (1462, (3,) * 6, 1_531_546, 220_119_680),
    (1835, (1,) * 6, 73_306, 7_783_040),
    (1651, (0,) * 6, 73_306, 7_783_040),
]


def counted(network: nn.Module, resolution: int) -> tuple[int, int]:
    """Parameters, and MACs that hooks see in convolutions and linear layers during one image's forward pass."""
    macs = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d | nn.Linear)
        macs += output.numel() * (module.weight.numel() // module.weight.shape[0])

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network.eval()(torch.empty(1, 3, resolution, resolution, device="meta"))
    return sum(parameter.numel() for parameter in network.parameters()), macs


def on_meta(space: NasBench201Space, cell: Cell, num_classes: int, resolution: int) -> nn.Module:
    with torch.device("meta"):
        return space.build(cell, num_classes, resolution)


@pytest.mark.parametrize(("index", "operations", "num_params", "macs"), COSTS)
def test_networks_cost_what_is_published(index: int, operations: tuple[int, ...], num_params: int, macs: int) -> None:
    cell = Cell(operations)
    cost = SPACE.cost(cell, 10, 32)
    assert (cost.num_params, cost.macs) == (num_params, macs)
    assert counted(on_meta(SPACE, cell, 10, 32), 32) == (num_params, macs)


@pytest.mark.parametrize(
    ("channels", "cells_per_stage", "num_classes", "resolution"), [(16, 2, 100, 32), (8, 1, 7, 16), (3, 1, 1, 4)]
)
def test_the_closed_form_equals_what_hooks_count(
    channels: int, cells_per_stage: int, num_classes: int, resolution: int
) -> None:
    space = NasBench201Space(channels=channels, cells_per_stage=cells_per_stage)
    for cell in space.sample(5, torch.Generator().manual_seed(channels)):
        cost = space.cost(cell, num_classes, resolution)
        network = on_meta(space, cell, num_classes, resolution)
        assert counted(network, resolution) == (cost.num_params, cost.macs), space.format(cell)


def normed(block: nn.Module, x: Tensor, stride: int = 1) -> Tensor:
    """Rectify, convolve, normalise with the running statistics."""
    conv, norm = block[0], block[1]  # type: ignore[index]
    y = F.conv2d(x.clamp(min=0), conv.weight, stride=stride, padding=conv.weight.shape[-1] // 2)
    mean, var, scale, shift = (v[:, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    return (y - mean) / (var + 1e-5).sqrt() * scale + shift


def pooled(x: Tensor) -> Tensor:
    """Mean over the neighbours that exist, pixel by pixel."""
    height, width = x.shape[-2:]
    out = torch.empty_like(x)
    for i in range(height):
        for j in range(width):
            out[..., i, j] = x[..., max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].mean((-2, -1))
    return out


def slow_cell(block: CellBlock, operations: tuple[int, ...], x: Tensor) -> Tensor:
    nodes = [x, torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)]
    for (source, target), op in zip(EDGES, operations, strict=True):
        name = OPERATIONS[op]
        if name == "none":
            nodes[target] = nodes[target] + 0 * nodes[source]
        elif name == "skip_connect":
            nodes[target] = nodes[target] + nodes[source]
        elif name == "avg_pool_3x3":
            nodes[target] = nodes[target] + pooled(nodes[source])
        else:
            nodes[target] = nodes[target] + normed(block.convs[f"{source}_{target}"], nodes[source])
    return nodes[3]


def slow_network(network: CellNetwork, operations: tuple[int, ...], images: Tensor) -> Tensor:
    x = F.conv2d(images, network.stem[0].weight, padding=1)
    norm = network.stem[1]
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    for block in network.stages:
        if isinstance(block, CellBlock):
            x = slow_cell(block, operations, x)
        else:
            assert isinstance(block, DownBlock)
            corners = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
            shortcut = F.conv2d(corners, block.shortcut.weight)
            x = normed(block.conv2, normed(block.conv1, x, stride=2)) + shortcut
    norm = network.norm
    x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).clamp(min=0)
    return x.mean((2, 3)) @ network.fc.weight.T + network.fc.bias


def tiny(cell: Cell, seed: int = 0) -> CellNetwork:
    """A small network in evaluation whose running statistics are not 0 and 1."""
    torch.manual_seed(seed)
    network = CellNetwork(cell.edges, 5, channels=4, cells_per_stage=2).double()
    network(torch.randn(8, 3, 8, 8, dtype=torch.float64))
    return network.eval()


@pytest.mark.parametrize("seed", range(6))
def test_the_network_computes_what_the_paper_writes(seed: int) -> None:
    (cell,) = SPACE.sample(1, torch.Generator().manual_seed(seed))
    network, images = tiny(cell, seed), torch.randn(3, 3, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), slow_network(network, cell.operations, images))


def test_every_operation_is_compared_in_the_cells_above() -> None:
    cells = [SPACE.sample(1, torch.Generator().manual_seed(seed))[0] for seed in range(6)]
    assert {operation for cell in cells for operation in cell.operations} == {*range(5)}


def test_logits_depend_on_the_image_exactly_where_a_path_leads_through_the_cell() -> None:
    cells = SPACE.all()
    disconnected = [cell for cell in cells if not is_connected(cell)][::40]
    connected = [cell for cell in cells if is_connected(cell)][::1500]
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    for cell in disconnected + connected:
        with torch.no_grad():
            logits = tiny(cell)(images)
        assert torch.equal(logits, logits[:1].expand(4, 5)) == (cell in disconnected), SPACE.format(cell)


def test_all_weights_of_a_cell_of_convolutions_learn() -> None:
    network = TINY.build(Cell((3,) * 6), 3, 8)
    network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_weights_that_lead_nowhere_are_there_but_do_not_learn() -> None:
    network = TINY.build(Cell((3, 2, 0, 0, 0, 1)), 3, 8)  # a convolution into node 1, from which nothing goes on
    network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    idle = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    assert idle == {name for name, _ in network.named_parameters() if ".convs.0_1." in name}
    assert len(idle) == 3 * 3


def test_in_evaluation_an_image_is_answered_whatever_is_beside_it() -> None:
    network, images = tiny(Cell((3, 2, 4, 1, 3, 2))), torch.randn(5, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), torch.cat([network(image[None]) for image in images]))


@pytest.mark.parametrize("resolution", [0, -4, 30, 33])
def test_costs_and_networks_need_a_resolution_divisible_by_four(resolution: int) -> None:
    for use in (SPACE.cost, SPACE.build):
        with pytest.raises(ValueError, match=f"resolution {resolution} is not a positive multiple of 4"):
            use(Cell((0,) * 6), 10, resolution)


def test_images_that_are_not_divisible_by_four_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image size \(8, 10\) is not divisible by 4"):
        TINY.build(Cell((1,) * 6), 2, 8)(torch.zeros(1, 3, 8, 10))


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ([(0, 1, "conv_5x5")], "unknown operation 'conv_5x5': known are none, skip_connect, avg_pool_3x3, nor_conv"),
        ([(1, 0, "none")], "edge 1 -> 0 of a cell does not point forward"),
        ([(1, 1, "none")], "edge 1 -> 1 of a cell does not point forward"),
    ],
)
def test_edges_that_no_cell_has_are_refused(edges: list[tuple[int, int, str]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CellNetwork(edges, 2)
