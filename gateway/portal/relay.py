"""Sends the calls that developers try to the gateway, and nowhere else."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from wherry.clock import Clock

MAX_BODY = 256 << 10
"""Most bytes of a body that is sent."""

MAX_SHOWN = 512 << 10
"""Most bytes of an answer that are shown."""

MAX_FIELDS = 32
"""Most header fields of a call."""

AT_ONCE = 16
"""Most calls under way; more are refused."""

_PATIENCE = 30.0
_METHOD = re.compile(r"GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS", re.ASCII)
_PATH = re.compile(r"/[!-~]{0,8000}", re.ASCII)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_VALUE = re.compile(r"[\t -~]{0,4096}", re.ASCII)
_OURS = frozenset(
    {
        "connection",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-real-ip",
    }
)


class Unusable(ValueError):
    """A call that cannot be sent; the message says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call to try.

    Attributes:
        method: In capitals.
        path: With the query; begins with one slash.
        headers: As the developer wrote them.
        body: None sends none.
        host: Of the ``Host`` field; None is the gateway's own.
    """

    method: str
    path: str
    headers: Sequence[tuple[str, str]]
    body: str | None
    host: str | None

    @classmethod
    def read(cls, given: object, hosts: frozenset[str]) -> "Call":
        """Read what the page sends.

        Args:
            given: Decoded JSON.
            hosts: That may be asked for.

        Raises:
            Unusable: It could mean something else than a call to the gateway.
        """
        if not isinstance(given, Mapping):
            raise Unusable("The call is no object.")
        method, path, body = given.get("method"), given.get("path"), given.get("body")
        host, fields = given.get("host") or None, given.get("headers", [])
        if not isinstance(method, str) or not _METHOD.fullmatch(method):
            raise Unusable("The method is none that can be tried.")
        if not isinstance(path, str) or not _PATH.fullmatch(path) or path.startswith("//"):
            raise Unusable("The path must begin with one slash and hold no spaces.")
        if "#" in path:
            raise Unusable("The path must not hold a fragment (#).")
        if body is not None and not (isinstance(body, str) and _size(body) <= MAX_BODY):
            raise Unusable(f"The body must be text of at most {MAX_BODY} bytes.")
        if host is not None and (not isinstance(host, str) or host not in hosts):
            raise Unusable("The host is none of this product's.")
        if not isinstance(fields, list) or len(fields) > MAX_FIELDS:
            raise Unusable(f"The headers must be a list of at most {MAX_FIELDS}.")
        return cls(method, path, [_field(each) for each in fields], body, host)


@dataclass(frozen=True, slots=True)
class Seen:
    """What came back.

    Attributes:
        milliseconds: From sending to the last byte.
        body: Text, or base64 when it is none.
        is_text: Whether the body is text.
        whole: Whether the body is all of it.
    """

    status: int
    reason: str
    headers: Sequence[tuple[str, str]]
    body: str
    is_text: bool
    whole: bool
    milliseconds: int


class Relay:
    """Sends calls to one origin over one pool of connections."""

    def __init__(self, session: aiohttp.ClientSession, origin: str, clock: Clock) -> None:
        self._session, self._origin, self._clock = session, URL(origin).origin(), clock
        self._places = asyncio.Semaphore(AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def open(cls, origin: str, clock: Clock) -> AsyncIterator["Relay"]:
        """Yield a relay to ``origin``; it keeps no cookies and follows no redirects."""
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=_PATIENCE),
            connector=aiohttp.TCPConnector(limit=AT_ONCE),
            auto_decompress=True,
            trust_env=False,
        ) as session:
            yield cls(session, origin, clock)

    async def send(self, call: Call, peer: str) -> Seen:
        """Send a call for the client at ``peer`` and return what came back.

        Raises:
            aiohttp.ClientError: The gateway could not be reached, or broke off.
            TimeoutError: It took over half a minute.
            Unusable: Too many are under way.
        """
        url = URL(f"{self._origin}{call.path}", encoded=True)
        if url.origin() != self._origin:
            raise Unusable("The path leads away from the gateway.")
        headers = [*call.headers, ("X-Forwarded-For", peer)]
        if call.host is not None:
            headers.append(("Host", call.host))
        body = None if call.body is None else call.body.encode()
        if self._places.locked():
            raise Unusable("Others are trying calls: try again in a moment.")
        async with self._places:
            began = self._clock.now()
            async with self._session.request(
                call.method,
                url,
                headers=headers,
                data=body,
                allow_redirects=False,
                skip_auto_headers=("User-Agent", "Content-Type"),
            ) as answer:
                read = await _read(answer)
                took = self._clock.now() - began
        return _seen(answer, read, round(took * 1000))


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    async for piece in answer.content.iter_chunked(1 << 16):
        read += piece
        if len(read) > MAX_SHOWN:
            answer.close()
            break
    return bytes(read)


def _seen(answer: aiohttp.ClientResponse, read: bytes, milliseconds: int) -> Seen:
    whole, shown = len(read) <= MAX_SHOWN, read[:MAX_SHOWN]
    try:
        text, is_text = shown.decode("utf-8", "strict" if whole else "ignore"), True
    except UnicodeDecodeError:
        text, is_text = base64.b64encode(shown).decode(), False
    headers = list(answer.headers.items())
    return Seen(answer.status, answer.reason or "", headers, text, is_text, whole, milliseconds)


def _field(given: object) -> tuple[str, str]:
    match given:
        case [str(name), str(value)] if _NAME.fullmatch(name) and _VALUE.fullmatch(value):
            if name.lower() in _OURS:
                raise Unusable(f"The header {name} is set by the portal.")
            return name, value.strip()
        case _:
            raise Unusable("A header must be a name and a value of plain characters.")


def _size(text: str) -> int:
    """Return the bytes of a text; one that cannot be sent is larger than any."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return MAX_BODY + 1
