"""What several doors count of themselves, asked of each and added up."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from gateway.metricspage import LAST
from wherry.sums import Sums, text
from wherry.workers import Workers, operators, place

ANSWER_SECONDS = 5.0
"""Longest that a door may take to tell."""

MAX_ANSWER_BYTES = 32 << 20


class Summed:
    """Adds up what the workers of one address tell; it never falls when one of them ends.

    Of one that is killed, what it counted since it was last asked is not known.

    Args:
        workers: Whom to ask.
        folder: See `wherry.workers.place`.
    """

    def __init__(self, workers: Workers, folder: Path) -> None:
        self._workers, self._folder = workers, folder
        self._sums, self._turn = Sums(), asyncio.Lock()

    async def told(self) -> str:
        """Return the sum in Prometheus' text format."""
        async with self._turn:
            texts = dict(await asyncio.to_thread(self._left))
            living = set(self._workers.living) - texts.keys()
            async with asyncio.TaskGroup() as group:
                for number in living:
                    group.create_task(self._ask(number, texts), name=f"ask worker {number}")
            silent = living - texts.keys()
            return await asyncio.to_thread(lambda: text(self._sums.add(texts, silent)))

    def _left(self) -> Mapping[int, str]:
        """Return what workers left that are gone, each once."""
        found = {}
        for path in self._folder.glob(f"*{LAST}"):
            found[int(path.stem)] = path.read_text()
            path.unlink()
        return found

    async def _ask(self, number: int, texts: dict[int, str]) -> None:
        connector = aiohttp.UnixConnector(str(operators(place(self._folder, number))))
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get("http://worker/metrics") as answer,
            ):
                whole = bytearray()
                async for chunk in answer.content.iter_any():
                    whole += chunk
                    if len(whole) > MAX_ANSWER_BYTES:
                        return
        except (aiohttp.ClientError, OSError, TimeoutError):
            return
        texts[number] = whole.decode()
