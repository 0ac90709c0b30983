"""Which functions there are: `LATEST`, published versions, aliases, and their packages on disk."""

import asyncio
import random
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faas.code.package import Package, root_of, sweep, unpacked
from faas.functions.aliases import STALE, Aliases
from faas.functions.belongings import Belongings
from faas.functions.sealed import PREFIX, VERSIONS, SealedFunctions
from faas.functions.states import check_settled, settled
from faas.lambda_errors import (
    InvalidParameter,
    KmsRefused,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from faas.model import layer, moment
from faas.model.alias import Alias
from faas.model.function import LATEST, Function, Reference, State, Update
from faas.place import Place
from faas.vault import Vault
from wherry.clock import Clock
from wherry.store import Conflict, Store

_DICE = random.SystemRandom()
_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference names.

    Attributes:
        function: The version that serves.
        alias: The alias that led there; None: none did.
    """

    function: Function
    alias: Alias | None = None


class Registry:
    """The functions in a Store; every change is one optimistic write.

    Args:
        store: Where they are kept.
        code_dir: Where packages are unpacked.
        place: For ARNs.
        clock: For the time of changes.
        vault: Seals variables; None: with the key ``vault.key`` beside ``code_dir``.
    """

    def __init__(
        self, store: Store, code_dir: Path, place: Place, clock: Clock, vault: Vault | None = None
    ) -> None:
        self._store = store
        self._code_dir = code_dir
        self._clock = clock
        self._functions = SealedFunctions(store, vault or Vault.open(code_dir.parent / "vault.key"))
        self._belongings = Belongings(store)
        self._changing = asyncio.Lock()
        self.place = place
        self.aliases = Aliases(store, place, self.get)

    @property
    def code_dir(self) -> Path:
        """Where packages are unpacked."""
        return self._code_dir

    @property
    def store(self) -> Store:
        """Where functions and what belongs to them are kept."""
        return self._store

    def root(self, function: Function) -> Path:
        """Return the directory of the function's unpacked code."""
        return root_of(self._code_dir, function.digest)

    async def unpack(self, body: bytes) -> Package:
        """Verify and unpack a zip.

        Raises:
            InvalidParameter: See `faas.code.package.unpacked`.
        """
        return await asyncio.to_thread(unpacked, body, self._code_dir)

    async def create(
        self, name: str, settings: dict[str, Any], *, pending: bool = True
    ) -> Function:
        """Add a function.

        Args:
            name: 1 to 64 of ``A-Za-z0-9-_``.
            settings: Further fields of `Function`; at least ``runtime``, ``handler``, ``digest``
                and ``code_size``.
            pending: Whether it is still to be made ready; otherwise it is active at once.

        Raises:
            ResourceConflict: There is a function of that name.
        """
        function = Function(
            name=name,
            arn=self.place.arn(name),
            modified=moment.milliseconds(self._clock.unix_ns()),
            revision=str(uuid.uuid4()),
            state=State.PENDING if pending else State.ACTIVE,
            **settings,
        )
        async with self._changing:
            if await self._functions.at(name) is None:
                await self._clear(name)
            try:
                await self._functions.put(function, expect=0)
            except Conflict:
                raise ResourceConflict(f"Function already exist: {name}") from None
        return function

    async def find(self, name: str) -> Function | None:
        """Return a function's `LATEST`, or None when there is none of that name."""
        found = await self._functions.at(name)
        return None if found is None else found[0]

    async def get(self, reference: Reference) -> Function:
        """Return a function, a version, or what an alias mainly points at.

        Raises:
            ResourceNotFound: There is none of that name and qualifier.
        """
        return (await self.resolve(reference, draw=1.0)).function

    async def resolve(self, reference: Reference, *, draw: float | None = None) -> Resolved:
        """Return what ``reference`` names.

        Args:
            reference: `LATEST`, a version's number or an alias.
            draw: 0 to 1, decides between an alias's versions, 1 for the main one; None: drawn.

        Raises:
            ResourceNotFound: There is none of that name and qualifier.
        """
        name, qualifier, alias = reference.name, reference.qualifier, None
        if not (qualifier == LATEST or qualifier.isdecimal()):
            alias = await self.aliases.find(name, qualifier)
            if alias is None:
                raise self._missing(reference)
            qualifier = alias.chosen(_DICE.random() if draw is None else draw)
        if qualifier == LATEST:
            found = await self.find(name)
        else:
            found = await self._functions.version(name, qualifier)
        if found is None:
            raise self._missing(reference)
        return Resolved(found, alias)

    async def list(self) -> Sequence[Function]:
        """Return every function's `LATEST`, by name."""
        return await self._functions.latest()

    async def versions(self, name: str) -> Sequence[Function]:
        """Return a function's `LATEST`, then its published versions, oldest first.

        Raises:
            ResourceNotFound: There is no such function.
        """
        latest = await self.get(Reference(name))
        return [latest, *await self._functions.versions(name)]

    async def every(self) -> Sequence[Function]:
        """Return every version of every function, by name, `LATEST` before the numbered ones."""
        found = [*await self._functions.latest(), *await self._functions.versions()]
        return sorted(found, key=lambda each: each.name)

    async def update(
        self,
        reference: Reference,
        changes: dict[str, Any],
        *,
        revision: str | None = None,
        pending: bool = True,
    ) -> Function:
        """Change fields of a function's `LATEST`.

        Args:
            reference: The function.
            changes: Fields of `Function`.
            revision: What the function's revision has to be; None: whatever it is.
            pending: Whether the change is still to be made ready: the update is in progress
                until `settle`.

        Raises:
            ResourceNotFound: There is no such function.
            PreconditionFailed: It is not at ``revision``.
            ResourceConflict: It is being created or updated.
        """
        while True:
            found, at = await self._read(reference.name)
            if revision and revision != found.revision:
                raise PreconditionFailed(STALE)
            check_settled(found)
            changed = replace(
                found,
                **changes,
                modified=moment.milliseconds(self._clock.unix_ns()),
                revision=str(uuid.uuid4()),
                update=Update.IN_PROGRESS,
            )
            if not pending:
                changed = settled(changed)
            if "environment" in changes:
                changed = replace(changed, sealed="")
            elif found.sealed and changed.kms_key != found.kms_key:
                raise KmsRefused(found.qualified_arn)
            try:
                await self._functions.put(changed, expect=at)
            except Conflict:
                continue
            return changed

    async def retag(self, name: str, tags: dict[str, str]) -> None:
        """Replace a function's tags; nothing else of it changes.

        Raises:
            ResourceNotFound: There is no such function.
        """
        while True:
            found, at = await self._read(name)
            try:
                await self._functions.put(replace(found, tags=tags), expect=at)
            except Conflict:
                continue
            return

    async def publish(
        self,
        name: str,
        *,
        description: str | None = None,
        code_sha256: str | None = None,
        revision: str | None = None,
        pending: bool = True,
        updating: bool = False,
    ) -> tuple[Function, bool]:
        """Make a version of what `LATEST` is; one that did not change since keeps its version.

        Args:
            name: The function.
            description: Of the version; None: the function's.
            code_sha256: What ``CodeSha256`` has to be; None: whatever it is.
            revision: What the function's revision has to be; None: whatever it is.
            pending: Whether the version is still to be made ready.
            updating: Whether `LATEST` may be in creation or in an update.

        Returns:
            The version, and whether it is a new one.

        Raises:
            ResourceNotFound: There is no such function.
            PreconditionFailed: It is not at ``revision``.
            ResourceConflict: It is being created or updated.
            InvalidParameter: Its code is other than ``code_sha256``.
        """
        async with self._changing:
            while True:
                found, at = await self._read(name)
                if revision and revision != found.revision:
                    raise PreconditionFailed(STALE)
                current = found.code_sha256
                if code_sha256 and code_sha256 != current:
                    raise InvalidParameter(
                        f"CodeSHA256 ({code_sha256}) is different from current CodeSHA256 in "
                        f"{LATEST} ({current}). Please try again with the CodeSHA256 in {LATEST}."
                    )
                if not updating:
                    check_settled(found)
                if found.published:
                    newest = await self._functions.version(name, str(found.published))
                    if newest is not None and newest.origin == found.revision:
                        return newest, False
                number = found.published + 1
                try:
                    await self._functions.put(replace(found, published=number), expect=at)
                except Conflict:
                    continue
                version = replace(
                    found,
                    version=str(number),
                    revision=str(uuid.uuid4()),
                    description=found.description if description is None else description,
                    tags={},
                    published=0,
                    origin=found.revision,
                    state=State.PENDING if pending else State.ACTIVE,
                    update=Update.SUCCESSFUL,
                    reason="",
                    reason_code="",
                )
                await self._functions.put(version)
                return version, True

    async def settle(self, function: Function, *, failure: str = "", code: str = "") -> None:
        """Record that ``function`` was made ready or, with ``failure``, why it was not.

        A function that changed or went meanwhile is left alone.
        """
        while True:
            found = await self._functions.current(function)
            if found is None or found[0].revision != function.revision:
                return
            try:
                await self._functions.put(settled(found[0], failure, code), expect=found[1])
            except Conflict:
                continue
            return

    async def delete(self, reference: Reference) -> None:
        """Remove a function with all that belongs to it, or one version of it.

        Its code goes later, see `Sweeper`. Event source mappings stay, as in Lambda.

        Raises:
            ResourceNotFound: There is no such function.
            ResourceConflict: An alias points at the version.
            InvalidParameter: The qualifier names no published version.
        """
        name, number = reference.name, reference.qualifier
        if reference.qualified and number == LATEST:
            raise InvalidParameter(
                f"{LATEST} version cannot be deleted without deleting the function."
            )
        async with self._changing:
            await self._read(name)
            if number == LATEST:
                await self._clear(name)
                await self._functions.remove(name)
                return
            if not number.isdecimal():
                raise InvalidParameter("Deletion of aliases is not currently supported.")
            pointing = await self.aliases.pointing(name, number)
            if pointing:
                raise ResourceConflict(
                    "Unable to delete version because the following aliases reference it: "
                    f"[{', '.join(pointing)}]"
                )
            await self._belongings.clear_qualifier(name, number)
            await self._functions.remove(name, number)

    async def alias(self, function: str, name: str, version: str, **fields: Any) -> Alias:
        """Add an alias; see `Aliases.create`."""
        async with self._changing:
            return await self.aliases.create(function, name, version, **fields)

    async def realias(self, function: str, name: str, **changes: Any) -> Alias:
        """Change an alias; see `Aliases.update`."""
        async with self._changing:
            return await self.aliases.update(function, name, **changes)

    async def unalias(self, function: str, name: str) -> None:
        """Remove an alias with all that belongs to it; nothing happens when there is none.

        Raises:
            ResourceNotFound: There is no such function.
        """
        async with self._changing:
            await self._read(function)
            await self._belongings.clear_qualifier(function, name)
            await self.aliases.remove(function, name)

    async def seal(self) -> None:
        """Seal variables that lie readable in the Store, as they did before there was a vault."""
        for found in await self._functions.unsealed():
            with suppress(Conflict):
                await self._functions.put(found[0], expect=found[1])

    async def named(self) -> set[str]:
        """Return the digests of packages that functions, versions and layers name.

        Whatever looks like one in a record counts, so that one too many is kept, never one too
        few.
        """
        return {
            digest.decode()
            for prefix in (PREFIX, VERSIONS, layer.PREFIX)
            for record in (await self._store.list(prefix)).values()
            for digest in _DIGEST.findall(record.body)
        }

    async def sweep(self) -> None:
        """Remove the packages that nothing names; only when nothing runs or unpacks."""
        await asyncio.to_thread(sweep, self._code_dir, await self.named())

    async def _read(self, name: str) -> tuple[Function, int]:
        """Return a function's `LATEST` and the revision of its record."""
        found = await self._functions.at(name)
        if found is None:
            raise self._missing(Reference(name))
        return found

    async def _clear(self, name: str) -> None:
        """Remove everything of a function but its `LATEST`."""
        for version in await self._functions.versions(name):
            await self._functions.remove(name, version.version)
        for alias in await self.aliases.list(name):
            await self.aliases.remove(name, alias.name)
        await self._belongings.clear(name)

    def _missing(self, reference: Reference) -> ResourceNotFound:
        qualified = reference.qualified or reference.qualifier != LATEST
        arn = self.place.arn(reference.name, reference.qualifier if qualified else "")
        return ResourceNotFound(f"Function not found: {arn}")
