"""Functions in microVMs: QEMU with no network card, snapshots after init, clones from them."""

import asyncio
import hashlib
import itertools
import logging
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from faas.backends.environment import environment
from faas.backends.machine import Machine
from faas.backends.qemu_base import Bases, sparse_copy
from faas.backends.qemu_command import CODE_BYTES, OVERHEAD_MIB, Accelerator, Disks, Hardware
from faas.backends.qemu_vm import Files, QemuVm, started
from faas.image.built import Image
from faas.image.disk import ext4
from faas.vm import (
    MEMORY_MIB,
    BootFailed,
    Crashed,
    InitTimeout,
    Launch,
    Logs,
    Move,
    NotAtRestorePoint,
    Vm,
    VmImage,
)
from wherry.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

PATIENCE = (15.0, 30.0, 60.0)
_RESTORED = 20.0
"""Seconds for a restored guest to be there."""
_ENTROPY = 32
_PROCESSES = 1024
_SANDBOX_USER = 65534


@dataclass(frozen=True, slots=True)
class QemuImage:
    """A saved VM: memory, devices and code disk in a folder of their own.

    Attributes:
        launch: What runs in it.
        folder: Holds ``memory``, ``state`` and ``code``.
    """

    launch: Launch
    folder: Path

    @property
    def files(self) -> Files:
        """What clones run from."""
        return _files(self.folder)

    def discard(self) -> None:
        """See `faas.vm.VmImage`."""
        shutil.rmtree(self.folder, ignore_errors=True)


