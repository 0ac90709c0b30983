"""Events in the Store: their state, their payload and, once they ended, their record.

``event/ID`` is written first and removed last; an event is accepted once ``event-payload/ID`` is
there, and over once that is gone. What is left of either after a kill can be told by that alone.
"""

from pydantic import TypeAdapter

from faas.events.event import SCHEDULE, Event, Phase, Progress
from wherry.store import Conflict, Store

_STATE, _PAYLOAD, _RECORD = "event/", "event-payload/", "event-record/"
_KIND = TypeAdapter(Progress)


class Kept:
    """The events of one Store; each is changed by one task at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def add(self, progress: Progress, event: Event) -> bool:
        """Keep an event durably; return False when one of that id is kept already."""
        try:
            await self._put(progress, expect=0)
        except Conflict:
            return False
        await self._store.put(_PAYLOAD + progress.id, event.payload)
        return True

    async def change(self, progress: Progress) -> None:
        """Write how far an event has come."""
        await self._put(progress)

    async def end(self, progress: Progress, record: bytes) -> None:
        """Write that an event ended, with its record."""
        await self._store.put(_RECORD + progress.id, record)
        await self._put(progress)

    async def payload(self, event: str) -> bytes | None:
        """Return an event's payload; None: it was never accepted, or is over."""
        found = await self._store.get(_PAYLOAD + event)
        return None if found is None else found.body

    async def record(self, event: str) -> bytes:
        """Return the record of an event that ended."""
        found = await self._store.get(_RECORD + event)
        return b"" if found is None else found.body

    async def has(self, event: str) -> bool:
        """Return whether anything is known of an event."""
        return await self._store.get(_STATE + event) is not None

    async def remove(self, event: str) -> None:
        """Forget an event; its end counts once its payload is gone."""
        await self._store.delete(_PAYLOAD + event)
        await self._store.delete(_RECORD + event)
        await self._store.delete(_STATE + event)

    async def rest(self, progress: Progress) -> None:
        """Forget all of an event but that it was, so that its parent cannot repeat it."""
        await self._put(progress)
        await self._store.delete(_PAYLOAD + progress.id)
        await self._store.delete(_RECORD + progress.id)

    async def left(self) -> list[Progress]:
        """Return what an earlier process left to do, oldest first, and remove what is over."""
        view = await self._store.list(_STATE)
        found = {event.id: event for event in (_KIND.validate_json(r.body) for r in view.values())}
        for event in found.values():
            if event.phase is Phase.DONE:
                if event.parent in found or event.parent == SCHEDULE:
                    continue
                await self.remove(event.id)
            elif await self._store.get(_PAYLOAD + event.id) is None:
                await self.remove(event.id)
            else:
                continue
            found = {key: value for key, value in found.items() if key != event.id}
        return sorted(found.values(), key=lambda event: event.accepted)

    async def _put(self, progress: Progress, *, expect: int | None = None) -> None:
        await self._store.put(_STATE + progress.id, _KIND.dump_json(progress), expect=expect)
