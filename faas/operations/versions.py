"""Published versions: made from what a function is, never changed afterwards.

Source: AWS Lambda API Reference, PublishVersion and ListVersionsByFunction.
"""

from collections.abc import Mapping

from faas.api.asked import Answered, Asked, Operation
from faas.functions.control import Functions
from faas.model.function import LATEST, Function
from faas.operations.names import asked_for
from faas.operations.paging import page
from faas.operations.settings import refuse_unsupported
from faas.operations.shapes import configuration


class VersionOperations:
    """PublishVersion and ListVersionsByFunction."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {
            "PublishVersion": self.publish,
            "ListVersionsByFunction": self.list,
        }

    async def publish(self, asked: Asked) -> Answered:
        """PublishVersion."""
        refuse_unsupported(asked.parameters)
        about = asked_for(self._functions.registry, asked)
        version = await self._functions.publish(
            about.name,
            description=asked.get("Description"),
            code_sha256=asked.get("CodeSha256"),
            revision=asked.get("RevisionId"),
        )
        return Answered(configuration(version, qualifier=version.version))

    async def list(self, asked: Asked) -> Answered:
        """ListVersionsByFunction: `LATEST`, then oldest first."""
        about = asked_for(self._functions.registry, asked)
        found = await self._functions.registry.versions(about.name)
        versions, more = page({_key(each): each for each in found}, asked)
        shapes = [configuration(each, qualifier=each.version) for each in versions]
        return Answered({"Versions": shapes, **more})


def _key(version: Function) -> str:
    return f"{0 if version.version == LATEST else int(version.version):010d}"
