"""``wherry admin``: tokens of operators and the audit log, whether or not Wherry is running."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from gateway.admin import tokens
from gateway.admin.endpoint import Role
from gateway.admin.tokens import Token
from gateway.days import to_the_second
from gateway.pepper import pepper
from wherry import audit
from wherry.audit import Entry
from wherry.cli import stores
from wherry.cli.lifetime import FORM, lifetime_ns
from wherry.cli.state import state_dir
from wherry.clock import SystemClock
from wherry.errors import StartError
from wherry.store import Store

app = typer.Typer(help="The admin API.", no_args_is_help=True)
token = typer.Typer(help="Tokens of operators.", no_args_is_help=True)
app.add_typer(token, name="token")

ACTOR = "wherry admin token"
"""Who changes tokens here, in the audit log."""


State = Annotated[
    Path | None, typer.Option(help="Folder of the Wherry that runs here.", envvar="WHERRY_STATE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
T = TypeVar("T")


@token.command()
def create(
    name: Annotated[str, typer.Argument(help="Of the token; the audit log says it.")],
    role: Annotated[str, typer.Option(help="viewer, editor or owner.")] = "viewer",
    expires: Annotated[str | None, typer.Option(help="Lifetime, like 90d, 12h or 30m.")] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it: it is shown this once and kept only as a hash."""
    given = _role(role)
    now_ns = SystemClock().unix_ns()
    ends = None if expires is None else now_ns + _lifetime(expires)

    async def make(store: Store) -> tuple[Token, str]:
        secret = await asyncio.to_thread(pepper, state_dir(state) / "pepper")
        made, text = await tokens.create(store, secret, name, given, now_ns=now_ns, expires_ns=ends)
        await _note(store, "createToken", None, made)
        return made, text

    made, text = _run(state, make)
    if as_json:
        typer.echo(json.dumps({"token": text, **tokens.shown(made)}))
        return
    typer.echo(text)
    note = f"Token {made.name}, role {role}, is not shown again: keep it safe."
    typer.echo(note, err=True)


@token.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The token's name, as the list shows it.")],
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Stop accepting a token, at once."""

    async def end(store: Store) -> Token:
        gone = await tokens.revoke(store, name)
        await _note(store, "revokeToken", gone, None)
        return gone

    gone = _run(state, end)
    typer.echo(json.dumps(tokens.shown(gone)) if as_json else f"Token {gone.name} is revoked.")


@token.command("list")
def show(state: State = None, as_json: AsJson = False) -> None:
    """List all tokens, without what is secret about them."""
    found = _run(state, tokens.listed)
    if as_json:
        typer.echo(json.dumps([tokens.shown(each) for each in found]))
        return
    table = Table("name", "role", "created", "expires", box=None)
    for each in map(tokens.shown, found):
        table.add_row(each["name"], each["role"], each["created"], each["expires"] or "never")
    Console().print(table)


@app.command("audit")
def log(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 50,
    about: Annotated[str, typer.Option(help="Only what begins so, like Plan/ or token/.")] = "",
    state: State = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show who changed what, and when, oldest first; --json also shows before and after."""

    async def read(store: Store) -> Sequence[Entry]:
        newest: deque[Entry] = deque(maxlen=limit)
        after = 0
        while events := await store.read(audit.LOG, after):
            after = events[-1].offset
            entries = (Entry.decode(event.body) for event in events)
            newest.extend(entry for entry in entries if entry.subject.startswith(about))
        return newest

    found = _run(state, read)
    if as_json:
        for entry in found:
            typer.echo(json.dumps(asdict(entry)))
        return
    table = Table("time", "who", "what", "of", box=None)
    for entry in found:
        table.add_row(to_the_second(entry.at_ns), entry.actor, entry.verb, entry.subject)
    Console().print(table)


def _run(state: Path | None, work: Callable[[Store], Awaitable[T]]) -> T:
    folder = state_dir(state)
    stores.expect_used(folder)

    async def main() -> T:
        async with stores.kept(folder) as store:
            return await work(store)

    return asyncio.run(main())


async def _note(store: Store, verb: str, before: Token | None, after: Token | None) -> None:
    changed = after or before
    await audit.noted(
        store,
        at_ns=SystemClock().unix_ns(),
        actor=ACTOR,
        verb=verb,
        subject=f"token/{changed.name if changed else ''}",
        before=tokens.shown(before) if before else None,
        after=tokens.shown(after) if after else None,
    )


def _role(text: str) -> Role:
    try:
        return Role[text.upper()]
    except KeyError:
        roles = ", ".join(role.name.lower() for role in Role)
        raise StartError(f"--role {text!r}: expected one of {roles}") from None


def _lifetime(text: str) -> int:
    if (found := lifetime_ns(text)) is None:
        raise StartError(f"--expires {text!r}: not a lifetime, {FORM}")
    return found
