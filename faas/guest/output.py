"""What programs write to stdout and stderr: one pipe, cut into lines, sent in order."""

import contextlib
import os
import select
import threading
from collections.abc import Callable

from faas.guest.link import Link

MAX_LINE = 8192
_READ = 65536

Tap = Callable[[bytes], None]
"""Takes each line as well; must not block."""


class Output:
    """Reads the pipe that programs write to and sends each line to the host.

    When the host takes no more, the pipe fills and the programs' own writes block.

    Args:
        link: Where lines go.
        tap: Hears each line, too.
    """

    def __init__(self, link: Link, tap: Tap = lambda _: None) -> None:
        self._link = link
        self._tap = tap
        self._source, self.sink = os.pipe()
        os.set_blocking(self._source, False)
        self._rest = b""
        self._reading = threading.Lock()

    def run(self) -> None:
        """Send lines as they come, for as long as this process lives."""
        while True:
            select.select([self._source], [], [])
            with self._reading:
                self._pass_on()

    def flush(self) -> None:
        """Send all that was written so far, an unfinished line included.

        Called before a result is sent, so that a call's lines arrive before its answer.
        """
        with self._reading:
            self._pass_on()
            if self._rest:
                self._send([self._rest])
                self._rest = b""

    def _pass_on(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                piece = os.read(self._source, _READ)
                *lines, self._rest = (self._rest + piece).split(b"\n")
                whole = len(self._rest) // MAX_LINE * MAX_LINE
                if whole:
                    lines.append(self._rest[:whole])
                    self._rest = self._rest[whole:]
                self._send(lines)

    def _send(self, lines: list[bytes]) -> None:
        pieces = [
            line[start : start + MAX_LINE]
            for line in lines
            for start in range(0, len(line) or 1, MAX_LINE)
        ]
        self._link.send_logs(pieces)
        for piece in pieces:
            self._tap(piece)
