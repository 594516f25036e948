"""A cross-modal space in the plane, by its two principal components."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tans.artifacts import SpaceArtifact
from tans.report_inputs import SpaceMap
from tans.zoo import Zoo, ZooTable
from tans.zoo_spaces import vectors_of

_MOST_NETWORKS = 2000


@torch.no_grad()
def space_map(
    zoo: Zoo,
    artifact: SpaceArtifact,
    query: Tensor | None = None,
    retrieved: Sequence[int] = (),
    table: ZooTable | None = None,
) -> SpaceMap:
    """Networks and datasets of a zoo in the plane.

    Args:
        zoo: the zoo.
        artifact: the space.
        query: (D,) unit vector of a dataset that is searched for.
        retrieved: places of networks that were found, nearest first; they are in the map whatever the zoo's size.
        table: the zoo's networks, where they are at hand.
    """
    table = zoo.table() if table is None else table
    vectors = torch.cat([torch.as_tensor(part) for part in vectors_of(zoo, artifact, table)])
    drawn = torch.linspace(0, len(table) - 1, min(len(table), _MOST_NETWORKS)).round().long().tolist()
    shown = sorted({*drawn, *retrieved})
    rows = {name: row for name, row in zoo.queries("train").items() if name in table.datasets}
    queries = torch.zeros(0, vectors.shape[1])
    if rows:
        queries = artifact.space.encode_queries(torch.stack([row.mean for row in rows.values()]))
    together = torch.cat([vectors[shown], queries, *([query[None]] if query is not None else [])])
    plane, share = _principal_plane(together)
    names = [*rows, *(name for name in table.datasets if name not in rows)]
    places = torch.tensor([names.index(name) for name in table.datasets])
    num = len(shown)
    return SpaceMap(
        names=names,
        networks=plane[:num],
        owners=places[table.dataset[shown]],
        queries=plane[num : num + len(rows)],
        new_query=None if query is None else plane[-1],
        retrieved=[shown.index(place) for place in retrieved],
        share=share,
    )


def _principal_plane(points: Tensor) -> tuple[Tensor, float]:
    """(n, 2) coordinates in the plane of largest variance, and the share of the variance that it holds."""
    centred = (points - points.mean(0)).double()
    _, spread, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()  # a component's sign is arbitrary
    total = float(spread.square().sum())
    plane = torch.zeros(len(points), 2, dtype=torch.float64)
    found = centred @ axes[:2].T
    plane[:, : found.shape[1]] = found
    return plane.float(), float(spread[:2].square().sum()) / total if total > 0 else 0.0
