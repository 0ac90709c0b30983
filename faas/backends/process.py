"""Functions as sandboxed processes: quick and everywhere, but no VM."""

import asyncio
import itertools
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from faas.backends.child import Child, child, descendants
from faas.backends.environment import environment
from faas.backends.guest import Guest
from faas.backends.machine import Machine
from faas.backends.sandbox import View, bubblewrap, user_namespace
from faas.backends.tasks import tasks
from faas.image.layout import laid_out
from faas.vm import BootFailed, Crashed, InitTimeout, Launch, Logs, NotAtRestorePoint, Vm, VmImage

logger = logging.getLogger(__name__)

_HELLO = 10.0
"""Seconds for a sandbox to come up."""
_PROCESSES = 1024
"""Most processes and threads of one function, as Lambda allows."""
_UIDS = range(1_900_000_000, 2_000_000_000)
"""Host users that sandboxes become when root starts them; no distribution gives these out."""


class ProcessBackend:
    """Runs each function in a sandbox of namespaces: own processes, files and loopback only.

    Args:
        cache: Where the runtime's files are laid out, once.
        reason: Why it stands in for a better one; empty when it was asked for.
    """

    name = "process"
    snapshots = False

    def __init__(self, cache: Path, *, reason: str = "") -> None:
        self._cache = cache
        self._reason = reason
        self._numbers = itertools.count(1)
        self._uids = itertools.cycle(_UIDS[secrets.randbelow(len(_UIDS)) :])

    @property
    def isolation(self) -> str:
        """See `faas.vm.Backend`."""
        because = f" ({self._reason})" if self._reason else ""
        return f"sandboxed process, no VM: shares the host's kernel{because}"

    @asynccontextmanager
    async def boot(self, launch: Launch, logs: Logs) -> AsyncIterator[Vm]:
        """See `faas.vm.Backend`."""
        id_ = f"{launch.function}-p{next(self._numbers)}"
        ours, theirs = socket.socketpair()
        with ours, theirs:
            argv = self._command(launch, theirs.fileno())
            async with (
                child(argv, fds=[theirs.fileno()], inner=True) as sandbox,
                tasks() as running,
            ):
                theirs.close()
                guest = Guest(
                    id_,
                    await asyncio.open_connection(sock=ours),
                    egress=launch.egress,
                    logs=logs,
                    tasks=running,
                )
                try:
                    await _said_hello(id_, guest, sandbox)
                    await _launched(launch, guest)
                    yield Machine(id_, guest, _Signals(sandbox.pid), fresh=False)
                finally:
                    guest.close()

    async def snapshot(self, vm: Vm) -> VmImage:
        """Refuse: a process cannot be saved."""
        raise NotAtRestorePoint(vm.id)

    @asynccontextmanager
    async def restore(self, image: VmImage, logs: Logs) -> AsyncIterator[Vm]:
        """Boot what the image was to hold."""
        async with self.boot(image.launch, logs) as vm:
            yield vm

    def _command(self, launch: Launch, fd: int) -> list[str]:
        files = laid_out(self._cache)
        view = View(
            python=Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}",
            prefix=Path(sys.base_prefix),
            agent=files / "agent",
            runtime=files / "runtime",
            code=launch.code,
        )
        root = os.geteuid() == 0
        if program := shutil.which("bwrap"):
            return [program, *bubblewrap(view, fd, next(self._uids) if root else None)]
        return user_namespace(view, fd)


async def _said_hello(vm: str, guest: Guest, sandbox: Child) -> None:
    try:
        async with asyncio.timeout(_HELLO):
            await guest.hello()
    except Crashed:
        await sandbox.process.wait()
        raise BootFailed(
            vm, f"the sandbox ended: {sandbox.said[-500:] or 'it said nothing'}"
        ) from None
    except TimeoutError:
        raise BootFailed(vm, f"no sign of life in {_HELLO:g} s") from None


async def _launched(launch: Launch, guest: Guest) -> None:
    order = {
        "handler": launch.handler,
        "environment": environment(launch, snap_start=False),
        "data_limit": launch.memory_mib << 20,
        "processes": _PROCESSES,
        "uid": None,
        "code": None,
    }
    try:
        async with asyncio.timeout(launch.init_timeout):
            await guest.launch(order)
    except TimeoutError:
        raise InitTimeout(launch.function, launch.init_timeout) from None


class _Signals:
    """Stops every process of a sandbox, found from its outermost one."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    async def stop(self) -> None:
        """Send SIGSTOP until no process is left that has not had it: they may fork meanwhile."""
        stopped: set[int] = set()
        while fresh := {self._pid, *descendants(self._pid)} - stopped:
            for pid in fresh:
                _signal(pid, signal.SIGSTOP)
            stopped |= fresh

    async def go(self) -> None:
        """Send SIGCONT to all."""
        for pid in (self._pid, *descendants(self._pid)):
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
