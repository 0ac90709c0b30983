"""What becomes of an event after each try: state, what happened and the time give the next. Pure.

Source: https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto

from faas.events.event import Condition, Phase, Progress

RETRIES = (60.0, 120.0)
"""Seconds before the second and the third try after an error of the function."""
_FIRST_BACKOFF, _LAST_BACKOFF = 1.0, 300.0
_OK = 200
_MAX_REASON = 1024


class Result(Enum):
    """What a try came to."""

    SUCCEEDED = auto()
    FAILED = auto()
    THROTTLED = auto()
    BROKEN = auto()
    REFUSED = auto()
    LOOPED = auto()


@dataclass(frozen=True, slots=True)
class Happened:
    """One try and its result.

    Attributes:
        result: ``THROTTLED`` and ``BROKEN`` (the platform failed) are tried again until the
            event is too old; ``REFUSED`` (no such function, or none may run) never.
        code: HTTP status.
        reason: The error's text; empty on success.
    """

    result: Result
    code: int = _OK
    reason: str = ""


def before_try(progress: Progress, *, now: float) -> Progress:
    """Return the event as it is when its next try is due: ended when it is too old."""
    if now - progress.accepted < progress.rules.max_age:
        return progress
    code = progress.code or _OK
    reason = progress.reason or f"Event older than {progress.rules.max_age} seconds"
    return _ended(progress, Condition.TOO_OLD, Happened(Result.FAILED, code, reason))


def after_try(
    progress: Progress, happened: Happened, *, now: float, retries: Sequence[float] = RETRIES
) -> Progress:
    """Return the event after a try.

    Args:
        progress: As it was before.
        happened: What the try came to.
        now: Unix seconds.
        retries: Seconds before the second, third ... try; the last is used again.
    """
    match happened.result:
        case Result.SUCCEEDED:
            return _ended(_ran(progress), Condition.SUCCESS, happened)
        case Result.FAILED:
            progress = _ran(progress)
            if progress.tries > progress.rules.max_retries:
                return _ended(progress, Condition.EXHAUSTED, happened)
            wait = retries[min(progress.tries, len(retries)) - 1] if retries else 0.0
            return _later(progress, happened, now + wait)
        case Result.THROTTLED | Result.BROKEN:
            wait = min(_FIRST_BACKOFF * 2 ** min(progress.refusals, 16), _LAST_BACKOFF)
            progress = replace(progress, refusals=progress.refusals + 1)
            return _later(progress, happened, now + wait)
        case Result.REFUSED:
            return _ended(progress, Condition.EXHAUSTED, happened)
        case Result.LOOPED:
            return _ended(replace(progress, looped=True), Condition.EXHAUSTED, happened)


def _ran(progress: Progress) -> Progress:
    return replace(progress, tries=progress.tries + 1, refusals=0)


def _later(progress: Progress, happened: Happened, due: float) -> Progress:
    """Wait until ``due``, or until the event is too old if that is sooner."""
    return replace(
        progress,
        due=min(due, progress.accepted + progress.rules.max_age),
        code=happened.code,
        reason=happened.reason[:_MAX_REASON],
    )


def _ended(progress: Progress, condition: Condition, happened: Happened) -> Progress:
    return replace(
        progress,
        phase=Phase.DELIVERING,
        condition=condition,
        code=happened.code,
        reason=happened.reason[:_MAX_REASON],
    )
