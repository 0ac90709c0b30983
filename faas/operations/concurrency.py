"""How many instances functions are promised: reserved and provisioned concurrency.

Source: AWS Lambda API Reference, PutFunctionConcurrency, PutProvisionedConcurrencyConfig.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from faas.api.asked import Answered, Asked, Operation
from faas.functions.registry import Registry
from faas.lambda_errors import (
    InvalidParameter,
    ProvisionedConcurrencyNotFound,
    ResourceConflict,
    ResourceNotFound,
)
from faas.model.concurrency import PROVISIONED, RESERVED, Provisioned, Reserved
from faas.model.function import LATEST, Reference
from faas.model.moment import seconds
from faas.operations.names import Target, asked_for, present, whole
from faas.operations.paging import page
from faas.records import Records
from wherry.clock import Clock

_UNPUBLISHED = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
_WANTED = "The function resource provided must be an alias or a published version."


class Capacity(Protocol):
    """Those who run instances."""

    async def concurrency_changed(self, name: str) -> None:
        """Take notice that a function's reserved concurrency was changed or removed."""
        ...

    async def provisioned_changed(self, name: str, qualifier: str) -> None:
        """Take notice that a version's or an alias's provisioned concurrency was changed."""
        ...

    def provisioned(self, name: str, version: str) -> tuple[int, int]:
        """Return how many instances kept ready for a version are up, and how many should be."""
        ...

    def provisioning_failure(self, name: str, version: str) -> str:
        """Return why instances kept ready for a version do not come up; empty when they do."""
        ...


