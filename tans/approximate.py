"""Approximate search for zoos of many millions, whose finalists are compared exactly.

Needs FAISS: `pip install -e .[faiss]`. Below `MOST_EXACT` networks the exact index is fast enough.
"""

import importlib.util
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tans.retrieve import ExactIndex
from tans.vectors import Rows

MOST_EXACT = 5_000_000
"""Networks up to which exact search is taken: about a quarter of a second on one core."""
_FINALISTS = 100
_MASKED_FACTOR = 10
_TRAINED_ON = 64
"""Vectors a list that the index is fitted to."""


class FaissIndex:
    """Lists of like vectors in eight bits a number; the best of some lists are compared exactly.

    Args:
        parts: (n, D) arrays or tensors that together hold all vectors in order.
        num_lists: lists; None takes four times the root of the number of vectors.
        num_probed: lists that a search looks into.

    Raises:
        RuntimeError: FAISS is not installed.
        ValueError: there is no vector.
    """

    def __init__(self, parts: Sequence[Rows | Tensor], *, num_lists: int | None = None, num_probed: int = 16) -> None:
        faiss = _library()
        self._exact = ExactIndex(parts)
        self._arrays = [np.asarray(part, dtype=np.float32) for part in parts]
        self._starts = np.cumsum([0, *map(len, self._arrays)])
        num, width = len(self._exact), self._arrays[0].shape[1]
        lists = num_lists or max(1, min(num // 40, round(4 * math.sqrt(num))))
        index = faiss.index_factory(width, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
        drawn = np.random.default_rng(0).permutation(num)[: _TRAINED_ON * lists]
        index.train(self._rows(np.sort(drawn)))
        for array in self._arrays:
            index.add(np.ascontiguousarray(array))
        index.nprobe = num_probed
        self._index = index

    def __len__(self) -> int:
        return len(self._exact)

    def search(self, queries: Tensor, num: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The vectors with the largest products among the finalists; arguments and results as `ExactIndex.search`.

        Where too few finalists are allowed by the mask, the search is done exactly.
        """
        wanted = min(len(self), max(num, _FINALISTS) * (1 if mask is None else _MASKED_FACTOR))
        _, found = self._index.search(np.ascontiguousarray(queries.cpu().numpy(), dtype=np.float32), wanted)
        rows = []
        for query, places in zip(queries.cpu(), found, strict=True):
            places = places[places >= 0]
            allowed = places if mask is None else places[mask.numpy()[places]]
            if len(allowed) < num:
                return self._exact.search(queries, num, mask)
            products = torch.from_numpy(self._rows(allowed)) @ query
            best = products.topk(num)
            rows.append((best.values, torch.from_numpy(allowed)[best.indices]))
        return torch.stack([values for values, _ in rows]), torch.stack([places for _, places in rows])

    def _rows(self, places: np.ndarray) -> np.ndarray:
        """Vectors of some places, in their order."""
        parts = np.searchsorted(self._starts, places, side="right") - 1
        vectors = np.empty((len(places), self._arrays[0].shape[1]), np.float32)
        for part in np.unique(parts):
            chosen = parts == part
            vectors[chosen] = self._arrays[part][places[chosen] - self._starts[part]]
        return vectors


def has_faiss() -> bool:
    """Whether FAISS is installed."""
    return importlib.util.find_spec("faiss") is not None


def make_index(parts: Sequence[Rows | Tensor], device: torch.device) -> ExactIndex | FaissIndex:
    """The index for a zoo of this size: exact up to `MOST_EXACT` vectors, on a GPU, or where FAISS is missing."""
    num = sum(map(len, parts))
    if num <= MOST_EXACT or device.type == "cuda" or not has_faiss():
        return ExactIndex(parts, device=device)
    return FaissIndex(parts)


def _library() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise RuntimeError("approximate search needs FAISS, which is not installed: pip install -e .[faiss]") from error
    return faiss
