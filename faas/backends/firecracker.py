"""Firecracker as an engine: the same guests as QEMU's, on KVM, over its API.

Each Firecracker runs in a folder of its own, where everything it names is a second name of the
file: a saved VM holds these names, and each clone finds its own files behind them.
"""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from faas.backends.cgroup import group, share, vcpus
from faas.backends.child import Child, child
from faas.backends.confined import KVM, THREADS, Confinement, processor
from faas.backends.engine import DISKS, MEMORY, STATE, TMP, Plan, Running
from faas.backends.firecracker_api import SOCKET, Api, opened, socket_path, until
from faas.backends.guest import Guest
from faas.backends.qemu_command import OVERHEAD_MIB
from faas.backends.sparse import linked
from faas.backends.tasks import Tasks, tasks
from faas.image.built import Image
from faas.image.root import VSOCK
from faas.vm import BootFailed, Crashed
from wherry.clock import Clock

PORT = 1024
"""Where the guest's agent listens on its vsock."""

_OWN_MIB = 64
_STARTING = 10.0
"""Seconds for Firecracker to listen."""
_SAVING = 60.0
_BRAKING = 10.0
_GUEST_CID = 3
_CHANNEL = "vsock.sock"
_LOG = "log"
_DRIVES = ("root", "guest", *DISKS, TMP)
_KERNEL = (
    "console=ttyS0 reboot=k panic=-1 pci=off quiet loglevel=0 8250.nr_uarts=1 nokaslr "
    f"mitigations=off random.trust_cpu=on rdinit=/init {VSOCK}{PORT}"
)


