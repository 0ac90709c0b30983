"""One running QEMU: its guest, its monitor, and the ways to save, load, stop and go on."""

import asyncio
import shlex
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from faas.backends.child import Child, child
from faas.backends.guest import Guest
from faas.backends.machine import Machine
from faas.backends.qemu_command import Hardware
from faas.backends.qmp import MAX_MESSAGE, Monitor
from faas.backends.tasks import tasks
from faas.vm import BootFailed, Crashed, Logs
from wherry.clock import Clock

_SAVING = 60.0
"""Seconds that saving may take."""
_BRAKING = 10.0
"""Seconds for QEMU to stop or go on."""
_CONSOLE = 65536
_BANDWIDTH = 100_000_000_000
_MEMORY_STAYS = {"capability": "x-ignore-shared", "state": True}
_TELL = {"capability": "events", "state": True}


@dataclass(frozen=True, slots=True)
class Files:
    """What a VM runs from.

    Attributes:
        memory: Its memory.
        code: Its code disk.
        state: Its devices, once saved.
    """

    memory: Path
    code: Path
    state: Path


@dataclass(frozen=True, slots=True)
class QemuVm:
    """A QEMU that has been started.

    Attributes:
        id: Name for logs and errors.
        guest: The agent in it.
        monitor: QEMU's own.
        qemu: The process.
    """

    id: str
    guest: Guest
    monitor: Monitor
    qemu: Child

    async def save(self, state: Path) -> None:
        """Stop the guest for good and write its devices to ``state``.

        The memory is in its file already and is not written again.
        """
        async with asyncio.timeout(_SAVING):
            await self.guest.hold()
            await self.monitor.run("stop")
            await self._prepare()
            await self.monitor.run("migrate-set-parameters", **{"max-bandwidth": _BANDWIDTH})
            await self.monitor.run("migrate", uri=f"exec:cat > {shlex.quote(str(state))}")
            await self.monitor.migrated()

    async def load(self, state: Path) -> None:
        """Take over the devices saved in ``state`` and run."""
        await self._prepare()
        await self.monitor.run("migrate-incoming", uri=f"exec:cat {shlex.quote(str(state))}")
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

    def machine(self, clock: Clock, *, fresh: bool) -> Machine:
        """Return the VM as its users see it."""
        return Machine(self.id, self.guest, _Brake(self, clock), fresh=fresh)


@dataclass(frozen=True, slots=True)
class _Brake:
    vm: QemuVm
    clock: Clock

    async def stop(self) -> None:
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
async def started(
    id: str,  # noqa: A002
    hardware: Hardware,
    *,
    egress: Path | None,
    logs: Logs,
    restored: bool,
) -> AsyncIterator[QemuVm]:
    """Start QEMU; kill it at the end of the block.

    Args:
        id: Name for logs and errors.
        hardware: What it is.
        egress: See `Launch.egress`.
        logs: Takes the guest's lines.
        restored: Whether it waits for `QemuVm.load`; otherwise it boots.
    """
    channel, far_channel = socket.socketpair()
    control, far_control = socket.socketpair()
    with channel, far_channel, control, far_control:
        fds = (far_channel.fileno(), far_control.fileno())
        argv = hardware.command(*fds, restored=restored)
        async with child(argv, fds=fds) as qemu, tasks() as running:
            far_channel.close()
            far_control.close()
            monitor = Monitor(id, await asyncio.open_connection(sock=control, limit=MAX_MESSAGE))
            guest = Guest(
                id,
                await asyncio.open_connection(sock=channel),
                egress=egress,
                logs=logs,
                tasks=running,
            )
            vm = QemuVm(id, guest, monitor, qemu)
            try:
                await _opened(vm)
                yield vm
            finally:
                guest.close()
                monitor.close()


async def _opened(vm: QemuVm) -> None:
    try:
        await vm.monitor.open()
    except (BootFailed, ConnectionError):
        await vm.qemu.process.wait()
        raise vm.ended() from None
