"""What a program that runs microVMs offers, whichever it is."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from faas.backends.guest import Guest
from faas.backends.machine import Brake
from faas.vm import BootFailed, Logs
from wherry.clock import Clock

MEMORY, STATE = "memory", "state"
DISKS = ("code", "layers", "language")
"""Files in a VM's folder, beside its memory and, once saved, the state of its devices."""
TMP = "tmp"
"""The disk that it writes to: its ``/tmp``. No two VMs have the same."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One VM to start.

    Attributes:
        id: Name for logs and errors.
        folder: Holds its disks, and its memory and state where it goes on from a saved VM.
        scratch: Folder for whatever it needs while it runs; empty but for `TMP`, where it goes
            on from a saved VM and so has its own disk there and not in ``folder``.
        memory_mib: What its function may use; the guest has a little more.
        user: Whom it runs as on the host; None: as we are.
        shared: Whether what it writes reaches ``folder``, so that it can be saved there.
        restored: Whether it goes on from a saved VM; otherwise it boots.
        egress: See `Launch.egress`.
        logs: Takes the guest's lines.
    """

    id: str
    folder: Path
    scratch: Path
    memory_mib: int
    user: int | None
    shared: bool
    restored: bool
    egress: Path | None
    logs: Logs

    @property
    def tmp(self) -> Path:
        """The disk that it writes to."""
        return (self.folder if self.shared else self.scratch) / TMP


class Running(Protocol):
    """A VM that has been started."""

    @property
    def id(self) -> str:
        """Name for logs and errors."""
        ...

    @property
    def guest(self) -> Guest:
        """The agent in it."""
        ...

    async def up(self) -> None:
        """Return when the agent of a guest that boots has said that it is up."""
        ...

    async def save(self) -> None:
        """Stop the guest for good and write what is missing in its folder."""
        ...

    async def load(self) -> None:
        """Take over what was saved in its folder, and run."""
        ...

    def brake(self, clock: Clock) -> Brake:
        """Return how it is stopped and let go on."""
        ...

    async def console(self) -> str:
        """Return the end of what the guest's kernel wrote."""
        ...

    def ended(self) -> BootFailed:
        """Return the error for a program that ended while it was needed."""
        ...


class Engine(Protocol):
    """Starts VMs."""

    @property
    def name(self) -> str:
        """``qemu`` or ``firecracker``."""
        ...

    @property
    def isolation(self) -> str:
        """See `faas.vm.Backend`."""
        ...

    def key(self) -> str:
        """Return a name for all that a saved VM depends on besides its memory and disks."""
        ...

    async def seed(self, base: Path, folder: Path, user: int | None) -> None:
        """Put what a VM needs to go on from ``base`` and be saved into ``folder``."""
        ...

    def started(self, plan: Plan) -> AbstractAsyncContextManager[Running]:
        """Start a VM; end it, whatever state it is in, at the end of the block.

        Raises:
            BootFailed: The program did not start.
        """
        ...
