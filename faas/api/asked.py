"""One request to the API, parsed and checked, and what an operation is."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as an operation gets it.

    Attributes:
        operation: ``CreateFunction``.
        parameters: By the names that boto3 uses; blobs are bytes, timestamps are datetimes;
            checked against the service model: names, types, bounds, patterns, enumerations.
        request_id: UUID; the caller gets it back.
        base_url: ``http://HOST:PORT`` as the caller reached the API.
        caller: ARN of who signed; empty when signatures are not checked.
        trace_id: ``X-Amzn-Trace-Id``, or else ``traceparent``, as it came; empty: none.
    """

    operation: str
    parameters: Mapping[str, Any]
    request_id: str
    base_url: str
    caller: str = ""
    trace_id: str = ""

    def get(self, name: str, default: Any = None) -> Any:
        """Return a parameter, or ``default`` when it was not sent."""
        found = self.parameters.get(name)
        return default if found is None else found

    def __getitem__(self, name: str) -> Any:
        """Return a parameter that the model requires."""
        return self.parameters[name]


class EventSink(Protocol):
    """Takes the events of an answer that streams.

    A caller who has hung up is no error: what comes then is dropped.
    """

    async def begin(self, members: Mapping[str, Any]) -> None:
        """Send status and headers; called once, before any event.

        Until then a `LambdaError` still becomes an answer of its own; later it ends the stream.
        """
        ...

    async def send(self, event: str, members: Mapping[str, Any]) -> None:
        """Send one event; returns when there is room for another."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """An operation's answer.

    Attributes:
        members: By the names that boto3 uses; blobs are bytes. What the model does not have is
            left out.
        status: HTTP status, when it is not the model's.
        headers: Further headers.
        events: Where the model has a stream of events: writes them, then returns.
    """

    members: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Callable[[EventSink], Awaitable[None]] | None = None


Operation = Callable[[Asked], Awaitable[Answered]]
"""Does one operation; raises a `LambdaError` when it will not."""
