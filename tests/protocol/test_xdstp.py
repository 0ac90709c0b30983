"""Names of the form ``xdstp://`` and collections of them, as far as a real Envoy takes them.

Envoy 1.40 takes them over one stream for all types, and apart only in the incremental protocol:
with the state of the world and a service a type it ends at its start, with ``Unknown xdstp://
transport API type``.
"""

import pytest
from support.discovery_envoy import WAYS, Way, bootstrap, running
from support.pilot import answering, hub, pilot, publish, refusals, says, settled, until
from support.resources import endpoints, listener, made, routed, routes

from xds.names import XDSTP
from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE

REFUSED = Way(delta=False, separate=True)
ways = pytest.mark.parametrize("way", [way for way in WAYS if way != REFUSED], ids=str)


def xdstp(type_url, name):
    """Return a name of a resource, or of a collection where ``name`` ends with ``*``."""
    return f"{XDSTP}pilot/{type_url.rpartition('/')[2]}/{name}"


def collections(address, way):
    """Return a bootstrap that asks for a collection of clusters and one of listeners."""
    config = bootstrap(address, way)
    config["dynamic_resources"] |= {
        "cds_resources_locator": xdstp(CLUSTER, "mine/*"),
        "lds_resources_locator": xdstp(LISTENER, "mine/*"),
    }
    return config


def cluster(name, source, service=None):
    """Return a cluster of the collection; its endpoints have the name ``service``."""
    full, eds = xdstp(CLUSTER, name), service or xdstp(ENDPOINT, name)
    content = {
        "name": full,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": source, "service_name": eds},
    }
    return made(CLUSTER, full, content, (ENDPOINT, eds))


def table(to):
    full = xdstp(ROUTE, "mine/routes")
    return routes(xdstp(CLUSTER, to), name=full)


def listens(source):
    name = xdstp(ROUTE, "mine/routes")
    rds = {"config_source": source, "route_config_name": name}
    return listener(rds=rds, refs=[(ROUTE, name)], name=xdstp(LISTENER, "mine/in"))


@ways
async def test_an_envoy_takes_collections_and_what_they_name(way, tmp_path):
    source = way.source
    async with answering("one") as one, answering("two") as two:
        shared = [table("mine/a"), listens(source)]
        a, b = xdstp(ENDPOINT, "mine/a"), xdstp(ENDPOINT, "mine/b")
        other = cluster("theirs/x", source, a)
        of = hub(cluster("mine/a", source), endpoints(a, one), other, *shared)
        async with (
            pilot(of) as server,
            running(collections(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port(xdstp(LISTENER, "mine/in"))
            await says(port, 200, "one")
            await settled(server, CLUSTER, ENDPOINT, LISTENER, ROUTE)
            clusters = next(t for s in server.streams() for t in s.types if t.type_url == CLUSTER)
            assert [name for name, _ in clusters.held] == [xdstp(CLUSTER, "mine/a")]
            assert not clusters.wildcard

            # a member comes, and another goes
            both = [cluster("mine/b", source), endpoints(b, two)]
            publish(
                of,
                cluster("mine/a", source),
                endpoints(a, one),
                other,
                *both,
                table("mine/b"),
                listens(source),
            )
            await says(port, 200, "two")
            publish(of, *both, table("mine/b"), listens(source))
            await until(lambda: lost(envoy, xdstp(CLUSTER, "mine/a")))
            await says(port, 200, "two")
            await settled(server)
            assert not refusals(server)


async def lost(envoy, cluster):
    return cluster not in await envoy.admin("/clusters")


FLAG = "envoy.reloadable_features.xdstp_based_config_singleton_subscriptions"


@pytest.mark.parametrize("where", ["config_sources", "default_config_source"])
@pytest.mark.parametrize("way", [way for way in WAYS if not way.separate], ids=str)
async def test_an_envoy_asks_the_authority_that_a_name_holds(way, where, tmp_path):
    """A cluster needs no source for its endpoints then; Envoy opens a stream an authority."""
    eds = xdstp(ENDPOINT, "mine/a")
    content = {"name": "a", "type": "EDS", "eds_cluster_config": {"service_name": eds}}
    asking = made(CLUSTER, "a", content, (ENDPOINT, eds))
    kind = "AGGREGATED_DELTA_GRPC" if way.delta else "AGGREGATED_GRPC"
    authority = {
        "api_config_source": {**way.stream, "api_type": kind},
        "resource_api_version": "V3",
        "authorities": [{"name": "pilot"}],
    }
    flags = {"layers": [{"name": "flags", "static_layer": {FLAG: True}}]}
    async with answering("one") as one, answering("two") as two:
        rest = [asking, routes("a"), routed(way.source)]
        of = hub(*rest, endpoints(eds, one))
        async with pilot(of) as server:
            config = bootstrap(server.address, way, layered_runtime=flags)
            config[where] = [authority] if where == "config_sources" else authority
            async with running(config, tmp_path) as envoy:
                port = await envoy.port()
                await says(port, 200, "one")
                publish(of, *rest, endpoints(eds, two))
                await says(port, 200, "two")
                await settled(server, CLUSTER, ENDPOINT, LISTENER, ROUTE)
                assert len(server.streams()) == 2
