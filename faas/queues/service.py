"""The queues of a place: made, found, changed and deleted; one process owns those of a Store."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from faas.place import Place
from faas.queues.attributes import NAME, Queue, checked
from faas.queues.faults import (
    InvalidAttributeName,
    InvalidParameterValue,
    OverLimit,
    PurgeQueueInProgress,
    QueueDoesNotExist,
    QueueFault,
    QueueNameExists,
)
from faas.queues.held import Burial, Held
from faas.queues.kept import Kept
from faas.queues.message import Attribute, Content, Message, cleaned
from faas.queues.sending import Sending
from wherry.clock import Clock
from wherry.store import Store

_PURGE_SECONDS = 60.0
_MAX_TAGS = 50
_NAMES = {
    True: "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
    False: (
        "The name of a FIFO queue can only include alphanumeric characters, hyphens, or "
        "underscores, must end with .fifo suffix and be 1 to 80 in length."
    ),
}
"""What is said of a wrong name, by whether it is one of a first-in-first-out queue."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of queues there may be.

    Attributes:
        queues: Most queues.
        messages: Most messages in one queue.
        total_bytes: Most bytes in all messages of all queues.
    """

    queues: int = 1000
    messages: int = 100_000
    total_bytes: int = 4 << 30


class Queues:
    """Every queue of a Store; what is full refuses with `OverLimit`.

    Args:
        store: Where queues and messages are kept.
        place: For their ARNs.
        clock: Wall-clock time decides what is visible, old or delayed.
        limits: How much there may be.
    """

    def __init__(self, store: Store, place: Place, clock: Clock, limits: Limits) -> None:
        self._kept = Kept(store)
        self._place = place
        self._clock = clock
        self._limits = limits
        self._held: dict[str, Held] = {}
        self._lock = asyncio.Lock()
        self._stopped = False

    async def open(self) -> None:
        """Find what the Store has; remove what a queue deleted halfway left."""
        left = dict(await self._kept.left())
        for queue in await self._kept.queues():
            self._held[queue.name] = self._hold(queue, left.pop(queue.id, ()))
        for name, messages in left.items():
            for message in messages:
                await self._kept.remove(name, message)

    def stop(self) -> None:
        """Let those who wait for messages go."""
        self._stopped = True
        for held in self._held.values():
            held.close()

    def arn(self, name: str) -> str:
        """Return the ARN of the queue ``name``."""
        return self._place.queue_arn(name)

    def get(self, name: str) -> Held:
        """Return a queue.

        Raises:
            QueueDoesNotExist: There is none of that name.
        """
        held = self._held.get(name)
        if held is None:
            raise QueueDoesNotExist(name)
        return held

    def names(self) -> Sequence[str]:
        """Return the names of all queues, in order."""
        return sorted(self._held)

    async def create(
        self, name: str, attributes: Mapping[str, str], tags: Mapping[str, str]
    ) -> Held:
        """Return a new queue, or the one of that name when it is to have the same attributes.

        Raises:
            QueueNameExists: The one of that name has other attributes.
            QueueFault: The name or an attribute is not as it has to be.
        """
        if not NAME.fullmatch(name):
            raise InvalidParameterValue(_NAMES[True])
        async with self._lock:
            now = self._now()
            found = self._held.get(name)
            if found is not None:
                wanted = checked(attributes, fifo=found.queue.fifo)
                has = found.queue.described()
                different = [key for key, value in wanted.items() if has.get(key, "") != value]
                if different:
                    raise QueueNameExists(
                        "A queue already exists with the same name and a different value for "
                        f"attribute {different[0]}"
                    )
                return found
            if len(self._held) >= self._limits.queues:
                raise OverLimit(f"There are {self._limits.queues} queues already.")
            queue = Queue(name, str(uuid.uuid4()), now, now)
            if attributes.get("FifoQueue") == "false":
                raise InvalidAttributeName("Unknown Attribute FifoQueue.")
            if queue.fifo is not (attributes.get("FifoQueue") == "true"):
                raise InvalidParameterValue(_NAMES[queue.fifo])
            queue = replace(queue.changed(attributes, now=now), tags=_tagged(name, {}, tags))
            self._target(queue)
            await self._kept.put_queue(queue)
            held = self._held[name] = self._hold(queue, ())
            return held

    async def change(self, name: str, attributes: Mapping[str, str]) -> None:
        """Set attributes of a queue.

        Raises:
            QueueFault: There is no such queue, or an attribute is not as it has to be.
        """
        async with self._lock:
            held = self.get(name)
            queue = held.queue.changed(attributes, now=self._now())
            self._target(queue)
            await self._kept.put_queue(queue)
            held.queue = queue

    async def tag(self, name: str, tags: Mapping[str, str], untag: Sequence[str] = ()) -> None:
        """Set tags of a queue, and take some off.

        Raises:
            QueueFault: There is no such queue, or there would be too many tags.
        """
        async with self._lock:
            held = self.get(name)
            kept = {key: value for key, value in held.queue.tags.items() if key not in untag}
            queue = replace(held.queue, tags=_tagged(name, kept, tags))
            await self._kept.put_queue(queue)
            held.queue = queue

    async def delete(self, name: str) -> None:
        """Remove a queue with all that is in it.

        Raises:
            QueueDoesNotExist: There is none of that name.
        """
        async with self._lock:
            held = self.get(name)
            await self._kept.delete_queue(held.queue)
            del self._held[name]
        await held.clear()

    async def purge(self, name: str) -> None:
        """Remove every message of a queue.

        Raises:
            QueueDoesNotExist: There is none of that name.
            PurgeQueueInProgress: It was purged within the last minute.
        """
        async with self._lock:
            held, now = self.get(name), self._now()
            if now - held.queue.purged < _PURGE_SECONDS:
                raise PurgeQueueInProgress(
                    f"Only one PurgeQueue operation on {name} is allowed every 60 seconds."
                )
            queue = replace(held.queue, purged=now)
            await self._kept.put_queue(queue)
            held.queue = queue
        await held.purge()

    async def send(self, name: str, sending: Sending) -> Message:
        """Return when a message is durably in a queue.

        Raises:
            QueueFault: There is no such queue, or the message is not as it has to be.
        """
        self._room(sending.content.size)
        return await self.get(name).send(sending)

    async def post(
        self, queue: str, body: str, attributes: Mapping[str, tuple[str, str]], *, once: str
    ) -> bool:
        """See `faas.events.targets.Outbox.post`."""
        held = self._held.get(queue)
        if held is None:
            return False
        named = {name: Attribute(kind, cleaned(text)) for name, (kind, text) in attributes.items()}
        try:
            await held.send(Sending(Content(cleaned(body) or "null", named)), once=once)
        except QueueDoesNotExist:
            return False
        return True

    async def settle(self, queue: str, once: str) -> None:
        """See `faas.events.targets.Outbox.settle`."""
        held = self._held.get(queue)
        if held is not None:
            await held.settle(once)

    def sources(self, name: str) -> Sequence[str]:
        """Return the names of the queues whose dead letters go to the queue ``name``.

        Raises:
            QueueDoesNotExist: There is none of that name.
        """
        self.get(name)
        return [each for each in self.names() if (self._redrive(each) or ("",))[0] == name]

    def _redrive(self, name: str) -> tuple[str, int] | None:
        return self._held[name].queue.redrive

    def _hold(self, queue: Queue, messages: Sequence[Message]) -> Held:
        async def bury(target: str, message: Message, content: Content) -> bool:
            return await self._buried(queue.name, target, message, content)

        async def buried(target: str, message: Message) -> None:
            await self.settle(target, message.id)

        return Held(
            queue,
            messages,
            self._kept,
            clock=self._clock,
            burial=Burial(bury, buried),
            most=self._limits.messages,
        )

    async def _buried(self, source: str, target: str, message: Message, content: Content) -> bool:
        """Put a dead letter into its queue; False when it has to stay where it is."""
        held = self._held.get(target)
        if held is None or target == source:
            return False
        dead = Sending(content, group=message.group, dedup=message.dedup)
        try:
            await held.send(dead, once=message.id, source=self.arn(source))
        except QueueFault:
            return False
        return True

    def _target(self, queue: Queue) -> None:
        """Check where a queue's dead letters go."""
        redrive = queue.redrive
        if redrive is None:
            return
        target = self._held.get(redrive[0])
        if target is None or target.queue.fifo != queue.fifo or redrive[0] == queue.name:
            raise InvalidParameterValue(
                f"Value {queue.attributes['RedrivePolicy']} for parameter RedrivePolicy is "
                "invalid. Reason: Dead letter target does not exist or is of another type."
            )

    def _room(self, size: int) -> None:
        if sum(held.size for held in self._held.values()) + size > self._limits.total_bytes:
            raise OverLimit(f"The queues hold {self._limits.total_bytes} bytes; receive some.")

    def _now(self) -> float:
        return self._clock.unix_ns() / 1e9


def _tagged(name: str, has: Mapping[str, str], tags: Mapping[str, str]) -> Mapping[str, str]:
    merged = {**has, **tags}
    if len(merged) > _MAX_TAGS:
        raise InvalidParameterValue(f"Too many tags added for queue {name}.")
    return merged
