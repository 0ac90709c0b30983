"""``wherry key``: make, rotate, revoke and list API keys, whether or not Wherry is running."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from gateway import keyring
from gateway.authn.keydesk import KeyDesk
from gateway.authn.scope import is_scope
from gateway.authn.seeds import SIGNING_KEYS, renewed
from gateway.authn.shownkey import shown
from gateway.authn.uses import last_used
from gateway.days import to_the_second
from gateway.keyring import Grant
from gateway.keys import DEFAULT_APP, Key, signing_secret
from gateway.pepper import familiar, pepper
from wherry import audit
from wherry.cli import stores
from wherry.cli.lifetime import FORM, lifetime_ns
from wherry.cli.state import consumers, state_dir
from wherry.clock import SystemClock
from wherry.errors import WherryError
from wherry.model.resource import is_name
from wherry.store import Store

app = typer.Typer(help="API keys of consumers.", no_args_is_help=True)

ACTOR = "wherry key"
"""Who changes keys here, in the audit log."""

_MOST_TITLE = 200

State = Annotated[
    Path | None,
    typer.Option(help="Folder where Wherry keeps its store and secrets.", envvar="WHERRY_STATE"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON.")]
T = TypeVar("T")


@app.command()
def create(
    consumer: Annotated[str, typer.Argument(help="Name of the Consumer.")],
    *,
    app_name: Annotated[str, typer.Option("--app", help="App of the consumer.")] = DEFAULT_APP,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="Granted; may be given often; none: all that the app may have."),
    ] = None,
    environment: Annotated[
        str | None, typer.Option(help="The only environment it counts in; none: every one.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Lifetime, like 90d, 12h or 30m.")] = None,
    title: Annotated[str, typer.Option(help="Whatever its owner calls it.")] = "",
    signing: Annotated[
        bool, typer.Option("--signing", help="Also print the secret to sign requests with.")
    ] = False,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: it is shown this once and kept only as a hash."""
    for what, name in (("consumer", consumer), ("app", app_name), ("environment", environment)):
        if name is not None and not is_name(name):
            _fail(f"{what} {name!r}: not a name, expected lower-case letters, digits, - and .")
    for each in scope or ():
        if not is_scope(each):
            _fail(f"--scope {each!r}: not a scope, expected 1 to 128 characters without spaces")
    if len(title) > _MOST_TITLE:
        _fail(f"--title: {len(title)} characters, expected at most {_MOST_TITLE}")
    now_ns = SystemClock().unix_ns()
    grant = Grant(
        app_name,
        frozenset(scope) if scope else None,
        environment,
        title,
        None if expires is None else now_ns + _lifetime("--expires", expires),
    )

    async def make(store: Store, secret: bytes) -> tuple[Key, str]:
        return await KeyDesk(store, SystemClock()).create(secret, consumer, grant, actor=ACTOR)

    folder = state_dir(state)
    fresh = stores.fresh(folder)
    _print_made(state, make, signing=signing, as_json=as_json)
    if as_json:
        return
    if fresh:
        typer.echo(f"No Wherry has used {folder} yet: is it the right folder?", err=True)
    if (known := consumers(folder)) is not None and consumer not in known:
        listed = ", ".join(known) or "none"
        typer.echo(f"There is no consumer {consumer!r} yet; there are: {listed}", err=True)


