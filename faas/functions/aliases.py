"""Aliases in the Store: names for versions, checked against those that there are."""

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from faas.lambda_errors import (
    InvalidParameter,
    PreconditionFailed,
    ResourceConflict,
    ResourceNotFound,
)
from faas.model.alias import PREFIX, Alias
from faas.model.function import LATEST, Reference
from faas.place import Place
from faas.records import Records
from wherry.store import Conflict, Store

STALE = (
    "The Revision Id provided does not match the latest Revision Id. "
    "Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
)

Check = Callable[[Reference], Awaitable[object]]
"""Raises ResourceNotFound when there is no such function or version."""


class Aliases:
    """The aliases of every function.

    Args:
        store: Where they are kept.
        place: For ARNs.
        check: See `Check`.
    """

    def __init__(self, store: Store, place: Place, check: Check) -> None:
        self._records = Records(store, PREFIX, Alias)
        self._place = place
        self._check = check

    def arn(self, function: str, name: str) -> str:
        """Return an alias's ARN."""
        return self._place.arn(function, name)

    async def find(self, function: str, name: str) -> Alias | None:
        """Return an alias; None when there is none."""
        return await self._records.get(f"{function}/{name}")

    async def get(self, function: str, name: str) -> Alias:
        """Return an alias.

        Raises:
            ResourceNotFound: There is no such function or alias.
        """
        found = await self.find(function, name)
        if found is None:
            await self._check(Reference(function))
            raise ResourceNotFound(f"Cannot find alias arn: {self.arn(function, name)}")
        return found

    async def list(self, function: str) -> Sequence[Alias]:
        """Return a function's aliases, by name."""
        return list((await self._records.under(f"{function}/")).values())

    async def pointing(self, function: str, version: str) -> Sequence[str]:
        """Return the names of the aliases that send calls to a version."""
        return [
            alias.name
            for alias in await self.list(function)
            if version == alias.version or version in alias.weights
        ]

    async def create(
        self, function: str, name: str, version: str, description: str, weights: Mapping[str, float]
    ) -> Alias:
        """Add an alias.

        Raises:
            ResourceNotFound: There is no such function or version.
            ResourceConflict: There is an alias of that name.
            InvalidParameter: The weights cannot be.
        """
        alias = Alias(function, name, version, str(uuid.uuid4()), description, dict(weights))
        await self._checked(alias)
        try:
            await self._records.put(f"{function}/{name}", alias, expect=0)
        except Conflict:
            raise ResourceConflict(f"Alias already exists: {self.arn(function, name)}") from None
        return alias

    async def update(
        self,
        function: str,
        name: str,
        *,
        version: str | None = None,
        description: str | None = None,
        weights: Mapping[str, float] | None = None,
        revision: str | None = None,
    ) -> Alias:
        """Change what is not None of an alias.

        Raises:
            ResourceNotFound: There is no such function, alias or version.
            PreconditionFailed: The alias is not at ``revision``.
            InvalidParameter: The weights cannot be.
        """
        while True:
            found = await self._records.at(f"{function}/{name}")
            if found is None:
                await self._check(Reference(function))
                raise ResourceNotFound(f"Alias not found: {self.arn(function, name)}")
            alias, at = found
            if revision and revision != alias.revision:
                raise PreconditionFailed(STALE)
            changed = replace(
                alias,
                version=alias.version if version is None else version,
                description=alias.description if description is None else description,
                weights=alias.weights if weights is None else dict(weights),
                revision=str(uuid.uuid4()),
            )
            await self._checked(changed)
            try:
                await self._records.put(f"{function}/{name}", changed, expect=at)
            except Conflict:
                continue
            return changed

    async def remove(self, function: str, name: str) -> bool:
        """Remove an alias; return whether there was one."""
        return await self._records.delete(f"{function}/{name}")

    async def _checked(self, alias: Alias) -> None:
        await self._check(Reference(alias.function, alias.version, qualified=True))
        if len(alias.weights) > 1:
            raise InvalidParameter(
                "Number of items in AdditionalVersionWeights cannot be greater than 1"
            )
        for version, share in alias.weights.items():
            if not 0 <= share <= 1:
                raise InvalidParameter(
                    f"1 validation error detected: Value '{{{version}={share}}}' at "
                    "'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map "
                    "value must satisfy constraint: [Member must have value less than or equal "
                    "to 1.0, Member must have value greater than or equal to 0.0, Member must "
                    "not be null]"
                )
            if version == alias.version:
                raise InvalidParameter(
                    f"Invalid function version {version}. Function version {version} is already "
                    "included in routing configuration."
                )
            if LATEST in (alias.version, version):
                raise InvalidParameter(
                    f"{LATEST} is not supported for an alias pointing to more than 1 version"
                )
            await self._check(Reference(alias.function, version, qualified=True))
