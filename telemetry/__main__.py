"""`python -m telemetry`: this service alone."""

import argparse
import asyncio
import sys

from telemetry.app import Settings, running
from wherry.clock import SystemClock
from wherry.errors import WherryError
from wherry.serve import Address, stopped

PARTS = ("telemetry", "metrics")


async def _main(settings: Settings) -> None:
    async with running(settings, clock=SystemClock()) as telemetry:
        sys.stdout.write(
            f"telemetry: access logs on {telemetry.grpc}, metrics on {telemetry.http.url}/metrics\n"
        )
        sys.stdout.flush()
        await stopped()


def _listen(text: str) -> tuple[str, Address]:
    part, _, address = text.partition("=")
    if part not in PARTS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected telemetry=... or metrics=...")
    return part, Address.parse(address)


def main() -> int:
    """Run until SIGTERM or SIGINT and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m telemetry", description="Count what Envoys report."
    )
    parser.add_argument(
        "--listen",
        type=_listen,
        action="append",
        default=[],
        metavar="PART=HOST:PORT",
        help="where telemetry or metrics listen; default: any port",
    )
    listen = dict(parser.parse_args().listen)
    settings = Settings(listen.get("telemetry", Address()), listen.get("metrics", Address()))
    try:
        asyncio.run(_main(settings))
    except WherryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
