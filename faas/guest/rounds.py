"""When an invocation is over: once the runtime and every extension wait for the next one."""

import threading
from collections.abc import Callable

RUNTIME = "runtime"


class Rounds:
    """Counts who waits for an event and who is at work.

    Args:
        rested: Called, outside of any lock, each time that all have come to wait.
    """

    def __init__(self, rested: Callable[[], None]) -> None:
        self._rested = rested
        self._lock = threading.Lock()
        self._busy = {RUNTIME}

    def join(self, name: str) -> None:
        """Wait for one more participant from now on."""
        with self._lock:
            self._busy.add(name)

    def waits(self, name: str) -> None:
        """Note that a participant waits for an event."""
        with self._lock:
            last = self._busy == {name}
            self._busy.discard(name)
        if last:
            self._rested()

    def works(self, names: set[str]) -> None:
        """Note that an event goes to ``names``."""
        with self._lock:
            self._busy |= names
