"""Functions as sandboxed processes: quick and everywhere, but no VM."""

import asyncio
import itertools
import logging
import os
import platform
import signal
import socket
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

from faas.backends import seccomp
from faas.backends.cgroup import Group, Hierarchy, group, hierarchy, share
from faas.backends.child import Child, child, descendants
from faas.backends.confined import Users
from faas.backends.guest import Guest
from faas.backends.loop import Loops, mounted
from faas.backends.machine import Machine
from faas.backends.order import PROCESSES, kind, order
from faas.backends.sandbox import View, bubblewrap, unshared
from faas.backends.tasks import tasks
from faas.image.built import find
from faas.image.layers import merged
from faas.image.layout import laid_out
from faas.image.runtimes import runtime_root
from faas.vm import BootFailed, Crashed, InitTimeout, Launch, Logs, NotAtRestorePoint, Vm, VmImage

logger = logging.getLogger(__name__)

_BUBBLEWRAP = find("bwrap")
_HELLO = 10.0
"""Seconds for a sandbox to come up."""
_STOPPING = 5.0
"""Seconds for a sandbox to stand still."""
_LOOK_AGAIN = 0.001
_OVERHEAD_MIB = 16
"""What the sandbox and the agent take beside the function."""
_OVERHEAD_PROCESSES = 64


class ProcessBackend:
    """Runs each function in a sandbox of namespaces: own processes, files and loopback only.

    Args:
        cache: Where the runtime's files are laid out, once.
        bubblewrap: Program that makes sandboxes; None: util-linux's ``unshare`` does.
        reason: Why it stands in for a better one; empty when it was asked for.
        groups: Where control groups go; None: wherever they can be made.
    """

    name = "process"

    def __init__(
        self,
        cache: Path,
        *,
        reason: str = "",
        bubblewrap: str | None = _BUBBLEWRAP,
        groups: Hierarchy | None = None,
    ) -> None:
        self._cache = cache
        self._bubblewrap = bubblewrap
        self._reason = reason
        self._loops = Loops(cache)
        self._numbers = itertools.count(1)
        self._users = Users()
        self._groups: Hierarchy | None = groups or hierarchy()

    @property
    def isolation(self) -> str:
        """See `faas.vm.Backend`."""
        because = f" ({self._reason})" if self._reason else ""
        calls = "system calls filtered" if self._bubblewrap else "system calls not filtered"
        limits = "control groups" if self._groups else "limits of each process only"
        return f"sandboxed process, no VM: shares the host's kernel; {calls}, {limits}{because}"

    def saves(self, launch: Launch) -> bool:
        """See `faas.vm.Backend`."""
        return False

    def kept(self, launch: Launch) -> VmImage | None:
        """See `faas.vm.Backend`."""
        return None

    def forget(self, function: str, version: str | None, *, but: Collection[VmImage]) -> None:
        """See `faas.vm.Backend`: there are none."""

    @asynccontextmanager
    async def boot(self, launch: Launch, logs: Logs) -> AsyncIterator[Vm]:
        """See `faas.vm.Backend`."""
        id_ = f"{launch.function}-p{next(self._numbers)}"
        async with self._loops.tmp(launch.tmp_mib) as tmp:
            view = await asyncio.to_thread(self._view, launch, tmp)
            async with self._booted(id_, launch, view, logs) as vm:
                yield vm

    @asynccontextmanager
    async def _booted(self, id_: str, launch: Launch, view: View, logs: Logs) -> AsyncIterator[Vm]:
        ours, theirs = socket.socketpair()
        rules = _rules() if self._bubblewrap else None
        fds = [theirs.fileno()] if rules is None else [theirs.fileno(), rules]
        try:
            with ours, theirs:
                async with (
                    self._limited(launch) as limits,
                    child(self._command(view, fds, limits), fds=fds, inner=True) as sandbox,
                    tasks() as running,
                ):
                    theirs.close()
                    guest = Guest(
                        id_,
                        await asyncio.open_connection(sock=ours),
                        egress=launch.egress,
                        logs=logs,
                        tasks=running,
                        starved=lambda: 0 if limits is None else limits.oom_killed(),
                    )
                    try:
                        await _said_hello(id_, guest, sandbox)
                        await _launched(launch, guest, limited=limits is not None)
                        machine = Machine(id_, guest, _Signals(sandbox.pid), fresh=False)
                        async with machine.lasting():
                            yield machine
                    finally:
                        guest.close()
        finally:
            if rules is not None:
                os.close(rules)

    async def snapshot(self, vm: Vm) -> VmImage:
        """Refuse: a process cannot be saved."""
        raise NotAtRestorePoint(vm.id)

    @asynccontextmanager
    async def restore(self, image: VmImage, logs: Logs) -> AsyncIterator[Vm]:
        """Boot what the image was to hold."""
        async with self.boot(image.launch, logs) as vm:
            yield vm

    def _limited(self, launch: Launch) -> AbstractAsyncContextManager[Group | None]:
        return group(
            launch.function,
            memory_mib=launch.memory_mib + _OVERHEAD_MIB,
            pids=PROCESSES + _OVERHEAD_PROCESSES,
            cpu=share(launch.memory_mib),
            where=self._groups,
        )

    def _view(self, launch: Launch, tmp: str | None) -> View:
        files = laid_out(self._cache)
        container = launch.container
        return View(
            python=Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}",
            prefix=Path(sys.base_prefix),
            agent=files / "agent",
            runtime=files / "runtime",
            code=launch.code,
            hosts=files / "hosts",
            tmp_mib=launch.tmp_mib,
            layers=merged(launch.layers, self._cache) if container is None else None,
            language=(
                runtime_root(launch.runtime, self._cache, progress=logger.warning)
                if kind(launch) == "node"
                else None
            ),
            image=container.root if container is not None else None,
            tmp=tmp,
        )

    def _command(self, view: View, fds: Sequence[int], limits: Group | None) -> Sequence[str]:
        channel, *rules = fds
        uid = self._users.next()
        if self._bubblewrap:
            filtered = rules[0] if rules else None
            argv = [self._bubblewrap, *bubblewrap(view, channel, uid, seccomp=filtered)]
            if view.tmp is not None:
                argv = mounted(view.tmp, argv)
        else:
            argv = unshared(view, channel, uid)
        return limits.entering(argv) if limits is not None else argv


