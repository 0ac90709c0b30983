"""Several processes at one address: a parent starts them, starts them again, and replaces them.

The kernel deals connections out among the processes that listen there with SO_REUSEPORT. The
parent serves no client.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from wherry.errors import StartError
from wherry.process import Command, running

logger = logging.getLogger(__name__)

START_WITHIN = 30.0
"""Seconds from its start until a worker must serve."""
HANDOVER_SECONDS = 5.0
"""Longest that a worker takes to hand its streams over."""
GRACE = 15.0
"""Seconds that a worker has to end, unless told otherwise."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before a worker that died is started again; doubled each time one dies young."""
GROWN_UP = 10.0
"""Seconds after which a life counts as a good one and the pause is short again."""

_READY = "ready"
_LONGEST_NOTE = 64


def place(folder: Path, number: int) -> Path:
    """Return what a worker is told: a path whose name is its number.

    Its socket for operators is this path with the suffix ``.sock``.
    """
    return folder / str(number)


def operators(told: Path) -> Path:
    """Return the unix socket where the worker at ``told`` answers operators."""
    return told.with_suffix(".sock")


def announce(told: Path) -> None:
    """Tell the parent that the worker at ``told`` serves.

    Raises:
        StartError: There is no parent.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(told.name.encode(), str(told.parent / _READY))
        except OSError as error:
            raise StartError(
                f"worker {told}: {error.strerror}, expected a parent that listens; "
                "start it with --workers"
            ) from None


@dataclass(slots=True)
class _Keeper:
    """Keeps one worker alive.

    Attributes:
        number: Of the worker that lives now.
        serves: Whether that one does.
        tried: Set when the first one serves or failed.
        failure: Why the first one did not come to serve.
        task: Runs them; cancelled to end the one that lives.
    """

    number: int
    serves: bool = False
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    failure: StartError | None = None
    task: asyncio.Task[None] | None = None


class Workers:
    """The workers of one address; made by `supervised`.

    Args:
        command: What to run, by the number of the worker.
        group: Owns the tasks.
        grace: Seconds that a worker has to end.
    """

    def __init__(
        self, command: Callable[[int], Command], group: asyncio.TaskGroup, grace: float = GRACE
    ) -> None:
        self._command, self._group, self._grace = command, group, grace
        self._numbers = count(1)
        self._keepers: list[_Keeper] = []
        self._replacing = asyncio.Lock()

    @property
    def serving(self) -> tuple[int, ...]:
        """Numbers of the workers that serve now."""
        return tuple(keeper.number for keeper in self._keepers if keeper.serves)

    async def start(self, workers: int) -> None:
        """Start so many more; return when all of them serve.

        Raises:
            StartError: One of them ended, or did not serve within `START_WITHIN` seconds.
        """
        started = [self._begin() for _ in range(workers)]
        for keeper in started:
            await self._settled(keeper)

    async def replace(self) -> None:
        """Put a new worker in the place of each, one by one: the new serves before the old ends.

        Raises:
            StartError: A new worker does not serve; the old ones that are left go on.
        """
        async with self._replacing:
            for old in tuple(self._keepers):
                await self._settled(self._begin())
                await self._end(old)

    async def end(self) -> None:
        """End all of them at once."""
        async with asyncio.TaskGroup() as group:
            for keeper in tuple(self._keepers):
                group.create_task(self._end(keeper), name=f"end worker {keeper.number}")

    def heard(self, note: bytes) -> None:
        """Take what a worker said that serves."""
        for keeper in self._keepers:
            if note == b"%d" % keeper.number:
                keeper.serves = True
                keeper.tried.set()
                logger.info("worker serves", extra={"worker": keeper.number})

    def _begin(self) -> _Keeper:
        keeper = _Keeper(next(self._numbers))
        keeper.task = self._group.create_task(self._keep(keeper), name="worker")
        self._keepers.append(keeper)
        return keeper

    async def _settled(self, keeper: _Keeper) -> None:
        try:
            async with asyncio.timeout(START_WITHIN):
                await keeper.tried.wait()
        except TimeoutError:
            keeper.failure = StartError(
                f"worker {keeper.number}: silent for {START_WITHIN:.0f} s, expected it to serve"
            )
        if keeper.failure is not None:
            await self._end(keeper)
            raise keeper.failure

    async def _end(self, keeper: _Keeper) -> None:
        keeper.serves = False
        if keeper.task is not None:
            if not keeper.task.cancelling():  # a second time would kill it
                keeper.task.cancel()
            await asyncio.wait((keeper.task,))
        if keeper in self._keepers:
            self._keepers.remove(keeper)

    async def _keep(self, keeper: _Keeper) -> None:
        """Run one worker after the other until cancelled; the first of them must serve."""
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            born = loop.time()
            async with running(self._command(keeper.number), grace=self._grace) as process:
                status = await process.wait()
            keeper.serves = False
            if not keeper.tried.is_set():
                keeper.failure = StartError(
                    f"worker {keeper.number}: ended with status {status} while starting, "
                    "expected it to serve"
                )
                keeper.tried.set()
                return
            logger.warning(
                "worker ended; starting another",
                extra={"worker": keeper.number, "status": status},
            )
            if loop.time() - born > GROWN_UP:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            keeper.number = next(self._numbers)


@dataclass(slots=True)
class _Notes(asyncio.DatagramProtocol):
    """Takes what workers say."""

    heard: Callable[[bytes], None] = field()

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        self.heard(data[:_LONGEST_NOTE])


@asynccontextmanager
async def supervised(
    workers: int, command: Callable[[int], Command], folder: Path, *, grace: float = GRACE
) -> AsyncIterator[Workers]:
    """Run ``workers`` (at least 1) processes until the block ends; enter when all of them serve.

    One that dies is started again, after a pause that grows while they die young.

    Args:
        workers: How many.
        command: What to run, by the number of the worker; numbers are never used twice. It calls
            `announce` when it serves, and at SIGTERM it ends what is under way and then itself.
        folder: Short-named and for this call alone; see `place`.
        grace: Seconds that a worker has for that.

    Raises:
        StartError: A worker does not start.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        made = Workers(command, group, grace)
        notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notes.bind(str(folder / _READY))
        notes.setblocking(False)
        transport, _ = await loop.create_datagram_endpoint(lambda: _Notes(made.heard), sock=notes)
        try:
            await made.start(workers)
            yield made
        finally:
            await made.end()
            transport.close()
