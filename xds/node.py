"""Who is at the other end of a stream."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

Value: TypeAlias = "bool | float | str | tuple[Value, ...] | Mapping[str, Value] | None"
"""What node metadata is made of: JSON, immutable, every number a float."""


@dataclass(frozen=True, slots=True)
class Node:
    """A client as it describes itself on the first request of a stream; nothing is verified.

    Attributes:
        id: Unique among the clients of a mesh.
        cluster: Group that the node says it belongs to, for Wherry the service's name.
        metadata: Whatever its bootstrap carries, immutable.
        user_agent_name: ``envoy`` or ``gRPC Python`` or empty.
        user_agent_version: Version of that program, or empty.
        locality: Region, zone and sub-zone as it says; empty where it does not.
        client_features: What it understands, by the names that the protocol has for that.
    """

    id: str
    cluster: str = ""
    metadata: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    user_agent_name: str = ""
    user_agent_version: str = ""
    locality: tuple[str, str, str] = ("", "", "")
    client_features: frozenset[str] = frozenset()
