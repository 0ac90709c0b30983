"""Trace context, passed on or begun.

Source: https://www.w3.org/TR/trace-context/
"""

import re
from collections.abc import Callable

from multidict import CIMultiDict

_FORM = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?", re.ASCII
)
_LONGEST = 512


def carried_on(headers: CIMultiDict[str], random: Callable[[int], bytes]) -> str:
    """Return a valid ``traceparent`` as it is; put a new one, not sampled, in any other's place.

    Args:
        headers: Of the request on its way; changed.
        random: Returns so many random bytes.
    """
    given = headers.getall("traceparent", ())
    if len(given) == 1 and len(given[0]) <= _LONGEST and _FORM.fullmatch(given[0]):
        return given[0]
    headers.popall("tracestate", None)
    made = random(24).hex()
    begun = headers["traceparent"] = f"00-{made[:32]}-{made[32:]}-00"
    return begun
