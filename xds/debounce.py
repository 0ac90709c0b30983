"""When to publish: at once after quiet, and seldom enough while changes keep coming."""

LEAST, MOST = 0.01, 0.1
"""Seconds between two publications under a storm: where publishing is cheap, and at most."""

SHARE = 5
"""A storm leaves this many times as long between two publications as one takes."""


class Debounce:
    """The time of the next publication; monotonic seconds go in and come out.

    The first change after quiet is published at once. Changes that follow are collected: what is
    published next holds all of them, so none waits longer than `MOST`.
    """

    def __init__(self) -> None:
        self._open = float("-inf")
        self._due: float | None = None

    @property
    def due(self) -> float | None:
        """When to publish; None while there is nothing to."""
        return self._due

    def changed(self, now: float) -> float:
        """Note a change; return when to publish, ``now`` or later."""
        if self._due is None:
            self._due = max(now, self._open)
        return self._due

    def published(self, began: float, ended: float) -> None:
        """Note a publication that took from ``began`` to ``ended``."""
        self._due = None
        self._open = ended + min(max(LEAST, SHARE * (ended - began)), MOST)
