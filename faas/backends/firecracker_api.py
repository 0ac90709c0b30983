"""Firecracker's API: requests over its unix socket, one at a time.

Source: https://github.com/firecracker-microvm/firecracker/blob/main/src/firecracker/swagger/firecracker.yaml
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from aiohttp import ClientError, ClientSession, UnixConnector

from faas.backends.child import Child
from faas.vm import BootFailed

_LOOK_AGAIN = 0.005
_NO_CONTENT = 204
_MOST = 1 << 16
SOCKET = "api.sock"
_T = TypeVar("_T")


class Api:
    """One Firecracker.

    Args:
        vm: The VM's id, for errors.
        session: Speaks HTTP on its socket.
        process: It.
    """

    def __init__(self, vm: str, session: ClientSession, process: Child) -> None:
        self._vm = vm
        self._session = session
        self._process = process

    async def put(self, path: str, **body: object) -> None:
        """Set something or start an action.

        Raises:
            BootFailed: Firecracker refused, or is gone.
        """
        await self._ask("PUT", path, body)

    async def patch(self, path: str, **body: object) -> None:
        """Change something.

        Raises:
            BootFailed: Firecracker refused, or is gone.
        """
        await self._ask("PATCH", path, body)

    async def _ask(self, method: str, path: str, body: Mapping[str, object]) -> None:
        try:
            async with self._session.request(
                method, f"http://localhost{path}", json=dict(body)
            ) as response:
                said = await response.content.read(_MOST)
        except ClientError as error:
            await self._process.silent()
            found = f"{method} {path}: {error}; it said {self._process.said[-500:]!r}"
            raise BootFailed(self._vm, found, "an answer") from None
        if response.status != _NO_CONTENT:
            found = f"{method} {path}: {response.status} {_fault(said)}"
            raise BootFailed(self._vm, found, "Firecracker to do it")


@asynccontextmanager
async def opened(vm: str, folder: int, process: Child) -> AsyncIterator[Api]:
    """Yield the API of a Firecracker that has just been started.

    Args:
        vm: The VM's id, for errors.
        folder: Descriptor of the folder that it runs in; a path could be too long for a socket.
        process: It.

    Raises:
        BootFailed: It ended before it listened.
    """
    path = socket_path(folder, SOCKET)

    async def connected() -> None:
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()
        await writer.wait_closed()

    await until(vm, process, connected)
    async with ClientSession(connector=UnixConnector(path, limit=1)) as session:
        yield Api(vm, session, process)


def socket_path(folder: int, name: str) -> str:
    """Return a short path of a socket in a folder."""
    return str(Path("/proc/self/fd", str(folder), name))


async def until(vm: str, process: Child, attempt: Callable[[], Awaitable[_T]]) -> _T:
    """Return what ``attempt`` gives once it raises no OSError any more; the caller bounds the time.

    Raises:
        BootFailed: The process has ended.
    """
    while True:
        try:
            return await attempt()
        except (OSError, EOFError):
            if process.process.returncode is not None:
                await process.silent()
                said = process.said or "it said nothing"
                raise BootFailed(vm, f"Firecracker ended: {said}") from None
            await asyncio.sleep(_LOOK_AGAIN)


def _fault(said: bytes) -> str:
    """Return what Firecracker gives as its reason."""
    try:
        return str(json.loads(said)["fault_message"])[:500]
    except (ValueError, KeyError, TypeError):
        return repr(said[:200])
