"""How asynchronous events of a function are tried again and where they end.

Source: AWS Lambda API Reference, PutFunctionEventInvokeConfig and the operations around it.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from faas.api.asked import Answered, Asked, Operation
from faas.functions.registry import Registry
from faas.lambda_errors import InvalidParameter, ResourceNotFound
from faas.model.delivery import PREFIX, Delivery
from faas.operations.destinations import Destinations
from faas.operations.names import Target, asked_for, existing, whole
from faas.operations.paging import page
from faas.records import Records
from wherry.clock import Clock

_ABSENT = "The function doesn't exist."


class EventInvokeOperations:
    """PutFunctionEventInvokeConfig and the rest of its kind."""

    def __init__(self, registry: Registry, destinations: Destinations, clock: Clock) -> None:
        self._registry = registry
        self._destinations = destinations
        self._clock = clock
        self._records = Records(registry.store, PREFIX, Delivery)

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "PutFunctionEventInvokeConfig": self.put,
            "UpdateFunctionEventInvokeConfig": self.update,
            "GetFunctionEventInvokeConfig": self.get,
            "DeleteFunctionEventInvokeConfig": self.delete,
            "ListFunctionEventInvokeConfigs": self.list,
        }

    async def put(self, asked: Asked) -> Answered:
        """PutFunctionEventInvokeConfig: what is not said is as if nothing had been configured."""
        about = await existing(self._registry, asked, absent=_ABSENT)
        changes = await self._changes(asked, about)
        value = Delivery(about.name, about.qualifier, **changes)
        await self._records.put(about.key, value)
        return Answered(self._shape(value, about))

    async def update(self, asked: Asked) -> Answered:
        """UpdateFunctionEventInvokeConfig: what is not said stays."""
        about = await existing(self._registry, asked, absent=_ABSENT)
        changes = await self._changes(asked, about)

        def changed(found: Delivery | None) -> Delivery:
            if found is None:
                raise _missing(about)
            return replace(found, **changes)

        return Answered(self._shape(await self._records.change(about.key, changed), about))

    async def get(self, asked: Asked) -> Answered:
        """GetFunctionEventInvokeConfig."""
        about = asked_for(self._registry, asked)
        found = await self._records.get(about.key)
        if found is None:
            raise _missing(about)
        return Answered(self._shape(found, about))

    async def delete(self, asked: Asked) -> Answered:
        """DeleteFunctionEventInvokeConfig."""
        about = asked_for(self._registry, asked)
        if not await self._records.delete(about.key):
            raise _missing(about)
        return Answered()

    async def list(self, asked: Asked) -> Answered:
        """ListFunctionEventInvokeConfigs."""
        try:
            about = await whole(self._registry, asked)
        except ResourceNotFound:
            raise ResourceNotFound(_ABSENT) from None
        values, more = page(await self._records.under(f"{about.name}/"), asked)
        shapes = [self._shape(one, about) for one in values]
        return Answered({"FunctionEventInvokeConfigs": shapes, **more})

    async def _changes(self, asked: Asked, about: Target) -> dict[str, Any]:
        """Return the fields of `Delivery` that a request sets, checked."""
        config = asked.get("DestinationConfig")
        fields = {
            "max_age": asked.get("MaximumEventAgeInSeconds"),
            "max_retries": asked.get("MaximumRetryAttempts"),
            "on_success": await self._destinations.of(config, "OnSuccess", function=about.name),
            "on_failure": await self._destinations.of(config, "OnFailure", function=about.name),
        }
        said = {name: value for name, value in fields.items() if value is not None}
        if not said:
            raise InvalidParameter(
                "You must specify at least one of error handling or destination setting."
            )
        return {**said, "modified": self._clock.unix_ns() / 1e9}

    @staticmethod
    def _shape(value: Delivery, about: Target) -> dict[str, Any]:
        ends = {"OnSuccess": value.on_success, "OnFailure": value.on_failure}
        return {
            "LastModified": datetime.fromtimestamp(value.modified, UTC),
            "FunctionArn": f"{about.base}:{value.qualifier}",
            "MaximumRetryAttempts": value.max_retries,
            "MaximumEventAgeInSeconds": value.max_age,
            "DestinationConfig": {
                end: {"Destination": arn} if arn else {} for end, arn in ends.items()
            },
        }


def _missing(about: Target) -> ResourceNotFound:
    return ResourceNotFound(f"The function {about.full_arn} doesn't have an EventInvokeConfig")
