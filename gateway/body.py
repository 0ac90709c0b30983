"""Request bodies, bounded while they are read."""

from collections.abc import AsyncIterator
from http import HTTPStatus

from aiohttp.web import BaseRequest

from gateway.problem import Refused


class Body:
    """The body of one request, read once.

    Args:
        request: Whose body.
        most: Most bytes.

    Attributes:
        too_large: The body went over ``most`` while it was read.

    Raises:
        Refused: 413, the request says that its body is over ``most``.
    """

    def __init__(self, request: BaseRequest, most: int) -> None:
        self._request, self._most = request, most
        self.too_large = False
        self.length = request.content_length
        if self.length is not None and self.length > most:
            raise self.refusal()

    @property
    def empty(self) -> bool:
        """Whether no byte will come."""
        return not self._request.can_read_body

    def refusal(self) -> Refused:
        """Return the answer to a body that is over the limit."""
        detail = f"The body is larger than {self._most} bytes."
        return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers={"Connection": "close"})

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            Refused: 413, more came than the limit; `too_large` is set then.
        """
        await self._go_ahead()
        size = 0
        async for chunk in self._request.content.iter_any():
            size += len(chunk)
            if size > self._most:
                self.too_large = True
                raise self.refusal()
            yield chunk

    async def whole(self) -> bytes:
        """Return all of the body; see `chunks`."""
        if self.empty:
            return b""
        return b"".join([chunk async for chunk in self.chunks()])

    async def _go_ahead(self) -> None:
        # A client that asked first sends nothing until it is told to (RFC 9110, 10.1.1).
        if self._request.headers.get("expect", "").lower() == "100-continue":
            writer = self._request.writer
            await writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            writer.output_size = 0
