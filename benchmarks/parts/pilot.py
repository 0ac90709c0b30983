"""A whole Pilot that takes its World and its workloads on command and tells when things happened.

Times are seconds of the host's monotonic clock, the same in every process.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import xds.app
from parts.control import answering
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.config.watch import Worlds
from wherry.model.world import World
from wherry.serve import Address
from wherry.store import opened
from xds.registrations import Registry, Workload

SECONDS = 30.0
"""Longest that the proxies may take to hold what they should."""
TTL_SECONDS = 300


class Control:
    """The commands."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._worlds: Worlds
        self._registry: Registry
        self._pilot: xds.app.Running

    async def serve(self, text: str) -> int:
        """Serve a World and return the port."""
        self._worlds = Worlds(_world(text))
        store = await self._stack.enter_async_context(opened("memory:"))
        self._registry = Registry(store, SystemClock())
        self._pilot = await self._stack.enter_async_context(
            xds.app.running(
                xds.app.Settings(Address()), store=store, worlds=self._worlds, clock=SystemClock()
            )
        )
        return self._pilot.address.port

    async def register(self, service: str, name: str, port: int, *, split: bool = False) -> Any:
        """Put workload ``name`` at ``port``; with ``split`` tell when it was out and taken."""
        workload = Workload(name, service, "v1", "127.0.0.1", port)
        began = time.perf_counter()
        await self._registry.register(workload, TTL_SECONDS)
        return {"began": began, **(await self._seen() if split else {})}

    async def replace(self, text: str, *, split: bool = False) -> Any:
        """Serve another World; tell how long its reading took, and the rest as `register`."""
        read = time.perf_counter()
        world = _world(text)
        began = time.perf_counter()
        await self._worlds.replace(world)
        seen = await self._seen() if split else {}
        return {"read_s": began - read, "began": began, **seen}

    async def settled(self) -> None:
        """Answer when every proxy holds what it should."""
        async with asyncio.timeout(SECONDS):
            await self._pilot.settled()

    async def _seen(self) -> Any:
        """Watch the streams without a pause: when there is news for them, and when it is ACKed."""
        seen = {}
        async with asyncio.timeout(SECONDS):
            for what, settled in (("published", False), ("acknowledged", True)):
                while all(stream.settled for stream in self._pilot.streams()) is not settled:
                    await asyncio.sleep(0)
                seen[what] = time.perf_counter()
        return seen


def _world(text: str) -> World:
    return assemble({Path("mesh.yaml"): text})


async def main() -> None:
    """Take commands until stdin closes."""
    async with AsyncExitStack() as stack:
        control = Control(stack)
        await answering(
            {
                "serve": control.serve,
                "register": control.register,
                "replace": control.replace,
                "settled": control.settled,
            }
        )


if __name__ == "__main__":
    asyncio.run(main())
