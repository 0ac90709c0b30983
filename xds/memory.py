"""What was served lately: what a client may hold that comes back."""

from typing import Protocol

from xds.resource import Resource, TypeUrl
from xds.snapshot import Named


class Memory(Protocol):
    """Where a stream asks for it."""

    def one(self, type_url: TypeUrl, name: str, version: str) -> Resource | None:
        """Return a resource by name and content; None when it is forgotten."""

    def whole(self, type_url: TypeUrl, version: str) -> Named | None:
        """Return everything of a type that had this version; None when it is forgotten."""


class NoMemory:
    """Remembers nothing."""

    def one(self, type_url: TypeUrl, name: str, version: str) -> Resource | None:
        """Return None."""

    def whole(self, type_url: TypeUrl, version: str) -> Named | None:
        """Return None."""
