"""`python -m xds [DIR]`: this service alone."""

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from wherry.clock import SystemClock
from wherry.config import load
from wherry.config.watch import Worlds, watch
from wherry.errors import WherryError
from wherry.serve import Address, stopped
from wherry.store import opened
from xds.app import Settings, running


async def _main(source: Path, store_url: str, settings: Settings) -> None:
    worlds = Worlds(await asyncio.to_thread(load, source))
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened(store_url))
        pilot = await stack.enter_async_context(
            running(settings, store=store, worlds=worlds, clock=SystemClock())
        )
        sys.stdout.write(f"xds: {pilot.address}\n")
        sys.stdout.flush()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        reload = tasks.create_task(watch(source, worlds), name="configuration")
        await stopped()
        reload.cancel()


def main() -> int:
    """Run until SIGTERM or SIGINT and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m xds", description="Serve xDS.")
    parser.add_argument("source", type=Path, nargs="?", default=Path(), metavar="DIR")
    parser.add_argument("--store", default="memory:", help="memory: or sqlite:PATH")
    parser.add_argument("--xds-address", type=Address.parse, default=Address(port=18000))
    parser.add_argument("--telemetry-address", type=Address.parse, default=Address(port=18002))
    parser.add_argument("--policy-address", type=Address.parse, default=Address(port=18001))
    options = parser.parse_args()
    settings = Settings(options.xds_address, options.telemetry_address, options.policy_address)
    try:
        asyncio.run(_main(options.source, options.store, settings))
    except WherryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
