"""`python -m policy [DIR]`: this service alone."""

import argparse
import asyncio
import sys
from pathlib import Path

from policy.app import Settings, running
from wherry.config import load
from wherry.config.watch import Worlds, watch
from wherry.errors import WherryError
from wherry.serve import Address, stopped


async def _main(source: Path, settings: Settings) -> None:
    worlds = Worlds(await asyncio.to_thread(load, source))
    async with running(settings, worlds=worlds) as policy, asyncio.TaskGroup() as tasks:
        sys.stdout.write(f"policy: ext_authz on {policy.address}\n")
        sys.stdout.flush()
        reload = tasks.create_task(watch(source, worlds), name="policy: watch")
        await stopped()
        reload.cancel()


def _address(text: str) -> Address:
    return Address.parse(text.removeprefix("policy="))


def main() -> int:
    """Run until SIGTERM or SIGINT and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m policy", description="Answer ext_authz.")
    parser.add_argument("source", type=Path, nargs="?", default=Path(), metavar="DIR")
    parser.add_argument(
        "--listen",
        type=_address,
        default=Address(),
        metavar="policy=HOST:PORT",
        help="default: any",
    )
    options = parser.parse_args()
    try:
        asyncio.run(_main(options.source, Settings(options.listen)))
    except WherryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
