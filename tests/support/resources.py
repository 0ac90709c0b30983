"""Envoy resources for tests, written as one would in JSON; a wrong field raises."""

from importlib import import_module

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from envoy_data_plane.envoy.config.listener.v3 import Listener
from envoy_data_plane.envoy.config.route.v3 import (
    RouteConfiguration,
    ScopedRouteConfiguration,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import Secret
from envoy_data_plane.envoy.service.runtime.v3 import Runtime

from xds.encode import encode
from xds.resource import (
    CLUSTER,
    ENDPOINT,
    EXTENSION,
    LISTENER,
    ROUTE,
    RUNTIME,
    SCOPED_ROUTE,
    SECRET,
    VIRTUAL_HOST,
    Resource,
)

_FILTERS = "envoy.extensions.filters"

CLASSES = {
    SECRET: Secret,
    CLUSTER: Cluster,
    ENDPOINT: ClusterLoadAssignment,
    EXTENSION: TypedExtensionConfig,
    LISTENER: Listener,
    SCOPED_ROUTE: ScopedRouteConfiguration,
    ROUTE: RouteConfiguration,
    VIRTUAL_HOST: VirtualHost,
    RUNTIME: Runtime,
}


def made(type_url, name, content, *refs, **more):
    """Return a resource from JSON."""
    body = encode(CLASSES[type_url].from_dict(content))
    return Resource(type_url, name, body, frozenset(refs), **more)


def typed(message, **content):
    """Return ``content`` as an ``Any`` of the class that ``message`` names, in JSON."""
    import_module(f"envoy_data_plane.{message.rpartition('.')[0]}")
    return {"@type": f"type.googleapis.com/{message}", **content}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, source, seconds=1.0, refs=(), **more):
    """Return a cluster whose endpoints come from ``source``; ``refs``: what else it needs."""
    content = {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": source},
        "connect_timeout": f"{seconds}s",
        **more,
    }
    return made(CLUSTER, name, content, (ENDPOINT, name), *refs)


def endpoints(name, *ports, **more):
    each = [{"endpoint": {"address": address(port)}} for port in ports]
    content = {"cluster_name": name, "endpoints": [{"lb_endpoints": each}]}
    return made(ENDPOINT, name, content, **more)


def host(to, *before, name="all", domains=("*",)):
    """Return a virtual host that routes everything to the cluster ``to``, in JSON."""
    rest = {"match": {"prefix": "/"}, "route": {"cluster": to}}
    return {"name": name, "domains": [*domains], "routes": [*before, rest]}


def routes(to, *before, name="routes", **more):
    """Return a route configuration that routes everything but ``before`` to one cluster."""
    content = {"name": name, "virtual_hosts": [host(to, *before)], **more}
    return made(ROUTE, name, content, (CLUSTER, to))


def says(status, text, **match):
    """Return a route that answers by itself, in JSON."""
    return {"match": match, "direct_response": {"status": status, "body": {"inline_string": text}}}


ROUTER = {"name": "router", "typed_config": typed(f"{_FILTERS}.http.router.v3.Router")}


def listener(*filters, refs=(), chain=None, port=0, name="in", **manager):
    """Return a listener with one HTTP connection manager.

    Args:
        filters: HTTP filters before the router, in JSON.
        refs: What it needs.
        chain: More of its filter chain.
        port: 0 lets the kernel choose.
        manager: Fields of the connection manager.
    """
    hcm = typed(
        f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        **{"stat_prefix": "in", "http_filters": [*filters, ROUTER], **manager},
    )
    chains = [{"filters": [{"name": "hcm", "typed_config": hcm}], **(chain or {})}]
    content = {"name": name, "address": address(port), "filter_chains": chains}
    return made(LISTENER, name, content, *refs)


def routed(source, *filters, name="routes", **more):
    """Return a listener whose routes come from ``source``."""
    rds = {"config_source": source, "route_config_name": name}
    return listener(*filters, rds=rds, refs=[(ROUTE, name)], **more)
