"""How fast one client may open streams."""

SLACK_SECONDS = 5.0
"""Longest that one stream waits for its turn."""
REMEMBERED = 10_000
"""Clients after which those are forgotten that have waited out what they owe."""

_NOTHING = 1e-6
"""Seconds that are only a rounding error."""


class Pace:
    """Lets each client open a number of streams at once, and further ones at a steady rate.

    Who opens more is not refused: a client that comes back at once when it is refused costs as
    much as one that is served. It has to wait.

    Args:
        burst: Streams that may come at once.
        rate: Streams a second after that.

    Source: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    """

    def __init__(self, burst: int, rate: float) -> None:
        self._step, self._slack = 1 / rate, burst / rate
        self._due: dict[str, float] = {}

    def wait(self, node: str, now: float) -> float:
        """Count a stream of ``node``; return the seconds, at most `SLACK_SECONDS`, that it waits.

        Args:
            node: Who opens it.
            now: Seconds of a clock that only goes forward.
        """
        if len(self._due) >= REMEMBERED:
            self._due = {each: due for each, due in self._due.items() if due > now}
        due = max(self._due.get(node, now), now)
        due = min(due + self._step, now + self._slack + SLACK_SECONDS)
        self._due[node] = due
        wait = due - self._slack - now
        return wait if wait > _NOTHING else 0.0
