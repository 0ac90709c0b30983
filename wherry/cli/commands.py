"""What ``wherry`` can be told; each command loads its own parts, so that the others start fast."""

import asyncio
import sys
import tempfile
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from wherry.cli import admin_tokens, api, functions, images, invoices, keys, layers, logs
from wherry.cli.apply import apply, export
from wherry.cli.bootstraps import bootstrap
from wherry.cli.loads import loads
from wherry.cli.proxy import config, diff
from wherry.cli.settings import (
    LIMITS,
    PARTS,
    REGION,
    Options,
    Outside,
    Transport,
    cache_folder,
    limits,
    listen,
)
from wherry.cli.state import state_dir
from wherry.cli.status import status
from wherry.cli.top import top
from wherry.cli.usage import usage
from wherry.errors import StartError
from wherry.serve import Address

app = typer.Typer(
    name="wherry",
    help="A service mesh, an API gateway and a function platform in one application.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
faas = typer.Typer(help="Make this machine ready for functions.", no_args_is_help=True)
app.add_typer(keys.app, name="key", help="Keys of API consumers.")
app.add_typer(api.app, name="api", help="API products: import an OpenAPI document, compare.")
app.add_typer(admin_tokens.app, name="admin", help="The admin API: its tokens, its audit log.")
app.add_typer(invoices.app, name="invoice", help="Invoices: list, show, preview, close, export.")
app.add_typer(invoices.credit, name="credit", help="Credit of prepaid consumers.")
app.add_typer(functions.app, name="fn", help="Functions: deploy, call, read their logs.")
app.add_typer(layers.app, name="layer", help="Layers: publish, list, delete.")
app.add_typer(images.app, name="image", help="Container images: turn one into layers.")
app.add_typer(faas, name="faas")
app.command(name="apply")(apply)
app.command(name="export")(export)
app.command(name="bootstrap")(bootstrap)
app.command(name="config")(config)
app.command(name="diff")(diff)
app.command(name="loads")(loads)
app.command(name="status")(status)
app.command(name="top")(top)
app.command(name="usage")(usage)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wherry {metadata.version('wherry')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and end.")
    ] = False,
) -> None:
    """A service mesh, an API gateway and a function platform in one application."""
    del version


