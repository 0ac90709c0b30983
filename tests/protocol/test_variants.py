"""A real Envoy in every variant: states or differences, one stream or one service a type."""

from contextlib import AsyncExitStack

import aiohttp
import pytest
from support.discovery_envoy import WAYS, bootstrap, every_way, running
from support.pilot import (
    answering,
    flowing,
    hub,
    pilot,
    publish,
    refusals,
    said,
    says,
    settled,
    until,
)
from support.resources import cluster, endpoints, routed, routes
from support.resources import says as direct

from xds.resource import CLUSTER, ENDPOINT, LISTENER, ROUTE

FOUR = (CLUSTER, ENDPOINT, LISTENER, ROUTE)


@every_way
async def test_each_kind_of_change_reaches_an_envoy(way, tmp_path):
    source = way.source
    listens, to_a = routed(source), routes("a")
    async with answering("one") as one, answering("two") as two:
        of = hub(cluster("a", source), endpoints("a", one), to_a, listens)
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one")
            await settled(server, *FOUR)
            services = {status.service for status in server.streams()}
            assert services == ({"cds", "eds", "lds", "rds"} if way.separate else {"ads"})
            assert {s.variant for s in server.streams()} == {"delta" if way.delta else "sotw"}

            # endpoints
            publish(of, cluster("a", source), endpoints("a", two), to_a, listens)
            await says(port, 200, "two")

            # a cluster: it warms at once, not after Envoy's 15 seconds
            changed = [cluster("a", source, 2.5), endpoints("a", two)]
            publish(of, *changed, to_a, listens)
            await settled(server, seconds=5)
            await until(lambda: has_timeout(envoy, "2.500s"), seconds=5)
            assert await said(port) == (200, "two")

            # a route
            to_a = routes("a", direct(203, "new", path="/new"))
            publish(of, *changed, to_a, listens)
            await says(port, 203, "new", path="/new")

            # a listener
            listens = routed(source, server_name="changed")
            publish(of, *changed, to_a, listens)
            await until(lambda: server_name(port, "changed"))
            await settled(server, seconds=5)


async def has_timeout(envoy, seconds):
    (dump,) = await envoy.holds("ClustersConfigDump")
    (active,) = dump["dynamic_active_clusters"]
    return active["cluster"]["connect_timeout"] == seconds and not dump.get(
        "dynamic_warming_clusters"
    )


async def server_name(port, name):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}") as got:
        return got.headers["server"] == name


@every_way
async def test_a_cluster_is_renamed_with_its_route_under_traffic(way, tmp_path):
    """One stream keeps the order of types, so no request meets a cluster that is not there.

    Separate services have no order among them: Envoy may have the new route before the new
    cluster and answer 503 for a moment. There only the end is promised.
    """
    source = way.source
    listens = routed(source)
    async with answering("one") as one, answering("two") as two:
        old = [cluster("a", source), endpoints("a", one), routes("a"), listens]
        new = [cluster("b", source), endpoints("b", two), routes("b"), listens]
        of = hub(*old)
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one")
            async with flowing(port) as seen:
                for wanted, text in [(new, "two"), (old, "one"), (new, "two")]:
                    publish(of, *wanted)
                    await says(port, 200, text)
                    await until(lambda wanted=wanted: has_clusters(envoy, wanted[0].name))
                    await settled(server, *FOUR)
                least = seen.total() + 10
                await until(lambda: seen.total() > least)
            if not way.separate:
                assert seen.keys() == {200}


@every_way
async def test_a_refused_resource_is_isolated_and_the_last_good_one_serves(way, tmp_path):
    source = way.source
    async with answering("one") as one, answering("two") as two:
        good = [cluster("a", source), endpoints("a", one), routes("a"), routed(source)]
        of = hub(*good)
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one")

            # a good and a bad cluster in one push: the good one is delivered
            bad = cluster("bad", source, lb_policy="LOAD_BALANCING_POLICY_CONFIG")
            fine = [cluster("fine", source), endpoints("fine", two), endpoints("bad", two)]
            publish(of, *good, bad, *fine)
            await until(lambda: refusals(server))
            ((type_url, parked, error),) = refusals(server)
            assert (type_url, parked) == (CLUSTER, ("bad",))
            assert "bad" in error
            await until(lambda: has_clusters(envoy, "a", "fine"))
            assert await said(port) == (200, "one")

            # the refused one is not sent again, and what comes later is
            sent = {s.service: s.sent for s in server.streams()}
            publish(of, cluster("a", source), endpoints("a", two), *good[2:], bad, *fine)
            await says(port, 200, "two")
            for status in server.streams():
                assert status.sent <= sent[status.service] + (status.service in ("ads", "eds"))
            publish(of, cluster("a", source), endpoints("a", two), *good[2:], *fine)
            await until(lambda: not refusals(server))
            await settled(server, *FOUR)


@every_way
async def test_an_envoy_serves_on_while_the_server_is_away_and_then_catches_up(way, tmp_path):
    source = way.source
    async with answering("one") as one, answering("two") as two, AsyncExitStack() as stack:
        parts = [cluster("a", source), routes("a"), routed(source)]
        of = hub(*parts, endpoints("a", one))
        async with pilot(of) as server:
            address = server.address
            envoy = await stack.enter_async_context(running(bootstrap(address, way), tmp_path))
            port = await envoy.port()
            await says(port, 200, "one")
            await settled(server, *FOUR)
        publish(of, *parts, endpoints("a", two))
        assert await said(port) == (200, "one")
        async with pilot(of, port=address.port) as again:
            await says(port, 200, "two")
            await settled(again, *FOUR)
            assert not refusals(again)


@every_way
async def test_an_unused_cluster_stays_for_the_drain_time(way, tmp_path):
    source = way.source
    listens = routed(source)
    async with answering("one") as one, answering("two") as two:
        of = hub(cluster("a", source), endpoints("a", one), routes("a"), listens)
        async with (
            pilot(of, drain_seconds=1.0) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one")
            publish(of, cluster("b", source), endpoints("b", two), routes("b"), listens)
            await says(port, 200, "two")
            assert await has_clusters(envoy, "a", "b")
            await until(lambda: has_clusters(envoy, "b"))
            assert await said(port) == (200, "two")


@pytest.mark.parametrize("way", [w for w in WAYS if w.separate], ids=str)
async def test_apart_each_cluster_has_a_stream_for_its_endpoints(way, tmp_path):
    source, names = way.source, [f"c{n}" for n in range(5)]
    async with answering("one") as one:
        parts = [part for n in names for part in (cluster(n, source), endpoints(n, one))]
        of = hub(*parts, routes("c3"), routed(source))
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            await says(await envoy.port(), 200, "one")
            await settled(server, *FOUR)
            opened = sorted(status.service for status in server.streams())
            assert opened == ["cds", *["eds"] * 5, "lds", "rds"]


async def has_clusters(envoy, *names):
    """Return whether ``names`` are all the dynamic clusters, each of them warm."""
    (dump,) = await envoy.holds("ClustersConfigDump")
    active = {each["cluster"]["name"] for each in dump.get("dynamic_active_clusters", ())}
    return active == set(names) and not dump.get("dynamic_warming_clusters")
