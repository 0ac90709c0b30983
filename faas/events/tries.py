"""One try of an event: what the function is told, and what came of it."""

import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from faas.events import lineage
from faas.events.core import Happened, Result
from faas.events.event import Event, Progress, Rules
from faas.events.shapes import Response
from faas.events.targets import Outbox
from faas.lambda_errors import LambdaError, ResourceNotFound, TooManyRequests
from faas.model import concurrency, delivery, recursion
from faas.model.concurrency import Reserved
from faas.model.delivery import Delivery
from faas.model.function import Reference
from faas.model.recursion import Recursion
from faas.records import Records
from faas.running.outcome import Outcome
from wherry.errors import WherryError
from wherry.store import Store

logger = logging.getLogger(__name__)

_FAILED = 500
_REFUSED = 400


@dataclass(frozen=True, slots=True)
class Host:
    """What events need of functions.

    Attributes:
        invoke: Runs the function that the event's name and qualifier mean by now.
        dead_letter: Returns the ARN of a function's dead-letter queue, empty for none; raises
            `ResourceNotFound` when there is no such function.
        outbox: The queues.
    """

    invoke: Callable[[Event], Awaitable[Outcome]]
    dead_letter: Callable[[Reference], Awaitable[str]]
    outbox: Outbox


class Tries:
    """Runs events once, by what is configured at that moment."""

    def __init__(self, store: Store, host: Host) -> None:
        self._host = host
        self._deliveries = Records(store, delivery.PREFIX, Delivery)
        self._reserved = Records(store, concurrency.RESERVED, Reserved)
        self._recursions = Records(store, recursion.PREFIX, Recursion)

    async def rules(self, function: str, qualifier: str) -> Rules:
        """Return how events of a function are to be treated.

        Raises:
            ResourceNotFound: There is no such function.
        """
        letter = await self._host.dead_letter(Reference(function, qualifier))
        found = await self._deliveries.get(f"{function}/{qualifier}")
        if found is None:
            return Rules(dead_letter=letter)
        return Rules(
            max_age=found.max_age,
            max_retries=found.max_retries,
            on_success=found.on_success,
            on_failure=found.on_failure,
            dead_letter=letter,
        )

    async def may_loop(self, function: str) -> bool:
        """Return whether the function may go on in a circle."""
        found = await self._recursions.get(function)
        return found is not None and found.loop == "Allow"

    async def once(self, progress: Progress, payload: bytes) -> tuple[Happened, Response | None]:
        """Run an event's function once; whatever goes wrong is in what is returned."""
        if progress.looped:
            reason = f"{progress.function} ran {lineage.LIMIT} times in one chain of events"
            return Happened(Result.LOOPED, _REFUSED, reason), None
        try:
            outcome = await self._host.invoke(progress.event(payload))
        except ResourceNotFound as error:
            return Happened(Result.REFUSED, error.status, str(error)), None
        except TooManyRequests as error:
            result = Result.REFUSED if await self._never(progress.function) else Result.THROTTLED
            return Happened(result, error.status, str(error)), None
        except WherryError as error:
            code = error.status if isinstance(error, LambdaError) else _FAILED
            failed = {"function": progress.function, "error": type(error).__name__}
            logger.warning("event not run", extra=failed)
            return Happened(Result.BROKEN, code, str(error)), None
        response = Response(outcome.payload, outcome.version, outcome.error)
        if outcome.error is None:
            return Happened(Result.SUCCEEDED), response
        return Happened(Result.FAILED, reason=_message(outcome.payload)), response

    async def _never(self, function: str) -> bool:
        """Return whether a function is allowed no instance at all, as far as can be read now."""
        with suppress(WherryError):
            found = await self._reserved.get(function)
            return found is not None and found.count == 0
        return False


def _message(payload: bytes) -> str:
    """Return the error's text out of an error document, as text that can be written."""
    with suppress(ValueError, RecursionError):
        document = json.loads(payload)
        if isinstance(document, dict):
            said = str(document.get("errorMessage") or document.get("errorType") or "")
            return said.encode(errors="replace").decode()
    return ""
