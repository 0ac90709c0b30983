"""Functions and their versions in the Store, with their variables sealed."""

import base64
import logging
from dataclasses import replace

from pydantic import TypeAdapter

from faas.model.function import LATEST, Function
from faas.records import Records
from faas.vault import Unsealable, Vault
from wherry.store import Store

PREFIX = "function/"
"""Records ``function/NAME``: each function's `LATEST`."""
VERSIONS = "function-version/"
"""Records ``function-version/NAME/0000000001``."""

logger = logging.getLogger(__name__)

_VARIABLES = TypeAdapter(dict[str, str])


class SealedFunctions:
    """Every function and version; one whose variables cannot be read says so in ``sealed``."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._latest = Records(store, PREFIX, Function)
        self._versions = Records(store, VERSIONS, Function)
        self._vault = vault
        self._complained: set[str] = set()

    async def at(self, name: str) -> tuple[Function, int] | None:
        """Return a function's `LATEST` and the revision of its record, None when there is none."""
        found = await self._latest.at(name)
        return None if found is None else (self._opened(found[0]), found[1])

    async def version(self, name: str, number: str) -> Function | None:
        """Return a published version; None when there is none."""
        found = await self._versions.get(_key(name, number))
        return None if found is None else self._opened(found)

    async def latest(self) -> list[Function]:
        """Return every function's `LATEST`, by name."""
        return [self._opened(each) for each in (await self._latest.under()).values()]

    async def versions(self, name: str | None = None) -> list[Function]:
        """Return the published versions of one function, or of all, by name and number."""
        under = await self._versions.under("" if name is None else f"{name}/")
        return [self._opened(each) for each in under.values()]

    async def unsealed(self) -> list[tuple[Function, int]]:
        """Return what is kept with readable variables, with the revisions of the records."""
        found = []
        for records in (self._latest, self._versions):
            for key, each in (await records.under()).items():
                if each.environment and (at := await records.at(key)) is not None:
                    found.append(at)
        return found

    async def put(self, function: Function, *, expect: int | None = None) -> None:
        """Write a function or a version; see `Records.put`."""
        records, key = self._of(function)
        await records.put(key, self._closed(function), expect=expect)

    async def current(self, function: Function) -> tuple[Function, int] | None:
        """Return what a function or version is by now, and the revision of its record."""
        records, key = self._of(function)
        found = await records.at(key)
        return None if found is None else (self._opened(found[0]), found[1])

    async def remove(self, name: str, number: str = LATEST) -> bool:
        """Remove a version, or a function's `LATEST`; return whether there was one."""
        if number == LATEST:
            return await self._latest.delete(name)
        return await self._versions.delete(_key(name, number))

    def _of(self, function: Function) -> tuple[Records[Function], str]:
        if function.version == LATEST:
            return self._latest, function.name
        return self._versions, _key(function.name, function.version)

    def _closed(self, function: Function) -> Function:
        if function.sealed or not function.environment:
            return function
        body = _VARIABLES.dump_json(dict(function.environment))
        sealed = base64.b64encode(self._vault.seal(body, _context(function))).decode()
        return replace(function, environment={}, sealed=sealed)

    def _opened(self, function: Function) -> Function:
        if not function.sealed:
            return function
        try:
            body = self._vault.unseal(base64.b64decode(function.sealed), _context(function))
        except (Unsealable, ValueError) as error:
            if function.qualified_arn not in self._complained:
                self._complained.add(function.qualified_arn)
                logger.error(  # noqa: TRY400
                    "variables of a function cannot be read",
                    extra={"function": function.qualified_arn, "reason": str(error)},
                )
            return function
        return replace(function, environment=_VARIABLES.validate_json(body), sealed="")


def _context(function: Function) -> str:
    """Return where a function's variables belong: to it, and to the key that it names."""
    return f"{function.arn} {function.kms_key}".strip()


def _key(name: str, number: str) -> str:
    return f"{name}/{int(number):010d}"
