"""Trace context, passed on or begun.

Source: https://www.w3.org/TR/trace-context/
"""

import os
import re
from collections.abc import Callable

from multidict import CIMultiDict

_FORM = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.ASCII
)
_LONGEST = 512
_AT_ONCE = 4096


def carried_on(headers: CIMultiDict[str], random: Callable[[int], bytes]) -> str:
    """Return a valid ``traceparent`` as it is; put a new one, not sampled, in any other's place.

    Args:
        headers: Of the request on its way; changed.
        random: Returns so many random bytes.
    """
    given = headers.popall("traceparent", ())
    if len(given) == 1 and len(given[0]) <= _LONGEST and _FORM.fullmatch(given[0]):
        headers.add("traceparent", given[0])
        return given[0]
    if "tracestate" in headers:
        headers.popall("tracestate")
    made = random(24).hex()
    begun = f"00-{made[:32]}-{made[32:]}-00"
    headers.add("traceparent", begun)
    return begun


class Chance:
    """Random bytes, asked of the system many at a time."""

    def __init__(self) -> None:
        self._drawn, self._at = b"", 0

    def __call__(self, count: int) -> bytes:
        """Return ``count`` bytes, at most `_AT_ONCE`."""
        if self._at + count > len(self._drawn):
            self._drawn, self._at = os.urandom(_AT_ONCE), 0
        self._at += count
        return self._drawn[self._at - count : self._at]
