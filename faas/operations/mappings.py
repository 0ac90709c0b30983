"""Event source mappings: which queues and streams are read into which functions.

The records are all that is done here; whoever reads the sources watches them.

Source: AWS Lambda API Reference, CreateEventSourceMapping and the operations around it.
"""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from faas.api.asked import Answered, Asked, Operation
from faas.functions.registry import Registry
from faas.lambda_errors import InvalidParameter, ResourceConflict, ResourceNotFound
from faas.mappings.filters import pattern
from faas.model.function import Reference
from faas.model.mapping import PREFIX, EventSourceMapping
from faas.model.source import Source, service_of, source_of
from faas.operations.destinations import Destinations
from faas.operations.mapping_fields import check, configuration, fields_of, refuse_unsupported
from faas.operations.names import Target, target
from faas.operations.paging import page
from faas.operations.tags import checked
from faas.records import Records
from wherry.clock import Clock

MAX_LISTED = 100
"""Most mappings in a page."""


class MappingOperations:
    """CreateEventSourceMapping and the rest of its kind.

    Args:
        registry: Where functions are found.
        destinations: Where records may go that are given up.
        clock: For the time of changes.
    """

    def __init__(self, registry: Registry, destinations: Destinations, clock: Clock) -> None:
        self._registry = registry
        self._destinations = destinations
        self._clock = clock
        self._records = Records(registry.store, PREFIX, EventSourceMapping)
        self._changing = asyncio.Lock()

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "CreateEventSourceMapping": self.create,
            "GetEventSourceMapping": self.get,
            "UpdateEventSourceMapping": self.update,
            "DeleteEventSourceMapping": self.delete,
            "ListEventSourceMappings": self.list,
        }

    async def create(self, asked: Asked) -> Answered:
        """CreateEventSourceMapping."""
        arn, source = _source(asked)
        refuse_unsupported(asked, source)
        about = target(self._registry, asked["FunctionName"])
        fields = {"batch_size": source.usual_batch, **fields_of(asked)}
        mapping = EventSourceMapping(
            uuid=str(uuid.uuid4()),
            source=arn,
            modified=self._clock.unix_ns() / 1e9,
            tags=dict(checked(asked.get("Tags", {}))),
            **_reading(about),
            **fields,
        )
        async with self._changing:
            mapping = await self._checked(asked, mapping, source)
            await self._check_function(mapping, source)
            await self._refuse_second(mapping, source)
            await self._records.put(mapping.uuid, mapping, expect=0)
        return Answered(self._shape(mapping, state="Creating"))

    async def get(self, asked: Asked) -> Answered:
        """GetEventSourceMapping."""
        return Answered(self._shape(await self._present(asked)))

    async def update(self, asked: Asked) -> Answered:
        """UpdateEventSourceMapping."""
        found = await self._present(asked)
        source = _known(found.source)
        refuse_unsupported(asked, source)
        changes = fields_of(asked) | {"modified": self._clock.unix_ns() / 1e9}
        if name := asked.get("FunctionName"):
            changes |= _reading(target(self._registry, name))
        async with self._changing:
            wanted = await self._checked(asked, replace(found, **changes), source)
            if wanted.enabled or name:
                await self._check_function(wanted, source)
            await self._refuse_second(wanted, source)
            changes["on_failure"] = wanted.on_failure

            def changed(current: EventSourceMapping | None) -> EventSourceMapping:
                if current is None:
                    raise ResourceNotFound
                return replace(current, **changes)

            mapping = await self._records.change(found.uuid, changed)
        state = "Updating"
        if mapping.enabled != found.enabled:
            state = "Enabling" if mapping.enabled else "Disabling"
        return Answered(self._shape(mapping, state=state))

    async def delete(self, asked: Asked) -> Answered:
        """DeleteEventSourceMapping."""
        found = await self._present(asked)
        await self._records.delete(found.uuid)
        return Answered(self._shape(found, state="Deleting"))

    async def list(self, asked: Asked) -> Answered:
        """ListEventSourceMappings, of one source, of one function or all."""
        arn, name = asked.get("EventSourceArn"), asked.get("FunctionName")
        about = target(self._registry, name) if name else None
        found = {
            key: one
            for key, one in (await self._records.under()).items()
            if (not arn or one.source == arn) and (about is None or _is_of(one, about))
        }
        values, more = page(found, asked, most=MAX_LISTED)
        return Answered({"EventSourceMappings": [self._shape(one) for one in values], **more})

    async def _present(self, asked: Asked) -> EventSourceMapping:
        found = await self._records.get(asked["UUID"])
        if found is None:
            raise ResourceNotFound
        return found

    async def _checked(
        self, asked: Asked, mapping: EventSourceMapping, source: Source
    ) -> EventSourceMapping:
        """Return a mapping with its destination when what it asks for can be done.

        Raises:
            InvalidParameter: It cannot.
        """
        check(mapping, source)
        for text in mapping.filters:
            pattern(text)
        config = asked.get("DestinationConfig")
        if config and (config.get("OnSuccess") or {}).get("Destination"):
            raise InvalidParameter("OnSuccess is not supported for event source mappings")
        failure = await self._destinations.of(
            config, "OnFailure", function=mapping.function, functions=False
        )
        return mapping if failure is None else replace(mapping, on_failure=failure)

    async def _check_function(self, mapping: EventSourceMapping, source: Source) -> None:
        """Refuse a mapping whose function or queue is not there, or do not go together.

        Raises:
            InvalidParameter: So it is.
        """
        reference = Reference(mapping.function, mapping.qualifier)
        try:
            timeout = (await self._registry.get(reference)).timeout
        except ResourceNotFound:
            raise InvalidParameter("Function does not exist") from None
        if source.streams:
            return
        queue = await self._destinations.queue(mapping.source)
        if queue is None:
            raise InvalidParameter(
                "Error occurred while ReceiveMessage. SQS Error Code: "
                "AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue "
                "does not exist."
            )
        visible = queue.number("VisibilityTimeout")
        if visible < timeout:
            raise InvalidParameter(
                f"Queue visibility timeout: {visible} seconds is less than Function timeout: "
                f"{timeout} seconds"
            )

    async def _refuse_second(self, mapping: EventSourceMapping, source: Source) -> None:
        for other in (await self._records.under()).values():
            same = (other.source, other.arn) == (mapping.source, mapping.arn)
            if not same or other.uuid == mapping.uuid:
                continue
            what = (
                f'The event source arn (" {other.source} ") and function '
                f'(" {other.function} ") provided mapping'
                if source.streams
                else f'An event source mapping with SQS arn (" {other.source} ") and function '
                f'(" {other.function} ")'
            )
            raise ResourceConflict(
                f"{what} already exists. Please update or delete the existing mapping with UUID "
                f"{other.uuid}"
            )

    def _shape(self, mapping: EventSourceMapping, *, state: str = "") -> dict[str, Any]:
        arn = self._registry.place.mapping_arn(mapping.uuid)
        return configuration(mapping, _known(mapping.source), arn, state=state)


def _source(asked: Asked) -> tuple[str, Source]:
    """Return what a new mapping is to read.

    Raises:
        InvalidParameter: Nothing, or something that Wherry does not read.
    """
    arn = asked.get("EventSourceArn")
    if not arn:
        if asked.get("SelfManagedEventSource"):
            raise InvalidParameter("Self-managed Apache Kafka is not supported by Wherry")
        raise InvalidParameter("Unrecognized event source.")
    return arn, _known(arn)


def _known(arn: str) -> Source:
    source = source_of(arn)
    if source is None:
        raise InvalidParameter(
            f"EventSourceArn {arn[:200]}: {service_of(arn)} is not supported by Wherry, expected a "
            "queue (arn:aws:sqs:REGION:ACCOUNT:NAME) or a Redis stream "
            "(arn:aws:redis:REGION:ACCOUNT:stream/NAME)"
        )
    return source


def _reading(about: Target) -> dict[str, Any]:
    return {"function": about.name, "qualifier": about.qualifier, "arn": about.arn}


def _is_of(mapping: EventSourceMapping, about: Target) -> bool:
    if about.qualified:
        return mapping.arn == about.arn
    return mapping.function == about.name
