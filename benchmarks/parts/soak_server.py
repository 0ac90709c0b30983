"""The API gateway with its journal and rollups: `CATALOGUE STATE MESH PORT STORE CALLERS`.

A key is made for each caller, each of an app of its own; their texts are printed as JSON. SIGTERM
or SIGINT ends it in order.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway import keyring
from gateway.app import Settings, running
from gateway.metering.roller import Roller
from gateway.pepper import pepper
from wherry.clock import SystemClock
from wherry.config import load
from wherry.config.watch import Worlds
from wherry.serve import Address, serve
from wherry.store import opened


@asynccontextmanager
async def serving(argv: list[str]) -> AsyncIterator[None]:
    """Serve until the block ends."""
    catalogue, state, mesh, port, url, callers = argv
    folder, clock = Path(state), SystemClock()
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    settings = Settings(
        pepper=folder / "pepper",
        address=Address(port=int(port)),
        mesh=Path(mesh),
        journal=folder / "usage",
    )
    async with opened(url) as store:
        secret, texts = pepper(settings.pepper), []
        for number in range(int(callers)):
            grant = keyring.Grant(app=f"caller{number}")
            made = await keyring.create(store, secret, "bench", now_ns=clock.unix_ns(), grant=grant)
            texts.append(made[1])
        async with (
            asyncio.TaskGroup() as group,
            running(settings, store=store, worlds=Worlds(load(Path(catalogue)))),
        ):
            roller = group.create_task(Roller(store, clock).run(), name="roll up")
            print(json.dumps(texts), flush=True)
            try:
                yield
            finally:
                roller.cancel()


if __name__ == "__main__":
    asyncio.run(serve([serving(sys.argv[1:])]))
