"""A name that one resource gives another: it must lead somewhere."""

from collections.abc import Iterator, Mapping

from wherry.config.document import one_of

Place = tuple[str | int, ...]
"""Where something stands in a document: field names, and positions in lists."""

Wrong = tuple[Place, str, str]
"""Where, what was found there, and what was expected."""


def missing(what: str, name: str, known: Mapping[str, object], *path: str | int) -> Iterator[Wrong]:
    """Yield what is wrong when ``name`` is not ``known``."""
    if name not in known:
        yield path, f"no {what} {name!r}", one_of(sorted(known), name)
