"""Put health checking and reflection beside the services of a port."""

from collections.abc import Sequence

import grpc

from xds.introspection.catalogue import SERVICES, TABLES, served
from xds.introspection.descriptors import Descriptors
from xds.introspection.reflection import NAMES, Reflection
from xds.introspection.serving import SERVICE, Serving


def introspection(
    handlers: Sequence[grpc.GenericRpcHandler],
) -> tuple[tuple[grpc.GenericRpcHandler, ...], Serving]:
    """Return what to serve besides ``handlers``, and where to say that the port drains.

    Args:
        handlers: Every other service of the port.

    Raises:
        ValueError: One is for a service that the catalogue does not have.
    """
    own = tuple(service for service in SERVICES if service.name in (SERVICE, *NAMES))
    services = (*served(handlers), *own)
    serving = Serving(service.name for service in services)
    reflection = Reflection(Descriptors(services, TABLES))
    return (serving.handler(), *reflection.handlers()), serving
