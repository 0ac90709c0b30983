"""What the discovery streams know about each proxy, resource by resource: immutable.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/service/status/v3/csds.proto
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from xds.node import Node
from xds.resource import TypeUrl


class Sync(IntEnum):
    """How a resource stands from our side; numbers as in ``ConfigStatus``."""

    UNKNOWN = 0
    SYNCED = 1
    """Sent and acknowledged."""
    NOT_SENT = 2
    """Wanted and not sent yet; or no longer wanted, or there is none of that name."""
    STALE = 3
    """Sent, neither acknowledged nor refused yet."""
    ERROR = 4
    """Sent and refused."""


class Held(IntEnum):
    """How a resource stands at the client; numbers as in ``ClientResourceStatus``."""

    UNKNOWN = 0
    REQUESTED = 1
    """The client waits for its first version."""
    DOES_NOT_EXIST = 2
    """The client asked for it and there is none."""
    ACKED = 3
    """The client holds a version that it accepted, not always the newest."""
    NACKED = 4
    """The client refused the newest; the last good one serves, where there is one."""
    RECEIVED_ERROR = 5
    TIMEOUT = 6


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client refused a version.

    Attributes:
        details: In the client's words.
        version: What it refused.
        at_unix_ns: When; 0 when that is not known.
    """

    details: str
    version: str = ""
    at_unix_ns: int = 0


@dataclass(frozen=True, slots=True)
class Config:
    """One resource of one proxy.

    Attributes:
        type_url: Its type.
        name: Its name.
        version: Version of what ``sync`` speaks about: the acknowledged, sent, refused or wanted
            one; empty when there is none.
        sync: Our side.
        held: The client's side.
        updated_unix_ns: When it was last sent or acknowledged; 0 when that is not known.
        body: The message of that version, without the ``Any`` envelope; None when not known.
        refusal: Set when ``sync`` is ERROR.
    """

    type_url: TypeUrl
    name: str
    version: str = ""
    sync: Sync = Sync.UNKNOWN
    held: Held = Held.UNKNOWN
    updated_unix_ns: int = 0
    body: bytes | None = field(default=None, repr=False)
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True)
class Proxy:
    """One discovery stream of one client.

    Attributes:
        node: Who it is, as it says.
        stream: Which of its streams, e.g. ``ads delta``.
        configs: Returns its resources as they stand now; called for proxies that were asked for
            only, and read at once.
    """

    node: Node
    stream: str
    configs: Callable[[], Iterable[Config]]


class Fleet(Protocol):
    """Who knows all proxies."""

    def proxies(self) -> Iterable[Proxy]:
        """Return every connected proxy; read at once."""
        ...


def judged(
    *, wanted: str | None, sent: str | None, held: str | None, refused: str | None
) -> tuple[Sync, Held]:
    """Return how a resource stands, by the versions of it.

    Args:
        wanted: What the client should have; None when there is none of that name.
        sent: What was sent last on this stream; None when nothing was.
        held: What the client acknowledged last, or said it had at the start; None for nothing.
        refused: What the client refused last; None when it refused nothing.
    """
    if wanted is None:  # what the client still holds lingers until it may be removed
        return Sync.NOT_SENT, (Held.DOES_NOT_EXIST if held is None else Held.ACKED)
    if refused == wanted:
        return Sync.ERROR, Held.NACKED
    if held == wanted:
        return Sync.SYNCED, Held.ACKED
    client = Held.REQUESTED if held is None else Held.ACKED
    return (Sync.STALE if sent == wanted else Sync.NOT_SENT), client
