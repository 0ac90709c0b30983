"""The catalogue as one: what files declare, and what the Store holds beside them."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from wherry.clock import Clock, SystemClock
from wherry.config import assemble, contents
from wherry.config.memory import Memory
from wherry.config.stored import (
    FOLDER,
    KINDS,
    MAX_STORED,
    Absent,
    Change,
    Declared,
    Doc,
    Held,
    Id,
    encoded,
    identified,
    key,
    path,
)
from wherry.errors import ConfigError, Problem
from wherry.model.world import World
from wherry.resources.commit import COMMIT, document_of, overlaid
from wherry.resources.seen import Seen
from wherry.resources.writer import Changes, Writer
from wherry.store import Conflict, Store

MAX_CHANGES = 10_000
"""Most resources that one write changes."""

Check = Callable[[World], None]
"""Raises `ConfigError` for a World that by itself is good, but that a service cannot use."""


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
        self._writer = Writer(store, clock or SystemClock(), self._look)
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

        def wanted(seen: Seen) -> Changes:
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

        def wanted(seen: Seen) -> Changes:
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

        def wanted(seen: Seen) -> Changes:
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

    async def _look(self, prefix: str = FOLDER) -> Seen:
        view = dict(await self._store.list(prefix))
        if prefix != FOLDER and (commit := await self._store.get(COMMIT)):
            view[COMMIT] = commit
        newest, records = overlaid(view)
        files, declared = await asyncio.to_thread(self._declared)
        return Seen(newest, records, files, declared)

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
        self, wanted: Callable[[Seen], Changes], actor: str, *, dry_run: bool = False
    ) -> Changes:
        async def planned(seen: Seen) -> Changes:
            return await self._planned(seen, wanted)

        if dry_run:
            return await planned(await self._look())
        return await self._writer.write(planned, actor)

    async def _planned(self, seen: Seen, wanted: Callable[[Seen], Changes]) -> Changes:
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

    def _would_be(self, seen: Seen, changes: Iterable[Change]) -> World:
        texts = {**seen.files, **seen.texts()}
        for change in changes:
            place = path((change.kind, change.name))
            if change.after is None:
                texts.pop(place, None)
            else:
                texts[place] = encoded(change.after)
        return self._checked(texts)


def _changed(seen: Seen, of: Id, document: Doc | None, expect: int | None) -> Change:
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
