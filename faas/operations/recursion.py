"""Whether functions may go on in circles of events that come back to them.

Source: AWS Lambda API Reference, PutFunctionRecursionConfig.
"""

from collections.abc import Mapping

from faas.api.asked import Answered, Asked, Operation
from faas.functions.registry import Registry
from faas.model.recursion import PREFIX, Recursion
from faas.operations.names import whole
from faas.records import Records


class RecursionOperations:
    """PutFunctionRecursionConfig and GetFunctionRecursionConfig."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._records = Records(registry.store, PREFIX, Recursion)

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "PutFunctionRecursionConfig": self.put,
            "GetFunctionRecursionConfig": self.get,
        }

    async def put(self, asked: Asked) -> Answered:
        """PutFunctionRecursionConfig."""
        about = await whole(self._registry, asked)
        value = Recursion(about.name, asked["RecursiveLoop"])
        await self._records.put(about.name, value)
        return Answered({"RecursiveLoop": value.loop})

    async def get(self, asked: Asked) -> Answered:
        """GetFunctionRecursionConfig."""
        about = await whole(self._registry, asked)
        found = await self._records.get(about.name) or Recursion(about.name)
        return Answered({"RecursiveLoop": found.loop})
