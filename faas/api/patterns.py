"""The models' regular expressions, which are Java's, as Python's. Pure."""

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby

_CATEGORY = re.compile(r"\\([pP])\{(?:Is)?([A-Z][a-z]?)\}")
_ESCAPE = re.compile(r"\\[pP]\{(?:Is)?[A-Z][a-z]?\}|\\.|\[|\]|[^\\\[\]]+", re.DOTALL)


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    r"""Return ``pattern`` for Python: for whole texts, with Java's ASCII ``\d \s \w``.

    Unicode categories such as ``\p{L}`` become ranges.

    Raises:
        re.error: Python has nothing like it.
    """
    return re.compile(_translated(pattern), re.ASCII)


def matches(pattern: str, text: str) -> bool:
    """Return whether the whole of ``text`` has the form ``pattern``."""
    return compiled(pattern).fullmatch(text) is not None


def _translated(pattern: str) -> str:
    parts: list[str] = []
    in_class = False
    for piece in _ESCAPE.findall(pattern):
        category = _CATEGORY.fullmatch(piece)
        if category is not None:
            ranges = _ranges(category[2], inverted=category[1] == "P")
            parts.append(ranges if in_class else f"[{ranges}]")
        elif piece in "[]":
            if piece == "[" and in_class:
                parts.append("\\[")
            else:
                parts.append(piece)
                in_class = piece == "["
        else:
            parts.append(piece)
    return "".join(parts)


@cache
def _ranges(category: str, *, inverted: bool) -> str:
    """Return every character of a category, for use between square brackets."""
    return "".join(
        f"\\U{first:08x}-\\U{last:08x}"
        for first, last, found in _runs()
        if found.startswith(category) is not inverted
    )


@cache
def _runs() -> tuple[tuple[int, int, str], ...]:
    """Return the first and the last of each run of characters of one category, and which."""
    categories = map(unicodedata.category, map(chr, range(sys.maxunicode + 1)))
    runs: list[tuple[int, int, str]] = []
    at = 0
    for category, group in groupby(categories):
        length = len(tuple(group))
        runs.append((at, at + length - 1, category))
        at += length
    return tuple(runs)
