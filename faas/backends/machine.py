"""One VM as its users see it: a guest, its place in the table of states, and its brake."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from faas.backends.guest import Guest
from faas.vm import Answer, Call, Crashed, Move, Stream, VmState, step


class Brake(Protocol):
    """How a backend stops a guest and lets it go on."""

    async def stop(self) -> None:
        """Return when the guest uses no more CPU."""
        ...

    async def go(self) -> None:
        """Let the guest run; its clock is right again when it next looks."""
        ...


class Machine:
    """A `Vm` over a guest.

    Args:
        id: Name for logs and errors.
        guest: The other end.
        brake: Stops it and lets it go.
        fresh: Whether it waits at its restore point and has run no call.
    """

    def __init__(self, id: str, guest: Guest, brake: Brake, *, fresh: bool) -> None:  # noqa: A002
        self.id = id
        self.fresh = fresh
        self.guest = guest
        self._brake = brake
        self._state = VmState.IDLE

    @property
    def state(self) -> VmState:
        """See `faas.vm.Vm`."""
        return VmState.GONE if self.guest.over else self._state

    def move(self, move: Move) -> None:
        """Take one step in the table.

        Raises:
            IllegalMove: The table has no such move.
        """
        self._state = step(self.id, self._state, move)

    async def invoke(self, call: Call, stream: Stream | None = None) -> Answer:
        """See `faas.vm.Vm`."""
        self.move(Move.CALL)
        if self.fresh:
            self.fresh = False
            await self.guest.proceed()
        answer = await self.guest.invoke(call, stream)
        self.move(Move.RETURN)
        return answer

    async def freeze(self) -> None:
        """See `faas.vm.Vm`; first the extensions come to rest."""
        self.move(Move.PAUSE)
        await self.guest.rest()
        await self._brake.stop()

    async def thaw(self) -> None:
        """See `faas.vm.Vm`."""
        self.move(Move.RESUME)
        await self._brake.go()

    async def gone(self) -> None:
        """See `faas.vm.Vm`."""
        await self.guest.gone()

    @asynccontextmanager
    async def lasting(self) -> AsyncIterator["Machine"]:
        """Yield the machine; at the end let its extensions know why it ends."""
        try:
            yield self
        finally:
            with suppress(Crashed):
                await self._say_farewell()

    async def _say_farewell(self) -> None:
        if self._state is VmState.SAVED:
            return
        if self._state is VmState.PAUSED and self.guest.extensions:
            await self._brake.go()
        reason = "timeout" if self._state is VmState.BUSY else "spindown"
        await self.guest.farewell("failure" if self.guest.over else reason)
