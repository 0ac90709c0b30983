"""`python -m faas`: this service alone, on a Store of its own or a shared one."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faas.app import Settings, running
from faas.backends import chosen
from wherry.errors import WherryError
from wherry.serve import Address, serve
from wherry.store import opened


@asynccontextmanager
async def _alone(state: Path, run: Path, options: argparse.Namespace) -> AsyncIterator[None]:
    settings = Settings(state / "code", state / "run", address=options.listen)
    async with (
        chosen(options.backend, cache=state / "cache", run=run) as backend,
        opened(options.store or f"sqlite:{state / 'wherry.db'}") as store,
        running(settings, store, backend) as faas,
    ):
        sys.stdout.write(f"faas: Lambda API on {faas.address.url} ({backend.isolation})\n")
        sys.stdout.flush()
        yield


def main() -> int:
    """Run until SIGTERM or SIGINT and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m faas", description="Serve the Lambda API.")
    parser.add_argument("--listen", type=_address, default=Address(), metavar="lambda=HOST:PORT")
    parser.add_argument("--backend", choices=["auto", "qemu", "process"], default="auto")
    parser.add_argument("--state", type=Path, default=Path(".wherry"), metavar="DIR")
    parser.add_argument("--store", help="memory: or sqlite:PATH; by default a file in --state")
    options = parser.parse_args()
    state: Path = options.state
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix="wherry-") as run:
            asyncio.run(serve([_alone(state.resolve(), Path(run), options)]))
    except WherryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _address(text: str) -> Address:
    return Address.parse(text.removeprefix("lambda="))


if __name__ == "__main__":
    sys.exit(main())
