"""Nested configurations of networks, as files hold them, and their flat form with dotted keys."""

from collections.abc import Iterable, Mapping


def flatten(nested: Mapping[str, object]) -> dict[str, object]:
    """Values under dotted keys, walked in lexicographic order at every depth (`layer_10` before `layer_2`).

    Source: MFKD in Vega 1.8, whose order of the axes this is.
    """
    flat: dict[str, object] = {}
    for key, value in sorted(nested.items(), key=lambda item: str(item[0])):
        inner = flatten(value) if isinstance(value, Mapping) else {"": value}
        flat |= {f"{key}.{rest}" if rest else str(key): one for rest, one in inner.items()}
    return flat


def nest(flat: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The inverse of `flatten` for keys of two parts, like `layer_0.channels`."""
    nested: dict[str, dict[str, object]] = {}
    for key, value in flat.items():
        outer, inner = key.split(".")
        nested.setdefault(outer, {})[inner] = value
    return nested


def complete(
    nested: Mapping[str, object], known: Iterable[str], default: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Flat values for exactly the known keys, lists as tuples; what is not given is taken from the default.

    Raises:
        ValueError: a key that is unknown, or neither given nor in the default.
    """
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in flatten(nested).items()}
    values, known = dict(default or {}) | given, tuple(known)
    for key in (*given, *known):
        if key not in known:
            raise ValueError(f"{key} is unknown; known are {', '.join(known)}")
        if key not in values:
            raise ValueError(f"{key} is missing")
    return {key: values[key] for key in known}
