"""`wherry status`: every proxy, what it holds, and what it refuses with the place in the files."""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wherry.cli.pilot import ANSWER_SECONDS, NoPilot, Url, ask, fetch, noted, shown_on
from wherry.errors import WherryError

REFRESH_SECONDS = 1.0
NOBODY = "No proxy is connected. `wherry up` starts some; `wherry sidecar` joins a program."

NODE, CLIENT, STREAMS = "NODE", "CLIENT", "STREAMS"
FIGURES = ("AGE", "SCOPE", "SENT")
TYPES = ("cds", "eds", "lds", "rds", "srds", "vhds", "sds", "ecds", "rtds")
"""Types in the order of their columns; those that nobody asked for have none."""

GAP, MIN_NAME, DIGITS, FEW_DIGITS = 2, 8, 6, 4
LINES = 5
"""Lines that one refusal takes, about."""
REFUSING, UNKNOWN = 1, 2
"""Exit status when a proxy refuses something, and when nobody can tell."""

_WORDS = {"nack": "NACK", "pending": "pending", "none": "-", "ack": "ack"}
"""What is shown for a state of a type, the worst first."""
_WORST = tuple(_WORDS)

Answer = Mapping[str, Any]
Cell = tuple[str, str]
"""The state of a type in a word, and its version."""


