"""Functions' logs in files: written in batches, bounded, read back after a restart."""

import asyncio
import json
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from faas.telemetry.logs import Line, Rate, Ring

logger = logging.getLogger(__name__)

LINES = 2000
"""Most lines of one function that are kept in memory."""
FILE_BYTES = 4 << 20
"""Most bytes in one file; each function has two, the older of which goes when both are full."""
BATCH_SECONDS = 0.5
"""Seconds that lines wait to be written; what a killed service loses at most."""
MOST_PENDING = 8 << 20
"""Most characters of one function that wait to be written; beyond it lines miss the file."""

_READ_BACK = 1 << 20
_GAP = 100_000
"""How far offsets jump after a service that was killed, over what it may have given out."""
_RUNNING = ".running"


class Journal:
    """The logs of all functions; made by `opened`.

    Args:
        folder: Where the files are; None: logs are kept in memory only.
        rate: How much each function may print.
        jump: How far offsets jump ahead of what the files hold.
    """

    def __init__(self, folder: Path | None, rate: Rate | None = None, jump: int = 0) -> None:
        self._folder = folder
        self._rate = rate
        self._jump = jump
        self._rings: dict[str, Ring] = {}
        self._pending: defaultdict[str, list[Line]] = defaultdict(list)
        self._sizes: defaultdict[str, int] = defaultdict(int)
        self._closing = asyncio.Event()
        self._failing = False
        self.lost = 0

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, folder: Path | None, rate: Rate | None = None
    ) -> AsyncIterator["Journal"]:
        """Enter with the logs in ``folder``, made if need be; on exit every line is written.

        One process at a time may have a folder open.
        """
        if folder is None:
            yield cls(None, rate)
            return
        killed = await asyncio.to_thread(_entered, folder)
        journal = cls(folder, rate, _GAP if killed else 0)
        failure: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(journal._write_on(), name="faas journal")
            try:
                yield journal
            except Exception as error:
                failure = error
            finally:
                journal._closing.set()
        await asyncio.to_thread((folder / _RUNNING).unlink, missing_ok=True)
        if failure is not None:
            raise failure

    def ring(self, name: str) -> Ring:
        """Return the log of function ``name``, read back from its files the first time."""
        ring = self._rings.get(name)
        if ring is None:
            ring = self._rings[name] = self._read_back(name)
        return ring

    def forget(self, name: str) -> None:
        """Remove the log of a function that was deleted."""
        self._rings.pop(name, None)
        self._pending.pop(name, None)
        self._sizes.pop(name, None)
        if self._folder is not None:
            for path in _files(self._folder, name):
                path.unlink(missing_ok=True)

    @property
    def dropped(self) -> Mapping[str, int]:
        """How many lines of each function came too fast since this service began."""
        return {name: ring.dropped for name, ring in self._rings.items()}

    async def flush(self) -> None:
        """Write what waits. A disk that does not take it costs the file those lines, not more."""
        if self._folder is None or not self._pending:
            return
        batch, self._pending = self._pending, defaultdict(list)
        self._sizes.clear()
        lost, why = await asyncio.to_thread(_written, self._folder, batch)
        self.lost += lost
        if why and not self._failing:
            logger.warning("function logs not written", extra={"error": why})
        self._failing = bool(why)

    async def _write_on(self) -> None:
        """Write from time to time and, at the end, what is left; one batch after the other."""
        while not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(BATCH_SECONDS):
                    await self._closing.wait()
            await self.flush()
        await self.flush()

    def _read_back(self, name: str) -> Ring:
        if self._folder is None:
            return Ring(lines=LINES, rate=self._rate)
        kept = list(_read(self._folder, name))
        last = kept[-1].offset if kept else 0

        def written(line: Line) -> None:
            if self._rings.get(name) is not ring:
                return
            if self._sizes[name] >= MOST_PENDING:
                self.lost += 1
                return
            self._sizes[name] += len(line.text)
            self._pending[name].append(line)

        jump = self._jump if kept else 0
        ring = Ring(lines=LINES, kept=kept, after=last + jump, written=written, rate=self._rate)
        return ring


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the older and the newer file of a function."""
    return folder / f"{name}.log.1", folder / f"{name}.log"


def _read(folder: Path, name: str) -> Iterator[Line]:
    """Yield the newest lines of a function's files, oldest first; what is torn is left out."""
    older, newer = (_end_of(path) for path in _files(folder, name))
    for text in (older + newer).splitlines()[-LINES:]:
        with suppress(ValueError):
            offset, at_ns, line = json.loads(text)
            yield Line(int(offset), int(at_ns), str(line))


def _end_of(path: Path) -> bytes:
    """Return the last whole lines of a file; empty when there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - _READ_BACK)
            file.seek(start)
            found = file.read()
    except FileNotFoundError:
        return b""
    return found.partition(b"\n")[2] if start else found


def _entered(folder: Path) -> bool:
    """Make the folder if need be and mark it as in use; return whether it was marked before."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    mark = folder / _RUNNING
    killed = mark.exists()
    mark.touch()
    return killed


def _written(folder: Path, batch: Mapping[str, Sequence[Line]]) -> tuple[int, str]:
    """Write what each function printed; return how many lines could not be, and why."""
    lost, why = 0, ""
    for name, lines in batch.items():
        body = b"".join(
            json.dumps((line.offset, line.at_ns, line.text)).encode() + b"\n" for line in lines
        )
        try:
            _append(*_files(folder, name), body)
        except OSError as error:
            lost, why = lost + len(lines), str(error)
    return lost, why


def _append(older: Path, newer: Path, body: bytes) -> None:
    """Add to the newer file; when it is full it becomes the older one."""
    size = newer.stat().st_size if newer.exists() else 0
    if size and size + len(body) > FILE_BYTES:
        newer.replace(older)
    with os.fdopen(os.open(newer, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(body)
