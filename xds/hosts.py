"""Virtual hosts by discovery: what Envoy asks for, and what it waits for without asking.

Envoy asks for every virtual host there is, and keeps those whose names begin with the name of a
route configuration and a slash. When a request comes for a host that it does not know, it asks
for ``<route configuration>/<host header>``: an alias, for the virtual host that serves it may
have any name. A route configuration that takes its hosts by discovery is not in force before Envoy
was told of one of them, or of one that does not exist.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/vhds
"""

from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary

from xds.resource import VIRTUAL_HOST, Resource, TypeUrl
from xds.snapshot import NONE, Layer, Snapshot

_VHDS = 9
"""Number of the field of a RouteConfiguration that says where to ask for virtual hosts."""
_LENGTH = 2
_FIXED = {1: 8, 5: 4}
_MORE = 0x80

_names: WeakKeyDictionary[Layer, Mapping[str, str]] = WeakKeyDictionary()
"""Names by alias, of layers that somebody asked."""

_MOST = 1 << 14
_found: dict[str, bool] = {}
"""Whether a route configuration takes hosts by discovery, by its version; full, it starts anew."""


def called(snapshot: Snapshot, type_url: TypeUrl, name: str) -> Resource | None:
    """Return the resource with this name or alias, listed or not; None when there is none."""
    found = snapshot.find(type_url, name)
    if found is not None or type_url != VIRTUAL_HOST:
        return found
    for layer in (*snapshot.layers, snapshot.on_demand):
        if layer is not None and (real := _index(layer).get(name)) is not None:
            return layer.by_type[VIRTUAL_HOST][real]
    return None


def own_names(snapshot: Snapshot, type_url: TypeUrl, names: set[str]) -> set[str]:
    """Return ``names`` with each alias exchanged for the name of the resource that has it."""
    if type_url != VIRTUAL_HOST:
        return names
    found = {name: called(snapshot, type_url, name) for name in names}
    return {name if resource is None else resource.name for name, resource in found.items()}


def awaited(snapshot: Snapshot, routes: Iterable[Resource]) -> set[str]:
    """Return the virtual hosts that Envoy waits for when it gets ``routes``.

    For a route configuration without a listed host that is a name that does not exist.
    """
    waiting = {f"{route.name}/" for route in routes if _discovers(route)}
    if not waiting:
        return waiting
    listed = [(f"{n.rpartition('/')[0]}/", n) for n in snapshot.named(VIRTUAL_HOST)]
    hosts = {name for group, name in listed if group in waiting}
    return hosts | (waiting - {group for group, _ in listed})


def _index(layer: Layer) -> Mapping[str, str]:
    index = _names.get(layer)
    if index is None:
        hosts = layer.by_type.get(VIRTUAL_HOST, NONE)
        index = _names[layer] = {a: name for name, each in hosts.items() for a in each.aliases}
    return index


def _discovers(route: Resource) -> bool:
    found = _found.get(route.version)
    if found is None:
        if len(_found) >= _MOST:
            _found.clear()
        found = _found[route.version] = _says_so(route.body)
    return found


def _says_so(body: bytes) -> bool:
    at = 0
    while at < len(body):
        tag, at = _read(body, at)
        if tag >> 3 == _VHDS:
            return True
        at = _after(body, at, tag & 7)
    return False


def _after(body: bytes, at: int, wire_type: int) -> int:
    """Return the place after the value at this place."""
    if wire_type in _FIXED:
        return at + _FIXED[wire_type]
    value, at = _read(body, at)
    return at + value if wire_type == _LENGTH else at


def _read(body: bytes, at: int) -> tuple[int, int]:
    """Return the varint at this place, and the place after it."""
    value = shift = 0
    while True:
        byte = body[at]
        at += 1
        value |= (byte & ~_MORE) << shift
        if byte < _MORE:
            return value, at
        shift += 7
