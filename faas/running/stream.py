"""A streamed response with a limit on how long its reader may take."""

import asyncio

from faas.vm import Stream


class Patient:
    """Passes a response on until its reader takes too long; then the rest is dropped.

    The function runs to its end all the same, as on Lambda when a reader goes away.

    Args:
        stream: The reader's end.
        seconds: How long the reader may take for one piece.
    """

    def __init__(self, stream: Stream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self.broken = ""

    async def begin(self, content_type: str) -> None:
        """See `Stream.begin`."""
        await self._stream.begin(content_type)

    async def write(self, piece: bytes) -> None:
        """See `Stream.write`."""
        if self.broken:
            return
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                await self._stream.write(piece)
        except TimeoutError:
            if not limit.expired():
                raise
            self.broken = f"The response was not read for {self._seconds:g} seconds"
        except ConnectionError:
            self.broken = "The reader of the response went away"
