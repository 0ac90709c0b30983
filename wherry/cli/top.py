"""`wherry top`: who calls whom, how often, how well, how fast."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wherry.errors import WherryError

REFRESH_SECONDS = 1.0
ANSWER_SECONDS = 5.0
MAX_ANSWER_BYTES = 4 << 20
NOTHING_YET = (
    "No requests yet. Send one through the ingress or the gateway; `wherry up` prints both "
    "addresses. It shows here about a second later."
)

NAMES = ("FROM", "TO")
COLUMNS = (*NAMES, "REQ/S", "ERR %", "P50 MS", "P95 MS", "REQUESTS", "ERRORS")
"""The names give way when the terminal is narrow, the figures do not."""

GAP, MIN_NAME = 2, 8

Edges = Sequence[Mapping[str, Any]]


class NoTelemetry(WherryError):
    """The telemetry service gave no edges; the message says why and the way out."""

    def __init__(self, url: str, found: str) -> None:
        super().__init__(
            f"telemetry {url}: {found}, expected a list of edges; "
            "start it with `wherry up`, or name another with --url"
        )


def view(edges: Edges, *, width: int = 80, rows: int | None = None) -> RenderableType:
    """Return what is shown of the edges that ``/api/edges`` lists.

    Args:
        edges: The busiest first.
        width: Columns of the terminal.
        rows: Most of them to show; None shows all.
    """
    if not edges:
        return Text(NOTHING_YET)
    shown = edges if rows is None else edges[: max(rows, 1)]
    cells = [_row(edge) for edge in shown]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *cells, strict=True)]
    room = (width - sum(widths[len(NAMES) :]) - GAP * len(COLUMNS)) // len(NAMES)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for name, widest in zip(COLUMNS, widths, strict=True):
        named = name in NAMES
        table.add_column(
            name,
            no_wrap=True,
            justify="left" if named else "right",
            width=min(widest, max(MIN_NAME, room)) if named else widest,
        )
    for edge, row in zip(shown, cells, strict=True):
        table.add_row(*map(Text, row), style=_style(edge))
    if len(shown) == len(edges):
        return table
    return Group(table, Text(f"and {len(edges) - len(shown)} more that are less busy", "dim"))


def _row(edge: Mapping[str, Any]) -> tuple[str, ...]:
    version = edge["destination_version"]
    destination = edge["destination"] + ("" if version == "unknown" else f":{version}")
    share = f"{100 * edge['error_rate'] / edge['rate']:.1f}" if edge["rate"] else "-"
    return (
        edge["source"],
        destination,
        f"{edge['rate']:.1f}",
        share,
        _milliseconds(edge["p50"]),
        _milliseconds(edge["p95"]),
        f"{edge['requests']}",
        f"{edge['errors']}",
    )


def _style(edge: Mapping[str, Any]) -> str:
    if edge["error_rate"]:
        return "red"
    return "" if edge["rate"] else "dim"


def _milliseconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"  # noqa: PLR2004


async def fetch(session: aiohttp.ClientSession, url: str) -> Edges:
    """Return the edges that the telemetry service at ``url`` lists.

    Raises:
        NoTelemetry: It gives no answer, or another than that.
    """
    try:
        async with session.get(f"{url}/api/edges", allow_redirects=False) as response:
            body = await _read(response)
    except (aiohttp.ClientError, ValueError) as error:
        raise NoTelemetry(url, str(error) or type(error).__name__) from None
    except TimeoutError:
        raise NoTelemetry(url, f"no answer within {ANSWER_SECONDS:g} s") from None
    if response.status != 200 or len(body) > MAX_ANSWER_BYTES:  # noqa: PLR2004
        raise NoTelemetry(url, f"status {response.status} with {len(body)} bytes")
    try:
        edges = json.loads(body)["edges"]
    except (ValueError, KeyError, TypeError):
        edges = None
    if not isinstance(edges, list):
        raise NoTelemetry(url, "an answer of another form")
    return edges


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    return body


async def _once(url: str) -> Edges:
    async with _session() as session:
        return await fetch(session, url)


async def _live(url: str, console: Console) -> None:
    async with _session() as session:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                edges = await fetch(session, url)
                shown = view(edges, width=console.width, rows=console.height - 2)
                live.update(shown, refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))


def _noted() -> str:
    from wherry.cli.state import addresses, state_dir  # noqa: PLC0415

    address = addresses(state_dir())["metrics"]
    return address if "://" in address else f"http://{address}"


def top(
    url: Annotated[
        str | None,
        typer.Option(help="Where telemetry answers, as http://HOST:PORT; else the Wherry here."),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Print one table and end, as without a terminal.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the edges as JSON and end.")
    ] = False,
) -> None:
    """Show live who calls whom: requests, errors and latency."""
    console = Console()
    try:
        source = (url or _noted()).rstrip("/")
        if as_json:
            json.dump(asyncio.run(_once(source)), sys.stdout)
            sys.stdout.write("\n")
        elif once or not console.is_terminal:
            console.print(view(asyncio.run(_once(source)), width=console.width))
        else:
            asyncio.run(_live(source, console))
    except WherryError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
