"""Resources that live for a time: a real Envoy drops them when nobody renews them."""

from contextlib import AsyncExitStack

import pytest
from support.discovery_envoy import bootstrap, every_way, running
from support.pilot import answering, hub, pilot, publish, refusals, said, says, until
from support.resources import cluster, endpoints, made, routed, routes
from support.resources import says as direct

from xds.resource import CLUSTER, ENDPOINT, ROUTE, RUNTIME, Resource

LIFE = 2.0
FEATURES = {"client_features": ["xds.config.resource-in-sotw"]}
"""Without it a client of the state-of-the-world protocol is told of no lifetimes."""


def lasting(resource, seconds=LIFE):
    """Return the resource with a time to live."""
    return Resource(resource.type_url, resource.name, resource.body, resource.refs, ttl=seconds)


@pytest.mark.parametrize("type_url", [CLUSTER, ENDPOINT], ids=["cluster", "endpoints"])
@every_way
async def test_a_resource_lives_as_long_as_the_server_says_so(way, type_url, tmp_path):
    source = way.source
    async with answering("one") as one, answering("two") as two, AsyncExitStack() as stack:
        forever = [cluster("a", source), endpoints("a", one), routes("a"), routed(source)]
        mortal = [lasting(r) if r.type_url == type_url else r for r in forever]
        of = hub(*mortal)
        async with pilot(of) as server:
            node = {"id": "mortal", "cluster": "test", **FEATURES}
            config = bootstrap(server.address, way, node=node)
            envoy = await stack.enter_async_context(running(config, tmp_path))
            port = await envoy.port()
            await says(port, 200, "one")
            first = server.discovery.tally.pushes[type_url]

            # more than a life later it is still there, renewed and not changed
            await until(lambda: server.discovery.tally.pushes[type_url] >= first + 4)
            assert await said(port) == (200, "one")
            assert not refusals(server)
            assert await envoy.stat("cluster_manager.cluster_modified") == 0

            # it can change within its life
            changed = [
                lasting(endpoints("a", two)) if r.type_url == ENDPOINT else r for r in mortal
            ]
            publish(of, *changed)
            await says(port, 200, "two")
        # Envoy 1.40 keeps endpoints whose life has ended, or crashes (envoyproxy/envoy#24271).
        if type_url == CLUSTER:
            await says(port, 503)


@every_way
async def test_a_run_time_layer_ends_with_its_server(way, tmp_path):
    layer = {"name": "live", "rtds_layer": {"name": "live", "rtds_config": way.source}}
    fraction = {
        "runtime_key": "new.share",
        "default_value": {"numerator": 0, "denominator": "HUNDRED"},
    }
    new = direct(200, "new", prefix="/", runtime_fraction=fraction)
    hosts = [{"name": "all", "domains": ["*"], "routes": [new, direct(200, "old", prefix="/")]}]
    table = made(ROUTE, "routes", {"name": "routes", "virtual_hosts": hosts})
    content = {"name": "live", "layer": {"new.share": 100}}
    live = made(RUNTIME, "live", content, ttl=LIFE)
    of = hub(routed(way.source), table, live)
    async with AsyncExitStack() as stack:
        async with pilot(of) as server:
            address = server.address
            node = {"id": "mortal", "cluster": "test", **FEATURES}
            config = bootstrap(address, way, node=node, layered_runtime={"layers": [layer]})
            envoy = await stack.enter_async_context(running(config, tmp_path))
            port = await envoy.port()
            await says(port, 200, "new")
            first = server.discovery.tally.pushes[RUNTIME]
            await until(lambda: server.discovery.tally.pushes[RUNTIME] >= first + 4)
            assert await said(port) == (200, "new")
        await says(port, 200, "old")
        async with pilot(of, port=address.port):
            await says(port, 200, "new")
