"""Bodies of answers that come in pieces: kept on their way, or gathered."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

from gateway.call import Answer
from gateway.problem import Refused
from gateway.traffic.cache.caching import Caching
from gateway.traffic.cache.kept import Cache
from gateway.traffic.cache.outcome import Keep
from wherry.errors import WherryError


class Kept:
    """The pieces of an answer, which is kept once all of them came."""

    __slots__ = ("_cache", "_caching", "_keep", "_pieces", "_seen", "_size")

    def __init__(
        self, pieces: AsyncIterator[bytes], caching: Caching, cache: Cache, keep: Keep
    ) -> None:
        self._pieces, self._caching, self._cache, self._keep = pieces, caching, cache, keep
        self._seen: list[bytes] = []
        self._size = 0

    def __aiter__(self) -> "Kept":
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece; at the end, keep the answer."""
        try:
            piece = await self._pieces.__anext__()
        except StopAsyncIteration:
            if self._size <= self._keep.most:
                self._caching.keep(self._cache, self._keep, b"".join(self._seen))
            raise
        self._size += len(piece)
        if self._size <= self._keep.most:
            self._seen.append(piece)
        else:
            self._seen.clear()
        return piece

    async def aclose(self) -> None:
        """Take no more of it."""
        await self._pieces.aclose()  # type: ignore[attr-defined]


class Again:
    """Pieces that were looked at, and those after them."""

    __slots__ = ("_first", "_rest")

    def __init__(self, first: list[bytes], rest: AsyncIterator[bytes]) -> None:
        self._first, self._rest = first, rest

    def __aiter__(self) -> "Again":
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece."""
        return self._first.pop(0) if self._first else await self._rest.__anext__()

    async def aclose(self) -> None:
        """Take no more of it."""
        await self._rest.aclose()  # type: ignore[attr-defined]


async def gathered(answer: Answer, most: int, seconds: float) -> bytes | None:
    """Return the whole body of ``answer``, which then has it whole; None: it is over ``most``.

    Raises:
        Refused: 502 or 504, it did not come whole.
    """
    if isinstance(answer.body, bytes):
        return answer.body if len(answer.body) <= most else None
    pieces, seen, size = answer.body, list[bytes](), 0
    try:
        async with asyncio.timeout(seconds):
            async for piece in pieces:
                seen.append(piece)
                size += len(piece)
                if size > most:
                    answer.body = Again(seen, pieces)
                    return None
    except TimeoutError:
        await closed(answer)
        detail = f"The answer was not whole within {seconds:g} s."
        raise Refused(HTTPStatus.GATEWAY_TIMEOUT, detail) from None
    except WherryError:
        await closed(answer)
        raise Refused(HTTPStatus.BAD_GATEWAY, "The upstream's answer broke off.") from None
    await closed(answer)
    answer.headers.popall("Content-Length", None)
    answer.body = b"".join(seen)
    return answer.body


async def closed(answer: Answer) -> None:
    """Take no more of the answer's body."""
    if not isinstance(answer.body, bytes):
        await answer.body.aclose()  # type: ignore[attr-defined]
