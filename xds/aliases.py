"""Resources by the other names that clients ask for them by.

Only virtual hosts have such names: Envoy asks for ``<route configuration>/<host header>``, and
gets the virtual host that serves this host, whatever its own name.

Source: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/vhds
"""

from collections.abc import Mapping
from weakref import WeakKeyDictionary

from xds.resource import VIRTUAL_HOST, Resource, TypeUrl
from xds.snapshot import NONE, Layer, Snapshot

_names: WeakKeyDictionary[Layer, Mapping[str, str]] = WeakKeyDictionary()
"""Names by alias, of layers that somebody asked."""


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


def _index(layer: Layer) -> Mapping[str, str]:
    index = _names.get(layer)
    if index is None:
        hosts = layer.by_type.get(VIRTUAL_HOST, NONE)
        index = _names[layer] = {a: name for name, each in hosts.items() for a in each.aliases}
    return index
