"""``wherry layer``: publish, list and remove layers of a running Wherry."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from faas.client.layers import Layers
from faas.code.packed import BuildError, files_of, zipped
from wherry.cli.lambdas import Endpoint, client, spoken, whole

app = typer.Typer(help="Layers: publish, list, delete.", no_args_is_help=True)

LayerName = Annotated[str, typer.Argument(help="Name of the layer.")]


@app.command()
def publish(
    source: Annotated[Path, typer.Argument(help="Folder or zip; it becomes /opt.")],
    *,
    name: Annotated[str, typer.Option(help="Name of the layer.")],
    description: Annotated[str, typer.Option(help="Of the version.")] = "",
    runtime: Annotated[
        list[str] | None, typer.Option(help="A runtime that it is for; may be repeated.")
    ] = None,
    endpoint: Endpoint = None,
) -> None:
    """Publish a version, unless there is one with the same content."""
    with spoken():
        arn, new = Layers(client(endpoint).api).published(
            name, _packed(source), description=description, runtimes=tuple(runtime or ())
        )
    typer.echo(f"{name} {'published' if new else 'unchanged'}\n{arn}")


@app.command("ls")
def list_layers(
    name: Annotated[str | None, typer.Argument(help="A layer, to list its versions.")] = None,
    *,
    endpoint: Endpoint = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line each.")] = False,
) -> None:
    """List the layers, or the versions of one."""
    with spoken():
        layers = Layers(client(endpoint).api)
        found = list(layers.list() if name is None else layers.versions(name))
    if as_json:
        for each in found:
            typer.echo(json.dumps(each))
        return
    columns = ("layer", "version", "runtimes", "created", "description")
    table = Table(*map(whole, columns), box=None)
    for each in found:
        version = each.get("LatestMatchingVersion", each)
        table.add_row(
            each.get("LayerName", name),
            str(version["Version"]),
            ", ".join(version.get("CompatibleRuntimes", ())),
            version["CreatedDate"].partition(".")[0],
            version.get("Description", ""),
        )
    Console().print(table)


@app.command()
def delete(
    name: LayerName,
    version: Annotated[int, typer.Argument(min=1, help="Number of the version.")],
    endpoint: Endpoint = None,
) -> None:
    """Remove a version; functions that use it keep it."""
    with spoken():
        Layers(client(endpoint).api).delete(name, version)
    typer.echo(f"{name} version {version} deleted")


def _packed(source: Path) -> bytes:
    """Return the zip of a folder, or a zip as it is.

    Raises:
        BuildError: There is neither.
    """
    if source.is_dir():
        files = files_of(source)
        if not files:
            raise BuildError(f"layer {source}: empty, expected files")
        return zipped(f"layer {source}", files)
    try:
        return source.read_bytes()
    except OSError as error:
        raise BuildError(f"layer {source}: {error.strerror}, expected a folder or a zip") from error
