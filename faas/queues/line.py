"""The order in which a queue's messages are received. Pure: the time is an argument."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator

from faas.queues.message import Message


class Line:
    """The messages of one queue; whoever takes some puts back what becomes of them.

    A standard queue gives what has been visible longest. A first-in-first-out queue gives each
    group in order, and nothing of a group whose first message is being worked on.
    """

    def __init__(self, messages: Iterable[Message] = (), *, fifo: bool = False) -> None:
        self._fifo = fifo
        self._messages: dict[str, Message] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._groups: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self.size = 0
        for message in sorted(messages, key=lambda each: each.sequence):
            self.put(message)

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(list(self._messages.values()))

    def get(self, message: str) -> Message | None:
        """Return a message; None when it is not here."""
        return self._messages.get(message)

    def put(self, message: Message) -> None:
        """Add a message, or put it in the place of what it was."""
        before = self._messages.get(message.id)
        self.size += message.size - (0 if before is None else before.size)
        self._messages[message.id] = message
        if self._fifo:
            self._groups[message.group][message.id] = None
        else:
            heapq.heappush(self._heap, (message.visible, message.sequence, message.id))

    def remove(self, message: str) -> None:
        """Take a message out."""
        found = self._messages.pop(message, None)
        if found is None:
            return
        self.size -= found.size
        if self._fifo:
            del self._groups[found.group][message]
            if not self._groups[found.group]:
                del self._groups[found.group]

    def next(self, now: float) -> Message | None:
        """Return the message to be received at ``now`` (Unix seconds); None: there is none.

        It stays until it is put anew or removed.
        """
        if self._fifo:
            heads = (self._messages[next(iter(group))] for group in self._groups.values())
            ready = [head for head in heads if head.visible <= now]
            return min(ready, key=lambda head: head.sequence, default=None)
        self._tidy()
        if self._heap and self._heap[0][0] <= now:
            return self._messages[self._heap[0][2]]
        return None

    def following(self, message: Message, now: float) -> Message | None:
        """Return the next of a group after ``message`` was taken; None: there is none."""
        order = iter(self._groups.get(message.group, ()))
        for each in order:
            if each == message.id:
                after = next(order, None)
                found = None if after is None else self._messages[after]
                return found if found is not None and found.visible <= now else None
        return None

    def due(self) -> float | None:
        """Return the Unix seconds when a message can be received next; None: there is none."""
        if self._fifo:
            heads = (self._messages[next(iter(group))] for group in self._groups.values())
            return min((head.visible for head in heads), default=None)
        self._tidy()
        return self._heap[0][0] if self._heap else None

    def counts(self, now: float) -> tuple[int, int, int]:
        """Return how many messages are visible, being worked on and delayed at ``now``."""
        visible = flying = delayed = 0
        for message in self._messages.values():
            if message.visible <= now:
                visible += 1
            elif message.receives:
                flying += 1
            else:
                delayed += 1
        return visible, flying, delayed

    def _tidy(self) -> None:
        """Drop entries of messages that went or moved."""
        while self._heap:
            visible, _, name = self._heap[0]
            found = self._messages.get(name)
            if found is not None and found.visible == visible:
                return
            heapq.heappop(self._heap)
