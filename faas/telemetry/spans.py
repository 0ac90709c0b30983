"""One span for each invocation: the caller's trace goes on in the function."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from faas.running.outcome import Kind, Outcome
from faas.telemetry.tracing import Trace, read
from faas.vm import Call, Launch


class Span:
    """One invocation in its trace.

    Args:
        trace: What the function is told.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    @property
    def header(self) -> str:
        """What the function is told, as an ``X-Amzn-Trace-Id``."""
        return self._trace.header()

    def ended(self, outcome: Outcome) -> None:
        """Note what came of it."""


class Spans:
    """Where invocations are traced to: nowhere. The trace goes on all the same."""

    @contextmanager
    def invocation(self, launch: Launch, call: Call) -> Iterator[Span]:
        """Enter with the span of ``call``; a caller without a trace gets a new one, unsampled."""
        yield Span(onward(read(call.trace_id), secrets.token_hex(8)))


def onward(caller: Trace | None, span: str) -> Trace:
    """Return the trace as the function is told of it: the caller's, with ``span`` as its parent."""
    if caller is None:
        return Trace(secrets.token_hex(16), span, sampled=False)
    return Trace(caller.id, span, caller.sampled, caller.lineage)


def attributes(launch: Launch, call: Call) -> dict[str, str | int]:
    """Return what is known of an invocation before it begins.

    Source: https://opentelemetry.io/docs/specs/semconv/faas/faas-spans/
    """
    return {
        "faas.name": launch.function,
        "faas.version": launch.version,
        "faas.invocation_id": call.request_id,
        "faas.max_memory": launch.memory_mib << 20,
        "cloud.resource_id": call.arn,
    }


def told(outcome: Outcome) -> dict[str, str | bool]:
    """Return what is known of an invocation once it ended."""
    known: dict[str, str | bool] = {
        "faas.coldstart": outcome.kind in (Kind.COLD, Kind.RESTORED),
        "wherry.start": outcome.kind.value,
    }
    if outcome.error is not None:
        known["error.type"] = outcome.error_type or "unknown"
    return known
