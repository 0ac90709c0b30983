"""What resource names ask for: one resource, a collection, or everything.

Source: https://github.com/cncf/xds/blob/main/proposals/TP1-xds-transport-next.md
"""

from collections import OrderedDict

from xds.resource import VIRTUAL_HOST, Resource, TypeUrl
from xds.subscription import WILDCARD, Wanted

XDSTP = "xdstp://"
_GLOB = "/*"

MOST_KEPT = 1 << 10
"""Sets of names that are kept, so that clients that ask for the same share what is made of it."""
MOST_NAMES = 200_000
"""Names that the kept sets have together."""


def wanted(type_url: TypeUrl, names: frozenset[str], *, wildcard: bool) -> Wanted:
    """Return what ``names`` ask for.

    ``*`` asks for everything that is listed. ``xdstp://…/*`` asks for every resource of that
    collection. The name of a route configuration, asked for as a virtual host, asks for all of
    its virtual hosts, whose names begin with it and a slash.
    """
    return _known.wanted(type_url, names, wildcard=wildcard)


def is_collection(type_url: TypeUrl, name: str, route: Resource | None) -> bool:
    """Return whether ``name`` stands for many resources, given the ``route`` of that name."""
    if type_url == VIRTUAL_HOST:
        return route is not None
    return name.startswith(XDSTP) and name.endswith(_GLOB)


class Known:
    """What was asked for lately; what was not asked for longest goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[TypeUrl, frozenset[str], bool], Wanted] = OrderedDict()
        self._names = 0

    @property
    def kept(self) -> int:
        """How many names are kept."""
        return self._names

    def wanted(self, type_url: TypeUrl, names: frozenset[str], *, wildcard: bool) -> Wanted:
        """As `wanted`; asked again for the same, it is the very same."""
        key = (type_url, names, wildcard)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        made = self._kept[key] = _wanted(type_url, names, wildcard=wildcard)
        self._names += len(names)
        while len(self._kept) > MOST_KEPT or (self._names > MOST_NAMES and len(self._kept) > 1):
            (_, gone, _), _ = self._kept.popitem(last=False)
            self._names -= len(gone)
        return made


_known = Known()


def _wanted(type_url: TypeUrl, names: frozenset[str], *, wildcard: bool) -> Wanted:
    explicit = names - {WILDCARD}
    prefixes = {n[:-1] for n in explicit if n.endswith(_GLOB) and n.startswith(XDSTP)}
    if type_url == VIRTUAL_HOST:
        prefixes |= {f"{name}/" for name in explicit}
    return Wanted(wildcard, explicit, tuple(sorted(prefixes)))
