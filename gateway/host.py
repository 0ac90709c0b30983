"""The name that a client called: one, in one spelling.

Source: RFC 9112 section 3.2, RFC 9110 section 7.2
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

from gateway.call import Fields
from gateway.problem import Refused

_AUTHORITY = re.compile(
    r"([A-Za-z0-9._-]{0,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{0,5}))?", re.ASCII
)
_ABSOLUTE = re.compile(r"https?://([^/?#]*)", re.ASCII | re.IGNORECASE)


_MAX_PORT = 65535
_AUTHORITIES = 1024


@dataclass(frozen=True, slots=True)
class Called:
    """What a client called.

    Attributes:
        name: In lower case and without a port.
        authority: With the port, if there was one.
    """

    name: str
    authority: str


def called(target: str, headers: Fields, protocol: str) -> Called:
    """Return the host of a request.

    Args:
        target: The request target; one with a host beats the ``Host`` field.
        headers: Of the request.
        protocol: Like ``HTTP/1.1``.

    Raises:
        Refused: 400, there is none where one must be, there are several, or it is no host.
    """
    given = headers.getall("host", ())
    if len(given) > 1 or (not given and protocol == "HTTP/1.1"):
        raise Refused(HTTPStatus.BAD_REQUEST, "The request must name one host.")
    authority = given[0] if given else ""
    if not target.startswith("/") and (absolute := _ABSOLUTE.match(target)):
        authority = absolute[1]
    found = _read(authority)
    if found is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "The request's host is none.")
    return found


@lru_cache(_AUTHORITIES)
def _read(authority: str) -> Called | None:
    form = _AUTHORITY.fullmatch(authority)
    if form is None or int(form[2] or 0) > _MAX_PORT:
        return None
    name = form[1].lower().rstrip(".")
    return Called(name, f"{name}:{int(form[2])}" if form[2] else name)
