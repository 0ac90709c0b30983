"""``wherry key``: make, revoke and list API keys, whether or not Wherry is running."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from gateway import keyring
from gateway.keys import Key
from gateway.pepper import pepper
from wherry.cli.state import consumers, expect_used, state_dir
from wherry.clock import SystemClock
from wherry.errors import WherryError
from wherry.model.resource import Name
from wherry.store import Store, opened

app = typer.Typer(help="API keys of consumers.", no_args_is_help=True)

_DAYS = re.compile(r"([1-9][0-9]{0,4})([dhm])", re.ASCII)
_UNIT_SECONDS = {"d": 86_400, "h": 3600, "m": 60}

State = Annotated[
    Path | None,
    typer.Option(help="Folder where Wherry keeps its store and secrets.", envvar="WHERRY_STATE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
T = TypeVar("T")


@app.command()
def create(
    consumer: Annotated[str, typer.Argument(help="Name of the Consumer.")],
    expires: Annotated[str | None, typer.Option(help="Lifetime, like 90d, 12h or 30m.")] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: it is shown this once and kept only as a hash."""
    try:
        TypeAdapter(Name).validate_python(consumer)
    except ValidationError:
        _fail(f"consumer {consumer!r}: not a name, expected lower-case letters, digits, - and .")
    now_ns = SystemClock().unix_ns()
    expires_ns = None if expires is None else now_ns + _lifetime(expires) * 10**9

    async def make(store: Store) -> tuple[Key, str]:
        secret = await asyncio.to_thread(pepper, state_dir(state) / "pepper")
        return await keyring.create(store, secret, consumer, now_ns=now_ns, expires_ns=expires_ns)

    folder = state_dir(state)
    fresh = not (folder / "wherry.db").exists()
    key, text = _run(state, make)
    if as_json:
        typer.echo(json.dumps({"key": text, **_shown(key)}))
        return
    typer.echo(text)
    ends = "does not expire" if key.expires_ns is None else f"expires {_time(key.expires_ns)}"
    note = f"Key {key.prefix} of {consumer} {ends}. It is not shown again: keep it safe."
    typer.echo(note, err=True)
    if fresh:
        typer.echo(f"No Wherry has used {folder} yet: is it the right folder?", err=True)
    if (known := consumers(folder)) is not None and consumer not in known:
        listed = ", ".join(known) or "none"
        typer.echo(f"There is no consumer {consumer!r} yet; there are: {listed}", err=True)


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="The key's prefix, as the list shows it.")],
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Stop accepting a key, at once."""
    now_ns = SystemClock().unix_ns()
    expect_used(state_dir(state))
    key = _run(state, lambda store: keyring.revoke(store, prefix, now_ns=now_ns))
    typer.echo(json.dumps(_shown(key)) if as_json else f"Key {key.prefix} is revoked.")


@app.command("list")
def show(state: State = None, as_json: AsJson = False) -> None:
    """List all keys, without what is secret about them."""
    expect_used(state_dir(state))
    found = _run(state, keyring.listed)
    if as_json:
        typer.echo(json.dumps([_shown(key) for key in found]))
        return
    if not found:
        typer.echo("No keys yet; make one with: wherry key create CONSUMER")
        return
    table = Table("prefix", "consumer", "state", "created", "expires", box=None)
    for key in found:
        expires = "never" if key.expires_ns is None else _time(key.expires_ns)
        table.add_row(key.prefix, key.consumer, _state(key), _time(key.created_ns), expires)
    Console().print(table)


def _run(state: Path | None, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do ``work`` on the Store in ``state``; a known error ends the program in one line."""

    async def main() -> T:
        async with _store(state_dir(state)) as store:
            return await work(store)

    try:
        return asyncio.run(main())
    except (WherryError, OSError) as error:
        _fail(str(error))


@asynccontextmanager
async def _store(state: Path) -> AsyncIterator[Store]:
    await asyncio.to_thread(state.mkdir, mode=0o700, parents=True, exist_ok=True)
    async with opened(f"sqlite:{state / 'wherry.db'}") as store:
        yield store


def _lifetime(text: str) -> int:
    form = _DAYS.fullmatch(text)
    if form is None:
        _fail(f"--expires {text!r}: not a lifetime, expected a form like 90d, 12h or 30m")
    return int(form[1]) * _UNIT_SECONDS[form[2]]


def _shown(key: Key) -> dict[str, str | None]:
    return {
        "prefix": key.prefix,
        "consumer": key.consumer,
        "state": _state(key),
        "created": _time(key.created_ns),
        "expires": None if key.expires_ns is None else _time(key.expires_ns),
    }


def _state(key: Key) -> str:
    if key.revoked_ns is not None:
        return "revoked"
    return "active" if key.accepted_at(SystemClock().unix_ns()) else "expired"


def _time(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _fail(message: str) -> NoReturn:
    typer.echo(f"wherry key: {message}", err=True)
    raise typer.Exit(1)
