"""Envoys as child processes: started, watched until they serve, started again when they die."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import aiohttp

from wherry.errors import StartError, WherryError
from wherry.process import Command, envoy, running
from wherry.serve import Address, bound, listening
from xds.bootstrap import bootstrap

logger = logging.getLogger(__name__)

READY_WITHIN = 30.0
"""Seconds from start until an Envoy must serve."""

POLL = 0.02
"""Seconds between two looks at an Envoy that starts; its admin interface offers no event."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before something that died is started again; doubled each time it dies young."""

LONGEST_FILE = 48
"""Most characters of a file's name without suffix, so that a socket's path stays within 107."""

GROWN_UP = 10.0
"""Seconds after which a life counts as a good one and the pause is short again."""


@dataclass(frozen=True, slots=True)
class Envoy:
    """An Envoy to run.

    Attributes:
        node: Unique id.
        metadata: What it is, for the Pilot.
        xds: Where the Pilot listens.
        folder: Short-named folder for its bootstrap, admin socket and log.
    """

    node: str
    metadata: Mapping[str, object]
    xds: Address
    folder: Path

    @property
    def admin(self) -> Path:
        """Unix socket of the admin interface."""
        return self.folder / f"{self._file}.admin"

    @property
    def log(self) -> Path:
        """Envoy's own log."""
        return self.folder / f"{self._file}.log"

    @property
    def _file(self) -> str:
        name = self.node.replace("~", "-")
        if len(name) <= LONGEST_FILE:
            return name
        digest = blake2b(name.encode(), digest_size=4).hexdigest()
        return f"{name[: LONGEST_FILE - 9]}-{digest}"

    def config(self) -> str:
        """Return the bootstrap as JSON."""
        xds = (self.xds.host, self.xds.port)
        return json.dumps(
            bootstrap(self.node, self.metadata, xds=xds, admin=str(self.admin)), indent=1
        )


@asynccontextmanager
async def serving(spec: Envoy) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an Envoy; enter when it serves.

    Raises:
        StartError: It ended, or did not serve within `READY_WITHIN` seconds.
        MissingBinary: Envoy is not installed.
    """
    config = spec.folder / f"{spec._file}.json"
    await asyncio.to_thread(config.write_text, spec.config())
    argv = [envoy(), "--config-path", str(config), "--disable-hot-restart"]
    argv += ["--concurrency", "1", "--log-level", "warning", "--drain-time-s", "5"]
    async with running(Command(spec.node, argv, folder=spec.folder, log=spec.log)) as process:
        await _ready(spec, process)
        yield process


async def _ready(spec: Envoy, process: asyncio.subprocess.Process) -> None:
    connector = aiohttp.UnixConnector(str(spec.admin))
    async with aiohttp.ClientSession(connector=connector) as client:
        try:
            async with asyncio.timeout(READY_WITHIN):
                while not await _live(client):
                    if process.returncode is not None:
                        raise StartError(
                            f"envoy {spec.node}: ended with status {process.returncode} while "
                            f"starting, expected it to serve; its log is {spec.log}"
                        )
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise StartError(
                f"envoy {spec.node}: not ready after {READY_WITHIN:.0f} s, expected its "
                f"configuration from {spec.xds}; its log is {spec.log}"
            ) from None


async def _live(client: aiohttp.ClientSession) -> bool:
    try:
        async with client.get("http://envoy/ready") as answer:
            return answer.status == 200  # noqa: PLR2004
    except (aiohttp.ClientError, OSError):
        return False


async def kept(
    name: str, life: Callable[[], Awaitable[object]], *, first: asyncio.Event | None = None
) -> None:
    """Run ``life`` again and again until cancelled, with growing pauses while it dies young.

    Args:
        name: For the log.
        life: One life from start to end.
        first: Set by the first life that succeeded; what fails before is raised.
    """
    loop = asyncio.get_running_loop()
    pause = FIRST_PAUSE
    while True:
        born = loop.time()
        try:
            await life()
            logger.warning("%s ended; starting it again", name)
        except (WherryError, OSError) as error:
            if first is not None and not first.is_set():
                raise
            logger.warning("%s failed: %s; starting it again", name, error)
        if loop.time() - born > GROWN_UP:
            pause = FIRST_PAUSE
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free now, for a program that can only be told a number."""
    with listening("program", Address(host)) as probe:
        return bound(probe).port