class Account:
    """What all functions together may promise.

    Args:
        registry: Where functions and promises are kept.
        limit: Most calls at once of all functions together: Lambda's account concurrency, of
            which every promise is a part. How many instances the machine has room for is the
            workers' to find out: a promise over that is never ready.
    """

    def __init__(self, registry: Registry, limit: int) -> None:
        self.limit = limit
        self._reserved = Records(registry.store, RESERVED, Reserved)
        self._provisioned = Records(registry.store, PROVISIONED, Provisioned)

    @property
    def minimum(self) -> int:
        """What must stay free for functions without promise: 100 as in Lambda, or a tenth."""
        return min(100, self.limit // 10)

    async def unreserved(self, *, but: str = "", but_key: str = "") -> int:
        """Return what is promised to nobody.

        Args:
            but: A function whose reserved concurrency does not count.
            but_key: ``FUNCTION/QUALIFIER`` whose provisioned concurrency does not count.
        """
        reserved = {one.function: one.count for one in (await self._reserved.under()).values()}
        provisioned = await self._provisioned.under()
        free = [
            one.count
            for key, one in provisioned.items()
            if one.function not in reserved and key != but_key
        ]
        reserved.pop(but, None)
        return self.limit - sum(reserved.values()) - sum(free)

    async def provisioned(self, name: str, *, but: str = "") -> int:
        """Return what is provisioned for a function; of ``but``, a qualifier, nothing counts."""
        found = await self._provisioned.under(f"{name}/")
        return sum(one.count for one in found.values() if one.qualifier != but)

    async def check_room(self, name: str, qualifier: str, count: int) -> None:
        """Refuse to provision more for a qualifier than there is.

        Raises:
            InvalidParameter: The function's reserved concurrency, or the account's, is less.
        """
        reserved = await self._reserved.get(name)
        if reserved is not None:
            if await self.provisioned(name, but=qualifier) + count > reserved.count:
                raise InvalidParameter(
                    "Requested Provisioned Concurrency should not be greater than the "
                    "reservedConcurrentExecution for function"
                )
            return
        unreserved = await self.unreserved(but_key=f"{name}/{qualifier}")
        if count > unreserved:
            raise InvalidParameter(
                "Specified ConcurrentExecutions for function is greater than account's unreserved "
                f"concurrency [{unreserved}]."
            )
        if unreserved - count < self.minimum:
            raise InvalidParameter(
                "Specified ConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{self.minimum}]."
            )


class ConcurrencyOperations:
    """PutFunctionConcurrency, PutProvisionedConcurrencyConfig and the rest of their kind."""

    def __init__(
        self, registry: Registry, account: Account, capacity: Capacity, clock: Clock
    ) -> None:
        self._registry = registry
        self._account = account
        self._capacity = capacity
        self._clock = clock
        self._reserved = Records(registry.store, RESERVED, Reserved)
        self._provisioned = Records(registry.store, PROVISIONED, Provisioned)
        self._promising = asyncio.Lock()

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "PutFunctionConcurrency": self.reserve,
            "GetFunctionConcurrency": self.reserved,
            "DeleteFunctionConcurrency": self.release,
            "PutProvisionedConcurrencyConfig": self.provision,
            "GetProvisionedConcurrencyConfig": self.provisioned,
            "DeleteProvisionedConcurrencyConfig": self.unprovision,
            "ListProvisionedConcurrencyConfigs": self.list_provisioned,
        }

    async def reserve(self, asked: Asked) -> Answered:
        """PutFunctionConcurrency."""
        about = await whole(self._registry, asked)
        count = asked["ReservedConcurrentExecutions"]
        async with self._promising:
            if await self._account.unreserved(but=about.name) - count < self._account.minimum:
                raise InvalidParameter(
                    "Specified ReservedConcurrentExecutions for function decreases account's "
                    "UnreservedConcurrentExecution below its minimum value of "
                    f"[{self._account.minimum}]."
                )
            provisioned = await self._account.provisioned(about.name)
            if provisioned > count:
                raise InvalidParameter(
                    f" ReservedConcurrentExecutions  {count} should not be lower than function's "
                    f"total provisioned concurrency [{provisioned}]."
                )
            await self._reserved.put(about.name, Reserved(about.name, count))
        await self._capacity.concurrency_changed(about.name)
        return Answered({"ReservedConcurrentExecutions": count})

    async def reserved(self, asked: Asked) -> Answered:
        """GetFunctionConcurrency."""
        about = await whole(self._registry, asked)
        found = await self._reserved.get(about.name)
        return Answered({"ReservedConcurrentExecutions": found.count} if found else {})

    async def release(self, asked: Asked) -> Answered:
        """DeleteFunctionConcurrency."""
        about = await whole(self._registry, asked)
        await self._reserved.delete(about.name)
        await self._capacity.concurrency_changed(about.name)
        return Answered()

    async def provision(self, asked: Asked) -> Answered:
        """PutProvisionedConcurrencyConfig."""
        about = asked_for(self._registry, asked)
        if about.qualifier == LATEST:
            raise InvalidParameter(_UNPUBLISHED)
        count = asked["ProvisionedConcurrentExecutions"]
        async with self._promising:
            await self._check_version(about)
            await self._account.check_room(about.name, about.qualifier, count)
            modified = seconds(self._clock.unix_ns())
            value = Provisioned(about.name, about.qualifier, count, modified)
            await self._provisioned.put(about.key, value)
        await self._capacity.provisioned_changed(about.name, about.qualifier)
        return Answered(
            {
                "RequestedProvisionedConcurrentExecutions": count,
                "AllocatedProvisionedConcurrentExecutions": 0,
                "AvailableProvisionedConcurrentExecutions": 0,
                "Status": "IN_PROGRESS",
                "LastModified": modified,
            }
        )

    async def provisioned(self, asked: Asked) -> Answered:
        """GetProvisionedConcurrencyConfig."""
        about = await self._published(asked)
        found = await self._provisioned.get(about.key)
        if found is None:
            raise ProvisionedConcurrencyNotFound(
                "No Provisioned Concurrency Config found for this function"
            )
        return Answered(await self._shape(found))

    async def unprovision(self, asked: Asked) -> Answered:
        """DeleteProvisionedConcurrencyConfig; there need not be one."""
        about = await self._published(asked)
        await self._provisioned.delete(about.key)
        await self._capacity.provisioned_changed(about.name, about.qualifier)
        return Answered()

    async def list_provisioned(self, asked: Asked) -> Answered:
        """ListProvisionedConcurrencyConfigs."""
        about = await whole(self._registry, asked)
        found = await self._provisioned.under(f"{about.name}/")
        values, more = page(found, asked)
        shapes = [
            {"FunctionArn": f"{about.base}:{one.qualifier}", **await self._shape(one)}
            for one in values
        ]
        return Answered({"ProvisionedConcurrencyConfigs": shapes, **more})

    async def _published(self, asked: Asked) -> Target:
        about = asked_for(self._registry, asked)
        if about.qualifier == LATEST:
            raise InvalidParameter(_WANTED)
        await self._check_present(about)
        return about

    async def _check_present(self, about: Target) -> None:
        try:
            await present(self._registry, about)
        except ResourceNotFound:
            if not about.is_alias:
                raise
            raise ResourceNotFound(f"Cannot find alias arn: {about.arn}") from None

    async def _check_version(self, about: Target) -> None:
        """Refuse a version that is provisioned under another name already.

        Raises:
            ResourceNotFound: There is no such version or alias.
            InvalidParameter: The alias points at `LATEST`.
            ResourceConflict: There is a promise for an alias of the version, or for the version
                of the alias.
        """
        await self._check_present(about)
        version = (await present(self._registry, about)).function.version
        if version == LATEST:
            raise InvalidParameter(_UNPUBLISHED)
        if about.is_alias:
            if await self._provisioned.get(f"{about.name}/{version}"):
                raise ResourceConflict(
                    "Alias can't be used for Provisioned Concurrency configuration on an already "
                    "Provisioned version"
                )
            return
        for alias in await self._registry.aliases.pointing(about.name, version):
            if await self._provisioned.get(f"{about.name}/{alias}"):
                raise ResourceConflict("Version is pointed by a Provisioned Concurrency alias")

    async def _shape(self, value: Provisioned) -> dict[str, Any]:
        reference = Reference(value.function, value.qualifier)
        try:
            version = (await self._registry.resolve(reference, draw=1.0)).function.version
        except ResourceNotFound as error:  # the version went, and the process before its promise
            up, wanted, failure = 0, 0, str(error)
        else:
            up, wanted = self._capacity.provisioned(value.function, version)
            failure = self._capacity.provisioning_failure(value.function, version)
        status = (
            "READY" if up >= max(value.count, wanted) else "FAILED" if failure else "IN_PROGRESS"
        )
        shape: dict[str, Any] = {
            "RequestedProvisionedConcurrentExecutions": value.count,
            "AllocatedProvisionedConcurrentExecutions": min(up, value.count),
            "AvailableProvisionedConcurrentExecutions": min(up, value.count),
            "Status": status,
            "LastModified": value.modified,
        }
        return shape | ({"StatusReason": failure} if status == "FAILED" else {})
