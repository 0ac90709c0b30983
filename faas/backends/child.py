"""A child process that never outlives its block, nor this process."""

import asyncio
import ctypes
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from faas.backends.tasks import tasks
from wherry.process import with_parent

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = 4000
_PR_SET_THP_DISABLE = 41
_libc = ctypes.CDLL(None)
_GRACE = 1.0
"""Seconds for a program to follow the one it waited for."""
_READ = 65536


class Child:
    """A running program.

    Attributes:
        process: It.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._said = b""
        self._silent = asyncio.Event()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def said(self) -> str:
        """The end of what it wrote to stderr, on one line."""
        return " ".join(self._said.decode("utf-8", "replace").split())

    async def listen(self) -> None:
        """Keep the end of its stderr until it closes."""
        assert self.process.stderr is not None  # noqa: S101
        while piece := await self.process.stderr.read(_READ):
            self._said = (self._said + piece)[-_KEPT:]
        self._silent.set()

    async def silent(self) -> None:
        """Return when its stderr has closed, or soon after should another hold it open."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await self._silent.wait()


@asynccontextmanager
async def child(
    argv: Sequence[str],
    *,
    fds: Sequence[int] = (),
    inner: bool = False,
    leashed: bool = False,
    small_pages: bool = False,
    folder: Path | None = None,
) -> AsyncIterator[Child]:
    """Run ``argv`` for the length of the block, then SIGKILL and reap it.

    Its environment holds `PATH` and nothing else.

    Args:
        argv: Program, by absolute path or found on PATH, and its arguments.
        fds: Descriptors that it inherits.
        inner: Whether it only waits for another process, which is then killed first, so that
            everything below is reaped by its own parent.
        leashed: Whether ``argv`` itself sees to it that the program ends with this process.
        small_pages: Whether it gets no huge pages, even where it asks for them.
        folder: Where it runs; None is where we run.
    """
    if small_pages:
        _huge_pages(forbidden=True)
    try:
        process = await _started(argv, fds, folder, leashed=leashed)
    finally:
        if small_pages:
            _huge_pages(forbidden=False)
    async with tasks() as running:
        running_child = Child(process)
        running.start(running_child.listen(), name=f"stderr of {argv[0]} {process.pid}")
        try:
            yield running_child
        finally:
            await _ended(process, inner=inner)
            await running_child.silent()


async def _started(
    argv: Sequence[str], fds: Sequence[int], folder: Path | None, *, leashed: bool
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(argv if leashed else with_parent(argv, by="KILL")),
        env={"PATH": PATH},
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=fds,
        start_new_session=True,
    )


def _huge_pages(*, forbidden: bool) -> None:
    """Set whether programs that are started from now on get huge pages.

    Source: https://man7.org/linux/man-pages/man2/PR_SET_THP_DISABLE.2const.html
    """
    _libc.prctl(_PR_SET_THP_DISABLE, int(forbidden), 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid``, nearest first, as they are at this moment."""
    found = [pid]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, thread.read_text().split())
    return found[1:]


async def _ended(process: asyncio.subprocess.Process, *, inner: bool) -> None:
    """Kill a process and wait for its end, also when this task is cancelled meanwhile."""
    below = descendants(process.pid)[:1] if inner else []
    for pid in below or [process.pid]:
        _signal(pid, signal.SIGKILL)
    _signal(process.pid, signal.SIGCONT)
    cancelled = False
    while process.returncode is None:
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
        except TimeoutError:
            _signal(process.pid, signal.SIGKILL)
        except asyncio.CancelledError:
            cancelled = True
            _signal(process.pid, signal.SIGKILL)
    if cancelled:
        raise asyncio.CancelledError


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
