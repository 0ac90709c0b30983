"""Parts of a listener by discovery in a real Envoy: filters, run-time values, scoped routes."""

import aiohttp
from support.discovery_envoy import bootstrap, every_way, running
from support.pilot import (
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
from support.resources import (
    cluster,
    endpoints,
    listener,
    made,
    routed,
    routes,
    typed,
)
from support.resources import says as direct

from xds.resource import (
    EXTENSION,
    LISTENER,
    ROUTE,
    RUNTIME,
    SCOPED_ROUTE,
)

HTTP = "envoy.extensions.filters.http"
MUTATION = f"{HTTP}.header_mutation.v3.HeaderMutation"


def mutating(value):
    """Return an HTTP filter that sets the response header ``x-part``."""
    header = {"header": {"key": "x-part", "value": value}, "append_action": SET}
    config = typed(MUTATION, mutations={"response_mutations": [{"append": header}]})
    return made(EXTENSION, "part", {"name": "part", "typed_config": config})


SET = "OVERWRITE_IF_EXISTS_OR_ADD"


def discovered(source):
    """Return a listener with one HTTP filter by discovery and one route of its own."""
    types = [f"type.googleapis.com/{MUTATION}"]
    part = {"name": "part", "config_discovery": {"config_source": source, "type_urls": types}}
    return listener(
        part,
        refs=[(EXTENSION, "part")],
        route_config={
            "name": "inline",
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [direct(200, "ok", prefix="/")]}
            ],
        },
    )


@every_way
async def test_a_changed_filter_is_in_force_on_open_connections(way, tmp_path):
    listens = discovered(way.source)
    of = hub(listens, mutating("one"))
    async with (
        pilot(of) as server,
        running(bootstrap(server.address, way), tmp_path) as envoy,
    ):
        port = await envoy.port()
        await settled(server, EXTENSION, LISTENER)
        listeners = server.discovery.tally.pushes[LISTENER]
        connector = aiohttp.TCPConnector(limit=1, force_close=False)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def part(value):
                async with session.get(f"http://127.0.0.1:{port}/") as response:
                    return response.headers.get("x-part") == value

            await until(lambda: part("one"))
            publish(of, listens, mutating("two"))
            await until(lambda: part("two"))

            # a filter of a type that the listener does not take is refused, the last one serves
            fault = typed(f"{HTTP}.fault.v3.HTTPFault")
            wrong = made(EXTENSION, "part", {"name": "part", "typed_config": fault})
            publish(of, listens, wrong)
            await until(lambda: refusals(server))
            ((type_url, parked, _),) = refusals(server)
            assert (type_url, parked) == (EXTENSION, ("part",))
            assert await part("two")
            publish(of, listens, mutating("three"))
            await until(lambda: part("three"))
            await until(lambda: not refusals(server))
        assert await envoy.stat("http.in.downstream_cx_total") == 1
        assert server.discovery.tally.pushes[LISTENER] == listeners
        assert await envoy.stat("listener_manager.listener_modified") == 0


@every_way
async def test_a_run_time_value_moves_traffic(way, tmp_path):
    layer = {"name": "live", "rtds_layer": {"name": "live", "rtds_config": way.source}}
    fraction = {
        "runtime_key": "new.share",
        "default_value": {"numerator": 0, "denominator": "HUNDRED"},
    }
    new = direct(200, "new", prefix="/", runtime_fraction=fraction)
    table = made(
        ROUTE,
        "routes",
        {
            "name": "routes",
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [new, direct(200, "old", prefix="/")]}
            ],
        },
    )
    rest = [routed(way.source), table]
    of = hub(*rest, live(0))
    async with pilot(of) as server:
        config = bootstrap(server.address, way, layered_runtime={"layers": [layer]})
        async with running(config, tmp_path) as envoy:
            port = await envoy.port()
            await says(port, 200, "old")
            publish(of, *rest, live(100))
            await says(port, 200, "new")
            publish(of, *rest, live(0))
            await says(port, 200, "old")
            await settled(server, RUNTIME)


def live(percent):
    return made(RUNTIME, "live", {"name": "live", "layer": {"new.share": percent}})


def scope(name, to, key):
    content = {
        "name": name,
        "route_configuration_name": to,
        "key": {"fragments": [{"string_key": key}]},
    }
    return made(SCOPED_ROUTE, name, content, (ROUTE, to))


@every_way
async def test_scoped_routes_come_and_go_and_change_places(way, tmp_path):
    source = way.source
    listens = listener(
        scoped_routes={
            "name": "scopes",
            "scope_key_builder": {
                "fragments": [
                    {
                        "header_value_extractor": {
                            "name": "x-tenant",
                            "element_separator": ";",
                            "index": 0,
                        }
                    }
                ]
            },
            "rds_config_source": source,
            "scoped_rds": {"scoped_rds_config_source": source},
        }
    )
    async with answering("one") as one, answering("two") as two:
        base = [
            listens,
            *(cluster(name, source) for name in "ab"),
            endpoints("a", one),
            endpoints("b", two),
            routes("a", name="to-a"),
            routes("b", name="to-b"),
        ]
        of = hub(*base, scope("s1", "to-a", "red"))
        async with (
            pilot(of) as server,
            running(bootstrap(server.address, way), tmp_path) as envoy,
        ):
            port = await envoy.port()
            await says(port, 200, "one", x_tenant="red")
            await settled(server, SCOPED_ROUTE, ROUTE, LISTENER)
            assert (await said(port, x_tenant="blue"))[0] == 404

            publish(of, *base, scope("s1", "to-a", "red"), scope("s2", "to-b", "blue"))
            await says(port, 200, "two", x_tenant="blue")
            assert await said(port, x_tenant="red") == (200, "one")

            publish(of, *base, scope("s1", "to-b", "red"), scope("s2", "to-a", "blue"))
            await says(port, 200, "one", x_tenant="blue")
            await says(port, 200, "two", x_tenant="red")

            publish(of, *base, scope("s2", "to-a", "blue"))
            await says(port, 404, x_tenant="red")
            assert await said(port, x_tenant="blue") == (200, "one")
            await settled(server)
            assert not refusals(server)
