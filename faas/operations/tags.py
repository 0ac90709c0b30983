"""Tags of functions and of event source mappings.

Source: AWS Lambda API Reference, TagResource, UntagResource, ListTags.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import replace

from faas.api.asked import Answered, Asked, Operation
from faas.functions.registry import Registry
from faas.lambda_errors import InvalidParameter, ResourceNotFound
from faas.model.function import LATEST, Reference
from faas.model.mapping import PREFIX, EventSourceMapping
from faas.operations.names import present, target
from faas.records import Records

MAX_TAGS = 50
"""Most tags of one resource. Source: Lambda Developer Guide, "Using tags on Lambda functions"."""
_MAPPING = re.compile(r"arn:aws[a-z-]*:lambda:[^:]+:\d{12}:event-source-mapping:(?P<uuid>.+)")

Tags = Mapping[str, str]


class TagOperations:
    """TagResource, UntagResource and ListTags."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._mappings = Records(registry.store, PREFIX, EventSourceMapping)
        self._changing = asyncio.Lock()

    def operations(self) -> Mapping[str, Operation]:
        """Return each operation by its name."""
        return {"TagResource": self.tag, "UntagResource": self.untag, "ListTags": self.list}

    async def tag(self, asked: Asked) -> Answered:
        """TagResource."""
        tags = checked(asked["Tags"])
        if not tags:
            raise InvalidParameter("An error occurred and the request cannot be processed.")
        await self._change(asked["Resource"], lambda found: checked({**found, **tags}))
        return Answered()

    async def untag(self, asked: Asked) -> Answered:
        """UntagResource; the tags need not be there."""
        gone = set(asked["TagKeys"])
        await self._change(
            asked["Resource"],
            lambda found: {key: value for key, value in found.items() if key not in gone},
        )
        return Answered()

    async def list(self, asked: Asked) -> Answered:
        """ListTags."""
        resource = asked["Resource"]
        if match := _MAPPING.fullmatch(resource):
            mapping = await self._mappings.get(match["uuid"])
            if mapping is None:
                raise _missing(resource)
            return Answered({"Tags": dict(mapping.tags)})
        return Answered({"Tags": dict(await self._of_function(await self._function(resource)))})

    async def _change(self, resource: str, change: Callable[[Tags], Tags]) -> None:
        if match := _MAPPING.fullmatch(resource):

            def changed(found: EventSourceMapping | None) -> EventSourceMapping:
                if found is None:
                    raise _missing(resource)
                return replace(found, tags=change(found.tags))

            await self._mappings.change(match["uuid"], changed)
            return
        name = await self._function(resource)
        async with self._changing:
            tags = change(await self._of_function(name))
            await self._registry.retag(name, dict(tags))

    async def _of_function(self, name: str) -> Tags:
        return (await self._registry.get(Reference(name))).tags

    async def _function(self, resource: str) -> str:
        """Return the name of the function that a resource is.

        Raises:
            ResourceNotFound: It is none, or not there.
            InvalidParameter: It is an alias or a version.
        """
        if ":function:" not in resource:
            raise _missing(resource)
        about = target(self._registry, resource)
        if about.qualified and about.qualifier != LATEST:
            raise InvalidParameter(
                "Tags on function aliases and versions are not supported. Please specify a "
                "function ARN."
            )
        await present(self._registry, about)
        return about.name


def checked(tags: Tags) -> Tags:
    """Return ``tags`` when a resource can have them.

    Raises:
        InvalidParameter: They are too many or reserved.
    """
    if len(tags) > MAX_TAGS:
        raise InvalidParameter("Number of tags exceeds resource tag limit.")
    for key in tags:
        if key.lower().startswith("aws:"):
            raise InvalidParameter(f"Tag {key!r}: keys that begin with aws: are reserved")
    return tags


def _missing(resource: str) -> ResourceNotFound:
    return ResourceNotFound(f"The resource {resource[:200]} does not exist.")
