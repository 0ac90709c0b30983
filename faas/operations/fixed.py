"""Settings that have one value here: they can be read, and set to what holds anyhow.

Runtimes change when the platform does, and nobody signs code. Who asks for something else is told
so, instead of believing that it was done.
"""

from collections.abc import Mapping

from faas.api.asked import Answered, Asked, Operation
from faas.functions.registry import Registry
from faas.lambda_errors import InvalidParameter
from faas.operations.names import asked_for, present, whole


class FixedOperations:
    """Runtime management and code signing."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "PutRuntimeManagementConfig": self.put_runtime,
            "GetRuntimeManagementConfig": self.runtime,
            "GetFunctionCodeSigningConfig": self.signing,
            "DeleteFunctionCodeSigningConfig": self.signing,
            "ListCodeSigningConfigs": self.signings,
        }

    async def put_runtime(self, asked: Asked) -> Answered:
        """PutRuntimeManagementConfig."""
        if asked["UpdateRuntimeOn"] != "Auto" or asked.get("RuntimeVersionArn"):
            raise InvalidParameter(
                f"UpdateRuntimeOn {asked['UpdateRuntimeOn']} is not supported by Wherry, expected "
                "Auto without RuntimeVersionArn: functions run on the runtime that is installed"
            )
        return await self.runtime(asked)

    async def runtime(self, asked: Asked) -> Answered:
        """GetRuntimeManagementConfig."""
        about = asked_for(self._registry, asked)
        await present(self._registry, about)
        return Answered({"UpdateRuntimeOn": "Auto", "FunctionArn": about.arn})

    async def signing(self, asked: Asked) -> Answered:
        """GetFunctionCodeSigningConfig, and its deletion: no function has one."""
        await whole(self._registry, asked)
        return Answered()

    async def signings(self, _: Asked) -> Answered:
        """ListCodeSigningConfigs: there are none."""
        return Answered({"CodeSigningConfigs": []})
