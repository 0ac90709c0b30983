"""``wherry up`` as a person sees it: progress, the table of addresses, what to try, the end."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table

from wherry.cli.settings import Options
from wherry.cli.state import forget_addresses, write_addresses
from wherry.cli.up import Running, running
from wherry.model.product import ProductRoute
from wherry.serve import collect_rarely


async def serve(options: Options, shown: Console, *, as_json: bool) -> None:
    """Run everything until SIGTERM, SIGINT or SIGHUP, and say when it is ready.

    Args:
        options: What to run.
        shown: Takes progress and the table; one line of JSON goes to standard output instead.
        as_json: Print that one line, and no table.

    Raises:
        WherryError: Something cannot start.
    """
    collect_rarely()
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        life = group.create_task(_serve(options, shown, as_json=as_json), name="wherry")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, life.cancel)


async def _serve(options: Options, shown: Console, *, as_json: bool) -> None:
    began = asyncio.get_running_loop().time()

    def progress(text: str) -> None:
        shown.print(f"{asyncio.get_running_loop().time() - began:5.1f}s  {text}", style="dim")

    async with running(options, progress) as house:
        write_addresses(options.state, house.addresses)
        try:
            if as_json:
                line = json.dumps({"ready": True, "addresses": dict(house.addresses)})
                sys.stdout.write(line + "\n")
                sys.stdout.flush()
            else:
                shown.print(welcome(house))
            await asyncio.Event().wait()
        finally:
            forget_addresses(options.state)
            shown.print("stopping", style="dim")


def welcome(house: Running) -> RenderableType:
    """Return the table of addresses and what to try."""
    table = Table("part", "address", box=None, title="Wherry is up", title_justify="left")
    for part, address in house.addresses.items():
        table.add_row(part, address)
    table.add_row("functions run in", house.isolation)
    table.add_row("records are in", house.store)
    return Group(table, "", *_to_try(house), "", "Ctrl-C ends everything.")


def _to_try(house: Running) -> Iterator[str]:
    world, gateway_url = house.worlds.current, house.addresses["gateway"]
    route = next((r for p in world.products.values() for r in p.spec.routes if _plain(r)), None)
    yield "Try:"
    if not (world.products or world.services or world.functions):
        yield "  a folder that declares something, like wherry up examples/guestbook"
    if consumer := next(iter(world.consumers), None):
        yield f"  KEY=$(wherry key create {consumer})"
    if route is not None:
        yield f'  curl -i -H "x-api-key: $KEY" {gateway_url}{route.path}'
    if "ingress" in house.addresses:
        yield f"  curl -i {house.addresses['ingress']}/"
    yield "  wherry top"
    if world.products:
        yield "  wherry usage"
        yield f"  in a browser: {house.addresses['portal']}/ signs up, gives a key, tries a call"


def _plain(route: ProductRoute) -> bool:
    """Return whether anybody can call it without knowing more."""
    return "{" not in route.path and (not route.methods or "GET" in route.methods)
