"""``wherry usage``: what consumers used, added up from the records of the gateway."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.usage import LOG, Usage
from wherry.cli.state import expect_used, state_dir
from wherry.store import Store, opened

PAGE = 10_000
"""Events read at a time."""

Key = tuple[str, str, str, str]


def totals(events: Iterable[Usage]) -> Counter[Key]:
    """Add amounts up by consumer, product, meter and status; an id counts once."""
    unique = {event.id: event for event in events}.values()
    added: Counter[Key] = Counter()
    for event in unique:
        status = event.labels.get("status", "")
        added[event.consumer, event.product, event.meter, status] += event.amount
    return added


async def recorded(store: Store) -> Counter[Key]:
    """Add up every record of ``store``; its log already holds each id once."""
    added: Counter[Key] = Counter()
    after = 0
    while events := await store.read(LOG, after, limit=PAGE):
        added += totals(Usage.decode(event.id, event.body) for event in events)
        after = events[-1].offset
    return added


def usage(
    *,
    state: Annotated[
        Path | None, typer.Option(help="Folder of the store; WHERRY_STATE or .wherry.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show how much each consumer used of each product."""

    async def read() -> Counter[Key]:
        folder = state_dir(state)
        expect_used(folder)
        async with opened(f"sqlite:{folder / 'wherry.db'}") as store:
            return await recorded(store)

    table = Table("consumer", "product", "meter", "status", "amount", box=None)
    for key, amount in sorted(asyncio.run(read()).items()):
        if as_json:
            fields = dict(zip(("consumer", "product", "meter", "status"), key, strict=True))
            typer.echo(json.dumps({**fields, "amount": amount}))
        table.add_row(*key, str(amount))
    if not as_json:
        Console().print(table if table.row_count else "No calls are recorded yet.")
