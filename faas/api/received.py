"""An HTTP request as the pure parts of the API take it."""

import asyncio
import hashlib

from aiohttp import web

from faas.api.faults import TooSlow
from faas.api.sigv4 import Sent
from faas.lambda_errors import InvalidRequestContent, RequestTooLarge

BODY_SECONDS = 300.0
"""Within which a request's body has to come."""
_QUICK = 1 << 18
"""Bytes that are hashed at once in the loop; more are hashed beside it."""


def sent(request: web.Request) -> Sent:
    """Return the request as it was sent, without its body."""
    path, _, query = request.raw_path.partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        lower = name.lower()
        headers[lower] = f"{headers[lower]},{value}" if lower in headers else value
    return Sent(request.method, path, query, headers)


async def body_of(
    request: web.Request, limit: int, operation: str, *, seconds: float = BODY_SECONDS
) -> bytes:
    """Read the body; over ``limit`` bytes, refuse it without keeping it.

    Raises:
        RequestTooLarge: The body is over ``limit`` bytes.
        TooSlow: It was not there after ``seconds``.
        InvalidRequestContent: It broke off.
    """
    if request.content_length is not None and request.content_length > limit:
        raise RequestTooLarge(limit, operation)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise RequestTooLarge(limit, operation)
    except TimeoutError:
        raise TooSlow(f"body: {len(body)} bytes after {seconds:g} s, expected all") from None
    except (ConnectionError, web.RequestPayloadError):
        raise InvalidRequestContent(f"body: broke off after {len(body)} bytes") from None
    return bytes(body)


async def digest_of(body: bytes) -> str:
    """Return the SHA-256 of ``body`` in hex."""
    if len(body) <= _QUICK:
        return hashlib.sha256(body).hexdigest()
    return (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
