"""State dicts as the released code names and shapes them."""

import math
from collections import OrderedDict

import torch
from torch import Tensor

State = dict[str, Tensor]


def layer(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def cell(name: str, h: int, n: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{w}": s for w, s in zip(CELL, ((3 * h, n), (3 * h, h), (3 * h,), (3 * h,)), strict=True)}


CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def released_shapes(
    kind: str, *, h: int, z: int, n: int, nodes: int, features: int = 512
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a released state dict."""
    shapes = cell("grue_forward", h, n) | cell("grue_backward", h, n) | layer("fc1", z, h) | layer("fc2", z, h)
    for direction in ("forward", "backward"):
        shapes |= layer(f"gate_{direction}.0", h, h + nodes) | {f"mapper_{direction}.0.weight": (h, h + nodes)}
    shapes |= layer("hv_unify.0", h, 2 * h) | layer("hg_unify.0", h, 2 * h) | layer("set_fc.0", z, 512)
    for pool, into in (("intra_setpool", features), ("inter_setpool", z)):
        for block, width in (("enc.0", into), ("enc.1", z), ("dec.0", z)):
            for part in "qkv":
                shapes |= layer(f"{pool}.{block}.mab.fc_{part}", z, width)
            shapes |= layer(f"{pool}.{block}.mab.fc_o", z, z)
        shapes |= {f"{pool}.dec.0.S": (1, 1, z)} | layer(f"{pool}.dec.1", z, z)
    if kind == "predictor":
        return shapes | layer("pred_fc.0", h, 2 * z) | layer("pred_fc.2", 1, h)
    shapes |= layer("enc_g_mu", z, h) | layer("enc_g_var", z, h) | cell("grud", h, n) | layer("fc3", h, z)
    shapes |= layer("add_vertex.0", 2 * h, h) | layer("add_vertex.2", n, 2 * h)
    shapes |= layer("add_edge.0", 4 * h, 2 * h) | layer("add_edge.2", 1, 4 * h)
    return shapes | layer("decoding_gate.0", h, h + nodes) | {"decoding_mapper.0.weight": (h, h + nodes)}


SMALL = {"h": 12, "z": 12, "n": 7, "nodes": 8}


def released_state(kind: str, **sizes: int) -> State:
    random = torch.Generator().manual_seed(0)
    shapes = released_shapes(kind, **(sizes or SMALL))
    return OrderedDict(
        (name, torch.randn(shape, generator=random) / math.sqrt(shape[-1])) for name, shape in shapes.items()
    )
