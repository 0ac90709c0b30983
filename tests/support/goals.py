"""Small desired states, drawn one after the other as a control plane would make them."""

from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource
from xds.snapshot import Layer, Snapshot

BAD = b"bad"
SHARED, OWN, LATER = ("s0", "s1"), ("c0", "c1", "c2"), ("d0", "d1")
ROUTES, LISTENERS = ("r0", "r1"), ("l0", "l1")
NAMES = {
    CLUSTER: (*SHARED, *OWN, *LATER),
    ENDPOINT: (*SHARED, *OWN, *LATER),
    ROUTE: ROUTES,
    LISTENER: LISTENERS,
}


def chance(random, percent):
    return random.randrange(100) < percent


def some(random, names, percent):
    return [name for name in names if chance(random, percent)]


def refs_to(type_url, names):
    return frozenset((type_url, name) for name in names)


def is_bad(resource):
    return resource.body.startswith(BAD)


def a_goal(random, *, good=False, before=None):
    """Return two layers with clusters that routes and listeners lead to, and one on demand.

    Args:
        random: Where choices come from.
        good: Whether the client takes all of it.
        before: What was desired until now; layers may be changes of its layers.
    """
    bodies = (b"1", b"2") if good else (b"1", b"1", b"2", b"2", BAD)

    def clusters(names):
        for name in names:
            yield Resource(CLUSTER, name, random.choice(bodies), refs_to(ENDPOINT, [name]))
            yield Resource(ENDPOINT, name, random.choice((b"1", b"2")))

    listed = some(random, LATER, 30)
    later = [name for name in some(random, LATER, 60) if name not in listed]
    shared = list(clusters(some(random, SHARED, 60)))
    own = list(clusters([*some(random, OWN, 60), *listed]))
    known = sorted(r.name for r in (*shared, *own) if r.type_url == CLUSTER)
    routes = some(random, ROUTES, 70)
    for name in routes:
        used = some(random, known, 50)
        body = random.choice(bodies) + repr(used).encode()
        own.append(Resource(ROUTE, name, body, refs_to(CLUSTER, used)))
    for name in some(random, LISTENERS, 70) if routes else ():
        route = random.choice(routes)
        body = random.choice(bodies) + route.encode()
        own.append(Resource(LISTENER, name, body, refs_to(ROUTE, [route])))
    layers = () if before is None else before.layers
    return Snapshot.stacked(
        _layer(random, shared, layers[0] if layers else None),
        _layer(random, own, layers[1] if layers else None),
        on_demand=_layer(random, list(clusters(later)), None) if later else None,
    )


def _layer(random, resources, before):
    if before is None or chance(random, 30):
        return Layer.of(resources)
    keep = {(r.type_url, r.name) for r in resources}
    have = {(t, name) for t, named in before.by_type.items() for name in named}
    return before.changed(resources, have - keep)
