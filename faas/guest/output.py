"""The runtime's stdout and stderr: one pipe, cut into lines, sent in order."""

import contextlib
import os
import select
import threading

from faas.guest.link import Link

MAX_LINE = 8192
_READ = 65536


class Output:
    """Reads the pipe that the runtime writes to and sends each line to the host.

    When the host takes no more, the pipe fills and the runtime's own writes block.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
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
                self._send(self._rest)
                self._rest = b""

    def _pass_on(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                piece = os.read(self._source, _READ)
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    self._send(line)
                while len(self._rest) >= MAX_LINE:
                    self._send(self._rest[:MAX_LINE])
                    self._rest = self._rest[MAX_LINE:]

    def _send(self, line: bytes) -> None:
        for start in range(0, len(line) or 1, MAX_LINE):
            self._link.send_log(line[start : start + MAX_LINE])