@app.command()
def rotate(
    prefix: Annotated[str, typer.Argument(help="The old key's prefix, as the list shows it.")],
    ends: Annotated[
        str | None,
        typer.Option(help="How long the old key still counts, like 7d; none: as long as it did."),
    ] = None,
    signing: Annotated[
        bool, typer.Option("--signing", help="Also print the secret to sign requests with.")
    ] = False,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Make the key that takes the place of another; both count until the old one ends."""
    now_ns = SystemClock().unix_ns()
    stores.expect_used(state_dir(state))
    ends_ns = None if ends is None else now_ns + _lifetime("--ends", ends)

    async def make(store: Store, secret: bytes) -> tuple[Key, str]:
        desk = KeyDesk(store, SystemClock())
        return await desk.rotate(secret, prefix, ends_ns=ends_ns, actor=ACTOR)

    _print_made(state, make, signing=signing, as_json=as_json)


@app.command("renew-signing")
def renew_signing(state: State = None) -> None:
    """Sign the gateway's own tokens with a new key; those of the key before still count."""
    folder = state_dir(state)
    stores.expect_used(folder)

    async def renew(store: Store) -> None:
        await asyncio.to_thread(renewed, folder / SIGNING_KEYS)
        now_ns = SystemClock().unix_ns()
        await audit.noted(
            store, at_ns=now_ns, actor=ACTOR, verb="renewSigningKeys", subject="signing-keys"
        )

    _run(state, renew)
    typer.echo("New tokens are signed with a new key.")


@app.command()
def revoke(
    prefix: Annotated[str, typer.Argument(help="The key's prefix, as the list shows it.")],
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """Stop accepting a key, at once."""
    stores.expect_used(state_dir(state))

    async def end(store: Store) -> Key:
        return await KeyDesk(store, SystemClock()).revoke(prefix, actor=ACTOR)

    key = _run(state, end)
    typer.echo(json.dumps(_shown(key)) if as_json else f"Key {key.prefix} is revoked.")


@app.command("list")
def show(
    consumer: Annotated[str | None, typer.Option(help="Only theirs; none: everyone's.")] = None,
    state: State = None,
    as_json: AsJson = False,
) -> None:
    """List keys, without what is secret about them."""
    stores.expect_used(state_dir(state))
    found, used = _run(state, lambda store: _every(store, consumer))
    if as_json:
        typer.echo(json.dumps([_shown(key, used.get(key.prefix)) for key in found]))
        return
    if not found:
        typer.echo("No keys yet; make one with: wherry key create CONSUMER")
        return
    table = Table(box=None)
    for name in ("prefix", "consumer", "app", "title", "state", "created", "expires", "last used"):
        table.add_column(name, no_wrap=name not in {"consumer", "app", "title"})
    for key in found:
        days = (key.created_ns, key.expires_ns, used.get(key.prefix))
        table.add_row(
            *(key.prefix, key.consumer, key.app, key.title, _state(key)),
            *("never" if at is None else to_the_second(at).partition("T")[0] for at in days),
        )
    Console().print(table)


async def _every(store: Store, consumer: str | None) -> tuple[Sequence[Key], Mapping[str, int]]:
    found = [key for key in await keyring.listed(store) if consumer in {None, key.consumer}]
    return found, await last_used(store)


def _print_made(
    state: Path | None,
    make: Callable[[Store, bytes], Awaitable[tuple[Key, str]]],
    *,
    signing: bool,
    as_json: bool,
) -> None:
    async def made(store: Store) -> tuple[Key, str, str]:
        secret = await asyncio.to_thread(pepper, state_dir(state) / "pepper")
        if not await familiar(store, secret):
            typer.echo("The pepper is another than before: older keys do not count.", err=True)
        key, text = await make(store, secret)
        return key, text, signing_secret(secret, key.prefix)

    key, text, secret = _run(state, made)
    if as_json:
        more = {"signingSecret": secret} if signing else {}
        typer.echo(json.dumps({"key": text, **more, **_shown(key)}))
        return
    typer.echo(text)
    if signing:
        typer.echo(secret)
    ends = (
        "does not expire" if key.expires_ns is None else f"expires {to_the_second(key.expires_ns)}"
    )
    note = f"Key {key.prefix} of {key.consumer} {ends}. It is not shown again: keep it safe."
    typer.echo(note, err=True)


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
    async with stores.kept(state) as store:
        yield store


def _lifetime(option: str, text: str) -> int:
    if (found := lifetime_ns(text)) is None:
        _fail(f"{option} {text!r}: not a lifetime, {FORM}")
    return found


def _shown(key: Key, used_ns: int | None = None) -> dict[str, object]:
    return shown(key, SystemClock().unix_ns(), used_ns)


def _state(key: Key) -> str:
    return key.state_at(SystemClock().unix_ns())


def _fail(message: str) -> NoReturn:
    typer.echo(f"wherry key: {message}", err=True)
    raise typer.Exit(1)
