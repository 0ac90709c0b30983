"""``wherry usage``: what consumers used, from the rollups and the log of the gateway."""

import asyncio
import csv
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway.metering.cloudevent import moment_ns
from gateway.metering.rollup import Key, Sum, used
from wherry.cli import stores
from wherry.cli.state import state_dir
from wherry.clock import SystemClock
from wherry.errors import StartError

PARTS = tuple(name for name in Key._fields if name != "meter")
"""What sums can be told apart by; meters always are."""

_AGO = re.compile(r"([0-9]{1,6})([mhdw])", re.ASCII)
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}

Row = tuple[str | int, ...]


def moment(text: str, now_ns: int) -> int:
    """Return a time as users write it in Unix nanoseconds: ``24h`` ago, a day or a time (UTC).

    Args:
        text: Like ``7d``, ``2026-11-30``, ``2026-11-30T12:00`` or ``2026-11-30T12:00:00+01:00``.
        now_ns: Unix nanoseconds.

    Raises:
        ValueError: It is none of these.
    """
    if ago := _AGO.fullmatch(text):
        return max(0, now_ns - int(ago[1]) * _SECONDS[ago[2]] * 10**9)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        pass
    else:
        return int(datetime.combine(day, time(), UTC).timestamp()) * 10**9
    if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text, re.ASCII):
        text = f"{text}:00Z"
    return moment_ns(text.replace(" ", "T"))


def rows(sums: Mapping[Key, Sum], by: Iterable[str]) -> Iterator[Row]:
    """Yield a row for each different combination of ``by`` and the meter, in order."""
    parts = (*by, "meter")
    added: dict[tuple[str, ...], Sum] = {}
    for key, value in sums.items():
        shown = tuple(getattr(key, part) for part in parts)
        added[shown] = added.get(shown, Sum()).plus(value)
    for shown in sorted(added):
        yield (*shown, *added[shown])


def usage(
    *,
    since: Annotated[
        str | None, typer.Option(help="A day, a time (UTC) or how long ago: 7d, 24h; or ever.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="To before this time; or now.")] = None,
    by: Annotated[
        str, typer.Option(help=f"What is told apart: {', '.join(PARTS)}.")
    ] = "consumer,product",
    state: Annotated[
        Path | None, typer.Option(help="Folder of the store; WHERRY_STATE or .wherry.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a head.")] = False,
) -> None:
    """Show how much each consumer used of each product."""
    parts = _parts(by)
    now_ns = SystemClock().unix_ns()
    begins = _moment("--since", since, now_ns, 0)
    ends = _moment("--until", until, now_ns, now_ns)
    if as_json and as_csv:
        raise StartError("--json with --csv, expected one of them")
    folder = state_dir(state)
    stores.expect_used(folder)
    columns = (*parts, "meter", *Sum._fields)
    found = list(rows(asyncio.run(_read(folder, begins, ends)), parts))
    if as_json:
        for row in found:
            typer.echo(json.dumps(dict(zip(columns, row, strict=True))))
    elif as_csv:
        csv.writer(sys.stdout).writerows([columns, *found])
    else:
        _show(columns, found)


async def _read(folder: Path, begins_ns: int, ends_ns: int) -> Mapping[Key, Sum]:
    async with stores.kept(folder) as store:
        return await used(store, begins_ns=begins_ns, ends_ns=ends_ns)


def _show(columns: Iterable[str], found: Iterable[Row]) -> None:
    table = Table(box=None)
    for column in columns:
        number = column in Sum._fields
        table.add_column(column.replace("_", " "), justify="right" if number else "left")
    for row in found:
        table.add_row(*map(str, row))
    Console().print(table if table.row_count else "No calls are recorded for that time.")


def _parts(by: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in by.split(",")))
    for part in parts:
        if part not in PARTS:
            raise StartError(f"--by {part[:40]!r}, expected one of {', '.join(PARTS)}")
    return parts


def _moment(option: str, text: str | None, now_ns: int, otherwise: int) -> int:
    if text is None:
        return otherwise
    try:
        return moment(text, now_ns)
    except (ValueError, OverflowError) as error:
        raise StartError(
            f"{option}: {error}, or a day like 2026-11-30, or how long ago, like 7d"
        ) from None
