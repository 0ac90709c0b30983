"""``wherry fn``: deploy, invoke, watch and remove functions of a running Wherry."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from faas.deploy import Client, Settings
from wherry.cli.settings import cache_folder
from wherry.cli.state import addresses, state_dir
from wherry.errors import StartError, WherryError

app = typer.Typer(help="Functions: deploy, invoke, logs, list, delete.", no_args_is_help=True)

Endpoint = Annotated[
    str | None,
    typer.Option(help="URL of the Lambda API; otherwise that of the Wherry that runs here."),
]
Name = Annotated[str, typer.Argument(help="Name or ARN of the function.")]

_FOLLOW_SECONDS = 0.5


def client(endpoint: str | None) -> Client:
    """Return a client of ``endpoint`` or, when None, of the Wherry that runs here.

    Raises:
        StartError: Nothing runs here.
    """
    if endpoint is not None:
        return Client(endpoint)
    folder = state_dir()
    parts = addresses(folder)
    if "lambda" not in parts:
        raise StartError(f"{folder}: no Lambda API among what runs, expected wherry up or run faas")
    address = parts["lambda"]
    return Client(address if address.startswith("http") else f"http://{address}")


@contextmanager
def _spoken() -> Iterator[None]:
    """Say an expected error in one line instead of with a stack."""
    try:
        yield
    except WherryError as error:
        typer.echo(f"wherry: {error}", err=True)
        raise typer.Exit(1) from error


@app.command()
def deploy(
    directory: Annotated[Path, typer.Argument(help="Folder with the handler's module.")],
    *,
    name: Annotated[str | None, typer.Option(help="Name; otherwise the folder's.")] = None,
    handler: Annotated[str | None, typer.Option(help="module.function [app.handler]")] = None,
    timeout: Annotated[int | None, typer.Option(help="Seconds for one call, 1 to 900.")] = None,
    memory: Annotated[int | None, typer.Option(help="MiB, 128 to 10240.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be repeated.")] = None,
    endpoint: Endpoint = None,
) -> None:
    """Create or update a function from a folder; a requirements.txt there is installed."""
    with _spoken():
        settings = Settings(
            handler=handler,
            timeout=timeout,
            memory_mib=memory,
            environment=None if env is None else dict(_variable(each) for each in env),
        )
        done = client(endpoint).deploy(
            directory,
            name or directory.resolve().name,
            settings,
            cache_dir=cache_folder() / "requirements",
            progress=lambda text: typer.echo(text, err=True),
        )
        typer.echo(f"{done.name} {done.change}: {done.state}\n{done.arn}")
        if done.state != "Active":
            raise typer.Exit(1)


@app.command()
def invoke(
    name: Name,
    payload: Annotated[str, typer.Argument(help="JSON, @FILE, or - for standard input.")] = "{}",
    log: Annotated[bool, typer.Option(help="Show what it logged.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Run a function and print its answer; exit 1 when it failed."""
    with _spoken():
        result = client(endpoint).invoke(name, _payload(payload))
    if log:
        typer.echo(result.log.decode(errors="replace"), err=True, nl=False)
    typer.echo(result.payload.decode(errors="replace"))
    if result.error:
        raise typer.Exit(1)


@app.command()
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Print what a function logged."""
    after = 0
    with _spoken():
        api = client(endpoint)
        while True:
            lines = api.logs(name, after=after)
            for line in lines:
                at = time.strftime("%H:%M:%S", time.localtime(line["at_ns"] / 1e9))
                typer.echo(f"{at} {line['text']}")
                after = line["offset"]
            if not lines and not follow:
                return
            if not lines:
                time.sleep(_FOLLOW_SECONDS)


@app.command("ls")
def list_functions(
    endpoint: Endpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line each.")] = False,
) -> None:
    """List the functions."""
    with _spoken():
        found = list(client(endpoint).list())
    if as_json:
        for each in found:
            typer.echo(json.dumps(each))
        return
    table = Table("function", "handler", "runtime", "memory", "timeout", "state", box=None)
    for each in found:
        row = [each["FunctionName"], each["Handler"], each["Runtime"]]
        size = [f"{each['MemorySize']} MiB", f"{each['Timeout']} s"]
        reason = each.get("StateReason") or each.get("LastUpdateStatusReason") or ""
        table.add_row(*row, *size, f"{each['State']}: {reason}" if reason else each["State"])
    Console().print(table)


@app.command()
def delete(name: Name, endpoint: Endpoint = None) -> None:
    """Remove a function."""
    with _spoken():
        client(endpoint).delete(name)
        typer.echo(f"{name} deleted")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise StartError(f"--env {name!r}: found no =, expected NAME=VALUE")
    return name, value


def _payload(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise StartError(f"payload {text[1:]}: {error.strerror}, expected a file") from error
    return text.encode()
