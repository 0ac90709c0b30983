"""Trace contexts of callers and functions: W3C ``traceparent`` and ``X-Amzn-Trace-Id``. Pure."""

import re
from dataclasses import dataclass

_W3C = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_SPAN = re.compile(r"[0-9a-f]{16}")
_MOST = 1024


@dataclass(frozen=True, slots=True)
class Trace:
    """Where an invocation stands in a trace.

    Attributes:
        id: 32 hex digits.
        span: 16 hex digits: the parent of what comes next.
        sampled: Whether the trace is kept.
        lineage: What Lambda's recursion check passes on; empty: none.
    """

    id: str
    span: str
    sampled: bool
    lineage: str = ""

    @property
    def root(self) -> str:
        """The trace's id as X-Ray writes it."""
        return f"1-{self.id[:8]}-{self.id[8:]}"

    def header(self) -> str:
        """Return it as an ``X-Amzn-Trace-Id``.

        Source: https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html
        """
        told = f"Root={self.root};Parent={self.span};Sampled={int(self.sampled)}"
        return f"{told};Lineage={self.lineage}" if self.lineage else told

    def traceparent(self) -> str:
        """Return it as a ``traceparent``. Source: https://www.w3.org/TR/trace-context/."""
        return f"00-{self.id}-{self.span}-{int(self.sampled):02x}"


def read(header: str) -> Trace | None:
    """Return what a ``traceparent`` or an ``X-Amzn-Trace-Id`` says; None when it is neither.

    An ``X-Amzn-Trace-Id`` without a parent has a span of zeros, one without ``Sampled`` or with
    ``?`` leaves the choice to us, which is not to sample.
    """
    if len(header) > _MOST:
        return None
    if match := _W3C.fullmatch(header.strip()):
        trace, span, flags = match.groups()
        if not int(trace, 16) or not int(span, 16) or header.strip().startswith("ff"):
            return None
        return Trace(trace, span, bool(int(flags, 16) & 1))
    fields = dict(part.strip().split("=", 1) for part in header.split(";") if "=" in part)
    root = _ROOT.fullmatch(fields.get("Root", ""))
    if root is None:
        return None
    parent = fields.get("Parent", "")
    span = parent if _SPAN.fullmatch(parent) else "0" * 16
    sampled = fields.get("Sampled") == "1"
    return Trace(root[1] + root[2], span, sampled, fields.get("Lineage", ""))
