"""QEMU's monitor: commands out, answers and events in.

Source: https://www.qemu.org/docs/master/interop/qmp-spec.html
"""

import asyncio
import json
import socket
from collections.abc import Callable, Mapping

from faas.vm import BootFailed

MAX_MESSAGE = 1 << 20
"""Most bytes in one message of QEMU's: what a guest's kernel wrote comes as one."""


class Monitor:
    """One QEMU's monitor; one command at a time.

    Args:
        vm: The VM's id, for errors.
        streams: What QEMU says, up to `MAX_MESSAGE` at once, and where commands go.
        sock: The unix socket below, for descriptors.
    """

    def __init__(
        self,
        vm: str,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        sock: socket.socket,
    ) -> None:
        self._vm = vm
        self._reader, self._writer = streams
        self._sock = sock
        self._turn = asyncio.Lock()
        self._events: list[Mapping[str, object]] = []

    async def open(self) -> None:
        """Read the greeting and enter command mode."""
        await self._message()
        await self.run("qmp_capabilities")

    async def run(self, command: str, /, **arguments: object) -> object:
        """Run a command and return its answer.

        Raises:
            BootFailed: QEMU refused, or is gone.
        """
        async with self._turn:
            self._writer.write(_said(command, arguments))
            return await self._answer(command)

    async def give(self, name: str, file: int) -> None:
        """Hand QEMU a copy of a descriptor, which it knows by ``name`` from now on.

        Raises:
            BootFailed: QEMU refused, or is gone.
        """
        async with self._turn:
            await self._writer.drain()
            socket.send_fds(self._sock, [_said("getfd", {"fdname": name})], [file])
            await self._answer("getfd")

    async def _answer(self, command: str) -> object:
        while True:
            message = await self._message()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise BootFailed(self._vm, f"{command}: {message['error']}", "QEMU to do it")
            self._events = [*self._events, message][-16:]

    async def migrated(self) -> None:
        """Wait until a migration is over.

        Raises:
            BootFailed: It failed.
        """
        event = await self._event(
            lambda event: (
                event.get("event") == "MIGRATION" and _status(event) in ("completed", "failed")
            )
        )
        if _status(event) != "completed":
            raise BootFailed(self._vm, "the snapshot cannot be written or read", "a migration")

    async def _event(self, wanted: Callable[[Mapping[str, object]], bool]) -> Mapping[str, object]:
        async with self._turn:
            while True:
                for event in self._events:
                    if wanted(event):
                        self._events = []
                        return event
                self._events = [*self._events, await self._message()][-16:]

    async def _message(self) -> Mapping[str, object]:
        line = await self._reader.readline()
        if not line:
            raise BootFailed(self._vm, "QEMU is gone", "an answer")
        message = json.loads(line)
        assert isinstance(message, dict)  # noqa: S101
        return message

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def _said(command: str, arguments: Mapping[str, object]) -> bytes:
    return json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"


def _status(event: Mapping[str, object]) -> object:
    data = event.get("data")
    return data.get("status") if isinstance(data, dict) else None