def view(answer: Answer, *, width: int = 80, rows: int | None = None) -> RenderableType:
    """Return what is shown of the answer of ``/api/proxies``.

    Args:
        answer: As the Pilot gave it.
        width: Columns of the terminal; versions give way when it is narrow, then names.
        rows: Lines of the terminal; what does not fit is counted, and what is refused stands
            first. None shows all.
    """
    proxies, refusals = answer["proxies"], answer["refusals"]
    if not proxies:
        return Text(NOBODY)
    shown, told = proxies, refusals
    if rows is not None:
        refusing = {each["node"] for each in refusals}
        told = refusals[: max((rows // 2) // LINES, 1)]
        room = max(rows - 2 - LINES * len(told), 1)
        shown = sorted(proxies, key=lambda each: each["node"] not in refusing)[:room]
    parts: list[RenderableType] = [_table(shown, answer["now_unix_ns"], width)]
    if hidden := len(proxies) - len(shown) + answer["omitted"]:
        parts.append(Text(f"and {hidden} more", "dim"))
    if told:
        parts += ["", Text("REFUSED", "bold red"), *map(_refusal, told)]
    if hidden := len(refusals) - len(told):
        parts.append(Text(f"and {hidden} more refused", "dim"))
    return Group(*parts)


def _table(proxies: Sequence[Answer], now: int, width: int) -> Table:
    cells = [_types(proxy) for proxy in proxies]
    types = [t for t in (*TYPES, *_others(cells)) if any(t in row for row in cells)]
    titles = (NODE, CLIENT, STREAMS, *map(str.upper, types), *FIGURES)
    whole: list[tuple[str, ...]] = []
    for digits in (DIGITS, FEW_DIGITS, 0):
        pairs = zip(proxies, cells, strict=True)
        whole = [_row(proxy, row, types, now, digits) for proxy, row in pairs]
        if _width(titles, whole) <= width:
            break
    over = max(0, _width(titles, whole) - width)
    widths = [max(len(t), *(len(row[at]) for row in whole)) for at, t in enumerate(titles)]
    for title in (STREAMS, CLIENT, NODE):  # a node is named in other commands: last
        at = titles.index(title)
        given = max(widths[at] - over, min(widths[at], MIN_NAME))
        over, widths[at] = over - (widths[at] - given), given
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for title, widest in zip(titles, widths, strict=True):
        table.add_column(
            title,
            no_wrap=True,
            width=widest,
            justify="right" if title in FIGURES else "left",
        )
    for row, states in zip(whole, cells, strict=True):
        worst = min((_WORST.index(state) for state, _ in states.values()), default=len(_WORST))
        style = {0: "red", 1: "yellow"}.get(worst, "")
        table.add_row(*(Text(cell) for cell in row), style=style)
    return table


def _width(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    columns = zip(titles, *rows, strict=True)
    return sum(max(map(len, column)) + GAP for column in columns) - GAP


def _row(
    proxy: Answer, states: Mapping[str, Cell], types: Sequence[str], now: int, digits: int
) -> tuple[str, ...]:
    streams = proxy["streams"]
    client = " ".join(filter(None, (proxy["client"], proxy["client_version"])))
    since = min((stream["since_unix_ns"] for stream in streams), default=now)
    scopes = [s["scope_size"] for s in streams if s["scope_size"] is not None]
    return (
        proxy["node"],
        client or "-",
        _streams(streams),
        *(_cell(states.get(each), digits) for each in types),
        age((now - since) / 1e9),
        str(max(scopes)) if scopes else "-",
        size(sum(stream["sent_bytes"] for stream in streams)),
    )


def _streams(streams: Sequence[Answer]) -> str:
    by_variant: dict[str, dict[str, None]] = {}
    for stream in streams:
        by_variant.setdefault(stream["variant"], {})[stream["service"]] = None
    return "; ".join(
        variant if list(services) == [variant] else f"{','.join(services)} {variant}"
        for variant, services in by_variant.items()
    )


def _types(proxy: Answer) -> dict[str, Cell]:
    """Return the worst state of each type, over all streams, and the version if it is one."""
    found: dict[str, Cell] = {}
    for stream in proxy["streams"]:
        for each in stream["types"]:
            state, version = each["state"], each["version"]
            if (before := found.get(each["type"])) is not None:
                state = min(state, before[0], key=_WORST.index)
                version = version if version == before[1] else ""
            found[each["type"]] = state, version
    return found


def _others(cells: Sequence[Mapping[str, Cell]]) -> list[str]:
    return sorted({name for row in cells for name in row} - set(TYPES))


def _cell(cell: Cell | None, digits: int) -> str:
    if cell is None:
        return ""
    state, version = cell
    return " ".join(filter(None, (_WORDS[state], version[:digits])))


def _refusal(refusal: Answer) -> RenderableType:
    what = " ".join(filter(None, (refusal["type"], refusal["resource"])))
    lines = [Text.assemble((refusal["node"], "bold"), f"  {what}")]
    lines += [Text(f"  {text}") for text in places(refusal["sources"])]
    lines.append(Text(f"  {refusal['reason']}", "red"))
    return Group(*lines)


def places(sources: Sequence[Answer]) -> Iterator[str]:
    """Yield where a resource was written: the likely places, and how many others there are."""
    likely = [source for source in sources if source["likely"]]
    for source in likely:
        where = f"{source['where']}: " if source["where"] else ""
        yield f"{where}{source['kind']} {source['name']}"
    if others := len(sources) - len(likely):
        yield f"made with {others} more, which do not hold what the reason names"


def age(seconds: float) -> str:
    """Return a time in its largest unit, as ``42s`` or ``3h``."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def size(count: int) -> str:
    """Return a number of bytes in its unit, as ``12K``."""
    value = float(count)
    for unit in ("", "K", "M", "G"):
        if value < 1000 or unit == "G":  # noqa: PLR2004
            return f"{value:.0f}{unit}" if not unit or value >= 10 else f"{value:.1f}{unit}"  # noqa: PLR2004
        value /= 1024
    raise AssertionError("unreachable: the last unit returns")


async def _watch(url: str, console: Console) -> None:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            while True:
                try:
                    answer = await fetch(session, url)
                    shown = view(answer, width=console.width, rows=console.height)
                except NoPilot as error:  # it may come back
                    shown = Text(str(error), "red")
                live.update(shown, refresh=True)
                await asyncio.sleep(REFRESH_SECONDS)


def status(
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it all as JSON.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay and show it live.")] = False,
) -> None:
    """Show every proxy: what it holds of each type, and what it refuses. Status 1 if any does."""
    console = shown_on()
    try:
        source = noted(url)
        if watch and console.is_terminal:
            asyncio.run(_watch(source, console))
        answer = asyncio.run(ask(source))
    except WherryError as error:
        typer.echo(f"wherry: {error}", err=True)
        raise typer.Exit(UNKNOWN) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    if as_json:
        json.dump(answer, sys.stdout)
        sys.stdout.write("\n")
    else:
        console.print(view(answer, width=console.width), soft_wrap=True)  # places stay whole
    if answer["refusals"]:
        raise typer.Exit(REFUSING)
