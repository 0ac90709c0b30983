"""Asynchronous invocations as values: what was accepted and how far it has come. Pure."""

from dataclasses import dataclass
from enum import StrEnum

MAX_EVENT = 1 << 20
"""Most bytes in an asynchronous event. Source: Lambda quotas, "Invocation payload"."""

SCHEDULE = "schedule"
"""The parent of events that a schedule made."""


@dataclass(frozen=True, slots=True)
class Event:
    """One asynchronous invocation.

    Attributes:
        id: Its request id; an id that is accepted twice is run once.
        function: The function's name.
        qualifier: As the caller said it: ``$LATEST``, a number or an alias; resolved anew for
            each try.
        arn: Of the function, with the qualifier.
        payload: JSON, at most `MAX_EVENT` bytes.
        trace_id: X-Ray header; empty: none.
        client_context: JSON; empty: none.
        parent: Id of the event whose record this is; empty: it came from outside.
    """

    id: str
    function: str
    qualifier: str
    arn: str
    payload: bytes
    trace_id: str = ""
    client_context: str = ""
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """How an event is tried again and where it ends.

    Attributes:
        max_age: Seconds after which it is given up.
        max_retries: Tries after the first that ended in an error of the function.
        on_success: ARN; empty: nowhere.
        on_failure: ARN; empty: nowhere.
        dead_letter: ARN of the function's dead-letter queue; empty: none.
    """

    max_age: int = 21600
    max_retries: int = 2
    on_success: str = ""
    on_failure: str = ""
    dead_letter: str = ""


class Phase(StrEnum):
    """What an event waits for: a try, its records to be delivered, or its parent's end."""

    WAITING = "waiting"
    DELIVERING = "delivering"
    DONE = "done"


class Condition(StrEnum):
    """How an event ended, as destination records say it."""

    SUCCESS = "Success"
    EXHAUSTED = "RetriesExhausted"
    TOO_OLD = "EventAgeExceeded"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an event has come; its payload is kept apart.

    Attributes:
        accepted: Unix seconds.
        size: Bytes in the payload.
        rules: As they were when last read; they outlive the function.
        due: Unix seconds of the next try.
        tries: How often the function ran.
        refusals: Throttles and failures of the platform in a row.
        condition: How it ended; None before.
        code: HTTP status that goes with the end, for the dead-letter queue.
        reason: The error's text, for the dead-letter queue.
        looped: Whether it was cut because functions call each other in a circle.
    """

    id: str
    function: str
    qualifier: str
    arn: str
    accepted: float
    size: int
    due: float
    rules: Rules = Rules()
    trace_id: str = ""
    client_context: str = ""
    parent: str = ""
    tries: int = 0
    refusals: int = 0
    phase: Phase = Phase.WAITING
    condition: Condition | None = None
    code: int = 0
    reason: str = ""
    looped: bool = False

    @classmethod
    def of(cls, event: Event, rules: Rules, *, now: float) -> "Progress":
        """Return the state of an event that is accepted ``now`` (Unix seconds)."""
        return cls(
            id=event.id,
            function=event.function,
            qualifier=event.qualifier,
            arn=event.arn,
            accepted=now,
            size=len(event.payload),
            due=now,
            rules=rules,
            trace_id=event.trace_id,
            client_context=event.client_context,
            parent=event.parent,
        )

    def event(self, payload: bytes) -> Event:
        """Return the event with its payload."""
        return Event(
            id=self.id,
            function=self.function,
            qualifier=self.qualifier,
            arn=self.arn,
            payload=payload,
            trace_id=self.trace_id,
            client_context=self.client_context,
            parent=self.parent,
        )

    @property
    def destination(self) -> str:
        """ARN that its record goes to, now that it has ended; empty: none."""
        succeeded = self.condition is Condition.SUCCESS
        return self.rules.on_success if succeeded else self.rules.on_failure

    @property
    def dead_letter(self) -> str:
        """ARN of the queue that the event goes to, now that it has ended; empty: none."""
        return "" if self.condition is Condition.SUCCESS else self.rules.dead_letter
