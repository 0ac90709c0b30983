"""One open queue: what is sent, received and deleted, written to the Store before it counts."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from faas.queues.attributes import Queue
from faas.queues.faults import (
    InvalidParameterValue,
    MessageNotInflight,
    OverLimit,
    QueueDoesNotExist,
)
from faas.queues.handles import handle_of, opened
from faas.queues.kept import Kept, pieces_of
from faas.queues.line import Line
from faas.queues.message import Content, Message
from faas.queues.sending import Sending, admitted
from wherry.clock import Clock

DEDUP_SECONDS = 300.0
"""How long a first-in-first-out queue knows a message again. Source: SQS."""
MAX_VISIBILITY = 43_200
_SWEEP_SECONDS = 60.0
_BURIAL_SECONDS = 60.0
"""How long a dead letter is out of sight while it is moved; in memory only."""
_MOST_WAITERS = 1000


@dataclass(frozen=True, slots=True)
class Received:
    """A message that was received, with the handle to delete it by."""

    message: Message
    content: Content
    handle: str


@dataclass(frozen=True, slots=True)
class Burial:
    """How a queue gets rid of dead letters.

    Attributes:
        bury: Puts a message into the dead-letter queue of that name; False when it cannot be.
        done: Notes that it will not be put there again.
    """

    bury: Callable[[str, Message, Content], Awaitable[bool]]
    done: Callable[[str, Message], Awaitable[None]]


class Held:
    """One queue in this process; its operations take turns.

    Args:
        queue: What it is told.
        messages: What the Store has of it.
        kept: Where messages are kept.
        clock: Wall-clock time decides what is visible.
        burial: Moves dead letters.
        most: Most messages.
    """

    def __init__(
        self,
        queue: Queue,
        messages: Sequence[Message],
        kept: Kept,
        *,
        clock: Clock,
        burial: Burial,
        most: int,
    ) -> None:
        self.queue = queue
        self._kept = kept
        self._clock = clock
        self._burial = burial
        self._most = most
        self._line = Line([each for each in messages if not each.gone], fifo=queue.fifo)
        self._gone = {each.id: each for each in messages if each.gone}
        self._dedup = {each.dedup: each for each in messages if each.dedup}
        self._sequence = max((each.sequence for each in messages), default=0)
        self._dead: list[tuple[str, Message, Content]] = []
        self._spared: set[str] = set()
        self._lock = asyncio.Lock()
        self._waiters: set[asyncio.Event] = set()
        self._swept = 0.0
        self._closed = False
        self._deleted = False

    @property
    def size(self) -> int:
        """Bytes in its messages."""
        return self._line.size

    async def counts(self) -> tuple[int, int, int]:
        """Return how many messages are visible, being worked on and delayed."""
        async with self._lock:
            await self._sweep()
            return self._line.counts(self._now())

    async def send(self, sending: Sending, *, once: str = "", source: str = "") -> Message:
        """Return when the message is durable.

        Args:
            sending: What to send.
            once: An id that tells it from all others: if it was sent before, it is not again.
            source: ARN of the queue whose dead letter it is; empty: none.

        Raises:
            QueueFault: The message is not as it has to be, or there is no room.
        """
        size, delay, dedup = admitted(self.queue, sending, once=bool(once))
        pieces = pieces_of(sending.content)
        async with self._lock:
            self._open()
            await self._sweep()
            before = await self._before(once, dedup)
            if before is not None:
                return before
            if len(self._line) >= self._most:
                raise OverLimit(f"The queue holds {self._most} messages; receive some first.")
            now = self._now()
            self._sequence += 1
            message = Message(
                id=once or str(uuid.uuid4()),
                sequence=self._sequence,
                sent=now,
                visible=now + delay,
                size=size,
                pieces=len(pieces),
                group=sending.group,
                dedup=dedup,
                source=source,
                once=bool(once),
            )
            await self._kept.add(self.queue.id, message, pieces)
            self._line.put(message)
            if dedup:
                self._dedup[dedup] = message
        self._wake()
        return message

    async def receive(
        self, most: int, *, wait: float | None = None, visibility: int | None = None
    ) -> list[Received]:
        """Return up to ``most`` messages, which nobody else receives meanwhile.

        Args:
            most: 1 to 10.
            wait: Seconds to wait for a first message; None: as the queue says.
            visibility: Seconds that others do not see them; None: as the queue says.

        Raises:
            QueueDoesNotExist: The queue was deleted.
            OverLimit: Too many wait already.
        """
        seconds = self.queue.number("ReceiveMessageWaitTimeSeconds") if wait is None else wait
        until = self._clock.now() + seconds
        if len(self._waiters) >= _MOST_WAITERS:
            raise OverLimit(f"{_MOST_WAITERS} receivers wait at this queue already.")
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            while True:
                changed.clear()
                async with self._lock:
                    self._open()
                    taken = await self._take(most, visibility)
                    dead, self._dead = self._dead, []
                for each in dead:
                    await self._buried(*each)
                due = self._line.due()
                left = until - self._clock.now()
                if taken or left <= 0 or self._closed:
                    return taken
                soon = left if due is None else min(left, max(0.001, due - self._now()))
                try:
                    async with asyncio.timeout(soon):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            self._waiters.discard(changed)

    async def delete(self, handle: str) -> None:
        """Remove a received message; also by the handle of an earlier receive.

        A first-in-first-out queue takes no handle whose time is over: others may have got on.

        Raises:
            ReceiptHandleIsInvalid: The handle is none of ours.
            InvalidParameterValue: Its time is over.
        """
        name, receipt = opened(handle)
        async with self._lock:
            self._open()
            message = self._line.get(name)
            if message is None:
                return
            over = message.receipt != receipt or message.visible <= self._now()
            if self.queue.fifo and over:
                raise InvalidParameterValue(
                    f"Value {handle[:80]} for parameter ReceiptHandle is invalid. Reason: The "
                    "receipt handle has expired."
                )
            await self._drop(message)
        self._wake()

    async def change_visibility(self, handle: str, seconds: int) -> None:
        """Let a received message be seen again in ``seconds`` (0 to 43200) from now.

        Raises:
            ReceiptHandleIsInvalid: The handle is none of ours.
            MessageNotInflight: The message is not being worked on.
        """
        if not 0 <= seconds <= MAX_VISIBILITY:
            raise InvalidParameterValue(
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: "
                "VisibilityTimeout must be an integer between 0 and 43200."
            )
        name, receipt = opened(handle)
        async with self._lock:
            self._open()
            message, now = self._line.get(name), self._now()
            stale = message is not None and self.queue.fifo and message.receipt != receipt
            if message is None or stale or not message.receives or message.visible <= now:
                raise MessageNotInflight(
                    f"Value {handle[:80]} for parameter ReceiptHandle is invalid. Reason: Message "
                    "does not exist or is not available for visibility timeout change."
                )
            changed = replace(message, visible=now + seconds)
            await self._kept.change(self.queue.id, changed)
            self._line.put(changed)
        self._wake()

    async def settle(self, once: str) -> None:
        """Note that the message ``once`` is not sent again."""
        async with self._lock:
            gone = self._gone.get(once)
            if gone is not None:
                await self._kept.remove(self.queue.id, gone)
                del self._gone[once]
            message = self._line.get(once)
            if message is not None and message.once:
                changed = replace(message, once=False)
                await self._kept.change(self.queue.id, changed)
                self._line.put(changed)

    async def purge(self) -> None:
        """Remove every message."""
        async with self._lock:
            for message in self._line:
                await self._drop(message)

    async def clear(self) -> None:
        """Remove all of the queue's messages for good; who waits for one gets an error."""
        self._deleted = True
        self._wake()
        async with self._lock:
            for message in [*self._line, *self._gone.values()]:
                await self._kept.remove(self.queue.id, message)

    def close(self) -> None:
        """Let those who wait for a message go without."""
        self._closed = True
        self._wake()

    def _open(self) -> None:
        if self._deleted:
            raise QueueDoesNotExist(self.queue.name)

    def _wake(self) -> None:
        for changed in self._waiters:
            changed.set()

    async def _before(self, once: str, dedup: str) -> Message | None:
        """Return the message that this one would repeat; None: there is none."""
        found = (self._line.get(once) or self._gone.get(once)) if once else self._dedup.get(dedup)
        if found is None or (not once and found.sent + DEDUP_SECONDS <= self._now()):
            return None
        if found.id in self._gone or await self._kept.content(self.queue.id, found) is not None:
            return found
        return None

    async def _take(self, most: int, visibility: int | None) -> list[Received]:
        seconds = self.queue.number("VisibilityTimeout") if visibility is None else visibility
        now, redrive = self._now(), self.queue.redrive
        taken: dict[str, Received] = {}
        last: Message | None = None
        while len(taken) < most:
            after = None if last is None else self._line.following(last, now)
            message = after or self._line.next(now)
            if message is None or message.id in taken:
                break
            content = await self._kept.content(self.queue.id, message)
            if content is None:
                await self._remove(message)
                continue
            if self._expired(message, now):
                await self._drop(message)
                continue
            spent = redrive is not None and message.receives >= redrive[1]
            if redrive is not None and spent and message.id not in self._spared:
                self._line.put(replace(message, visible=now + _BURIAL_SECONDS))
                self._dead.append((redrive[0], message, content))
                continue
            last = replace(
                message,
                receives=message.receives + 1,
                first=message.first or now,
                visible=now + seconds,
                receipt=uuid.uuid4().hex,
            )
            await self._kept.change(self.queue.id, last)
            self._line.put(last)
            taken[last.id] = Received(last, content, handle_of(last))
        return list(taken.values())

    async def _buried(self, target: str, message: Message, content: Content) -> None:
        """Move a dead letter; while it cannot be moved, it is received like others."""
        moved = await self._burial.bury(target, message, content)
        async with self._lock:
            if moved:
                await self._drop(message)
            elif self._line.get(message.id) is not None:
                self._spared.add(message.id)
                self._line.put(message)
        if moved:
            await self._burial.done(target, message)

    async def _drop(self, message: Message) -> None:
        """Remove a message; keep the memory of one that may be sent again."""
        fresh = message.dedup and message.sent + DEDUP_SECONDS > self._now()
        if message.once or fresh:
            gone = replace(message, gone=True)
            await self._kept.change(self.queue.id, gone)
            await self._kept.empty(self.queue.id, message)
            self._gone[message.id] = gone
            self._line.remove(message.id)
            self._spared.discard(message.id)
        else:
            await self._remove(message)

    async def _remove(self, message: Message) -> None:
        """Remove a message, and the memory of it."""
        await self._kept.remove(self.queue.id, message)
        self._dedup.pop(message.dedup, None)
        self._line.remove(message.id)
        self._spared.discard(message.id)

    def _expired(self, message: Message, now: float) -> bool:
        return message.sent + self.queue.number("MessageRetentionPeriod") <= now

    async def _sweep(self) -> None:
        """Now and then remove what is over the retention period, and memories of no use."""
        now = self._now()
        if now - self._swept < _SWEEP_SECONDS:
            return
        self._swept = now
        for message in self._line:
            if self._expired(message, now):
                await self._drop(message)
        for gone in list(self._gone.values()):
            fresh = gone.once or gone.sent + DEDUP_SECONDS > now
            if self._expired(gone, now) or not fresh:
                await self._kept.remove(self.queue.id, gone)
                del self._gone[gone.id]
        for dedup, message in list(self._dedup.items()):
            if message.sent + DEDUP_SECONDS <= now:
                del self._dedup[dedup]

    def _now(self) -> float:
        return self._clock.unix_ns() / 1e9
