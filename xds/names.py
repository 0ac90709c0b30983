"""What resource names ask for: one resource, a collection, or everything.

Source: https://github.com/cncf/xds/blob/main/proposals/TP1-xds-transport-next.md
"""

from functools import lru_cache

from xds.resource import VIRTUAL_HOST, Resource, TypeUrl
from xds.subscription import WILDCARD, Wanted

XDSTP = "xdstp://"
_GLOB = "/*"


def wanted(type_url: TypeUrl, names: frozenset[str], *, wildcard: bool) -> Wanted:
    """Return what ``names`` ask for.

    ``*`` asks for everything that is listed. ``xdstp://…/*`` asks for every resource of that
    collection. The name of a route configuration, asked for as a virtual host, asks for all of
    its virtual hosts, whose names begin with it and a slash.
    """
    return _wanted(type_url, names, wildcard)


def is_collection(type_url: TypeUrl, name: str, route: Resource | None) -> bool:
    """Return whether ``name`` stands for many resources, given the ``route`` of that name."""
    if type_url == VIRTUAL_HOST:
        return route is not None
    return name.startswith(XDSTP) and name.endswith(_GLOB)


@lru_cache(maxsize=1 << 10)
def _wanted(type_url: TypeUrl, names: frozenset[str], wildcard: bool) -> Wanted:  # noqa: FBT001
    explicit = names - {WILDCARD}
    prefixes = {n[:-1] for n in explicit if n.endswith(_GLOB) and n.startswith(XDSTP)}
    if type_url == VIRTUAL_HOST:
        prefixes |= {f"{name}/" for name in explicit}
    return Wanted(wildcard, explicit, tuple(sorted(prefixes)))
