"""One call of a function with records, and what came of it."""

import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from faas.events import lineage
from faas.events.event import Event
from faas.events.shapes import Response
from faas.lambda_errors import ResourceNotFound, TooManyRequests
from faas.model.mapping import EventSourceMapping
from faas.running.outcome import Outcome
from wherry.errors import WherryError

logger = logging.getLogger(__name__)

OK = "OK"
NOTHING = "No records processed"

Invoke = Callable[[Event], Awaitable[Outcome]]
"""Runs a function once, as `faas.events.service.Host.invoke` does."""


@dataclass(frozen=True, slots=True)
class Called:
    """What a call came to.

    Attributes:
        request_id: Of the call.
        response: What the function gave; None: it did not run.
        result: What Lambda's LastProcessingResult says.
    """

    request_id: str
    response: Response | None
    result: str

    @property
    def succeeded(self) -> bool:
        """Whether the function ran and returned."""
        return self.response is not None and self.response.error is None


def looped(mapping: EventSourceMapping, trace_id: str) -> bool:
    """Return whether the function has run too often in a chain already."""
    return lineage.counted(trace_id, mapping.function, event="")[1] > lineage.LIMIT


async def call(
    mapping: EventSourceMapping, payload: bytes, invoke: Invoke, *, trace_id: str = ""
) -> Called:
    """Run a mapping's function once; whatever goes wrong is in what is returned."""
    name = str(uuid.uuid4())
    trace_id, _ = lineage.counted(trace_id, mapping.function, event=name)
    event = Event(
        id=name,
        function=mapping.function,
        qualifier=mapping.qualifier,
        arn=mapping.arn,
        payload=payload,
        trace_id=trace_id,
    )
    try:
        outcome = await invoke(event)
    except ResourceNotFound:
        return Called(name, None, "PROBLEM: Function not found")
    except TooManyRequests:
        return Called(name, None, "PROBLEM: Function call throttled")
    except WherryError as error:
        failed = {"function": mapping.function, "error": type(error).__name__}
        logger.warning("records not delivered", extra=failed)
        return Called(name, None, "PROBLEM: Internal Lambda error. Please contact the operator.")
    response = Response(outcome.payload, outcome.version, outcome.error)
    failed_call = "PROBLEM: Function call failed"
    return Called(name, response, OK if outcome.error is None else failed_call)
