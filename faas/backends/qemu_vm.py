"""One running QEMU: its guest, its monitor, and the ways to save, load, stop and go on."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from faas.backends.child import Child, child
from faas.backends.engine import STATE, Plan
from faas.backends.guest import Guest
from faas.backends.qmp import MAX_MESSAGE, Monitor
from faas.backends.tasks import tasks
from faas.vm import BootFailed, Crashed
from wherry.clock import Clock

_SAVING = 60.0
"""Seconds that saving may take."""
_BRAKING = 10.0
"""Seconds for QEMU to stop or go on."""
_CONSOLE = 65536
_BANDWIDTH = 100_000_000_000
Command = Callable[[tuple[int, ...], int, int], Sequence[str]]
_MEMORY_STAYS = {"capability": "x-ignore-shared", "state": True}
_TELL = {"capability": "events", "state": True}


@dataclass(frozen=True, slots=True)
class QemuVm:
    """A QEMU that has been started.

    Attributes:
        id: Name for logs and errors.
        guest: The agent in it.
        monitor: QEMU's own.
        qemu: The process.
        folder: Where its files are.
        saved: Descriptor of its saved devices; None: it booted.
    """

    id: str
    guest: Guest
    monitor: Monitor
    qemu: Child
    folder: Path
    saved: int | None

    async def up(self) -> None:
        """See `faas.backends.engine.Running`."""
        await self.guest.hello()

    async def save(self) -> None:
        """Stop the guest for good and write its devices.

        The memory is in its file already and is not written again.
        """
        async with asyncio.timeout(_SAVING):
            await self.guest.hold()
            await self.monitor.run("stop")
            await self._prepare()
            await self.monitor.run("migrate-set-parameters", **{"max-bandwidth": _BANDWIDTH})
            path = self.folder / STATE
            path.unlink(missing_ok=True)
            state = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                await self.monitor.give("state", state)
            finally:
                os.close(state)
            await self.monitor.run("migrate", uri="fd:state")
            await self.monitor.migrated()

    async def load(self) -> None:
        """Take over the saved devices and run."""
        await self._prepare()
        await self.monitor.run("migrate-incoming", uri=f"fd:{self.saved}")
        await self.monitor.migrated()
        await self.monitor.run("cont")

    async def _prepare(self) -> None:
        await self.monitor.run("migrate-set-capabilities", capabilities=[_MEMORY_STAYS, _TELL])

    async def console(self) -> str:
        """Return the end of what the guest's kernel wrote."""
        said = await self.monitor.run("ringbuf-read", device="console", size=_CONSOLE)
        return str(said)[-300:]

    def ended(self) -> BootFailed:
        """Return the error for a QEMU that ended while it was needed."""
        return BootFailed(self.id, f"QEMU ended: {self.qemu.said or 'it said nothing'}")

    def brake(self, clock: Clock) -> "QemuBrake":
        """Return how it is stopped and let go on."""
        return QemuBrake(self, clock)


@dataclass(frozen=True, slots=True)
class QemuBrake:
    """See `faas.backends.machine.Brake`."""

    vm: QemuVm
    clock: Clock

    async def stop(self) -> None:
        """Stop the guest."""
        await self._run("stop")

    async def go(self) -> None:
        """The guest finds the right time before anything else that is sent from now on."""
        await self.vm.guest.set_clock(self.clock.unix_ns())
        await self._run("cont")

    async def _run(self, command: str) -> None:
        try:
            async with asyncio.timeout(_BRAKING):
                await self.vm.monitor.run(command)
        except (BootFailed, ConnectionError, TimeoutError):
            raise Crashed(self.vm.id) from None


@asynccontextmanager
async def started(plan: Plan, files: Sequence[Path], command: Command) -> AsyncIterator[QemuVm]:
    """Start QEMU; kill it at the end of the block.

    Args:
        plan: What it is.
        files: What it is given, open; it writes to the first, its memory, and to ``plan.tmp``.
        command: Makes the command line from descriptors: of ``files``, of a socket to the
            agent's port, of a socket for QMP.

    Raises:
        BootFailed: A file is missing.
    """
    channel, far_channel = socket.socketpair()
    control, far_control = socket.socketpair()
    with channel, far_channel, control, far_control, ExitStack() as opened:
        fds = [_opened(plan.id, path, opened, write=path in (files[0], plan.tmp)) for path in files]
        saved = _opened(plan.id, plan.folder / STATE, opened) if plan.restored else None
        ends = (far_channel.fileno(), far_control.fileno())
        inherited = [*fds, *ends, *(() if saved is None else (saved,))]
        async with (
            child(
                command(tuple(fds), *ends), fds=inherited, leashed=True, small_pages=True
            ) as qemu,
            tasks() as running,
        ):
            far_channel.close()
            far_control.close()
            monitor = Monitor(
                plan.id, await asyncio.open_connection(sock=control, limit=MAX_MESSAGE), control
            )
            guest = Guest(
                plan.id,
                await asyncio.open_connection(sock=channel),
                egress=plan.egress,
                logs=plan.logs,
                tasks=running,
            )
            vm = QemuVm(plan.id, guest, monitor, qemu, plan.folder, saved)
            try:
                await _greeted(vm)
                yield vm
            finally:
                guest.close()
                monitor.close()


def _opened(vm: str, path: Path, until: ExitStack, *, write: bool = False) -> int:
    try:
        file = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as error:
        raise BootFailed(vm, f"{path.name}: {error.strerror}", "a file to start from") from None
    until.callback(os.close, file)
    return file


async def _greeted(vm: QemuVm) -> None:
    try:
        await vm.monitor.open()
    except (BootFailed, ConnectionError):
        await vm.qemu.process.wait()
        await vm.qemu.silent()
        raise vm.ended() from None
