"""Aliases: names for versions, which can share calls between two of them.

Source: AWS Lambda API Reference, CreateAlias and the operations around it.
"""

from collections.abc import Mapping
from typing import Any

from faas.api.asked import Answered, Asked, Operation
from faas.functions.control import Functions
from faas.model.alias import Alias
from faas.model.function import Reference
from faas.operations.names import asked_for
from faas.operations.paging import page
from faas.operations.shapes import alias_configuration


class AliasOperations:
    """CreateAlias, GetAlias, UpdateAlias, DeleteAlias and ListAliases."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._registry = functions.registry

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "CreateAlias": self.create,
            "GetAlias": self.get,
            "UpdateAlias": self.update,
            "DeleteAlias": self.delete,
            "ListAliases": self.list,
        }

    async def create(self, asked: Asked) -> Answered:
        """CreateAlias."""
        alias = await self._registry.alias(
            asked_for(self._registry, asked).name,
            asked["Name"],
            asked["FunctionVersion"],
            description=asked.get("Description", ""),
            weights=_weights(asked) or {},
        )
        return self._answer(alias)

    async def get(self, asked: Asked) -> Answered:
        """GetAlias."""
        name = asked_for(self._registry, asked).name
        return self._answer(await self._registry.aliases.get(name, asked["Name"]))

    async def update(self, asked: Asked) -> Answered:
        """UpdateAlias."""
        name = asked_for(self._registry, asked).name
        alias = await self._registry.realias(
            name,
            asked["Name"],
            version=asked.get("FunctionVersion"),
            description=asked.get("Description"),
            weights=_weights(asked),
            revision=asked.get("RevisionId"),
        )
        await self._functions.provisioned_changed(name, alias.name)
        return self._answer(alias)

    async def delete(self, asked: Asked) -> Answered:
        """DeleteAlias; there need not be one."""
        name = asked_for(self._registry, asked).name
        await self._registry.unalias(name, asked["Name"])
        await self._functions.provisioned_changed(name, asked["Name"])
        return Answered()

    async def list(self, asked: Asked) -> Answered:
        """ListAliases, by name."""
        about = asked_for(self._registry, asked)
        await self._registry.get(Reference(about.name))
        version = asked.get("FunctionVersion")
        found = {
            alias.name: alias
            for alias in await self._registry.aliases.list(about.name)
            if version is None or alias.version == version
        }
        aliases, more = page(found, asked)
        return Answered({"Aliases": [self._shape(each) for each in aliases], **more})

    def _answer(self, alias: Alias) -> Answered:
        return Answered(self._shape(alias))

    def _shape(self, alias: Alias) -> dict[str, Any]:
        return alias_configuration(alias, self._registry.aliases.arn(alias.function, alias.name))


def _weights(asked: Asked) -> Mapping[str, float] | None:
    """Return what the request says of further versions; None: nothing."""
    routing = asked.get("RoutingConfig")
    return None if routing is None else routing.get("AdditionalVersionWeights") or {}
