"""What every store refuses, so that all refuse the same."""

from collections.abc import Iterable, Sequence

from wherry.store import MAX_BODY, TooLarge
from wherry.store.steps import Advance, Hold

MAX_KEY = 1024
"""Most UTF-8 bytes in a key, counter, log, holder or event id."""

MAX_READ = 10_000
"""Most events in one answer of `Store.read`."""

MAX_STEPS = 1000
"""Most steps or claims in one call of `Store.advance_all` or `Store.hold_all`."""

MAX_TRIMMED = 1000
"""Most events, and most ids, that one call of `Store.trim` removes."""

MAX_SHARE = 1 << 53
"""Largest share in `Store.hold`, and largest sum that is told right."""

_COUNTER = 1 << 63


def named(*names: str) -> None:
    """Check keys and other names.

    Raises:
        ValueError: A name is empty, longer than `MAX_KEY` bytes or no Unicode text.
    """
    for name in names:
        if not 0 < len(name.encode()) <= MAX_KEY:
            raise ValueError(f"name {name[:40]!r}: expected 1 to {MAX_KEY} bytes of UTF-8")


def sized(bodies: Iterable[tuple[str, bytes]]) -> None:
    """Check bodies, each with the name to show.

    Raises:
        TooLarge: A body is over `MAX_BODY`.
    """
    for name, body in bodies:
        if len(body) > MAX_BODY:
            raise TooLarge(name, len(body))


def counted(counter: str, value: int) -> int:
    """Return ``value`` if a counter can hold it.

    Raises:
        ValueError: It does not fit in 64 bits.
    """
    if not -_COUNTER <= value < _COUNTER:
        raise ValueError(f"counter {counter!r}: {value}, expected a signed 64-bit number")
    return value


def lasting(key: str, seconds: float) -> int:
    """Return the length of a lease, a level or a share in nanoseconds.

    Raises:
        ValueError: It is not over 0 or longer than a year.
    """
    if not 0 < seconds <= 366 * 86_400:
        raise ValueError(f"lease {key!r}: {seconds} s, expected over 0 and at most a year")
    return max(1, round(seconds * 1e9))


def paged(limit: int) -> int:
    """Return ``limit`` if one read may ask for that many events.

    Raises:
        ValueError: It is not 1 to `MAX_READ`.
    """
    if not 1 <= limit <= MAX_READ:
        raise ValueError(f"read limit {limit}: expected 1 to {MAX_READ}")
    return limit


def stepped(steps: Sequence[Advance]) -> None:
    """Check steps of levels.

    Raises:
        ValueError: There are too many, or one has a number or name out of range.
    """
    _few(len(steps))
    for step in steps:
        named(step.level)
        lasting(step.level, step.seconds)
        for number in (step.n, step.floor or 0, step.most or 0):
            counted(step.level, number)


def claimed(claims: Sequence[Hold]) -> None:
    """Check claims to shares.

    Raises:
        ValueError: There are too many, or one has a number or name out of range.
    """
    _few(len(claims))
    for claim in claims:
        named(claim.name, claim.holder)
        lasting(claim.name, claim.seconds)
        if not 0 <= claim.amount <= MAX_SHARE or not 0 <= (claim.most or 0) <= MAX_SHARE:
            raise ValueError(
                f"share of {claim.name!r}: {claim.amount} of {claim.most}, "
                f"expected 0 to {MAX_SHARE}"
            )


def _few(count: int) -> None:
    if count > MAX_STEPS:
        raise ValueError(f"steps: {count}, expected at most {MAX_STEPS} in one call")
