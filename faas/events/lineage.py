"""Circles of functions that call each other: counted in the trace header, cut at 16. Pure.

SDKs in a function pass its trace header on to Lambda and SQS, so a chain is counted whichever
way it goes.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
"""

import hashlib

from faas.telemetry.tracing import read

LIMIT = 16
"""How often one function may run in one chain of events."""
_KEY = "Lineage="
_MOST = 32


def counted(trace_id: str, function: str, *, event: str) -> tuple[str, int]:
    """Return the trace header with one more run of ``function``, and its runs in this chain.

    Args:
        trace_id: X-Ray header or ``traceparent`` as it came; empty: the chain starts here.
        function: The function's name.
        event: The event's id; a chain that starts here is named after it.
    """
    known = None if "=" in trace_id else read(trace_id)
    header = trace_id if known is None else known.header()
    parts = [part for part in header.split(";") if part]
    found = next((part for part in parts if part.startswith(_KEY)), _KEY)
    runs = _parsed(found.removeprefix(_KEY))
    name = hashlib.sha256(function.encode()).hexdigest()[:8]
    runs[name] = runs.pop(name, 0) + 1
    while len(runs) > _MOST:
        del runs[next(iter(runs))]
    lineage = _KEY + "|".join(f"{name}:{count}" for name, count in runs.items())
    kept = [part for part in parts if not part.startswith(_KEY)] or [_root(event)]
    return ";".join([*kept, lineage]), runs[name]


def _parsed(text: str) -> dict[str, int]:
    runs = {}
    for entry in text.split("|"):
        name, _, count = entry.rpartition(":")
        if name and count.isascii() and count.isdigit():
            runs[name] = min(int(count[:6]), 1 << 16)
    return runs


def _root(event: str) -> str:
    digest = hashlib.sha256(event.encode()).hexdigest()
    return f"Root=1-{digest[:8]}-{digest[8:32]}"
