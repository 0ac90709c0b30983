"""The Lambda API in a process of its own: ``faas_server.py BACKEND STATE SETTINGS``.

SETTINGS are fields of `faas.app.Settings` as JSON. The first line of output is the URL.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faas.app import Settings, running
from faas.backends import chosen
from wherry.cli.settings import cache_folder
from wherry.clock import SystemClock
from wherry.serve import collect_rarely, serve
from wherry.store import opened


@asynccontextmanager
async def lambda_api(kind: str, state: Path, settings: dict[str, object]) -> AsyncIterator[None]:
    """Serve for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="wherry-") as run:
        async with (
            opened(f"sqlite:{state / 'wherry.db'}") as store,
            chosen(kind, cache=cache_folder(), run=Path(run)) as backend,
            running(
                Settings(code_dir=state / "code", run_dir=state / "faas", **settings),
                store,
                backend,
                SystemClock(),
            ) as faas,
        ):
            print(faas.address.url, flush=True)
            yield


if __name__ == "__main__":
    collect_rarely()
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    asyncio.run(serve([lambda_api(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))]))
