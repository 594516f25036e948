"""One seed, an independent stream of random numbers for each named use of it."""

import hashlib
import json

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """Seed of the stream that `names` stands for.

    Adding a consumer with a new name shifts no other stream, and neighbouring seeds give unrelated streams.

    Args:
        seed: the user's seed, any integer.
        names: what the stream is for, for example `("augment", epoch)`. 1 and "1" are different names.

    Returns:
        An integer in [0, 2**63).
    """
    text = json.dumps([int(seed), *names])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int) -> torch.Generator:
    """CPU generator at the start of the stream that `names` stands for; see `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))
