"""One of several gateways at an address: `CATALOGUE STATE MESH HOST:PORT TOLD`."""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.app import Settings, running
from wherry.config import load
from wherry.config.watch import Worlds
from wherry.serve import Address, serve
from wherry.store import opened
from wherry.workers import announce


@asynccontextmanager
async def worker(catalogue: Path, state: Path, mesh: Path, address: Address, told: Path):
    settings = Settings(
        pepper=state / "pepper",
        address=address,
        mesh=mesh,
        shared=True,
        journal=state / "usage",
        settle_seconds=0.1,
    )
    worlds = Worlds(load(catalogue))
    async with (
        opened(f"sqlite:{state / 'wherry.db'}") as store,
        running(settings, store=store, worlds=worlds),
    ):
        announce(told)
        yield


if __name__ == "__main__":
    catalogue, state, mesh, address, told = sys.argv[1:]
    asyncio.run(
        serve(
            [worker(Path(catalogue), Path(state), Path(mesh), Address.parse(address), Path(told))]
        )
    )
