"""What a real Envoy asks for only when a request needs it: virtual hosts and clusters."""

from contextlib import AsyncExitStack

import pytest
from support.discovery_envoy import WAYS, bootstrap, running
from support.pilot import (
    EVERYONE,
    answering,
    hub,
    pilot,
    publish,
    refusals,
    said,
    says,
    settled,
    until,
)
from support.resources import cluster, endpoints, host, made, routed, typed

from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE, VIRTUAL_HOST
from xds.snapshot import Layer, Snapshot

HTTP = "envoy.extensions.filters.http"
ON_DEMAND = {"name": "on-demand", "typed_config": typed(f"{HTTP}.on_demand.v3.OnDemand")}

deltas = pytest.mark.parametrize("way", [way for way in WAYS if way.delta], ids=str)


def hosts_by_discovery(source):
    """Return a route configuration whose virtual hosts come from ``source``."""
    return made(ROUTE, "routes", {"name": "routes", "vhds": {"config_source": source}})


def virtual(name, to, *domains):
    """Return a virtual host of ``routes`` for ``domains``, known by them as well.

    Its name is the resource's: by that Envoy finds it again when it is changed or removed.
    """
    name, aliases = f"routes/{name}", tuple(f"routes/{domain}" for domain in domains)
    content = host(to, name=name, domains=domains)
    return made(VIRTUAL_HOST, name, content, (CLUSTER, to), aliases=aliases)


def shown(of, listed, asked_for):
    of.publish(EVERYONE, Snapshot.stacked(Layer.of(listed), on_demand=Layer.of(asked_for)))


@deltas
async def test_virtual_hosts_come_listed_or_when_a_request_needs_them(way, tmp_path):
    source = way.source
    async with answering("one") as one, answering("two") as two:
        base = [
            routed(source, ON_DEMAND),
            hosts_by_discovery(source),
            *(cluster(name, source) for name in "ab"),
            endpoints("a", one),
            endpoints("b", two),
        ]
        of = hub()
        listed = virtual("listed", "a", "listed.test")
        shown(of, [*base, listed], [virtual("rare", "b", "rare.test", "rarer.test")])
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one", host="listed.test")
            assert not refusals(server)

            # the first request for it waits for it
            assert await said(port, host="rare.test") == (200, "two")
            assert await said(port, host="rarer.test") == (200, "two")

            # nobody has it: an answer at once
            assert (await said(port, host="unknown.test"))[0] == 404
            await settled(server, VIRTUAL_HOST, LISTENER, ROUTE)
            assert not refusals(server)

            # each changes alone
            shown(of, [*base, listed], [virtual("rare", "a", "rare.test", "rarer.test")])
            await says(port, 200, "one", host="rare.test")
            shown(of, [*base, virtual("listed", "b", "listed.test")], [])
            await says(port, 200, "two", host="listed.test")
            await says(port, 404, host="rare.test")

            # what was unknown is there when somebody makes it
            unknown = virtual("unknown", "a", "unknown.test")
            shown(of, [*base, virtual("listed", "b", "listed.test")], [unknown])
            await says(port, 200, "one", host="unknown.test")
            assert not refusals(server)


@deltas
async def test_hosts_that_were_asked_for_stay_when_the_server_comes_back(way, tmp_path):
    source = way.source
    async with answering("one") as one, answering("two") as two, AsyncExitStack() as stack:
        base = [
            routed(source, ON_DEMAND),
            hosts_by_discovery(source),
            *(cluster(name, source) for name in "ab"),
            endpoints("a", one),
            endpoints("b", two),
        ]
        of = hub()
        shown(of, base, [virtual("rare", "a", "rare.test"), virtual("other", "a", "other.test")])
        async with pilot(of) as server:
            address = server.address
            envoy = await stack.enter_async_context(running(bootstrap(address, way), tmp_path))
            port = await envoy.port()
            await says(port, 200, "one", host="rare.test")
            await settled(server, VIRTUAL_HOST)
        async with pilot(of, port=address.port) as again:
            await settled(again, VIRTUAL_HOST)
            assert await said(port, host="rare.test") == (200, "one")
            assert await said(port, host="other.test") == (200, "one")
            shown(
                of, base, [virtual("rare", "b", "rare.test"), virtual("other", "a", "other.test")]
            )
            await says(port, 200, "two", host="rare.test")
            shown(of, base, [virtual("rare", "b", "rare.test")])
            await says(port, 404, host="other.test")


def clusters_on_demand(**odcds):
    """Return the filter that asks for clusters, with little patience.

    Envoy asks for a name once. When that was in vain, or the cluster is gone, it waits for so
    long at each further request, in case the server has news.
    """
    config = typed(f"{HTTP}.on_demand.v3.OnDemand", odcds={"timeout": "1s", **odcds})
    return {"name": "on-demand", "typed_config": config}


def by_header():
    """Return a route configuration that goes to the cluster that a request names."""
    route = {"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    return made(ROUTE, "routes", {"name": "routes", "virtual_hosts": hosts})


@deltas
async def test_a_listener_moves_to_a_route_configuration_whose_hosts_were_sent_before(
    way, tmp_path
):
    source = way.source
    async with answering("one") as one, answering("two") as two:
        more = made(ROUTE, "more", {"name": "more", "vhds": {"config_source": source}})
        content = host("b", name="more/x", domains=("more.test",))
        base = [
            hosts_by_discovery(source),
            more,
            virtual("listed", "a", "listed.test"),
            made(VIRTUAL_HOST, "more/x", content, (CLUSTER, "b")),
            *(cluster(name, source) for name in "ab"),
            endpoints("a", one),
            endpoints("b", two),
        ]
        of = hub(*base, routed(source, ON_DEMAND))
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one", host="listed.test")
            publish(of, *base, routed(source, ON_DEMAND, name="more"))
            await until(lambda: is_said(port, (200, "two"), host="more.test"), seconds=5)
            await settled(server)


async def is_said(port, expected, **headers):
    return await said(port, **headers) == expected


@deltas
async def test_a_cluster_comes_with_the_first_request_for_it(way, tmp_path):
    source = way.source
    async with answering("one") as one, answering("two") as two:
        base = [
            routed(source, clusters_on_demand(source=source)),
            by_header(),
            cluster("a", source),
            endpoints("a", one),
        ]
        rare = [cluster("rare", source), endpoints("rare", two)]
        of = hub()
        shown(of, base, rare)
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one", x_cluster="a")
            assert await envoy.stat("cluster.rare.membership_total") == 0
            assert await said(port, x_cluster="rare") == (200, "two")
            assert (await said(port, x_cluster="unknown"))[0] == 503
            assert await said(port, x_cluster="rare") == (200, "two")
            assert await said(port, x_cluster="a") == (200, "one")
            await settled(server, CLUSTER, ENDPOINT, LISTENER, ROUTE)
            assert not refusals(server)

            # it follows its changes, and can come later
            shown(of, base, [cluster("rare", source, 2.0), endpoints("rare", one)])
            await says(port, 200, "one", x_cluster="rare")
            unknown = [cluster("unknown", source), endpoints("unknown", two)]
            shown(of, base, [*rare, *unknown])
            await says(port, 200, "two", x_cluster="unknown")
            await says(port, 200, "two", x_cluster="rare")
            shown(of, base, unknown)
            await says(port, 503, x_cluster="rare")
            assert not refusals(server)