def _rules() -> int:
    """Return a new descriptor of a file with the filter of system calls."""
    rules = os.memfd_create("rules", 0)
    os.write(rules, seccomp.program(platform.machine()))
    os.lseek(rules, 0, os.SEEK_SET)
    return rules


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


async def _launched(launch: Launch, guest: Guest, *, limited: bool) -> None:
    told = order(launch, devices=False, snap_start=False, uid=None, limited=limited)
    try:
        async with asyncio.timeout(launch.init_timeout):
            await guest.launch(told)
    except TimeoutError:
        raise InitTimeout(launch.function, launch.init_timeout) from None


class _Signals:
    """Stops every process of a sandbox, found from its outermost one."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    async def stop(self) -> None:
        """Send SIGSTOP until every process is seen to stand still.

        A process in the middle of a fork takes the signal only afterwards, and its child never.
        """
        async with asyncio.timeout(_STOPPING):
            while moving := [pid for pid in self._all() if not _still(pid)]:
                for pid in moving:
                    _signal(pid, signal.SIGSTOP)
                await asyncio.sleep(_LOOK_AGAIN)

    async def go(self) -> None:
        """Send SIGCONT to all."""
        for pid in self._all():
            _signal(pid, signal.SIGCONT)

    def _all(self) -> list[int]:
        return [self._pid, *descendants(self._pid)]


def _still(pid: int) -> bool:
    """Return whether a process is stopped or has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "TtZX"


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
