"""MobileNetV3 architectures as tensors: released codes, 45 numbers, and graphs.

Source: Cai et al., ICLR 2020, released code (one-hot codes); Jeong et al., "Task-Adaptive Neural Network Search with
Meta-Contrastive Learning", NeurIPS 2021, released code (45 numbers); Lee et al., ICLR 2021, released code (graphs).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.graphs import END, START, DagBatch, is_valid
from common.spaces.mobilenet_v3_arch import (
    DEPTHS,
    EXPANSIONS,
    KERNELS,
    MAX_DEPTH,
    NUM_BLOCKS,
    NUM_STAGES,
    MobileNetV3Arch,
)

NUM_SETTINGS = 2 * NUM_BLOCKS + NUM_STAGES
"""Numbers of a topology: kernels, expansions, depths."""
NUM_VERTICES = NUM_BLOCKS + 2
FIRST_TYPE = 1 + max(START, END)
"""Vertex type of depth 2, kernel 3, expansion 3; expansions change fastest and depths slowest."""
NUM_TYPES = FIRST_TYPE + len(DEPTHS) * len(KERNELS) * len(EXPANSIONS)
_PER_DEPTH = len(KERNELS) * len(EXPANSIONS)


def topologies_of(archs: Sequence[MobileNetV3Arch], *, is_masked: bool = False) -> Tensor:
    """Kernels of the twenty blocks, their expansions, and the depths of the five stages: 45 numbers.

    Args:
        archs: the architectures; their resolution is not encoded.
        is_masked: write 0 for blocks not in use. Then equal networks have equal numbers, which the released ones have
            not: they keep whatever was set for these blocks.

    Returns:
        (len(archs), 45) int64.

    Source: Jeong et al., NeurIPS 2021, released code.
    """
    rows = [(*arch.kernels, *arch.expansions, *arch.depths) for arch in archs]
    topologies = torch.tensor(rows, dtype=torch.int64).reshape(-1, NUM_SETTINGS)
    if is_masked:
        used = _is_used(topologies[:, 2 * NUM_BLOCKS :])
        topologies[:, : 2 * NUM_BLOCKS] *= torch.cat([used, used], 1)
    return topologies


def archs_of_topologies(topologies: Tensor) -> list[MobileNetV3Arch]:
    """The inverse of `topologies_of`, masked or not.

    Args:
        topologies: (N, 45) whole numbers of any type; 0 is allowed in blocks not in use.

    Raises:
        ValueError: another shape, or a number that is not a setting of the space.
    """
    if topologies.ndim != 2 or topologies.shape[1] != NUM_SETTINGS:
        raise ValueError(f"topologies of shape {tuple(topologies.shape)}; (N, {NUM_SETTINGS}) is needed")
    whole = topologies.long()
    if not torch.equal(whole.to(topologies.dtype), topologies):
        raise ValueError("topologies contain numbers that are not whole; kernels, expansions and depths are needed")
    lists = (part.tolist() for part in _parts(whole))
    return [MobileNetV3Arch.of_lists(*row) for row in zip(*lists, strict=True)]


def onehots_of(archs: Sequence[MobileNetV3Arch], resolutions: Sequence[int]) -> Tensor:
    """One-hots over resolutions, over the kernels of each block and over the expansions of each block.

    Blocks not in use are zeros. Without resolutions the first number is a constant 1, as for a single one.

    Returns:
        (len(archs), max(1, len(resolutions)) + 120) float32.

    Raises:
        ValueError: an architecture's resolution is none of these.

    Source: Cai et al., ICLR 2020, released code (`MobileNetArchEncoder`).
    """
    known = tuple(resolutions) or (None,)
    for arch in archs:
        if arch.resolution not in known:
            raise ValueError(f"resolution {arch.resolution} of an architecture is none of {known}: it has no code")
    sides = torch.tensor([known.index(arch.resolution) for arch in archs], dtype=torch.int64)
    kernels, expansions, _ = _parts(topologies_of(archs, is_masked=True))
    parts = [
        sides[:, None] == torch.arange(len(known)),
        (kernels[..., None] == torch.tensor(KERNELS)).flatten(1),
        (expansions[..., None] == torch.tensor(EXPANSIONS)).flatten(1),
    ]
    return torch.cat(parts, 1).float()


def archs_of_onehots(codes: Tensor, resolutions: Sequence[int]) -> list[MobileNetV3Arch]:
    """The inverse of `onehots_of`; blocks not in use get the smallest settings.

    Raises:
        ValueError: another shape, or a code of no architecture.
    """
    num_sides = max(1, len(resolutions))
    length = num_sides + NUM_BLOCKS * (len(KERNELS) + len(EXPANSIONS))
    if codes.ndim != 2 or codes.shape[1] != length:
        raise ValueError(f"codes of shape {tuple(codes.shape)}; (N, {length}) is needed")
    sides = codes[:, :num_sides].argmax(1).tolist()
    onehots = codes[:, num_sides:].long().cpu().reshape(len(codes), 2, NUM_BLOCKS, len(KERNELS))
    kernels, expansions = (
        (onehots[:, 0] * torch.tensor(KERNELS)).sum(2),
        (onehots[:, 1] * torch.tensor(EXPANSIONS)).sum(2),
    )
    depths = (kernels > 0).reshape(len(codes), NUM_STAGES, MAX_DEPTH).sum(2)
    lists = zip(kernels.tolist(), expansions.tolist(), depths.tolist(), sides, strict=True)
    try:
        archs = [MobileNetV3Arch.of_lists(k, e, d, resolutions[s] if resolutions else None) for k, e, d, s in lists]
        is_ours = torch.equal(onehots_of(archs, resolutions), codes.float().cpu())
    except ValueError:
        is_ours = False
    if not is_ours:
        raise ValueError("a code is of no architecture: it does not encode back to itself")
    return archs


def graphs_of(archs: Sequence[MobileNetV3Arch]) -> DagBatch:
    """Paths of 22 vertices: START, the twenty blocks whether in use or not, END.

    The type of a block tells its kernel, its expansion and the depth of its stage. The resolution is not encoded.

    Source: Lee et al., ICLR 2021, released code.
    """
    kernels, expansions, depths = _parts(topologies_of(archs))
    places = _places(kernels, KERNELS) * len(EXPANSIONS) + _places(expansions, EXPANSIONS)
    blocks = FIRST_TYPE + _PER_DEPTH * _places(depths, DEPTHS).repeat_interleave(MAX_DEPTH, 1) + places
    ends = torch.tensor([[START, END]]).expand(len(archs), 2)
    types = torch.cat([ends[:, :1], blocks, ends[:, 1:]], 1)
    path = torch.ones(NUM_VERTICES - 1, dtype=torch.bool).diag(1)
    return DagBatch(types, path.repeat(len(archs), 1, 1), torch.full((len(archs),), NUM_VERTICES))


def archs_of_graphs(graphs: DagBatch) -> list[MobileNetV3Arch | None]:
    """Read architectures off the types of vertices 1 to 20; edges only decide whether a graph is valid.

    Valid are graphs of 22 vertices with START first, END last and blocks between them, where every vertex but START
    has a predecessor, every vertex but END a successor, and the blocks of a stage agree on its depth.

    Returns:
        For each graph its architecture, or None where it is not valid.

    Source: Lee et al., ICLR 2021, released code.
    """
    if graphs.max_nodes < NUM_VERTICES:
        return [None] * len(graphs)
    valid = _is_valid(graphs)
    blocks = graphs.types[valid, 1 : NUM_VERTICES - 1].cpu() - FIRST_TYPE
    depths = blocks[:, ::MAX_DEPTH] // _PER_DEPTH
    kernels, expansions = blocks % _PER_DEPTH // len(EXPANSIONS), blocks % len(EXPANSIONS)
    lists = [
        torch.tensor(options)[places].tolist()
        for options, places in ((KERNELS, kernels), (EXPANSIONS, expansions), (DEPTHS, depths))
    ]
    archs = (MobileNetV3Arch(tuple(k), tuple(e), tuple(d)) for k, e, d in zip(*lists, strict=True))
    return [next(archs) if good else None for good in valid.tolist()]


def _is_valid(graphs: DagBatch) -> Tensor:
    """(B,) bool, for graphs padded to 22 vertices or more."""
    adjacency = graphs.adjacency[:, :NUM_VERTICES, :NUM_VERTICES]
    first = DagBatch(graphs.types[:, :NUM_VERTICES], adjacency, graphs.num_nodes)
    inner = first.types[:, 1:-1]
    known = ((inner >= FIRST_TYPE) & (inner < NUM_TYPES)).all(1)
    depths = ((inner - FIRST_TYPE) // _PER_DEPTH).reshape(len(graphs), NUM_STAGES, MAX_DEPTH)
    agreed: Tensor = (depths == depths[..., :1]).flatten(1).all(1)
    forward = adjacency.triu(1).flatten(1).sum(1) == graphs.adjacency.flatten(1).sum(1)  # none at padding either
    return is_valid(first) & known & agreed & forward


def _parts(topologies: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Kernels (N, 20), expansions (N, 20) and depths (N, 5) of (N, 45) numbers."""
    return topologies[:, :NUM_BLOCKS], topologies[:, NUM_BLOCKS : 2 * NUM_BLOCKS], topologies[:, 2 * NUM_BLOCKS :]


def _is_used(depths: Tensor) -> Tensor:
    """(N, 20) bool of (N, 5) depths."""
    return (torch.arange(MAX_DEPTH) < depths[..., None]).flatten(1)


def _places(values: Tensor, options: tuple[int, ...]) -> Tensor:
    """Where each value stands among ascending options."""
    return (values[..., None] > torch.tensor(options)).sum(-1)
