"""What every store refuses, so that all refuse the same."""

from collections.abc import Iterable

from wherry.store import MAX_BODY, TooLarge

MAX_KEY = 1024
"""Most UTF-8 bytes in a key, counter, log, holder or event id."""

MAX_READ = 10_000
"""Most events in one answer of `Store.read`."""

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
    """Return a lease's length in nanoseconds.

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
