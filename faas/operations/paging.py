"""Long lists in pages."""

import base64
import binascii
from collections.abc import Mapping
from typing import TypeVar

from faas.api.asked import Asked
from faas.lambda_errors import InvalidParameter

T = TypeVar("T")

_AFTER = "after "


def page(
    values: Mapping[str, T], asked: Asked, *, most: int = 50, falling: bool = False
) -> tuple[list[T], dict[str, str]]:
    """Return the values of the page that ``asked`` wants, and where the next one begins.

    A page goes on after the last value of the one before, whatever was added or removed since.

    Args:
        values: By a key each, in the order in which they are listed.
        asked: Its ``Marker`` and ``MaxItems`` count.
        most: Values in a page, however many are asked for.
        falling: The keys go down instead of up.

    Returns:
        The values, and ``NextMarker`` when there are more.

    Raises:
        InvalidParameter: The marker is none that this returned.
    """
    keys = list(values)
    begin = 0
    if marker := asked.get("Marker"):
        begin = _after(keys, _read(marker), falling=falling)
    end = begin + min(int(asked.get("MaxItems", most)), most)
    chosen = [values[key] for key in keys[begin:end]]
    return chosen, {"NextMarker": _written(keys[end - 1])} if end < len(keys) else {}


def _after(keys: list[str], last: str, *, falling: bool) -> int:
    return sum(key >= last if falling else key <= last for key in keys)


def _written(key: str) -> str:
    return base64.urlsafe_b64encode(f"{_AFTER}{key}".encode()).decode()


def _read(marker: str) -> str:
    try:
        text = base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith(_AFTER):
        raise InvalidParameter("Invalid pagination marker")
    return text.removeprefix(_AFTER)
