"""The gateway's own certificate, and whose certificates of clients count."""

import logging
import ssl
from pathlib import Path

from wherry.errors import StartError
from wherry.model.product import Tls
from wherry.model.world import World

logger = logging.getLogger(__name__)


class Certificates:
    """Certificates as the configuration names them; new ones count for the next handshakes.

    Args:
        world: The first configuration; whether TLS is spoken at all stays as it says.

    Attributes:
        context: For the server; None is plain HTTP.

    Raises:
        StartError: A file cannot be used.
    """

    def __init__(self, world: World) -> None:
        found = _found(world)
        self.context: ssl.SSLContext | None = None
        if found is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_2
            self.context.set_alpn_protocols(["http/1.1"])
            _load(self.context, *found)

    def take(self, world: World) -> None:
        """Use the certificates of ``world``; those that cannot be used are logged and left."""
        found = _found(world)
        if (found is None) != (self.context is None):
            logger.warning("tls is turned on and off at the next start")
        elif found is not None and self.context is not None:
            try:
                _load(self.context, *found)
            except StartError as error:
                logger.warning("certificates refused: %s", error)


def _found(world: World) -> tuple[Tls, Path] | None:
    for name in sorted(world.api_gateways):
        tls = world.api_gateways[name].spec.tls
        if tls is not None:
            return tls, world.origin("ApiGateway", name).folder
    return None


def _load(context: ssl.SSLContext, tls: Tls, folder: Path) -> None:
    expected = "PEM files of a certificate and its key"
    try:
        context.load_cert_chain(folder / tls.certificate, folder / tls.key)
        if tls.client_authority is not None:
            expected = "a PEM file of authorities"
            context.load_verify_locations(folder / tls.client_authority)
            context.verify_mode = ssl.CERT_OPTIONAL
    except (OSError, ssl.SSLError) as error:
        why = error.strerror or type(error).__name__
        raise StartError(f"gateway tls in {folder}: {why}, expected {expected}") from None
