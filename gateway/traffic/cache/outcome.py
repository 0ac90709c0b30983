"""What becomes of a request that the cache was asked about, and of the answer to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from multidict import CIMultiDict

from gateway.call import Answer
from gateway.traffic.cache.asked import CONDITIONS, Asked
from gateway.traffic.cache.entry import Entry
from gateway.traffic.cache.kept import Place


@dataclass(frozen=True, slots=True)
class Forward:
    """A request that the upstream answers.

    Attributes:
        asked: The request.
        at: Unix seconds when it is sent.
        why: In ``Cache-Status``: ``uri-miss``, ``vary-miss``, ``stale``, ``request``, ``method``
            or ``bypass``.
        place: Where the answer is kept.
        entry: The kept answer that the upstream is asked about, or that may stand in for it.
        conditions: Fields that take the place of the client's own `CONDITIONS`; empty: those
            stay.
        keeps: Whether the answer may be kept.
    """

    asked: Asked
    at: float
    why: str
    place: Place
    entry: Entry | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    keeps: bool = False

    def condition(self, fields: CIMultiDict[str]) -> None:
        """Set the conditions in the fields that are sent on."""
        if self.conditions:
            for name in CONDITIONS:
                fields.popall(name, None)
            fields.update(self.conditions)


@dataclass(frozen=True, slots=True)
class Hit:
    """A request that a kept answer answers.

    Attributes:
        answer: For the client; to HEAD, the length of the body counts and not the body.
        refresh: What to ask the upstream after that, as a GET; None: nothing.
    """

    answer: Answer
    refresh: Forward | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """An answer that is kept once its body has come whole.

    Attributes:
        most: Most bytes of the body; if more come, it is not kept.
        place: Where.
        entry: All but the body.
    """

    most: int
    place: Place
    entry: Entry


Answered = Keep | Answer | None
"""What becomes of an upstream's answer: it is kept too, another takes its place, or neither."""
