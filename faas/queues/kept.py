"""Queues and messages in the Store: a message's state apart from its content, which is long."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter

from faas.queues.attributes import PREFIX, Queue
from faas.queues.message import Content, Message
from faas.records import Records
from wherry.store import MAX_BODY, Store

_MESSAGE, _CONTENT = "queue-message/", "queue-content/"
_CONTENTS = TypeAdapter(Content)


class Kept:
    """What queues keep in a Store.

    A message's state, ``queue-message/QUEUE/ID``, is written before its content and removed after
    it: one whose content is not whole was never sent, or is gone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queues = Records(store, PREFIX, Queue)
        self._messages = Records(store, _MESSAGE, Message)

    async def queues(self) -> Sequence[Queue]:
        """Return every queue, by name."""
        return list((await self._queues.under()).values())

    async def put_queue(self, queue: Queue) -> None:
        """Write a queue."""
        await self._queues.put(queue.name, queue)

    async def delete_queue(self, queue: Queue) -> None:
        """Remove a queue; its messages are removed apart."""
        await self._queues.delete(queue.name)

    async def left(self) -> Mapping[str, Sequence[Message]]:
        """Return the state of every message of every queue, by the queue's id."""
        found: defaultdict[str, list[Message]] = defaultdict(list)
        for key, message in (await self._messages.under()).items():
            found[key.partition("/")[0]].append(message)
        return found

    async def add(self, queue: str, message: Message, pieces: Sequence[bytes]) -> None:
        """Write a message with its content."""
        await self.change(queue, message)
        for number, piece in enumerate(pieces):
            await self._store.put(f"{_CONTENT}{queue}/{message.id}/{number}", piece)

    async def change(self, queue: str, message: Message) -> None:
        """Write a message's state."""
        await self._messages.put(f"{queue}/{message.id}", message)

    async def content(self, queue: str, message: Message) -> Content | None:
        """Return what is in a message; None when it is not whole."""
        pieces = []
        for number in range(message.pieces):
            found = await self._store.get(f"{_CONTENT}{queue}/{message.id}/{number}")
            if found is None:
                return None
            pieces.append(found.body)
        return _CONTENTS.validate_json(b"".join(pieces))

    async def remove(self, queue: str, message: Message) -> None:
        """Remove a message."""
        await self.empty(queue, message)
        await self._messages.delete(f"{queue}/{message.id}")

    async def empty(self, queue: str, message: Message) -> None:
        """Remove a message's content."""
        for number in range(message.pieces):
            await self._store.delete(f"{_CONTENT}{queue}/{message.id}/{number}")


def pieces_of(content: Content) -> Sequence[bytes]:
    """Return a content as records can hold it."""
    body = _CONTENTS.dump_json(content)
    return [body[start : start + MAX_BODY] for start in range(0, len(body), MAX_BODY)]
