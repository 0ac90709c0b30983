"""`wherry config` and `wherry diff`: one proxy, resource by resource."""

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from wherry.cli.pilot import Node, Url, ask, noted
from wherry.cli.state import state_dir
from wherry.cli.status import DIGITS, places

Type = Annotated[
    str | None, typer.Option("--type", help="Only this: cds, eds, lds, rds and so on.")
]

DIFFERENT = 1
"""Exit status when a proxy does not hold what it should."""
LONGEST_VALUE = 200
"""Most characters that are shown of one value."""

_STATES = {
    "refused": ("refused", "red"),
    "sent": ("sent, not answered yet", "yellow"),
    "missing": ("missing, not sent yet", "yellow"),
    "older": ("older, the newer one not sent yet", "yellow"),
    "lingering": ("no longer wanted, not gone yet", "yellow"),
    "unknown": ("asked for, and there is none", "dim"),
}

Row = Mapping[str, Any]


def config(
    node: Node,
    url: Url = None,
    only: Type = None,
    live: Annotated[
        bool, typer.Option("--live", help="What its Envoy, on this machine, says it has.")
    ] = False,
    admin: Annotated[
        Path | None, typer.Option(help="Admin socket of that Envoy; else it is looked for.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of YAML.")] = False,
) -> None:
    """Print what a proxy was sent and acknowledged, or with --live what it says it has."""
    if live or admin:
        from wherry.cli.live import dumped, socket_of  # noqa: PLC0415

        if admin is None:
            found = asyncio.run(ask(noted(url), node))["proxies"]
            node = found[0]["node"] if found else node
            admin = socket_of(node, state_dir())
        rows = list(asyncio.run(dumped(admin, only)))
        answer: Row = {"node": node, "resources": rows}
    else:
        answer = asyncio.run(ask(noted(url), node, "config", **_query(only)))
    _print(answer, as_json=as_json)


def diff(
    node: Node,
    url: Url = None,
    only: Type = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show where a proxy is not as it should be, field by field. Status 1 if it is anywhere."""
    answer = asyncio.run(ask(noted(url), node, "diff", **_query(only)))
    if as_json:
        _print(answer, as_json=True)
    else:
        Console().print(view(answer), soft_wrap=True)
    if answer["resources"]:
        raise typer.Exit(DIFFERENT)


def view(answer: Row) -> RenderableType:
    """Return what is shown of the answer of ``/api/proxies/NODE/diff``."""
    rows: Sequence[Row] = answer["resources"]
    if not rows:
        text = f"{answer['node']} holds what it should: {answer['held']} resources."
        return Text(text)
    head = f"{answer['node']}: {len(rows)} differ, {answer['held']} are as they should be"
    return Group(Text(head, "bold"), *(line for row in rows for line in _lines(row)))


def _lines(row: Row) -> Iterator[Text]:
    text, style = _STATES[row["state"]]
    yield Text.assemble(f"{row['type']} {row['name']}  ", (text, style))
    versions = (
        f"{what} {row[key][:DIGITS]}"
        for what, key in (("has", "acknowledged"), ("should have", "wanted"))
        if row[key]
    )
    if shown := ", ".join(versions):
        yield Text(f"  {shown}", "dim")
    if row["state"] == "refused":
        yield from (Text(f"  {place}") for place in places(row["sources"]))
        yield Text(f"  {row['reason']}", "red")
    yield from _fields(row.get("changes", ()))
    if row.get("omitted"):
        yield Text(f"  and {row['omitted']} more fields", "dim")


def _fields(changes: Iterable[Row]) -> Iterator[Text]:
    for change in changes:
        before, after = change["before"], change["after"]
        if before is not None:
            yield Text(f"  - {change['path']}: {_short(before)}", "red")
        if after is not None:
            yield Text(f"  + {change['path']}: {_short(after)}", "green")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _query(only: str | None) -> dict[str, str]:
    return {} if only is None else {"type": only}


def _print(answer: Row, *, as_json: bool) -> None:
    if as_json:
        json.dump(answer, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    import yaml  # noqa: PLC0415

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    yaml.dump(answer, sys.stdout, Dumper=dumper, sort_keys=False, allow_unicode=True)
