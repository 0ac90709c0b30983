"""`python -m gateway`: this service alone."""

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from gateway.app import Settings, running
from wherry.config import load
from wherry.config.watch import Worlds, watch
from wherry.errors import WherryError
from wherry.serve import Address, stopped
from wherry.store import opened


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the configuration given on the command line until SIGTERM or SIGINT."""
    parser = ArgumentParser(prog="python -m gateway", description=__doc__)
    parser.add_argument("source", type=Path, help="a YAML file, or a folder of them")
    parser.add_argument("--state", type=Path, default=Path(".wherry"), help="folder of the store")
    parser.add_argument("--address", default="127.0.0.1:8000", help="HOST:PORT to listen on")
    parser.add_argument("--lambda-url", help="the Lambda API, like http://127.0.0.1:9001")
    parser.add_argument("--mesh", type=Path, help="unix socket of the mesh's outbound listener")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_serve(options))
    except (WherryError, ValueError) as error:
        parser.exit(1, f"gateway: {error}\n")


async def _serve(options: Namespace) -> None:
    settings = Settings(
        pepper=options.state / "pepper",
        address=Address.parse(options.address),
        lambda_url=options.lambda_url,
        mesh=options.mesh,
    )
    worlds = Worlds(await asyncio.to_thread(load, options.source))
    await asyncio.to_thread(options.state.mkdir, mode=0o700, parents=True, exist_ok=True)
    async with (
        opened(f"sqlite:{options.state / 'wherry.db'}") as store,
        running(settings, store=store, worlds=worlds),
        asyncio.TaskGroup() as group,
    ):
        watching = group.create_task(watch(options.source, worlds), name="gateway: watch files")
        await stopped()
        watching.cancel()


if __name__ == "__main__":
    main()
