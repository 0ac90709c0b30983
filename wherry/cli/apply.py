"""``wherry apply``, ``wherry api diff`` and ``wherry export``: the catalogue as files."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from wherry.cli.admin_client import Client, NotTaken, client, place
from wherry.cli.written import Written, dumped, located, shown, written
from wherry.errors import ConfigError, Problem

Source = Annotated[Path, typer.Argument(help="A YAML file of the catalogue, or a folder of them.")]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove stored resources that the files do not hold.")
]
Url = Annotated[
    str | None,
    typer.Option(
        help="The admin API, as http://HOST:PORT, with WHERRY_ADMIN_TOKEN;"
        " WHERRY_ADMIN_URL, else the one here."
    ),
]
State = Annotated[
    Path | None, typer.Option(help="Folder of the Wherry that runs here.", envvar="WHERRY_STATE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]

DIFFERENT = 1
"""Exit status when the files and the catalogue differ."""

_MARKS = {"create": "+", "update": "~", "delete": "-"}
_COLOURS = {"create": "green", "update": "yellow", "delete": "red"}
_WORDS = {"create": "created", "update": "changed", "delete": "removed", "keep": "kept"}

Change = Mapping[str, Any]


def apply(
    source: Source,
    *,
    prune: Prune = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    url: Url = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Write products, plans, consumers and subscriptions, all or none, without a restart."""
    changes = _applied(source, url, state, prune=prune, dry_run=dry_run)
    _print(changes, as_json=as_json, dry_run=dry_run)


def diff(
    source: Source,
    *,
    prune: Prune = False,
    url: Url = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Show what applying files would change in the catalogue. Status 1 if anything."""
    changes = _applied(source, url, state, prune=prune, dry_run=True)
    _print(changes, as_json=as_json, dry_run=True)
    if any(change["verb"] != "keep" for change in changes):
        raise typer.Exit(DIFFERENT)


def export(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what the files of the running Wherry declare.")
    ] = False,
    url: Url = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Print the stored catalogue as YAML that `wherry apply` takes."""

    async def read() -> Sequence[Mapping[str, object]]:
        async with client(place(url, state)) as admin:
            return await admin.export(everything=everything)

    documents = asyncio.run(read())
    typer.echo(json.dumps(documents) if as_json else dumped(documents), nl=as_json)


async def sent(
    admin: Client, sources: Sequence[Written], *, prune: bool = False, dry_run: bool = False
) -> Sequence[Change]:
    """Apply ``sources``; what is wrong with them is said by their lines.

    Raises:
        ConfigError: They were refused.
        NoAdmin: There is no answer.
        NotTaken: They were refused for another reason than what they say.
    """
    documents = [each.sent for each in sources]
    try:
        return await admin.apply(documents, prune=prune, dry_run=dry_run)
    except NotTaken as error:
        if errors := error.problem.get("errors"):
            raise located(errors, sources) from None
        raise


def _applied(
    source: Path, url: str | None, state: Path | None, *, prune: bool, dry_run: bool
) -> Sequence[Change]:
    async def work() -> Sequence[Change]:
        sources = written(source)
        if not sources and not prune:
            raise ConfigError([Problem(str(source), 1, "no resource", "one at least")])
        async with client(place(url, state)) as admin:
            return await sent(admin, sources, prune=prune, dry_run=dry_run)

    return asyncio.run(work())


def _print(changes: Sequence[Change], *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"dryRun": dry_run, "changes": changes}))
        return
    for line, verb in lines(changes):
        typer.secho(line, fg=_COLOURS.get(verb))
    typer.echo(summary(changes, dry_run=dry_run))


def lines(changes: Sequence[Change]) -> Iterator[tuple[str, str]]:
    """Yield what is shown of changes, each line with the verb that it belongs to."""
    for change in changes:
        verb = change["verb"]
        if verb == "keep":
            continue
        yield f"{_MARKS[verb]} {change['kind']} {change['name']}", verb
        if verb == "update":
            for each in change["differences"]:
                before, after = shown(each["before"]), shown(each["after"])
                yield f"    {each['pointer']}: {before} -> {after}", "keep"


def summary(changes: Sequence[Change], *, dry_run: bool) -> str:
    """Return one line that counts the changes."""
    counted = Counter(change["verb"] for change in changes)
    told = ", ".join(f"{counted[verb]} {word}" for verb, word in _WORDS.items())
    return f"{told}; nothing was written" if dry_run else told