Source = Annotated[Path, typer.Argument(help="A YAML file, or a folder of them.")]
State = Annotated[
    Path | None, typer.Option(help="Folder for what outlives a run; WHERRY_STATE or .wherry.")
]
Moved = Annotated[
    list[str] | None,
    typer.Option("--listen", help=f"PART=HOST:PORT; parts: ingress, {', '.join(PARTS)}."),
]
FreePorts = Annotated[bool, typer.Option(help="Let the kernel choose every port not named.")]
Backend = Annotated[
    str, typer.Option(help="Where functions run: auto, qemu, firecracker or process.")
]
Pilot = Annotated[str, typer.Option("--xds", help="HOST:PORT of the Pilot.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="How many processes xds or gateway is; SIGHUP replaces them."),
]
Carried = Annotated[Transport, typer.Option(help="What carries the gRPC of xds.")]
StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="sqlite:PATH or redis://HOST:PORT/DB; WHERRY_STORE (for one with a password), "
        "else the one used here before, else a file of the state folder.",
    ),
]
Settle = Annotated[
    float,
    typer.Option(
        min=0, max=600, help="Seconds that the gateway takes calls after readyz says its end."
    ),
]
Region = Annotated[str, typer.Option(help="The region in functions' ARNs and signatures.")]
S3 = Annotated[str | None, typer.Option("--s3", help="URL of the store of functions' packages.")]
Redis = Annotated[str | None, typer.Option(help="URL of the Redis whose streams functions read.")]
Limit = Annotated[
    list[str] | None,
    typer.Option(help=f"NAME=NUMBER; limits of functions: {', '.join(LIMITS)}."),
]
Worker = Annotated[Path | None, typer.Option(hidden=True)]
Beside = Annotated[bool, typer.Option("--beside", hidden=True)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")]


@app.command()
def up(
    source: Source = Path(),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON when ready.")] = False,
    state: State = None,
    moved: Moved = None,
    free_ports: FreePorts = False,
    backend: Backend = "auto",
    store: StoreUrl = None,
    settle: Settle = 0.0,
    region: Region = REGION,
    s3: S3 = None,
    redis: Redis = None,
    limit: Limit = None,
    verbose: Verbose = False,
) -> None:
    """Start everything, say where it is, and serve until Ctrl-C."""
    logs.start(verbose=verbose)
    from wherry.cli import welcome  # noqa: PLC0415

    options = Options(
        source,
        state_dir(state),
        listen(moved or [], free_ports=free_ports),
        backend,
        outside=Outside(region, s3, redis, limits(limit or [])),
        store=store,
        settle=settle,
    )
    shown = Console(stderr=True, highlight=False)

    asyncio.run(welcome.serve(options, shown, as_json=as_json))


@app.command()
def run(
    part: Annotated[str, typer.Argument(help="xds, policy, telemetry, gateway or faas.")],
    source: Source = Path(),
    *,
    state: State = None,
    moved: Moved = None,
    backend: Backend = "auto",
    store: StoreUrl = None,
    settle: Settle = 1.0,
    workers: Workers = None,
    transport: Carried = "grpc",
    region: Region = REGION,
    s3: S3 = None,
    redis: Redis = None,
    limit: Limit = None,
    worker: Worker = None,
    beside: Beside = False,
    verbose: Verbose = False,
) -> None:
    """Start one service alone; --listen also says where the others are."""
    logs.start(verbose=verbose)
    from wherry.cli import alone  # noqa: PLC0415

    options = Options(
        source,
        state_dir(state),
        listen(moved or [], free_ports=False),
        backend,
        workers=workers,
        transport=transport,
        worker=worker,
        beside=beside,
        outside=Outside(region, s3, redis, limits(limit or [])),
        store=store,
        settle=settle,
    )
    alone.start(part, options, lambda text: typer.echo(text, err=True))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def sidecar(
    context: typer.Context,
    service: Annotated[str, typer.Option(help="The service that the program serves.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0: PORT says.")],
    *,
    version: Annotated[str, typer.Option(help="Its version label.")] = "v1",
    xds: Pilot = "127.0.0.1:18000",
    address: Annotated[str, typer.Option(help="IP address for other Envoys.")] = "127.0.0.1",
    verbose: Verbose = False,
) -> None:
    """Run a program as a member of the mesh: wherry sidecar --service NAME --port P -- CMD."""
    logs.start(verbose=verbose)
    from wherry.cli import sidecar as beside  # noqa: PLC0415

    if not context.args:
        raise StartError("sidecar: no command, expected it behind --: -- python app.py")
    pilot = _address("--xds", xds)
    with tempfile.TemporaryDirectory(prefix="wherry-") as folder:
        what = beside.Beside(
            service, version, context.args, port, pilot, Path(folder), address=address
        )
        status = asyncio.run(beside.alone(what))
    sys.exit(status)


@app.command()
def check(source: Source = Path()) -> None:
    """Read a configuration and say what is wrong with it, or what is in it."""
    from wherry.cli.reading import read  # noqa: PLC0415

    table = Table("kind", "name", "written in", box=None)
    for (kind, name), origin in sorted(read(source).origins.items()):
        table.add_row(kind, name, str(origin))
    Console().print(table if table.row_count else f"{source}: no YAML files that declare anything")


@app.command()
def explain(source: Source = Path()) -> None:
    """Print a configuration in full, with the short form written out."""
    import yaml  # noqa: PLC0415

    from wherry.cli.reading import read  # noqa: PLC0415

    first = ("apiVersion", "kind", "metadata", "spec")
    written = [
        resource.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for resource in read(source).resources()
    ]
    ordered = [{field: resource[field] for field in first} for resource in written]
    typer.echo(yaml.safe_dump_all(ordered, sort_keys=False), nl=False)


def _address(option: str, text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise StartError(f"{option}: {error}") from None


@faas.command()
def setup(
    runtime: Annotated[
        list[str] | None,
        typer.Option(help="Prepared now, not on first use: nodejs22.x; may be repeated."),
    ] = None,
) -> None:
    """Install or find QEMU and build the guest image; done in a second when nothing changed."""
    from faas.setup import setup as made  # noqa: PLC0415

    shown = Console(stderr=True, highlight=False)
    told = partial(shown.print, "  ", sep="")
    report = asyncio.run(made(cache_folder(), runtimes=runtime or (), progress=told))
    shown.print(str(report))
