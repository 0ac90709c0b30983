"""``wherry fn``: start, deploy, invoke, watch, put back and remove functions of a Wherry."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from faas.client.deploy import Client, Deployed, Settings
from wherry.cli.function_logs import logs, readable
from wherry.cli.lambdas import Endpoint, Name, client, spoken, told, whole
from wherry.cli.settings import cache_folder
from wherry.errors import StartError

__all__ = ["app", "client"]

app = typer.Typer(
    help="Functions: start, deploy, invoke, logs, list, put back, delete.", no_args_is_help=True
)
app.command()(logs)

_SHORT = 12


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Folder to make; its name becomes the function's.")],
    runtime: Annotated[
        str, typer.Option(help="python3.11, nodejs22.x or provided.")
    ] = "python3.11",
) -> None:
    """Write a small function to begin with."""
    from wherry.cli.starts import start  # noqa: PLC0415

    with spoken():
        files = start(Path(name), runtime)
    typer.echo(f"{name}: {', '.join(files)}")
    typer.echo(f"next: wherry fn deploy {name}")


@app.command()
def deploy(
    directory: Annotated[
        Path | None, typer.Argument(help="Folder with the handler's module.")
    ] = None,
    *,
    image: Annotated[
        str | None, typer.Option(help="A container image in place of a folder.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name; otherwise the folder's.")] = None,
    handler: Annotated[str | None, typer.Option(help="module.function; else as found.")] = None,
    runtime: Annotated[str | None, typer.Option(help="Such as python3.11; else as found.")] = None,
    timeout: Annotated[int | None, typer.Option(help="Seconds for one call, 1 to 900.")] = None,
    memory: Annotated[int | None, typer.Option(help="MiB, 128 to 10240.")] = None,
    tmp: Annotated[int | None, typer.Option(help="MiB of /tmp, 512 to 10240.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; may be repeated.")] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="ARN of a layer version; may be repeated.")
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Create or update a function from a folder or an image, and publish a version of it.

    What a requirements.txt or a package.json asks for goes into a layer, once for each text.
    """
    with spoken():
        if (directory is None) == (image is None):
            raise StartError("fn deploy: expected a folder, or --image IMAGE")
        settings = Settings(
            handler=handler,
            runtime=runtime,
            timeout=timeout,
            memory_mib=memory,
            tmp_mib=tmp,
            layers=layer,
            environment=None if env is None else dict(variable(each) for each in env),
        )
        api = client(endpoint)
        if image is not None:
            if name is None:
                raise StartError("fn deploy --image: expected --name too")
            shown(api.deploy_image(_absolute(image), name, settings, progress=told))
        elif directory is not None:
            cache = cache_folder() / "requirements"
            shown(
                api.deploy(
                    directory,
                    name or directory.resolve().name,
                    settings,
                    cache_dir=cache,
                    progress=told,
                )
            )


@app.command()
def invoke(
    name: Name,
    payload: Annotated[str, typer.Argument(help="JSON, @FILE, or - for standard input.")] = "{}",
    *,
    qualifier: Annotated[str, typer.Option(help="A version's number or an alias.")] = "",
    log: Annotated[bool, typer.Option(help="Show what it logged.")] = False,
    endpoint: Endpoint = None,
) -> None:
    """Run a function and print its answer; exit 1 when it failed."""
    with spoken():
        result = client(endpoint).invoke(name, _payload(payload), qualifier=qualifier)
    if log:
        typer.echo(readable(result.log.decode(errors="replace")), err=True, nl=False)
    typer.echo(result.payload.decode(errors="replace"))
    if result.error:
        raise typer.Exit(1)


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        str | None, typer.Argument(help="A version's number; else the newest that differs.")
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Put an earlier version's code and configuration back, as a new version."""
    from faas.client.rollback import rolled_back  # noqa: PLC0415

    with spoken():
        done = rolled_back(client(endpoint), name, version, progress=told)
    typer.echo(f"{name}: version {done.version} is back")
    typer.echo(f"  code: {'replaced' if done.code else 'was the same'}")
    for field, (was, is_now) in done.settings.items():
        if field == "Environment":
            typer.echo("  Environment: replaced")
            continue
        typer.echo(f"  {field}: {json.dumps(was)} -> {json.dumps(is_now)}")
    shown(done.deployed)


@app.command("ls")
def list_functions(
    name: Annotated[
        str | None, typer.Argument(help="A function, to list its versions and aliases.")
    ] = None,
    *,
    endpoint: Endpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line each.")] = False,
) -> None:
    """List the functions, or the versions and aliases of one."""
    with spoken():
        api = client(endpoint)
        found = list(api.list() if name is None else api.versions(name))
        aliases = [] if name is None else list(api.aliases(name))
        rows = [] if as_json or name is not None else [_row(api, each) for each in found]
    if as_json:
        for each in [*found, *aliases]:
            typer.echo(json.dumps(each))
    elif name is None:
        columns = ("function", "handler", "runtime", "memory", "timeout", "versions", "state")
        table = Table(*map(whole, columns), box=None)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    else:
        Console().print(_versions(found, aliases))


@app.command()
def delete(name: Name, endpoint: Endpoint = None) -> None:
    """Remove a function and all of its versions."""
    with spoken():
        client(endpoint).delete(name)
        typer.echo(f"{name} deleted")


def shown(done: Deployed) -> None:
    """Say what a deployment came to; exit 1 when the function does not serve."""
    version = f", version {done.version}" if done.version else ""
    typer.echo(f"{done.name} {done.change}: {done.state}{version}\n{done.arn}")
    if done.state != "Active":
        raise typer.Exit(1)


def _row(api: Client, each: dict[str, Any]) -> list[str]:
    reason = each.get("StateReason") or each.get("LastUpdateStatusReason") or ""
    numbers = [version["Version"] for version in api.versions(each["FunctionName"])]
    versions = ", ".join(numbers[-3:]) if numbers else "-"
    aliases = [
        f"{alias['Name']}={alias['FunctionVersion']}" for alias in api.aliases(each["FunctionName"])
    ]
    state = each.get("State", "Active")
    return [
        each["FunctionName"],
        each.get("Handler") or "-",
        each.get("Runtime") or "image",
        f"{each['MemorySize']} MiB",
        f"{each['Timeout']} s",
        " ".join([("..., " if len(numbers) > len(numbers[-3:]) else "") + versions, *aliases]),
        f"{state}: {reason}" if reason else state,
    ]


def _versions(found: list[dict[str, Any]], aliases: list[dict[str, Any]]) -> Table:
    columns = ("version", "aliases", "code", "memory", "changed", "state")
    table = Table(*map(whole, columns), box=None)
    for each in found:
        number = each["Version"]
        names = [alias["Name"] for alias in aliases if alias["FunctionVersion"] == number]
        table.add_row(
            number,
            " ".join(names),
            each["CodeSha256"][:_SHORT],
            f"{each['MemorySize']} MiB",
            each["LastModified"],
            each.get("State", "Active"),
        )
    return table


def _absolute(image: str) -> str:
    """Return an image's path as the server finds it too; other references stay."""
    scheme, colon, path = image.partition(":")
    if colon and scheme in ("oci", "oci-archive", "docker-archive"):
        return f"{scheme}:{Path(path).absolute()}"
    head, colon, tag = image.rpartition(":")
    if colon and Path(head).exists() and not Path(image).exists():
        return f"{Path(head).absolute()}:{tag}"
    return str(Path(image).absolute()) if Path(image).exists() else image


def variable(text: str) -> tuple[str, str]:
    """Read what follows ``--env``.

    Raises:
        StartError: It is no NAME=VALUE.
    """
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
