"""The catalogue as one: what files declare, and what the Store holds beside them."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from wherry import audit
from wherry.clock import Clock, SystemClock
from wherry.config import assemble, contents
from wherry.config.memory import Memory
from wherry.config.stored import (
    FOLDER,
    KINDS,
    MAX_STORED,
    Absent,
    Busy,
    Change,
    Declared,
    Doc,
    Held,
    Id,
    encoded,
    id_of,
    identified,
    key,
    path,
)
from wherry.errors import ConfigError, Problem
from wherry.model.world import World
from wherry.resources.commit import COMMIT, Commit, document_of, overlaid, text_of
from wherry.store import Conflict, LeaseLost, Record, Store

MAX_CHANGES = 10_000
"""Most resources that one write changes."""

_LEASE = "resources"
_LEASE_SECONDS = 5.0
_PATIENCE = 8.0
_AGAIN = 0.02
_ATTEMPTS = 20

Changes = list[Change]

Check = Callable[[World], None]
"""Raises `ConfigError` for a World that by itself is good, but that a service cannot use."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """One look at everything."""

    commit: Commit
    records: Mapping[Id, Record]
    files: Mapping[Path, str]
    declared: Mapping[Id, Held]

    def texts(self) -> dict[Path, str]:
        return {path(of): text_of(record) for of, record in self.records.items()}

    def held(self, of: Id) -> Held | None:
        if of in self.declared:
            return self.declared[of]
        record = self.records.get(of)
        if record is None:
            return None
        return Held(*of, record.revision, document_of(record))


class Resources:
    """Reads and writes the catalogue.

    Every write is checked by assembling the World that would be, takes effect as a whole even if
    the writer dies on the way, and is noted in the log `wherry.audit` once.

    Args:
        store: Holds what no file declares.
        source: File or folder of files; None: there are none.
        check: What services say of a World; see `Check`.
        clock: Where the time of a change is read.
    """

    def __init__(
        self,
        store: Store,
        source: Path | None,
        *,
        check: Check | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store, self._source, self._check = store, source, check
        self._clock = clock or SystemClock()
        self._turn = asyncio.Lock()
        self._memory = Memory()
        self._files: tuple[Mapping[Path, str], Mapping[Id, Held]] | None = None

    async def world(self) -> World:
        """Return the World of files and Store together.

        Raises:
            ConfigError: It is wrong.
        """
        return await asyncio.to_thread(self._would_be, await self._look(), ())

    async def get(self, kind: str, name: str) -> Held | None:
        """Return a resource, or None when there is none."""
        return (await self._look(key((kind, name)))).held((kind, name))

    async def list(self, kind: str, *, after: str = "", limit: int | None = None) -> Sequence[Held]:
        """Return resources of a kind, by name.

        Args:
            kind: One of `KINDS`.
            after: Only those whose name comes after this.
            limit: At most so many; None is all.
        """
        seen = await self._look(f"{FOLDER}{kind}/")
        names = {of[1] for of in (*seen.declared, *seen.records) if of[0] == kind}
        shown = sorted(name for name in names if name > after)[:limit]
        return [held for name in shown if (held := seen.held((kind, name)))]

    async def put(self, document: Doc, *, expect: int | None = None, actor: str) -> Change:
        """Write one resource.

        Args:
            document: The whole of it.
            expect: Revision that it must have now; 0: it must not exist; None: whatever it is.
            actor: Who does it, for the audit log.

        Raises:
            ConfigError: The document, or the World with it, is wrong; each problem has its place.
            Declared: A file has the same kind and name.
            Conflict: It has another revision.
            Busy: Others write.
        """
        of = await asyncio.to_thread(identified, document)

        def wanted(seen: _Seen) -> Changes:
            return [_changed(seen, of, document, expect)]

        [change] = await self._write(wanted, actor)
        return change

    async def delete(
        self, kind: str, name: str, *, expect: int | None = None, actor: str
    ) -> Change:
        """Remove one resource; see `put`.

        Raises:
            Absent: There is none.
            ConfigError: Others refer to it.
        """
        of = (kind, name)

        def wanted(seen: _Seen) -> Changes:
            if seen.held(of) is None:
                raise Absent(of)
            return [_changed(seen, of, None, expect)]

        [change] = await self._write(wanted, actor)
        return change

    async def apply(
        self,
        documents: Sequence[Doc],
        *,
        prune: bool = False,
        dry_run: bool = False,
        actor: str,
    ) -> Sequence[Change]:
        """Write many resources, all or none.

        Args:
            documents: Each the whole of one resource, each resource once.
            prune: Whether stored resources that are not among them are removed.
            dry_run: Whether to check and tell all, and write nothing.
            actor: Who does it, for the audit log.

        Returns:
            A change for each document in their order, then the removals; `Change.verb` is
            ``keep`` where nothing changes.

        Raises:
            ConfigError: A document, or the World with all of them, is wrong.
            Declared: A file has the same kind and name as one of them.
            Busy: Others write.
        """
        ids = await asyncio.to_thread(_identified, documents)

        def wanted(seen: _Seen) -> Changes:
            changes = [
                _changed(seen, of, document, None)
                for of, document in zip(ids, documents, strict=True)
            ]
            if prune:
                gone = sorted(seen.records.keys() - set(ids))
                changes += [Change(*of, document_of(seen.records[of]), None) for of in gone]
            return changes

        return await self._write(wanted, actor, dry_run=dry_run)

    def _checked(self, texts: Mapping[Path, str]) -> World:
        world = assemble(texts)
        if self._check is not None:
            self._check(world)
        return world

    async def _look(self, prefix: str = FOLDER) -> _Seen:
        view = dict(await self._store.list(prefix))
        if prefix != FOLDER and (commit := await self._store.get(COMMIT)):
            view[COMMIT] = commit
        newest, records = overlaid(view)
        files, declared = await asyncio.to_thread(self._declared)
        return _Seen(newest, records, files, declared)

    def _declared(self) -> tuple[Mapping[Path, str], Mapping[Id, Held]]:
        """Return the files, and what they declare of `KINDS`; what is wrong in them is left out."""
        files = {} if self._source is None else contents(self._source)
        if self._files is None or self._files[0] != files:
            read, _ = self._memory.read(files)
            found = {}
            for resource, document, _ in read:
                kind = type(resource).__name__
                if kind in KINDS and isinstance(document.data, dict):
                    origin = f"{document.file}:{document.line}"
                    found[kind, resource.name] = Held(kind, resource.name, 0, document.data, origin)
            self._files = (files, found)
        return self._files

    async def _write(
        self,
        wanted: Callable[[_Seen], Changes],
        actor: str,
        *,
        dry_run: bool = False,
    ) -> Changes:
        if dry_run:
            return await self._planned(await self._look(), wanted)
        async with self._turn, self._alone():
            for _ in range(_ATTEMPTS):
                seen = await self._finished()
                changes = await self._planned(seen, wanted)
                try:
                    return await self._committed(seen, changes, actor)
                except Conflict as error:
                    if error.key != COMMIT:
                        raise
        raise Busy

    async def _committed(self, seen: _Seen, changes: Changes, actor: str) -> Changes:
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

    async def _planned(self, seen: _Seen, wanted: Callable[[_Seen], Changes]) -> Changes:
        """Return what is to be done, if the World would be good."""
        changes = wanted(seen)
        resources = len(seen.records) + len(changes)
        if resources > MAX_STORED or len(changes) > MAX_CHANGES:
            found = f"{len(changes)} changes, {resources} resources"
            expected = f"at most {MAX_CHANGES} changes and {MAX_STORED} resources"
            raise ConfigError([Problem("store:", 1, found, expected)])
        if any(change.verb != "keep" for change in changes):
            await asyncio.to_thread(self._would_be, seen, changes)
        return changes

    def _would_be(self, seen: _Seen, changes: Iterable[Change]) -> World:
        texts = {**seen.files, **seen.texts()}
        for change in changes:
            place = path((change.kind, change.name))
            if change.after is None:
                texts.pop(place, None)
            else:
                texts[place] = encoded(change.after)
        return self._checked(texts)

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

    async def _finished(self) -> _Seen:
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


def _changed(seen: _Seen, of: Id, document: Doc | None, expect: int | None) -> Change:
    held = seen.held(of)
    if held is not None and held.origin is not None:
        raise Declared(of, held.origin)
    revision = held.revision if held else 0
    if expect is not None and expect != revision:
        raise Conflict(key(of), expect, revision)
    return Change(*of, held.document if held else None, document, revision)


def _identified(documents: Iterable[Doc]) -> list[Id]:
    ids: list[Id] = []
    known: set[Id] = set()
    problems: list[Problem] = []
    for document in documents:
        try:
            of = identified(document)
        except ConfigError as error:
            problems += error.problems
            continue
        if of in known:
            found = f"{of[0]} {of[1]!r} a second time"
            problems.append(Problem(f"{path(of)}#", 1, found, "each name once per kind"))
        known.add(of)
        ids.append(of)
    if problems:
        raise ConfigError(problems)
    return ids
