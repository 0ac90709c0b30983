"""QEMU's microvm machine as an engine: accelerated by KVM, or emulated."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from faas.backends.cgroup import Group, group, share
from faas.backends.confined import KVM, THREADS, Confinement, processor
from faas.backends.engine import MEMORY, STATE, Plan, Running
from faas.backends.qemu_command import TMP, TRANSLATED_MIB, Accelerator, Hardware
from faas.backends.qemu_vm import started
from faas.backends.sparse import linked, sparse_copy
from faas.image.built import Image

_OWN_MIB = 96
"""What QEMU takes itself, besides the guest's memory and translated code."""


class Qemu:
    """Starts QEMU.

    Args:
        program: Its path.
        image: What guests start from.
        accelerator: How guests run.
        confinement: How QEMU is held.
    """

    name = "qemu"

    def __init__(
        self, program: str, image: Image, accelerator: Accelerator, confinement: Confinement
    ) -> None:
        self._program = program
        self._image = image
        self._accelerator = accelerator
        self._confinement = confinement

    @property
    def isolation(self) -> str:
        """See `faas.vm.Backend`."""
        how = "KVM" if self._accelerator.name == "kvm" else "TCG emulation"
        held = self._confinement
        return f"microVM (QEMU, {how}): own kernel, no network card; QEMU in seccomp, {held}"

    def key(self) -> str:
        """See `faas.backends.engine.Engine`: image, QEMU, processor, hardware."""
        qemu = Path(self._program).stat()
        hardware = Hardware(self._program, self._accelerator, 0, shared=True, restored=False)
        sample = hardware.command(tuple(range(len(hardware.files()))), 0, 0)
        host = processor() if self._accelerator.name == "kvm" else ""
        parts = (self._image.key, qemu.st_size, qemu.st_mtime_ns, host, *sample)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    async def seed(self, base: Path, folder: Path, user: int | None) -> None:
        """See `faas.backends.engine.Engine`: a copy of the memory, and the state as it is."""
        memory = _memory(folder, user)
        await asyncio.to_thread(sparse_copy, base / MEMORY, memory)
        await asyncio.to_thread(linked, base / STATE, folder / STATE)

    @asynccontextmanager
    async def started(self, plan: Plan) -> AsyncIterator[Running]:
        """See `faas.backends.engine.Engine`."""
        hardware = Hardware(
            self._program,
            self._accelerator,
            plan.memory_mib,
            shared=plan.shared,
            restored=plan.restored,
        )
        if not plan.restored:
            memory = _memory(plan.folder, plan.user)
            await asyncio.to_thread(os.truncate, memory, hardware.guest_mib << 20)
        most = hardware.guest_mib + TRANSLATED_MIB + _OWN_MIB
        async with group(
            plan.id,
            memory_mib=most,
            pids=THREADS,
            cpu=share(plan.memory_mib),
            where=self._confinement.groups,
        ) as held:
            command = partial(self._command, hardware, plan.user, held)
            async with started(plan, self._files(hardware, plan), command) as vm:
                yield vm

    def _files(self, hardware: Hardware, plan: Plan) -> list[Path]:
        image = self._image
        fixed = {
            "root": image.root,
            "guest": image.guest,
            "kernel": image.kernel,
            "boot": image.boot,
            TMP: plan.tmp,
        }
        return [fixed.get(name, plan.folder / name) for name in hardware.files()]

    def _command(
        self,
        hardware: Hardware,
        user: int | None,
        held: Group | None,
        files: tuple[int, ...],
        channel: int,
        monitor: int,
    ) -> tuple[str, ...]:
        argv = hardware.command(files, channel, monitor)
        devices = (KVM,) if self._accelerator.name == "kvm" else ()
        return self._confinement.command(argv, user=user, group=held, devices=devices)


def _memory(folder: Path, user: int | None) -> Path:
    """Make an empty file for a VM's memory that nobody but its user may open."""
    path = folder / MEMORY
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    if user is not None:
        os.chown(path, user, user)
    return path
