"""What a function returns, as an HTTP response. Pure.

Source: AWS Lambda Developer Guide, "Request and response payloads" of function URLs.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from faas.lambda_errors import LambdaError
from wherry.errors import WherryError

JSON = "application/json"
MAX_HEADERS = 1 << 16
"""Most bytes in the headers that a function may set."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_STATUS = range(200, 600)
_REMAPPED = frozenset(
    {
        "connection",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_DROPPED = frozenset({"content-length"})
"""What the server says itself: a wrong length would cut the body, or leave callers waiting."""


class BadAnswer(WherryError):
    """A function's answer is none that HTTP has room for."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"function's answer: {found}, expected {expected}")


class NotJson(BadAnswer):
    """A function's answer is bytes: it streamed them, or its runtime posts such."""

    def __init__(self) -> None:
        super().__init__("no JSON", "JSON")


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response.

    Attributes:
        headers: Pairs, since cookies may be several.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers, as functions say them.

    Attributes:
        headers: What a function may set, checked.
        cookies: One ``Set-Cookie`` each.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cookies: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Head":
        """Read ``statusCode``, ``headers`` and ``cookies``.

        Raises:
            BadAnswer: They are not such.
        """
        status = found.get("statusCode", 200)
        if isinstance(status, str) and status.isascii() and status.isdigit():
            status = int(status[:9])
        if isinstance(status, bool) or not isinstance(status, int) or status not in _STATUS:
            raise BadAnswer(f"statusCode {str(status)[:20]!r}", "a number of 200 to 599")
        headers, cookies = found.get("headers") or {}, found.get("cookies") or []
        if not isinstance(headers, dict) or not isinstance(cookies, list):
            raise BadAnswer("headers or cookies of another type", "a map and a list")
        pairs = [_header(name, value) for name, value in headers.items()]
        checked = {name: value for name, value in pairs if name not in _DROPPED}
        set_cookies = tuple(_header("set-cookie", each)[1] for each in cookies)
        said = [*pairs, *(("set-cookie", each) for each in set_cookies)]
        if sum(len(name) + len(value) + 4 for name, value in said) > MAX_HEADERS:
            raise BadAnswer("headers too large", f"at most {MAX_HEADERS} bytes")
        return cls(status, checked, set_cookies)

    def pairs(self, default_type: str) -> tuple[tuple[str, str], ...]:
        """Return all headers, with a content type in any case."""
        typed = {"content-type": default_type, **self.headers}
        return (*typed.items(), *(("set-cookie", each) for each in self.cookies))


def buffered(payload: bytes) -> Response:
    """Return the response for what a function returned whole.

    An object with a ``statusCode`` says all of the response; anything else is its body.

    Raises:
        NotJson: It is no JSON; see `faas.urls.prelude.collected`.
        BadAnswer: It says something that HTTP has no room for.
    """
    try:
        found = json.loads(payload) if payload else None
    except (ValueError, RecursionError):
        raise NotJson from None
    if not isinstance(found, dict) or "statusCode" not in found:
        return Response(200, (("content-type", JSON),), payload)
    head = Head.of(found)
    return Response(head.status, head.pairs(JSON), _body(found))


def failed() -> Response:
    """Return the response for a function that ended in an error, which is not told to callers."""
    return Response(502, (("content-type", JSON),), b"Internal Server Error")


def refused(error: LambdaError) -> Response:
    """Return the response for a request that never reached its function."""
    pairs = (("content-type", JSON), *error.headers().items())
    return Response(error.status, pairs, error.body())


def _header(name: object, value: object) -> tuple[str, str]:
    if isinstance(value, bool):
        value = str(value).lower()
    if isinstance(value, int | float):
        value = str(value)
    good = isinstance(name, str) and isinstance(value, str)
    if not (good and _NAME.fullmatch(str(name)) and _VALUE.fullmatch(str(value))):
        raise BadAnswer(f"header {str(name)[:80]!r}", "a name and a text on one line")
    lower = str(name).lower()
    return (f"x-amzn-remapped-{lower}" if lower in _REMAPPED else lower), str(value)


def _body(found: Mapping[str, Any]) -> bytes:
    body = found.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise BadAnswer(f"body of type {type(body).__name__}", "a text")
    if not found.get("isBase64Encoded"):
        return body.encode(errors="replace")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise BadAnswer("body is not base64", "base64 as isBase64Encoded says") from None
