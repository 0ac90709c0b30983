"""One operation of the admin API: what it is called, who may use it, and what it does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from aiohttp import web

from wherry.model.world import World

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""Answers one request; `gateway.problem.Refused` becomes a problem document."""


CurrentWorld = Callable[[], World]
"""Returns the configuration in force."""


class Role(IntEnum):
    """What a token of the admin API may do; each role may do what those below it may."""

    VIEWER = 1
    EDITOR = 2
    OWNER = 3


ACTOR = web.RequestKey("actor", str)
"""Key of the name of the token that was used."""

ROLE = web.RequestKey("role", Role)
"""Key of the role of the token that was used."""

NOTE = web.RequestKey("note", tuple)
"""Key where a handler leaves what the audit log says of a change: the subject like
``key/ab12cd34``, what was, and what is; without, the log says only who asked for what path."""

NOTED = web.RequestKey("noted", bool)
"""Key that a handler sets when the change is in the audit log already, or there was none."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation.

    Attributes:
        method: Like ``GET``.
        path: With ``{name}`` for one segment, like ``/v1/plans/{name}``.
        role: Who may use it at least; None: anyone, without a token.
        handler: Answers it. ``request[ACTOR]`` is the name of the token that was used.
        operation: Its OpenAPI 3.1 operation object; ``operationId`` is unique.
        most_bytes: Larger bodies get 413 before the handler is asked.
    """

    method: str
    path: str
    role: Role | None
    handler: Handler
    operation: Mapping[str, object] = field(default_factory=dict)
    most_bytes: int = 1 << 20
