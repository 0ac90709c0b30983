"""The settings of the function platform, the same for ``wherry up`` and ``wherry run faas``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from wherry.cli.settings import CREDENTIALS, Options

if TYPE_CHECKING:
    from faas.app import Settings
    from faas.client.api import Signer


def functions(options: Options, egress: Callable[[str], Path | None] | None = None) -> "Settings":
    """Return what faas is told.

    Args:
        options: What the operator asked for.
        egress: Returns the unix socket of a function's way out; None: functions have none.
    """
    from faas.app import Settings, no_egress  # noqa: PLC0415

    settings = Settings(
        code_dir=options.state / "code",
        run_dir=options.state / "faas",
        address=options.listen.of("lambda"),
        urls=options.listen.of("urls"),
        region=options.outside.region,
        credentials=_credentials(options),
        s3_endpoint=options.outside.s3,
        redis_url=options.outside.redis,
        egress=egress or no_egress,
    )
    return replace(settings, **options.outside.limits)  # type: ignore[arg-type]  # by `LIMITS`


def gateway_signer(options: Options) -> "Signer | None":
    """Return what signs the gateway's calls; None while signatures are not checked.

    Raises:
        StartError: The credentials cannot be read.
    """
    from wherry.cli.lambdas import signer_of  # noqa: PLC0415

    file = _credentials(options)
    return signer_of(file, options.outside.region, {}) if file.exists() else None


def snapshots(options: Options) -> Path:
    """Return where saved functions are kept from one run to the next."""
    return options.state / "snapshots"


def _credentials(options: Options) -> Path:
    return options.state / CREDENTIALS
