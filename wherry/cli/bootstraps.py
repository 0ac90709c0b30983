"""``wherry bootstrap``: the first configuration of an Envoy, or of a gRPC client without one."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from wherry.errors import StartError
from wherry.serve import Address

PLACE = ("region", "zone", "sub_zone")
"""Parts of a locality, the largest first."""

T = TypeVar("T")


def bootstrap(
    *,
    service: Annotated[
        str | None, typer.Option(help="The service that the program is part of.")
    ] = None,
    grpc: Annotated[
        bool, typer.Option("--grpc", help="For a gRPC client that has no Envoy.")
    ] = False,
    app_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where the program listens.")
    ] = None,
    inbound_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where Envoy takes calls.")
    ] = None,
    outbound_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where Envoy is a proxy.")
    ] = None,
    version: Annotated[str, typer.Option(help="Its version label.")] = "v1",
    xds: Annotated[str, typer.Option("--xds", help="HOST:PORT of the Pilot.")] = "127.0.0.1:18000",
    admin: Annotated[Path, typer.Option(help="Unix socket for Envoy's admin.")] = Path(
        "envoy.admin"
    ),
    sotw: Annotated[bool, typer.Option(help="State of the world instead of changes.")] = False,
    node: Annotated[
        str | None, typer.Option(help="Id of a gRPC client; else a random one.")
    ] = None,
    locality: Annotated[
        str | None, typer.Option(help="Where a gRPC client runs: REGION/ZONE/SUB_ZONE.")
    ] = None,
) -> None:
    """Print the bootstrap of a sidecar, or with --grpc of a gRPC client.

    envoy --config-yaml "$(wherry bootstrap --service NAME --app-port P --inbound-port Q ...)"

    GRPC_XDS_BOOTSTRAP_CONFIG="$(wherry bootstrap --grpc)" python client.py
    """
    pilot = _address(xds)
    if service is not None:
        _checked("service", service)
    if grpc:
        given = {"--app-port": app_port, "--inbound-port": inbound_port}
        _none_of({**given, "--outbound-port": outbound_port, "--sotw": sotw or None}, "--grpc")
        printed = _for_grpc(service, pilot, node, locality)
    else:
        _none_of({"--node": node, "--locality": locality}, "a sidecar")
        _checked("version", version)
        metadata = {
            "role": "sidecar",
            "service": _given("--service", service),
            "version": version,
            "app_port": _given("--app-port", app_port),
            "inbound_port": _given("--inbound-port", inbound_port),
            "outbound_port": _given("--outbound-port", outbound_port),
        }
        printed = _for_envoy(metadata, pilot, admin, delta=not sotw)
    typer.echo(json.dumps(printed, indent=2))


def _for_envoy(
    metadata: Mapping[str, Any], pilot: Address, admin: Path, *, delta: bool
) -> dict[str, Any]:
    from xds.bootstrap import bootstrap as made  # noqa: PLC0415

    node = f"sidecar~{metadata['service']}-{metadata['version']}~{metadata['inbound_port']}"
    at = (pilot.host, pilot.port)
    return made(node, metadata, xds=at, admin=str(admin.absolute()), delta=delta)


def _for_grpc(
    service: str | None, pilot: Address, node: str | None, locality: str | None
) -> dict[str, Any]:
    from xds.bootstrap import grpc_bootstrap  # noqa: PLC0415

    places = locality.split("/") if locality else []
    if len(places) > len(PLACE) or not all(places):
        raise StartError(f"--locality {locality!r}: expected REGION, REGION/ZONE or three parts")
    return grpc_bootstrap(
        node or f"grpc~{service or 'client'}~{secrets.token_hex(4)}",
        xds=(pilot.host, pilot.port),
        service=service or "",
        locality=dict(zip(PLACE, places, strict=False)),
    )


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise StartError(f"--xds: {error}") from None


def _checked(what: str, name: str) -> None:
    from xds.workload import checked_name  # noqa: PLC0415

    checked_name(what, name)


def _given(option: str, value: T | None) -> T:
    if value is None:
        raise StartError(f"bootstrap: no {option}, expected it for a sidecar; or --grpc")
    return value


def _none_of(options: Mapping[str, object], where: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise StartError(f"bootstrap: {option} {value}, expected none with {where}")
