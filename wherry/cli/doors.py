"""The settings of the API gateway, the same for ``wherry up`` and ``wherry run``."""

from pathlib import Path
from typing import TYPE_CHECKING

from wherry.cli import platform
from wherry.cli.admin_client import TOKEN_FILE
from wherry.cli.settings import Options

if TYPE_CHECKING:
    import gateway.app
    import gateway.office


def settings(options: Options, lambda_url: str, mesh: Path) -> "gateway.app.Settings":
    """Return what the gateway's door is told.

    Args:
        options: What the operator asked for.
        lambda_url: The Lambda API.
        mesh: Unix socket of the way into the mesh.
    """
    from gateway.app import Settings  # noqa: PLC0415

    return Settings(
        address=options.listen.of("gateway"),
        lambda_url=lambda_url,
        signer=platform.gateway_signer(options),
        mesh=mesh,
        pepper=options.state / "pepper",
        journal=options.state / "usage",
    )


def office(options: Options, url: str) -> "gateway.office.Settings":
    """Return what the gateway's office is told; ``url`` is the door's."""
    from gateway.office import Settings  # noqa: PLC0415

    return Settings(
        pepper=options.state / "pepper",
        token=options.state / TOKEN_FILE,
        admin=options.listen.of("admin"),
        portal=options.listen.of("portal"),
        gateway_url=url,
    )
