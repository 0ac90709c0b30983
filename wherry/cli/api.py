"""``wherry api``: products from OpenAPI documents."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.traffic.openapi.document import WrongDocument
from gateway.traffic.openapi.imported import Imported, Wanted, imported
from wherry.cli.admin_client import Client, NotTaken, client, place
from wherry.cli.apply import diff, lines, summary
from wherry.cli.written import MAX_OPENAPI, dumped
from wherry.config.document import Document, documents
from wherry.errors import ConfigError, Problem, StartError, WherryError

app = typer.Typer(help="API products: import, compare.", no_args_is_help=True)
app.command("diff")(diff)


class Unused(WherryError):
    """Options of a command go against each other."""


@dataclass(frozen=True, slots=True)
class _Read:
    """An OpenAPI document of a file, which knows its lines."""

    document: Document
    data: Mapping[str, Any]


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="An OpenAPI 3.0 or 3.1 document, YAML or JSON.")],
    *,
    name: Annotated[
        str | None, typer.Option(help="Of the product; else made from the title.")
    ] = None,
    service: Annotated[str | None, typer.Option(help="Service of the mesh it leads to.")] = None,
    url: Annotated[
        str | None, typer.Option(help="Outside server it leads to; else the document's first.")
    ] = None,
    function: Annotated[str | None, typer.Option(help="Function that it leads to.")] = None,
    plan: Annotated[
        list[str] | None, typer.Option(help="Plan it is offered under; else one of its own.")
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Hold requests against the document.")
    ] = False,
    write: Annotated[Path | None, typer.Option(help="File to write; there must be none.")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Put it in the catalogue of the Wherry that runs.")
    ] = False,
    admin: Annotated[
        str | None, typer.Option("--admin", help="The admin API, as http://HOST:PORT.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder of the Wherry here.", envvar="WHERRY_STATE")
    ] = None,
) -> None:
    """Make a product from an OpenAPI document: print it as YAML, write it, or apply it."""
    if sum(each is not None for each in (service, url, function)) > 1:
        raise Unused("api import: --service, --url and --function, expected one of them at most")
    if apply and write is not None:
        raise Unused("api import: --write and --apply, expected one of them at most")
    where = None if apply else _relative(source, write)
    wanted = Wanted(name, service, url, function, tuple(plan or ()), where, validate)
    made = _made(_read(source), wanted)
    for note in made.notes:
        typer.echo(f"note: {note}", err=True)
    found = [made.product] if made.plan is None else [made.plan, made.product]
    if apply:
        _apply(source, found, admin, state)
    elif write is not None:
        _write(write, dumped(found))
        typer.echo(f"Wrote {_counted(made)} to {write}.", err=True)
    else:
        typer.echo(dumped(found), nl=False)


def _read(source: Path) -> _Read:
    """Return the document of a file.

    Raises:
        ConfigError: It cannot be read, or holds no document or several.
    """
    try:
        found = [each.moved(str(source), 0) for each in documents(_text(source))]
    except UnicodeDecodeError:
        problem = Problem(str(source), 1, "bytes that are no UTF-8", "text")
        raise ConfigError([problem]) from None
    except OSError as error:
        problem = Problem(str(source), 1, str(error.strerror), "a file to read")
        raise ConfigError([problem]) from None
    except ConfigError as error:
        raise ConfigError(
            [Problem(str(source), p.line, p.found, p.expected) for p in error.problems]
        ) from None
    if len(found) != 1 or not isinstance(found[0].data, dict):
        what = f"{len(found)} documents" if len(found) != 1 else "no mapping"
        raise ConfigError([Problem(str(source), 1, what, "one OpenAPI document")])
    return _Read(found[0], found[0].data)


def _text(source: Path) -> str:
    size = source.stat().st_size
    if size > MAX_OPENAPI:
        raise ConfigError([Problem("", 1, f"{size} bytes", f"at most {MAX_OPENAPI}")])
    return source.read_text("utf-8")


def _made(read: _Read, wanted: Wanted) -> Imported:
    try:
        return imported(read.data, wanted)
    except WrongDocument as error:
        raise ConfigError(
            [read.document.problem(error.path, error.found, error.expected)]
        ) from None


def _relative(source: Path, write: Path | None) -> str:
    """Return the path of the document from the file that will name it."""
    folder = Path() if write is None else write.parent
    return Path(os.path.relpath(source, folder)).as_posix()


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Unused(f"file {path}: it is there already, expected none") from None
    except OSError as error:
        raise StartError(f"file {path}: {error.strerror}, expected to write it") from None


def _apply(
    source: Path, found: list[dict[str, Any]], admin: str | None, state: Path | None
) -> None:
    async def work() -> None:
        async with client(place(admin, state)) as asked:
            if len(found) > 1 and await _exists(asked, found[0]["metadata"]["name"]):
                del found[0]  # its plan may have been changed since it was first made
            try:
                changes = await asked.apply(found)
            except NotTaken as error:
                if errors := error.problem.get("errors"):
                    raise ConfigError([_refused(source, each) for each in errors]) from None
                raise
        for line, _ in lines(changes):
            typer.echo(line)
        typer.echo(summary(changes, dry_run=False))

    asyncio.run(work())


def _refused(source: Path, error: Mapping[str, object]) -> Problem:
    where = f"{error.get('resource', 'product')} {error.get('pointer', '')}".strip()
    found, expected = str(error.get("found")), str(error.get("expected"))
    return Problem(str(source), 1, f"{where}: {found}", expected)


async def _exists(admin: Client, plan: str) -> bool:
    try:
        await admin.ask("GET", f"/v1/plans/{plan}")
    except NotTaken as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return False
    return True


def _counted(made: Imported) -> str:
    name, routes = made.product["metadata"]["name"], len(made.product["spec"]["routes"])
    return f"product {name!r} with {routes} routes"
