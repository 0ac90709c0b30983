"""Writes of many resources, each as a whole even if the writer dies on the way.

One record decides; what it says is carried out after it, by the writer or by the next one.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from wherry import audit
from wherry.clock import Clock
from wherry.config.stored import FOLDER, Busy, Change, Id, encoded, id_of, key
from wherry.resources.commit import COMMIT, Commit
from wherry.resources.seen import Seen
from wherry.store import Conflict, LeaseLost, Record, Store

_LEASE = "resources"
_LEASE_SECONDS = 5.0
_PATIENCE = 8.0
_AGAIN = 0.02
_ATTEMPTS = 20

Changes = list[Change]


class Writer:
    """Carries changes out, one writer of all processes at a time.

    Args:
        store: Holds the resources.
        clock: Where the time of a change is read.
        look: Looks at everything.
    """

    def __init__(self, store: Store, clock: Clock, look: Callable[[], Awaitable[Seen]]) -> None:
        self._store, self._clock, self._look = store, clock, look
        self._turn = asyncio.Lock()

    async def write(self, planned: Callable[[Seen], Awaitable[Changes]], actor: str) -> Changes:
        """Do what is ``planned`` from a look, and from another if somebody else was first.

        Args:
            planned: Returns what is to be done, or raises.
            actor: Who does it, for the audit log.

        Raises:
            Busy: Others write.
        """
        async with self._turn, self._alone():
            for _ in range(_ATTEMPTS):
                seen = await self._finished()
                changes = await planned(seen)
                try:
                    return await self._committed(seen, changes, actor)
                except Conflict as error:
                    if error.key != COMMIT:
                        raise
        raise Busy

    async def _committed(self, seen: Seen, changes: Changes, actor: str) -> Changes:
        """Write what is planned; return it with its revisions.

        Raises:
            Conflict: Another writer came before; nothing was written.
        """
        real = tuple(change for change in changes if change.verb != "keep")
        if not real:
            return changes
        commit = Commit(0, secrets.token_hex(8), actor, self._clock.unix_ns(), real)
        record = await self._store.put(COMMIT, commit.encode(), expect=seen.commit.revision)
        written: Mapping[Id, int] = {}
        with suppress(Conflict):  # we were slow, and the next writer carries it out, too
            written = await self._carry_out(replace(commit, revision=record.revision), seen.records)
        return [replace(c, revision=written.get((c.kind, c.name), c.revision)) for c in changes]

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None]:
        """Be the only writer of all processes.

        Raises:
            Busy: Another one is, for too long.
        """
        holder = secrets.token_hex(8)
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    try:
                        lease = await self._store.lease(_LEASE, holder, seconds=_LEASE_SECONDS)
                    except LeaseLost:
                        await asyncio.sleep(_AGAIN)
                        continue
                    break
        except TimeoutError:
            raise Busy from None
        try:
            yield
        finally:
            await self._store.release(lease)

    async def _finished(self) -> Seen:
        """Finish what another writer began and did not end; return what stands then.

        Raises:
            Busy: Others begin anew each time.
        """
        for _ in range(_ATTEMPTS):
            seen = await self._look()
            if not seen.commit.changes:
                return seen
            view = await self._store.list(FOLDER)
            records = {of: record for each, record in view.items() if (of := id_of(each))}
            with suppress(Conflict):
                await self._carry_out(seen.commit, records)
        raise Busy

    async def _carry_out(self, commit: Commit, records: Mapping[Id, Record]) -> Mapping[Id, int]:
        """Write what ``commit`` says to its records, note it, and mark it as done.

        Args:
            commit: What was decided.
            records: As they stood when it was decided, or later.

        Raises:
            Conflict: Another one does the same, and was faster.
        """
        revisions = {}
        for change in commit.changes:
            of = (change.kind, change.name)
            before = records.get(of)
            expect = 0 if before is None else before.revision
            if change.after is None:
                await self._store.delete(key(of), expect=expect)
                revisions[of] = 0
                continue
            body = encoded(change.after).encode()
            if before is None or before.body != body:
                before = await self._store.put(key(of), body, expect=expect)
            revisions[of] = before.revision
        await audit.wrote(self._store, commit.entries())
        done = replace(commit, changes=())
        await self._store.put(COMMIT, done.encode(), expect=commit.revision)
        return revisions
