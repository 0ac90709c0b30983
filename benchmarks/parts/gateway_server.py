"""The API gateway alone, on a chosen event loop: `CATALOGUE STATE MESH PORT LOOP`.

The keys of consumer ``bench`` are made first: `KEYS` of them; the last one's text is printed.
`DOOR=lean`: its door is that of `parts.lean_door`.
"""

import asyncio
import os
import sys
from pathlib import Path

import uvloop

from gateway import keyring
from gateway.app import Settings, running
from gateway.pepper import pepper
from parts import lean_door
from wherry.clock import SystemClock
from wherry.config import load
from wherry.config.watch import Worlds
from wherry.serve import Address, collect_rarely
from wherry.store import Store, opened


async def keys(store: Store, secret: bytes, count: int) -> str:
    """Make ``count`` keys, each of an app of its own, and return the last one's text."""
    text = ""
    for number in range(count):
        grant = keyring.Grant(app=f"app{number}")
        _, text = await keyring.create(
            store, secret, "bench", now_ns=SystemClock().unix_ns(), grant=grant
        )
    return text


async def main(catalogue: Path, state: Path, mesh: Path, port: int) -> None:
    """Serve until SIGINT."""
    collect_rarely()
    if os.environ.get("DOOR") == "lean":
        lean_door.take_the_place_of_the_real_one()
    settings = Settings(
        pepper=state / "pepper",
        address=Address(port=port),
        mesh=mesh,
        journal=state / "usage",
    )
    async with opened(os.environ.get("STORE", f"sqlite:{state / 'wherry.db'}")) as store:
        text = await keys(store, pepper(settings.pepper), int(os.environ.get("KEYS", "1")))
        async with running(settings, store=store, worlds=Worlds(load(catalogue))):
            print(text, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    run = uvloop.run if sys.argv[5] == "uvloop" else asyncio.run
    run(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])))
