"""``wherry loads``: what proxies send where, as they report it to the Pilot."""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from wherry.cli.pilot import Url, load, noted, shown_on
from wherry.errors import WherryError

UNKNOWN = 2
"""Exit status when no Pilot answers."""

NOBODY = "No proxy has reported a request yet; each does so every 10 s once it sends some."

Answer = Mapping[str, Any]


def view(answer: Answer) -> RenderableType:
    """Return what is shown of the answer of ``/api/load``: a line a cluster and locality."""
    rows = list(_rows(answer))
    if not rows:
        return Text(NOBODY)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("CLUSTER", "LOCALITY"):
        table.add_column(title, no_wrap=True)
    for at, title in enumerate(("REQUESTS", "ERRORS", "OPEN", "DROPPED", "REQ/S", "ERR/S"), 2):
        widest = max(len(title), *(len(cells[at]) for cells, _ in rows))
        table.add_column(title, no_wrap=True, justify="right", width=widest)
    table.add_column("FROM", overflow="ellipsis")
    table.add_column("")
    for cells, failing in rows:
        table.add_row(*map(Text, cells), style="yellow" if failing else "")
    silent = sum(not node["connected"] for node in answer["nodes"])
    notes = []
    if silent:
        notes.append(
            f"{silent} of these proxies have left; what they sent still counts for a while"
        )
    if answer["omitted"]:
        notes.append(f"{answer['omitted']} more proxies are counted but not named")
    return Group(table, *(Text(note, "dim") for note in notes))


def _rows(answer: Answer) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Yield the cells of each line, and whether requests fail there; services come first."""
    senders = _senders(answer["nodes"])
    for cluster in sorted(answer["clusters"], key=lambda each: "/" in each["cluster"]):
        name = cluster["service"] or cluster["cluster"]
        dropped = str(cluster["dropped"] or "-")
        if not cluster["places"]:
            yield (name, "-", "0", "0", "0", dropped, "-", "-", "-", ""), bool(cluster["dropped"])
        for place in cluster["places"]:
            where = tuple(place["place"])
            cells = (
                name,
                "/".join(filter(None, where)) or "-",
                str(place["issued"]),
                str(place["errors"]),
                str(place["in_progress"]),
                dropped,
                f"{place['rate']:.1f}",
                f"{place['error_rate']:.1f}",
                *_named(senders.get((cluster["cluster"], cluster["service"], where), ())),
            )
            yield cells, place["error_rate"] > 0
            dropped = "-"  # counted before a locality is chosen


_Where = tuple[str, str, tuple[str, ...]]


def _senders(nodes: Sequence[Answer]) -> dict[_Where, list[str]]:
    """Return who sends to each place, the busiest first."""
    found: dict[_Where, list[tuple[int, str]]] = {}
    for node in nodes:
        for cluster in node["clusters"]:
            for place in cluster["places"]:
                key = (cluster["cluster"], cluster["service"], tuple(place["place"]))
                found.setdefault(key, []).append((-place["issued"], node["node"]))
    return {key: [name for _, name in sorted(each)] for key, each in found.items()}


def _named(nodes: Sequence[str]) -> tuple[str, str]:
    """Return the busiest, and how many others there are."""
    return (nodes[0] if nodes else "-"), (f"+{len(nodes) - 1}" if len(nodes) > 1 else "")


def loads(
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it all as JSON.")] = False,
) -> None:
    """Show the requests, errors and drops of each cluster and locality, as proxies report them."""
    try:
        answer = asyncio.run(load(noted(url)))
    except WherryError as error:
        typer.echo(f"wherry: {error}", err=True)
        raise typer.Exit(UNKNOWN) from None
    if as_json:
        json.dump(answer, sys.stdout)
        sys.stdout.write("\n")
    else:
        shown_on().print(view(answer))
