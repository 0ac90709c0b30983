"""Request bodies, bounded while they are read."""

from collections.abc import AsyncIterator
from http import HTTPStatus

from gateway.problem import Refused
from gateway.request import Source


class Body:
    """The body of one request, read once.

    Args:
        source: Where it comes from.
        most: Most bytes.

    Attributes:
        too_large: The body went over ``most`` while it was read.
        size: Bytes that came by now.

    Raises:
        Refused: 413, the request says that its body is over ``most``.
    """

    __slots__ = ("_most", "_source", "_whole", "size", "too_large")

    def __init__(self, source: Source, most: int) -> None:
        self._source, self._most = source, most
        self.too_large, self.size = False, 0
        self._whole: bytes | None = None
        if source.length is not None and source.length > most:
            raise self.refusal()

    @property
    def empty(self) -> bool:
        """Whether it has no byte."""
        return not self._whole if self._whole is not None else self._source.empty

    @property
    def length(self) -> int | None:
        """Bytes that it has, or that the request says it has, or None."""
        return len(self._whole) if self._whole is not None else self._source.length

    def refusal(self) -> Refused:
        """Return the answer to a body that is over the limit."""
        detail = f"The body is larger than {self._most} bytes."
        return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, headers={"Connection": "close"})

    def arrived(self) -> bytes | None:
        """Return the whole body if all of it is here; None: some of it is still to come.

        Raises:
            Refused: 413, it is over the limit.
        """
        if self._whole is None:
            whole = self._source.arrived()
            if whole is not None:
                self._count(whole)
            self._whole = whole
        return self._whole

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            Refused: 413, more came than the limit; `too_large` is set then.
        """
        async for chunk in self._source.pieces():
            self._count(chunk)
            yield chunk

    async def whole(self) -> bytes:
        """Return all of the body, and keep it; see `chunks`."""
        if self.arrived() is None:
            self._whole = b"".join([chunk async for chunk in self.chunks()])
        return self._whole or b""

    def replace(self, whole: bytes) -> None:
        """Let ``whole`` be what is passed on; the body was read before."""
        self._whole = whole

    def _count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self._most:
            self.too_large = True
            raise self.refusal()