@dataclass(slots=True)
class FirecrackerVm:
    """A Firecracker that has been started.

    Attributes:
        plan: What it is.
        api: Its API.
        process: It.
        folder: Descriptor of the folder that it runs in.
        tasks: Runs the guest's channel.
    """

    plan: Plan
    api: Api
    process: Child
    folder: int
    tasks: Tasks
    _guest: Guest | None = field(default=None, init=False)

    @property
    def id(self) -> str:
        """See `faas.backends.engine.Running`."""
        return self.plan.id

    @property
    def guest(self) -> Guest:
        """See `faas.backends.engine.Running`.

        Raises:
            BootFailed: It is not connected yet.
        """
        if self._guest is None:
            raise BootFailed(self.id, "no channel yet")
        return self._guest

    async def up(self) -> None:
        """See `faas.backends.engine.Running`."""
        await self._connect()
        await self.guest.hello()

    async def save(self) -> None:
        """See `faas.backends.engine.Running`."""
        plan = self.plan
        async with asyncio.timeout(_SAVING):
            await self.guest.hold()
            await self.api.patch("/vm", state="Paused")
            await self.api.put(
                "/snapshot/create",
                snapshot_type="Full",
                snapshot_path=f"{STATE}.new",
                mem_file_path=f"{MEMORY}.new",
            )
        for name in (STATE, MEMORY):
            await asyncio.to_thread(_moved, plan.scratch / f"{name}.new", plan.folder / name)

    async def load(self) -> None:
        """See `faas.backends.engine.Running`."""
        await self.api.put(
            "/snapshot/load",
            snapshot_path=STATE,
            mem_backend={"backend_type": "File", "backend_path": MEMORY},
            resume_vm=True,
        )
        await self._connect()

    async def boot(self, settings: Mapping[str, Mapping[str, object]]) -> None:
        """Set it up and start the guest."""
        for path, body in settings.items():
            await self.api.put(path, **body)
        await self.api.put("/actions", action_type="InstanceStart")

    async def _connect(self) -> None:
        """Connect to the agent, as soon as it listens."""
        streams = await until(self.id, self.process, self._channel)
        plan = self.plan
        self._guest = Guest(self.id, streams, egress=plan.egress, logs=plan.logs, tasks=self.tasks)

    async def _channel(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Ask Firecracker for a stream to the agent's port.

        Source: https://github.com/firecracker-microvm/firecracker/blob/main/docs/vsock.md
        """
        reader, writer = await asyncio.open_unix_connection(socket_path(self.folder, _CHANNEL))
        writer.write(f"CONNECT {PORT}\n".encode())
        try:
            said = await reader.readline()
        except BaseException:
            writer.close()
            raise
        if not said.startswith(b"OK "):
            writer.close()
            raise ConnectionRefusedError
        return reader, writer

    async def console(self) -> str:
        """See `faas.backends.engine.Running`."""
        return self.process.said[-300:]

    def ended(self) -> BootFailed:
        """See `faas.backends.engine.Running`."""
        return BootFailed(self.id, f"Firecracker ended: {self.process.said or 'it said nothing'}")

    def brake(self, clock: Clock) -> "FirecrackerBrake":
        """See `faas.backends.engine.Running`."""
        return FirecrackerBrake(self, clock)

    def close(self) -> None:
        """Hang up."""
        if self._guest is not None:
            self._guest.close()


@dataclass(frozen=True, slots=True)
class FirecrackerBrake:
    """See `faas.backends.machine.Brake`."""

    vm: FirecrackerVm
    clock: Clock

    async def stop(self) -> None:
        """Stop the guest."""
        await self._become("Paused")

    async def go(self) -> None:
        """The guest finds the right time before anything else that is sent from now on."""
        await self.vm.guest.set_clock(self.clock.unix_ns())
        await self._become("Resumed")

    async def _become(self, state: str) -> None:
        try:
            async with asyncio.timeout(_BRAKING):
                await self.vm.api.patch("/vm", state=state)
        except (BootFailed, TimeoutError):
            raise Crashed(self.vm.id) from None


class Firecracker:
    """Starts Firecracker.

    Args:
        program: Its path.
        image: What guests start from.
        confinement: How it is held, besides its own filter of system calls.
    """

    name = "firecracker"

    def __init__(self, program: str, image: Image, confinement: Confinement) -> None:
        self._program = program
        self._image = image
        self._confinement = confinement

    @property
    def isolation(self) -> str:
        """See `faas.vm.Backend`."""
        return f"microVM (Firecracker, KVM): own kernel, no network card; {self._confinement}"

    def key(self) -> str:
        """See `faas.backends.engine.Engine`: image, Firecracker, processor, hardware."""
        program = Path(self._program).stat()
        parts = (
            *("firecracker", self._image.key, program.st_size, program.st_mtime_ns),
            *(processor(), json.dumps(_settings(0))),
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    async def seed(self, base: Path, folder: Path, _user: int | None) -> None:
        """See `faas.backends.engine.Engine`: what is there is read, and only saving writes anew."""
        for name in (MEMORY, STATE):
            await asyncio.to_thread(linked, base / name, folder / name)

    @asynccontextmanager
    async def started(self, plan: Plan) -> AsyncIterator[Running]:
        """See `faas.backends.engine.Engine`."""
        await asyncio.to_thread(self._furnish, plan)
        argv = [self._program, "--api-sock", SOCKET, "--id", "vm"]
        folder = os.open(plan.scratch, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            async with (
                group(
                    plan.id,
                    memory_mib=plan.memory_mib + OVERHEAD_MIB + _OWN_MIB,
                    pids=THREADS,
                    cpu=share(plan.memory_mib),
                    where=self._confinement.groups,
                ) as held,
                child(
                    self._confinement.command(argv, user=plan.user, group=held, devices=(KVM,)),
                    leashed=True,
                    folder=plan.scratch,
                ) as process,
                tasks() as running,
            ):
                async with asyncio.timeout(_STARTING) as starting:
                    async with opened(plan.id, folder, process) as api:
                        starting.reschedule(None)
                        vm = FirecrackerVm(plan, api, process, folder, running)
                        try:
                            if not plan.restored:
                                await vm.boot(_settings(plan.memory_mib))
                            yield vm
                        finally:
                            vm.close()
        finally:
            os.close(folder)

    def _furnish(self, plan: Plan) -> None:
        """Give all that Firecracker names a name in its folder."""
        image = self._image
        fixed = {
            "kernel": image.kernel,
            "initrd": image.boot,
            "root": image.root,
            "guest": image.guest,
        }
        own = (*DISKS, MEMORY, STATE) if plan.restored else DISKS
        if plan.shared:
            own = (*own, TMP)
        for name, source in {**fixed, **{name: plan.folder / name for name in own}}.items():
            try:
                linked(source, plan.scratch / name)
            except OSError as error:
                found = f"{source.name}: {error.strerror}"
                raise BootFailed(plan.id, found, "a file to start from") from None
        (plan.scratch / _LOG).touch()
        if plan.user is not None:
            for path in (plan.scratch, plan.scratch / _LOG):
                os.chown(path, plan.user, plan.user)


def _settings(memory_mib: int) -> dict[str, dict[str, object]]:
    """Return what is set before a guest boots, in order."""
    drives: dict[str, dict[str, object]] = {
        f"/drives/{name}": {
            "drive_id": name,
            "path_on_host": name,
            "is_root_device": False,
            "is_read_only": name != TMP,
        }
        for name in _DRIVES
    }
    return {
        "/logger": {"log_path": _LOG, "level": "Warning"},
        "/machine-config": {
            "vcpu_count": max(vcpus(memory_mib), 1),
            "mem_size_mib": memory_mib + OVERHEAD_MIB,
            "smt": False,
        },
        "/boot-source": {
            "kernel_image_path": "kernel",
            "initrd_path": "initrd",
            "boot_args": _KERNEL,
        },
        **drives,
        "/vsock": {"guest_cid": _GUEST_CID, "uds_path": _CHANNEL},
        "/entropy": {},
    }


def _moved(source: Path, target: Path) -> None:
    """Move a file that Firecracker wrote; the folder that it goes to is for its owner alone."""
    target.unlink(missing_ok=True)
    source.chmod(0o644)
    shutil.move(source, target)
