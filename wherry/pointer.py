"""JSON pointers.

Source: RFC 6901
"""

from collections.abc import Iterable


def pointer_of(path: Iterable[str | int]) -> str:
    """Return the pointer of ``path``, such as ``/paths/~1pets/0``; empty: the whole document."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def steps_of(pointer: str) -> tuple[str, ...]:
    """Return the steps of ``pointer``; what comes before its first slash is no step."""
    parts = pointer.split("/")[1:]
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)
