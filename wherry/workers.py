"""Several processes at one address: a parent starts them, starts them again, and replaces them.

The kernel deals connections out among the processes that listen there with SO_REUSEPORT. The
parent serves no client. It may hold the sockets for them, one for each worker: then what waits in
a socket to be accepted is not lost with a worker that goes, its successor takes it.
"""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
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

SOCKET = "WHERRY_WORKER_SOCKET"
"""Variable that tells a worker the number of the open socket that it gets from its parent."""

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


def inherited() -> socket.socket | None:
    """Return the bound socket that the parent of this process holds for it, if there is one."""
    number = os.environ.pop(SOCKET, None)
    if number is None:
        return None
    sock = socket.socket(fileno=int(number))
    sock.setblocking(False)
    return sock


@dataclass(slots=True)
class _Keeper:
    """Keeps one worker alive.

    Attributes:
        number: Of the worker that lives now.
        slot: Which of the sockets is its; a worker and the one that takes its place share it.
        serves: Whether that one does.
        tried: Set when the first one serves or failed.
        failure: Why the first one did not come to serve.
        task: Runs them; cancelled to end the one that lives.
    """

    number: int
    slot: int
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
        sockets: See `supervised`.
    """

    def __init__(
        self,
        command: Callable[[int], Command],
        group: asyncio.TaskGroup,
        grace: float = GRACE,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._command, self._group, self._grace = command, group, grace
        self._sockets = sockets
        self._numbers = count(1)
        self._keepers: list[_Keeper] = []
        self._replacing = asyncio.Lock()

    @property
    def serving(self) -> tuple[int, ...]:
        """Numbers of the workers that serve now."""
        return tuple(keeper.number for keeper in self._keepers if keeper.serves)

    @property
    def living(self) -> tuple[int, ...]:
        """Numbers of the workers that serve, start or end now."""
        return tuple(keeper.number for keeper in self._keepers)

    async def start(self, workers: int) -> None:
        """Start so many; return when all of them serve.

        Raises:
            StartError: One of them ended, or did not serve within `START_WITHIN` seconds.
        """
        started = [self._begin(slot) for slot in range(workers)]
        for keeper in started:
            await self._settled(keeper)

    async def replace(self) -> None:
        """Put a new worker in the place of each, one by one: the new serves before the old ends.

        Raises:
            StartError: A new worker does not serve; the old ones that are left go on.
        """
        async with self._replacing:
            for old in tuple(self._keepers):
                await self._settled(self._begin(old.slot))
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

    def _begin(self, slot: int) -> _Keeper:
        keeper = _Keeper(next(self._numbers), slot)
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
            async with running(self._run(keeper), grace=self._grace) as process:
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

    def _run(self, keeper: _Keeper) -> Command:
        command = self._command(keeper.number)
        if not self._sockets:
            return command
        number = self._sockets[keeper.slot].fileno()
        environment = {**command.environment, SOCKET: str(number)}
        return replace(command, environment=environment, fds=(number,))


@dataclass(slots=True)
class _Notes(asyncio.DatagramProtocol):
    """Takes what workers say."""

    heard: Callable[[bytes], None] = field()

    def datagram_received(self, data: bytes, addr: object) -> None:
        del addr
        self.heard(data[:_LONGEST_NOTE])


@asynccontextmanager
async def supervised(
    workers: int,
    command: Callable[[int], Command],
    folder: Path,
    *,
    grace: float = GRACE,
    sockets: Sequence[socket.socket] = (),
) -> AsyncIterator[Workers]:
    """Run ``workers`` (at least 1) processes until the block ends; enter when all of them serve.

    One that dies is started again, after a pause that grows while they die young.

    Args:
        workers: How many.
        command: What to run, by the number of the worker; numbers are never used twice. It calls
            `announce` when it serves, and at SIGTERM it ends what is under way and then itself.
        folder: Short-named and for this call alone; see `place`.
        grace: Seconds that a worker has for that.
        sockets: Bound, one for each worker, which finds its own with `inherited`; none: each
            worker makes its own.

    Raises:
        StartError: A worker does not start.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        made = Workers(command, group, grace, sockets)
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
