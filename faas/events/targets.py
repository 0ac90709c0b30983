"""Where records of ended events go: queues of our own and functions. Pure but for the Protocol."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from faas.model.function import Reference

_QUEUE = re.compile(r"arn:aws:sqs:[a-z0-9-]+:\d{12}:(?P<name>[A-Za-z0-9_-]{1,80})")
_FUNCTION = re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:.+")


class Kind(Enum):
    """What a target is."""

    QUEUE = auto()
    FUNCTION = auto()


@dataclass(frozen=True, slots=True)
class Target:
    """Something that takes records.

    Attributes:
        arn: As it was configured.
        reference: The function; of a queue its name alone.
    """

    kind: Kind
    arn: str
    reference: Reference


def target(arn: str) -> Target | None:
    """Return what ``arn`` names: a standard queue or a function; None for all else."""
    queue = _QUEUE.fullmatch(arn)
    if queue is not None:
        return Target(Kind.QUEUE, arn, Reference(queue["name"]))
    reference = Reference.parse(arn) if _FUNCTION.fullmatch(arn) else None
    return None if reference is None else Target(Kind.FUNCTION, arn, reference)


class Outbox(Protocol):
    """Takes messages for queues; the queues of this place."""

    async def post(
        self, queue: str, body: str, attributes: Mapping[str, tuple[str, str]], *, once: str
    ) -> bool:
        """Put a message into a queue unless it was put there before; False: no such queue.

        Args:
            queue: Its name.
            body: Text.
            attributes: Type and value by name.
            once: Tells this message from all others; see `settle`.
        """
        ...

    async def settle(self, queue: str, once: str) -> None:
        """Note that ``once`` is not posted again, so nothing of it need be remembered."""
        ...
