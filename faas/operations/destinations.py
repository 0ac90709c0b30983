"""Where records may be sent: queues of our own and functions."""

from collections.abc import Mapping
from typing import Any

from faas.events.targets import Kind
from faas.events.targets import target as parsed
from faas.functions.registry import Registry
from faas.lambda_errors import InvalidParameter, ResourceNotFound
from faas.operations.names import present, target
from faas.queues.attributes import PREFIX, Queue, named
from faas.records import Records


class Destinations:
    """Checks that what is sent somewhere arrives."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._queues = Records(registry.store, PREFIX, Queue)

    async def queue(self, arn: str) -> Queue | None:
        """Return the queue of this place that has an ARN, or None when there is none."""
        name = named(arn)
        if name is None or arn != self._registry.place.queue_arn(name):
            return None
        return await self._queues.get(name)

    async def checked(self, arn: str, *, function: str, functions: bool = True) -> str:
        """Return ``arn`` when records can be sent there.

        Args:
            arn: Of a queue or a function; empty: nowhere.
            function: Whose records they are.
            functions: Whether functions may be destinations.

        Raises:
            InvalidParameter: It names a service that Wherry does not have, or nothing that is
                there, or the function itself.
        """
        if not arn:
            return arn
        found = parsed(arn)
        if found is None or (found.kind is Kind.FUNCTION and not functions):
            kinds = "a queue or a function" if functions else "a queue"
            raise InvalidParameter(
                f"The destination ARN {arn[:350]} is not supported by Wherry, expected that of "
                f"{kinds} (arn:aws:sqs:REGION:ACCOUNT:NAME)"
            )
        invalid = InvalidParameter(f"The destination ARN {arn} is invalid.")
        if found.kind is Kind.QUEUE:
            if await self.queue(arn) is None:
                raise invalid
            return arn
        if found.reference.name == function:
            raise InvalidParameter("You can't specify the function as a destination for itself.")
        try:
            await present(self._registry, target(self._registry, arn))
        except ResourceNotFound:
            raise invalid from None
        return arn

    async def of(
        self, config: Mapping[str, Any] | None, end: str, *, function: str, functions: bool = True
    ) -> str | None:
        """Return the checked ARN in a DestinationConfig; None when it does not speak of ``end``.

        Args:
            config: A DestinationConfig; None: none.
            end: ``OnSuccess`` or ``OnFailure``.
            function: See `checked`.
            functions: See `checked`.

        Raises:
            InvalidParameter: See `checked`.
        """
        if config is None:
            return None
        arn = (config.get(end) or {}).get("Destination") or ""
        return await self.checked(arn, function=function, functions=functions)
