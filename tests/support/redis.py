"""A real Redis server for tests: Debian's, unpacked, on a socket of its own."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.debian import program

_PACKAGES = ["redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"]


class Server:
    """A Redis that can be ended and begun again with what it holds.

    Attributes:
        url: Where it is, for `wherry.store.opened`.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder, self._options = folder, options
        self._process: subprocess.Popen[str] | None = None
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"

    def start(self) -> None:
        """Begin to serve; returns when connections are taken."""
        found = program("usr/bin/redis-server", _PACKAGES)
        command = [str(found.path), "--port", "0", "--unixsocket", str(self.socket)]
        command += ["--dir", str(self._folder), "--save", "", "--daemonize", "no", *self._options]
        self._process = subprocess.Popen(
            command, env=found.environment, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "eady to accept connections" in line:
                return
        raise AssertionError("redis-server ended: " + "".join(said))

    def pause(self) -> None:
        """Let it hang: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it hung."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            assert self._process.stdout is not None
            self._process.kill()
            self._process.wait(10)
            self._process.stdout.close()
            self._process = None


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    """Run a server in ``folder`` until the end of the block; ``options`` as on its command line."""
    server = Server(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
