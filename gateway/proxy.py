"""Requests to services through the mesh, streamed both ways."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    UnixConnector,
    hdrs,
)
from aiohttp.web import BaseRequest, Response, StreamResponse
from multidict import CIMultiDict
from yarl import URL

from gateway import fields
from gateway.body import Body
from gateway.problem import Refused, out_of_capacity

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 512
"""Most connections to the mesh; a request that finds none free waits within its timeout."""

_NO_TIMEOUT = ClientTimeout(total=None, connect=None, sock_read=None, sock_connect=None)
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Proxy:
    """The way into the mesh; made by `Proxy.open`.

    Args:
        session: Ends in the outbound listener of the gateway's Envoy, or None without a mesh.
    """

    def __init__(self, session: ClientSession | None) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, mesh: Path | None) -> AsyncIterator["Proxy"]:
        """Use the unix socket ``mesh``; it need not exist yet. None: services are out of reach."""
        if mesh is None:
            yield cls(None)
            return
        async with ClientSession(
            connector=UnixConnector(str(mesh), limit=MAX_CONNECTIONS),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            timeout=_NO_TIMEOUT,
            skip_auto_headers=_AUTOMATIC,
        ) as session:
            yield cls(session)

    async def pass_on(
        self,
        request: BaseRequest,
        body: Body,
        *,
        url: str,
        headers: CIMultiDict[str],
        extra: Mapping[str, str],
        timeout: float,  # noqa: ASYNC109
    ) -> StreamResponse:
        """Send the request to ``url`` and its answer to the client, as it comes.

        Args:
            request: Whom to answer.
            body: Sent on while it is received.
            url: ``http://SERVICE/path``, escaped.
            headers: Of the request; see `fields.onward`.
            extra: Fields of the answer that take the place of the upstream's.
            timeout: Seconds that the answer may take to begin, and that may pass between two
                pieces of it until the client took them; a stream that goes on may last for ever.

        Raises:
            Refused: 413, 502, 503 or 504; nothing was sent to the client then.
        """
        if self._session is None:
            raise out_of_capacity("This gateway is not connected to the mesh.")
        try:
            async with asyncio.timeout(timeout):
                upstream = await self._session.request(
                    request.method,
                    URL(url, encoded=True),
                    headers=headers,
                    data=None if body.empty else body.chunks(),
                    allow_redirects=False,
                )
        except TimeoutError:
            raise _late(timeout) from None
        except ClientConnectorError:
            raise out_of_capacity("The mesh cannot be reached.") from None
        except (ClientError, OSError, ValueError) as error:
            if body.too_large:
                raise body.refusal() from None
            logger.debug("upstream failed", extra={"cause": type(error).__name__})
            raise Refused(HTTPStatus.BAD_GATEWAY, "The service gave no valid answer.") from None
        async with upstream:
            return await _answer(request, upstream, extra, timeout)


async def _answer(
    request: BaseRequest,
    upstream: ClientResponse,
    extra: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109
) -> StreamResponse:
    headers = fields.back(upstream.headers)
    headers.update(extra)
    if upstream.content.is_eof() and request.method != hdrs.METH_HEAD:
        # All of it is here already: head and body leave in one write.
        whole = await upstream.content.read()
        return Response(status=upstream.status, reason=upstream.reason, headers=headers, body=whole)
    answer = StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
    await answer.prepare(request)
    try:
        while True:
            async with asyncio.timeout(timeout):
                chunk = await upstream.content.readany()
                if not chunk:
                    break
                await answer.write(chunk)
    except (ClientError, TimeoutError) as error:
        # The head is sent: only a broken connection says that the body is not whole.
        logger.info("answer broke off", extra={"cause": type(error).__name__})
        if request.transport is not None:
            request.transport.abort()
        return answer
    await answer.write_eof()
    return answer


def _late(timeout: float) -> Refused:
    return Refused(HTTPStatus.GATEWAY_TIMEOUT, f"No answer came within {timeout:g} s.")
