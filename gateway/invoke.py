"""Function invocations over the Lambda API.

Source: https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)

from gateway import event
from gateway.call import Answer
from gateway.event import BadAnswer, Call
from gateway.problem import Refused, out_of_capacity

logger = logging.getLogger(__name__)

MAX_PAYLOAD = 6 << 20
"""Most bytes of an event and of a result, as Lambda has it for synchronous calls."""

MAX_CONNECTIONS = 512
"""Most connections to the Lambda API; a call that finds none free waits within its timeout."""

Signer = Callable[[str, str, bytes, Mapping[str, str]], Mapping[str, str]]
"""Returns the headers of a signed request from its method, URL, body and headers."""

_TRACE = ("X-Amzn-Trace-Id", "traceparent")
_MOST_TRACE = 1024
"""Most characters of a field that names a trace; a longer one is left out."""

_NO_TIMEOUT = ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None)


class Invoker:
    """Calls functions; made by `Invoker.open`."""

    def __init__(
        self, session: ClientSession | None, url: str, signer: Signer | None = None
    ) -> None:
        self._session, self._url, self._signer = session, url, signer

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str | None, signer: Signer | None = None) -> AsyncIterator["Invoker"]:
        """Use the Lambda API at ``url`` (without a path); None: functions are out of reach.

        ``signer`` signs each request; None: the API checks no signatures.
        """
        if url is None:
            yield cls(None, "")
            return
        async with ClientSession(
            connector=TCPConnector(limit=MAX_CONNECTIONS),
            cookie_jar=DummyCookieJar(),
            timeout=_NO_TIMEOUT,
        ) as session:
            yield cls(session, url.rstrip("/"), signer)

    async def invoke(self, function: str, call: Call, *, timeout: float) -> Answer:  # noqa: ASYNC109
        """Run ``function`` and return the answer it gives to ``call``.

        Args:
            function: Its name.
            call: The request.
            timeout: Seconds that it may take.

        Raises:
            Refused: 413, 502, 503 or 504.
        """
        if self._session is None:
            raise out_of_capacity("This gateway is not connected to a function platform.")
        payload = event.encoded(call)
        if len(payload) > MAX_PAYLOAD:
            detail = f"As an event the request is larger than {MAX_PAYLOAD} bytes."
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        url = f"{self._url}/2015-03-31/functions/{function}/invocations"
        headers = _traced(call)
        if self._signer is not None:
            headers = self._signer("POST", url, payload, headers)
        try:
            async with (
                asyncio.timeout(timeout),
                self._session.post(url, data=payload, headers=headers) as response,
            ):
                result = await _bounded(response)
        except TimeoutError:
            detail = f"The function gave no answer within {timeout:g} s."
            raise Refused(HTTPStatus.GATEWAY_TIMEOUT, detail) from None
        except (ClientError, OSError):
            raise out_of_capacity("The function platform cannot be reached.") from None
        _check(function, response)
        try:
            return event.answered(result)
        except BadAnswer as error:
            logger.info("function answer refused", extra={"function": function, "why": str(error)})
            detail = "The function's result is no HTTP answer."
            raise Refused(HTTPStatus.BAD_GATEWAY, detail) from None


def _traced(call: Call) -> Mapping[str, str]:
    """Return the fields that let the caller's trace go on in the function."""
    found = {name: call.headers.get(name, "") for name in _TRACE}
    return {name: value for name, value in found.items() if 0 < len(value) <= _MOST_TRACE}


async def _bounded(response: ClientResponse) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_PAYLOAD:
            raise Refused(HTTPStatus.BAD_GATEWAY, "The function's result is too large.")
        chunks.append(chunk)
    return b"".join(chunks)


def _check(function: str, response: ClientResponse) -> None:
    match response.status:
        case 200 if "X-Amz-Function-Error" not in response.headers:
            return
        case 200:
            logger.info("function failed", extra={"function": function})
            raise Refused(HTTPStatus.BAD_GATEWAY, "The function failed.")
        case 404:
            raise out_of_capacity("The function is not deployed.", retry_after=5)
        case 413:
            detail = "The request is larger than a function can take."
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
        case 429:
            wait = response.headers.get("Retry-After", "1")
            seconds = int(wait) if wait.isascii() and wait.isdigit() else 1
            raise out_of_capacity(
                "Every instance of the function is busy.", retry_after=max(1, seconds)
            )
        case status:
            logger.warning("function platform failed", extra={"status": status})
            raise Refused(HTTPStatus.BAD_GATEWAY, "The function platform failed.")
