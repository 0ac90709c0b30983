"""The response of a function URL, written as the function streams it."""

from collections.abc import Mapping

from aiohttp import ClientConnectionResetError, web
from multidict import CIMultiDict

from faas.lambda_errors import ServiceFailure
from faas.model.url import Cors
from faas.operations.invoke import MAX_STREAM
from faas.urls import cors
from faas.urls.answer import BadAnswer, Head
from faas.urls.prelude import CONTENT_TYPE, OCTETS, Prelude
from faas.vm import Stream


class StreamedResponse(Stream):
    """Takes a function's pieces and writes them to a caller as they come.

    A caller who hangs up does not end the function, as on Lambda: the rest is dropped.

    Args:
        request: Whose response it is.
        rules: CORS of the URL; None: the function says it.
        asked: The request's headers, by name in lower case.
        headers: Of every response.
    """

    def __init__(
        self,
        request: web.Request,
        rules: Cors | None,
        asked: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> None:
        self._request = request
        self._rules = rules
        self._asked = asked
        self._headers = headers
        self._prelude: Prelude | None = None
        self._content_type = ""
        self._response: web.StreamResponse | None = None
        self._size = 0
        self._gone = False
        self._broken: BadAnswer | None = None

    @property
    def response(self) -> web.StreamResponse | None:
        """What was begun; None: nothing yet."""
        return self._response

    async def begin(self, content_type: str) -> None:
        """See `faas.vm.Stream.begin`; status and headers wait for the prelude, if there is one."""
        self._content_type = content_type
        if content_type.partition(";")[0].strip().lower() == CONTENT_TYPE:
            self._content_type = OCTETS
            self._prelude = Prelude()
        else:
            await self._open(Head())

    async def write(self, piece: bytes) -> None:
        """See `faas.vm.Stream.write`."""
        if self._broken is not None:
            return
        if self._prelude is not None:
            try:
                found = self._prelude.take(piece)
            except BadAnswer as error:
                self._broken = error
                return
            if found is None:
                return
            head, piece = found
            self._prelude = None
            await self._open(head)
        self._size += len(piece)
        if piece and not self._gone and self._size <= MAX_STREAM:
            await self._try_write(piece)

    async def end(self, *, good: bool) -> web.StreamResponse:
        """Return the response, complete, or broken off when it did not go well.

        Raises:
            BadAnswer: The function began with no prelude that could be read.
            ServiceFailure: It gave nothing at all.
        """
        if self._broken is not None:
            raise self._broken
        if self._prelude is not None:
            raise BadAnswer("an end within the prelude", "eight NUL bytes after it")
        if self._response is None:
            raise ServiceFailure("the function streamed nothing")
        if self._gone:
            return self._response
        if not good or self._size > MAX_STREAM:
            self._break_off()
            return self._response
        try:
            await self._response.write_eof()
        except ClientConnectionResetError:
            self._gone = True
        return self._response

    async def _open(self, head: Head) -> None:
        pairs = cors.merged(head.pairs(self._content_type), self._rules, self._asked)
        response = web.StreamResponse(status=head.status, headers=CIMultiDict(pairs))
        response.headers.update(self._headers)
        self._response = response
        try:
            await response.prepare(self._request)
        except ClientConnectionResetError:
            self._gone = True

    async def _try_write(self, piece: bytes) -> None:
        assert self._response is not None  # noqa: S101
        try:
            await self._response.write(piece)
        except ClientConnectionResetError:
            self._gone = True

    def _break_off(self) -> None:
        """End the connection, so that the caller does not take what there is for all."""
        transport = self._request.transport
        if transport is not None:
            transport.abort()