class QemuBackend:
    """Runs each function in microVMs.

    A VM without a function is booted once for each size of memory and kept in the cache; every
    other start is a restore: of that one to load a function, or of a function's own snapshot.

    Args:
        program: QEMU.
        image: What guests start from.
        accelerator: How QEMU runs them.
        cache: Where saved VMs without a function are kept.
        run: Folder for all else; what is in it goes with the VMs and images.
        patience: Seconds that each try at a boot may take; an emulated one sometimes hangs.
        clock: What guests' clocks are set to; None: the system's.
    """

    name = "qemu"
    snapshots = True

    def __init__(
        self,
        program: str,
        image: Image,
        accelerator: Accelerator,
        *,
        cache: Path,
        run: Path,
        patience: Sequence[float] = PATIENCE,
        clock: Clock | None = None,
    ) -> None:
        self._program = program
        self._image = image
        self._accelerator = accelerator
        self._bases = Bases(cache, self._make_base, key=self._key())
        self._run = run
        self._patience = patience
        self._clock = clock or SystemClock()
        self._numbers = itertools.count(1)
        self._loaded: dict[str, tuple[QemuVm, Launch]] = {}

    @property
    def isolation(self) -> str:
        """See `faas.vm.Backend`."""
        how = "KVM" if self._accelerator.name == "kvm" else "TCG emulation"
        return f"microVM (QEMU, {how}): own kernel, no network card"

    def kept(self, launch: Launch) -> VmImage | None:
        """See `faas.vm.Backend`."""
        return None

    @asynccontextmanager
    async def boot(self, launch: Launch, logs: Logs) -> AsyncIterator[Vm]:
        """See `faas.vm.Backend`."""
        id_ = f"{launch.function}-v{next(self._numbers)}"
        base = await self._bases.of(launch.memory_mib + OVERHEAD_MIB)
        folder = self._run / id_
        folder.mkdir(parents=True)
        try:
            files = Files(folder / "memory", folder / "code", base / "state")
            await ext4(launch.code, files.code, capacity=CODE_BYTES)
            await asyncio.to_thread(sparse_copy, base / "memory", files.memory)
            async with self._restored(id_, launch, files, logs=logs, shared=True) as vm:
                await _load(launch, vm)
                self._loaded[id_] = vm, launch
                yield vm.machine(self._clock, fresh=vm.guest.parked)
        finally:
            self._loaded.pop(id_, None)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def snapshot(self, vm: Vm) -> VmImage:
        """See `faas.vm.Backend`."""
        if vm.id not in self._loaded or not isinstance(vm, Machine) or not vm.fresh:
            raise NotAtRestorePoint(vm.id)
        running, launch = self._loaded[vm.id]
        vm.move(Move.SAVE)
        folder = self._run / vm.id
        await running.save(folder / "state")
        return QemuImage(launch, folder.rename(self._run / f"image-{vm.id}"))

    @asynccontextmanager
    async def restore(self, image: VmImage, logs: Logs) -> AsyncIterator[Vm]:
        """See `faas.vm.Backend`."""
        assert isinstance(image, QemuImage)  # noqa: S101
        launch = image.launch
        id_ = f"{launch.function}-v{next(self._numbers)}"
        async with self._restored(id_, launch, image.files, logs=logs, shared=False) as vm:
            try:
                async with asyncio.timeout(launch.init_timeout):
                    await vm.guest.proceed()
            except TimeoutError:
                raise InitTimeout(launch.function, launch.init_timeout) from None
            yield vm.machine(self._clock, fresh=False)

    async def prove(self) -> None:
        """Boot once, or find that it was done before.

        Raises:
            BootFailed: No guest comes up on this host in this way.
        """
        await self._bases.of(MEMORY_MIB.start + OVERHEAD_MIB)

    @asynccontextmanager
    async def _restored(
        self,
        id_: str,
        launch: Launch,
        files: Files,
        *,
        logs: Logs,
        shared: bool,
    ) -> AsyncIterator[QemuVm]:
        """Enter with a VM that goes on from ``files`` with a clock and entropy of its own."""
        hardware = self._hardware(files, launch.memory_mib + OVERHEAD_MIB, shared=shared)
        async with started(id_, hardware, egress=launch.egress, logs=logs, restored=True) as vm:
            try:
                async with asyncio.timeout(_RESTORED):
                    await vm.load(files.state)
                    await vm.guest.restore(self._clock.unix_ns(), os.urandom(_ENTROPY))
                    await vm.guest.set_clock(self._clock.unix_ns())
            except (Crashed, ConnectionError):
                raise vm.ended() from None
            except TimeoutError:
                raise BootFailed(id_, f"no sign of life in {_RESTORED:g} s") from None
            yield vm

    async def _make_base(self, folder: Path, memory_mib: int) -> None:
        """Boot a VM without a function and save it in ``folder``."""
        files = _files(folder)
        with files.code.open("wb") as blank:
            blank.truncate(CODE_BYTES)
        failure: BootFailed | None = None
        for patience in self._patience:
            files.memory.unlink(missing_ok=True)
            hardware = self._hardware(files, memory_mib, shared=True)
            try:
                await self._boot_base(hardware, files, patience)
            except BootFailed as error:
                logger.warning("guest did not boot", extra={"why": str(error)})
                failure = error
            else:
                files.code.unlink()
                return
        assert failure is not None  # noqa: S101
        raise failure

    async def _boot_base(self, hardware: Hardware, files: Files, patience: float) -> None:
        async with started(
            f"base-{hardware.memory_mib}", hardware, egress=None, logs=logger.debug, restored=False
        ) as vm:
            try:
                async with asyncio.timeout(patience):
                    await vm.guest.hello()
                await vm.save(files.state)
            except (Crashed, ConnectionError):
                raise vm.ended() from None
            except TimeoutError:
                console = await vm.console()
                raise BootFailed(vm.id, f"silent for {patience:g} s after {console!r}") from None

    def _hardware(self, files: Files, memory_mib: int, *, shared: bool) -> Hardware:
        return Hardware(
            program=self._program,
            accelerator=self._accelerator,
            kernel=self._image.kernel,
            boot=self._image.boot,
            disks=Disks(self._image.root, self._image.guest, files.code),
            memory_mib=memory_mib,
            memory=files.memory,
            shared=shared,
        )

    def _key(self) -> str:
        """Return a name for what a saved VM depends on: image, QEMU, processor, hardware."""
        qemu = Path(self._program).stat()
        sample = self._hardware(_files(Path()), 0, shared=True).command(0, 0, restored=False)
        parts = (self._image.key, qemu.st_size, qemu.st_mtime_ns, *sample)
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


async def _load(launch: Launch, vm: QemuVm) -> None:
    order = {
        "handler": launch.handler,
        "environment": environment(launch, snap_start=True),
        "data_limit": 0,
        "processes": _PROCESSES,
        "uid": _SANDBOX_USER,
        "code": "/dev/vdc",
    }
    try:
        async with asyncio.timeout(launch.init_timeout):
            await vm.guest.launch(order)
    except TimeoutError:
        raise InitTimeout(launch.function, launch.init_timeout) from None


def _files(folder: Path) -> Files:
    return Files(folder / "memory", folder / "code", folder / "state")
