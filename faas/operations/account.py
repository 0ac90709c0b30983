"""What all functions together use and may use.

Source: AWS Lambda API Reference, GetAccountSettings.
"""

from collections.abc import Mapping

from faas.api.asked import Answered, Asked, Operation
from faas.code.package import MAX_UNZIPPED, MAX_ZIPPED
from faas.functions.registry import Registry
from faas.model.layer import PREFIX, LayerVersion
from faas.operations.concurrency import Account
from faas.records import Records

MAX_STORED = 75 * 1024**3
"""Bytes of code that AWS stores for an account; reported, the disk is the limit here."""


class AccountOperations:
    """GetAccountSettings."""

    def __init__(self, registry: Registry, account: Account) -> None:
        self._registry = registry
        self._account = account
        self._layers = Records(registry.store, PREFIX, LayerVersion)

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {"GetAccountSettings": self.settings}

    async def settings(self, _: Asked) -> Answered:
        """GetAccountSettings."""
        versions = await self._registry.every()
        zipped = [one.code_size for one in versions if one.package_type == "Zip"]
        layers = [one.size for one in (await self._layers.under()).values()]
        return Answered(
            {
                "AccountLimit": {
                    "TotalCodeSize": MAX_STORED,
                    "CodeSizeUnzipped": MAX_UNZIPPED,
                    "CodeSizeZipped": MAX_ZIPPED,
                    "ConcurrentExecutions": self._account.limit,
                    "UnreservedConcurrentExecutions": await self._account.unreserved(),
                },
                "AccountUsage": {
                    "TotalCodeSize": sum(zipped) + sum(layers),
                    "FunctionCount": len({one.name for one in versions}),
                },
            }
        )
