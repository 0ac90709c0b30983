"""What a gRPC client is told of a name that the mesh does not know: that its calls fail.

Without an answer gRPC holds calls back for 15 s, until it takes the listener for missing; in the
state of the world there is no other way to say so that it heeds. The answer is a listener that
leads to a cluster without endpoints: calls fail at once with UNAVAILABLE, with the name in the
message, and when the service appears, the listener becomes the real one.

Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#knowing-when-a-requested-resource-does-not-exist
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from envoy_data_plane.envoy.config.listener.v3 import ApiListener, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)

from xds.builders.messages import packed
from xds.builders.proxyless import nowhere, router
from xds.encode import encode
from xds.resource import CLUSTER, ENDPOINT, LISTENER, Resource
from xds.snapshot import Layer

PREFIX = "wherry/no-such-service/"
"""What the name of the cluster begins with; the dialled name follows."""

_dialled = re.compile(r"[^/?#\s]{1,300}").fullmatch
"""Names that a client may mean as a service; a gRPC server's listener has a path and a query."""


class _Made(Mapping[str, Resource]):
    """A resource for every name that ``make`` knows how to make; none is listed."""

    def __init__(self, make: Callable[[str], Resource | None]) -> None:
        self._make = make

    def __getitem__(self, name: str) -> Resource:
        made = self._make(name)
        if made is None:
            raise KeyError(name)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@lru_cache(maxsize=1 << 10)
def _listener(name: str) -> Resource | None:
    if not _dialled(name):
        return None
    cluster = PREFIX + name
    route = Route(match=RouteMatch(prefix=""), route=RouteAction(cluster=cluster))
    host = VirtualHost(name="unknown", domains=["*"], routes=[route])
    routes = RouteConfiguration(name="unknown", virtual_hosts=[host])
    manager = HttpConnectionManager(route_config=routes, http_filters=[router()])
    message = Listener(name=name, api_listener=ApiListener(api_listener=packed(manager)))
    return Resource(LISTENER, name, encode(message), frozenset({(CLUSTER, cluster)}))


def _cluster(name: str) -> Resource | None:
    return nowhere(name)[0] if name.startswith(PREFIX) else None


def _endpoints(name: str) -> Resource | None:
    return nowhere(name)[1] if name.startswith(PREFIX) else None


UNKNOWN = Layer(
    {
        CLUSTER: MappingProxyType(_Made(_cluster)),
        ENDPOINT: MappingProxyType(_Made(_endpoints)),
        LISTENER: MappingProxyType(_Made(_listener)),
    },
    sums={},
    open_refs={},
)
"""To be known on demand, beneath the services that there are."""
