"""Command lines of released programs, taken apart into flags with their values."""

from collections.abc import Iterator, Sequence, Set


def flag_name(flag: str) -> str:
    """`num_q` of `--num-q`: released programs write both marks."""
    return flag.removeprefix("--").replace("-", "_")


def flag_groups(arguments: Sequence[str], released: Set[str]) -> Iterator[tuple[str, list[str]]]:
    """Flags, each with the values behind it; `--flag=value` is taken apart where the flag is a released one.

    Args:
        arguments: a command line; what stands before the first flag comes first, with an empty flag.
        released: names as `flag_name` gives them.
    """
    flag, values = "", list[str]()
    for argument in arguments:
        if not argument.startswith("--"):
            values.append(argument)
            continue
        yield flag, values
        head, equals, value = argument.partition("=")
        flag, values = (head, [value]) if equals and flag_name(head) in released else (argument, [])
    yield flag, values
