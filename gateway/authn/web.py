"""Requests to other servers that say who callers are: short, small, and never led elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    encode_basic_auth,
)

from gateway.authn.tokens import read_object
from wherry.errors import WherryError

MAX_ANSWER = 256 << 10
"""Most bytes of an answer."""

SECONDS = 5.0
"""How long an answer may take."""

_MOST_AT_ONCE = 64


class Unreachable(WherryError):
    """Another server gave no answer that can be used."""

    def __init__(self, url: str, found: str, expected: str = "a JSON object") -> None:
        super().__init__(f"server {url}: {found}, expected {expected}")
        self.url, self.found = url, found


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer.

    Attributes:
        document: The JSON object in it.
        fresh: Seconds for which its server lets it be kept; None says nothing.
    """

    document: Mapping[str, Any]
    fresh: float | None


class Web:
    """The way out; made by `Web.open`."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["Web"]:
        """Be able to ask until the block ends."""
        async with ClientSession(
            cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=SECONDS)
        ) as session:
            yield cls(session)

    async def read(self, url: str) -> Fetched:
        """Get the JSON object at ``url``.

        Raises:
            Unreachable: There is none.
        """
        return await self._asked("GET", url)

    async def post(
        self, url: str, form: Mapping[str, str], *, user: str, password: str
    ) -> Mapping[str, Any]:
        """Send a form with a user name and a password; return the JSON object that answers.

        Raises:
            Unreachable: There is none.

        Source: RFC 6749 section 2.3.1
        """
        auth = encode_basic_auth(quote_plus(user), quote_plus(password))
        return (await self._asked("POST", url, form=form, auth=auth)).document

    async def _asked(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        auth: str | None = None,
    ) -> Fetched:
        headers = {"Accept": "application/json"}
        if auth is not None:
            headers["Authorization"] = auth
        try:
            async with (
                asyncio.timeout(SECONDS),
                self._places,
                self._session.request(
                    method,
                    url,
                    data=form,
                    allow_redirects=False,
                    headers=headers,
                ) as response,
            ):
                if response.status != HTTPStatus.OK:
                    raise Unreachable(url, f"status {response.status}", "200")
                body = await _bounded(url, response)
        except TimeoutError:
            raise Unreachable(url, f"no answer within {SECONDS:g} s", "one") from None
        except (ClientError, OSError, ValueError) as error:
            raise Unreachable(url, type(error).__name__) from None
        try:
            return Fetched(read_object(body), _fresh(response.headers.get("Cache-Control", "")))
        except ValueError:
            raise Unreachable(url, "no JSON object") from None


async def _bounded(url: str, response: ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_ANSWER:
            raise Unreachable(url, "a larger answer", f"at most {MAX_ANSWER} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _fresh(cache_control: str) -> float | None:
    for directive in cache_control.lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name in {"no-store", "no-cache"}:
            return 0.0
        if name == "max-age" and value.isascii() and value.isdigit():
            return float(value[:9])
    return None
