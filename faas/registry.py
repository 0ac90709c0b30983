"""Which functions there are: Store records ``function/NAME`` and code packages on disk."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from faas.lambda_errors import (
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from faas.model.function import LATEST, Function, Reference, State, Update
from faas.package import Package, root_of, sweep, unpacked
from wherry.clock import Clock
from wherry.store import Conflict, Store

PREFIX = "function/"
_RECORD = TypeAdapter(Function)


def encoded(function: Function) -> bytes:
    """Return the record body that `decoded` reads."""
    return _RECORD.dump_json(function)


def decoded(body: bytes) -> Function:
    """Return the function that `encoded` wrote."""
    return _RECORD.validate_json(body)


@dataclass(frozen=True, slots=True)
class Place:
    """Where functions say that they live: nothing but the parts of their ARNs."""

    region: str = "us-east-1"
    account: str = "000000000000"

    def arn(self, name: str) -> str:
        """Return the ARN of the function ``name``."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{name}"


class Registry:
    """The functions in a Store; every change is one optimistic write."""

    def __init__(self, store: Store, code_dir: Path, place: Place, clock: Clock) -> None:
        self._store = store
        self._code_dir = code_dir
        self._place = place
        self._clock = clock

    @property
    def code_dir(self) -> Path:
        """Where packages are unpacked."""
        return self._code_dir

    def root(self, function: Function) -> Path:
        """Return the directory of the function's unpacked code."""
        return root_of(self._code_dir, function.digest)

    async def unpack(self, body: bytes) -> Package:
        """Verify and unpack a zip.

        Raises:
            InvalidParameter: See `faas.package.unpacked`.
        """
        return await asyncio.to_thread(unpacked, body, self._code_dir)

    async def create(self, name: str, package: Package, settings: dict[str, Any]) -> Function:
        """Add a function in the state Pending.

        Args:
            name: 1 to 64 of ``A-Za-z0-9-_``.
            package: Its code.
            settings: Further fields of `Function`; at least ``runtime`` and ``handler``.

        Raises:
            ResourceConflict: There is a function of that name.
        """
        function = Function(
            name=name,
            arn=self._place.arn(name),
            digest=package.digest,
            code_size=package.size,
            modified=self._timestamp(),
            revision=str(uuid.uuid4()),
            **settings,
        )
        try:
            await self._store.put(PREFIX + name, encoded(function), expect=0)
        except Conflict:
            raise ResourceConflict(f"Function already exist: {name}") from None
        return function

    async def find(self, name: str) -> Function | None:
        """Return the function, or None when there is none of that name."""
        record = await self._store.get(PREFIX + name)
        return None if record is None else decoded(record.body)

    async def get(self, reference: Reference) -> Function:
        """Return the function.

        Raises:
            ResourceNotFound: There is none of that name and qualifier.
        """
        function, _ = await self._read(reference)
        return function

    async def list(self) -> Sequence[Function]:
        """Return every function, ordered by name."""
        view = await self._store.list(PREFIX)
        return [decoded(view[key].body) for key in sorted(view)]

    async def update(
        self, reference: Reference, changes: dict[str, Any], *, revision: str | None = None
    ) -> Function:
        """Change fields of a function; its last update is in progress afterwards.

        Raises:
            ResourceNotFound: There is no such function.
            PreconditionFailed: It is not at ``revision``.
        """
        while True:
            found, at = await self._read(reference)
            if revision and revision != found.revision:
                raise PreconditionFailed(
                    "The Revision Id provided does not match the latest Revision Id. "
                    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
                )
            changed = replace(
                found,
                **changes,
                modified=self._timestamp(),
                revision=str(uuid.uuid4()),
                update=Update.IN_PROGRESS,
            )
            try:
                await self._store.put(PREFIX + found.name, encoded(changed), expect=at)
            except Conflict:
                continue
            return changed

    async def settle(self, function: Function, *, failure: str = "") -> None:
        """Record that ``function`` was made ready or, with ``failure``, why it was not.

        A function that changed or went meanwhile is left alone.
        """
        record = await self._store.get(PREFIX + function.name)
        if record is None or decoded(record.body).revision != function.revision:
            return
        first = function.state is State.PENDING
        settled = replace(
            decoded(record.body),
            state=State.FAILED if failure and first else State.ACTIVE,
            update=Update.FAILED if failure and not first else Update.SUCCESSFUL,
            reason=failure,
        )
        try:
            await self._store.put(PREFIX + function.name, encoded(settled), expect=record.revision)
        except Conflict:
            return

    async def delete(self, reference: Reference) -> None:
        """Remove a function; its code goes at the next `sweep`.

        Raises:
            ResourceNotFound: There is no such function.
        """
        await self.get(reference)
        if not await self._store.delete(PREFIX + reference.name):
            raise ResourceNotFound(f"Function not found: {self._place.arn(reference.name)}")

    async def sweep(self) -> None:
        """Remove the packages that no function names; only when nothing runs or unpacks."""
        digests = {function.digest for function in await self.list()}
        await asyncio.to_thread(sweep, self._code_dir, digests)

    async def _read(self, reference: Reference) -> tuple[Function, int]:
        """Return a function and the revision of its record."""
        record = await self._store.get(PREFIX + reference.name)
        if record is None:
            raise ResourceNotFound(f"Function not found: {self._place.arn(reference.name)}")
        function = decoded(record.body)
        if reference.qualifier != LATEST:
            raise ResourceNotFound(f"Function not found: {function.arn}:{reference.qualifier}")
        return function, record.revision

    def _timestamp(self) -> str:
        now = datetime.fromtimestamp(self._clock.unix_ns() / 1e9, UTC)
        return now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}+0000"
