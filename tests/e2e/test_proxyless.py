"""Real gRPC clients without an Envoy: they dial names of the mesh and ask the Pilot themselves."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.cluster.v3 import (
    Cluster,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
)
from support.members import WHERRY, ended, mesh, until
from support.proxyless import ROUTE, backends, client, split

from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.serve import Address
from wherry.store import opened
from xds.builders.compiler import snapshot
from xds.builders.messages import from_ads
from xds.builders.scopes import ProxylessScope, Surroundings, UnknownNode, scope_of
from xds.encode import encode
from xds.hub import Hub
from xds.registrations import Registry
from xds.resource import CLUSTER, Resource
from xds.server import serving
from xds.snapshot import Snapshot

pytestmark = pytest.mark.e2e


def services(*names: str) -> str:
    written = ", ".join(f"{name}: {{}}" for name in names)
    return f"services: {{{written}}}\n"


def to(service: str, match: str = "") -> str:
    return f"{{matches: [{{{match}}}], backendRefs: [{{name: {service}}}]}}"


async def test_a_name_with_or_without_its_port_reaches_the_program_of_the_service(tmp_path):
    async with (
        mesh(tmp_path, services("greeter", "api.shop")) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address) as caller,
    ):
        await programs.add("a", "greeter")
        await programs.add("b", "api.shop")
        assert await caller.calls("greeter", 5) == {"a": 5}
        assert await caller.calls("greeter:80", 5) == {"a": 5}
        assert await caller.calls("api.shop", 5) == {"b": 5}


async def test_every_program_of_a_service_takes_its_turn(tmp_path):
    async with (
        mesh(tmp_path, services("greeter")) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address) as caller,
    ):
        for word in ("a", "b", "c"):
            await programs.add(word, "greeter")
        await made.joined(3)

        async def all_at_once() -> bool:
            return await caller.calls("greeter", 30) == {"a": 10, "b": 10, "c": 10}

        await until(all_at_once)


RULES = [
    to("one", "path: {type: Exact, value: /test.Test/Exact}"),
    to("two", "path: {value: /test.Test}"),
    to("one", "path: {value: /test.Test/Deep}"),
    to("one", "path: {type: RegularExpression, value: '/re[.].*/M[0-9]+'}"),
    to("two", "path: {value: /shop.Shop}, headers: [{name: X-Beta, value: 'yes'}]"),
    to("one", "path: {value: /shop.Shop}, headers: [{name: x-v, type: RegularExpression, "
       "value: '[2-9]'}]"),
    to("web", "path: {value: /shop.Shop}"),
    to("web", "path: {value: /post.Post}, headers: [{name: x-v, value: '3'}]"),
    to("one", "path: {value: /post.Post}, method: POST"),
    to("one", "path: {value: /get.Get}, method: GET"),
    to("one", "path: {value: /query.Query}, queryParams: [{name: v, value: '2'}]"),
    "{matches: [{path: {value: /none.None}}]}",
]  # fmt: skip
TABLE = [
    ("/test.Test/Exact", {}, "one"),
    ("/test.Test/Exactly", {}, "two"),
    ("/test.Test/Deep", {}, "one"),
    ("/test.Test/Deeper", {}, "two"),
    ("/test.Tester/Deep", {}, None),
    ("/re.Service/M12", {}, "one"),
    ("/re.Service/Mx", {}, None),
    ("/shop.Shop/Buy", {"x-beta": "yes"}, "two"),
    ("/shop.Shop/Buy", {"x-beta": "no"}, "web"),
    ("/shop.Shop/Buy", {"x-v": "3"}, "one"),
    ("/shop.Shop/Buy", {}, "web"),
    ("/post.Post/It", {"x-v": "3"}, "one"),
    ("/get.Get/It", {}, None),
    ("/query.Query/It", {}, None),
    ("/none.None/It", {}, None),
]


async def test_a_table_of_calls_meets_what_the_routes_say(tmp_path):
    text = services("web", "one", "two") + ROUTE % ("web", "web", ", ".join(RULES))
    async with (
        mesh(tmp_path, text) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address) as caller,
    ):
        for name in ("web", "one", "two"):
            await programs.add(name, name)
        await made.joined(3)
        for method, metadata, wanted in TABLE:
            met = await caller.calls("web", method=method, metadata=metadata)
            if wanted is None:
                (refused,) = met
                assert refused.startswith("UNAVAILABLE"), (method, metadata, met)
            else:
                assert met == {wanted: 1}, (method, metadata)
        assert not [t.error for s in made.pilot.streams() for t in s.types if t.error]


async def test_weights_move_calls_and_no_call_fails_meanwhile(tmp_path):
    text = services("web", "old", "new")
    async with (
        mesh(tmp_path, text + split("old", 1, "new", 0, "web")) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address) as caller,
    ):
        await programs.add("old", "old")
        await programs.add("new", "new")
        await made.joined(2)
        async with caller.flow("web") as flow:
            assert flow.ended.keys() == {"old"}
            await made.become(text + split("old", 1, "new", 1, "web"))
            await flow.more(20, "new")
            before = await flow.seen()
            await flow.more(400)
            moved = await flow.seen() - before
            assert 0.3 < moved["new"] / moved.total() < 0.7
            await made.become(text + split("old", 0, "new", 1, "web"))
            await flow.more(20, "new")
            before = await flow.seen()
            await flow.more(50)
            assert (await flow.seen() - before).keys() == {"new"}
        assert flow.ended.keys() == {"old", "new"}


async def test_no_call_fails_while_programs_come_and_go(tmp_path):
    async with (
        mesh(tmp_path, services("greeter")) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address) as caller,
    ):
        serving_now = await programs.add("0", "greeter")
        await made.joined(1)
        async with caller.flow("greeter") as flow:
            for number in range(1, 6):
                coming = await programs.add(str(number), "greeter")
                await flow.more(5, str(number))
                await serving_now.leave()
                await made.joined(1)
                await flow.more(20)
                await serving_now.stop()
                serving_now = coming
        assert flow.ended.keys() == set("012345")


async def test_a_pilot_that_is_away_stops_no_call_and_is_heard_again_when_it_is_back(tmp_path):
    async with (
        mesh(tmp_path, services("greeter")) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address) as caller,
    ):
        await programs.add("a", "greeter")
        await made.joined(1)
        async with caller.flow("greeter") as flow:
            address = made.pilot.address
            await made.stop()
            await flow.more(100)
            await made.serve(address)
            await flow.more(100)
            await programs.add("b", "greeter")
            await flow.more(20, "b")
        assert flow.ended.keys() == {"a", "b"}


async def test_a_service_that_appears_is_reached_and_one_that_goes_is_refused(tmp_path):
    async with (
        mesh(tmp_path, services("greeter", "brief")) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address) as caller,
    ):
        await programs.add("a", "brief", "late")
        assert await caller.calls("brief") == {"a": 1}
        (refused,) = await caller.calls("late")
        assert refused.startswith("UNAVAILABLE")
        await made.become(services("greeter"))

        async def gone() -> bool:
            (met,) = await caller.calls("brief", seconds=1)
            return met.startswith("UNAVAILABLE") and "brief" in met

        await until(gone)
        await made.become(services("greeter", "brief", "late"))

        async def reached() -> bool:
            answers = [await caller.calls(name, seconds=1) for name in ("brief", "late")]
            return answers == [{"a": 1}, {"a": 1}]

        await until(reached)


async def test_one_of_many_services_is_asked_for_alone(tmp_path):
    names = [f"service-{number}" for number in range(300)]
    async with (
        mesh(tmp_path, services(*names)) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address) as caller,
    ):
        for word in ("0", "1", "2"):
            await programs.add(
                word, *(n for n in names if int(n.partition("-")[2]) % 3 == int(word))
            )
        for number in range(0, 300, 10):
            assert await caller.calls(f"service-{number}") == {str(number % 3): 1}
        await made.settled()
        streams = made.pilot.streams()
        assert {stream.variant for stream in streams} == {"sotw"}
        assert {len(kind.held) for stream in streams for kind in stream.types} == {1}


async def test_what_a_client_refuses_is_shown_and_the_last_good_state_serves():
    world = assemble({Path("mesh.yaml"): services("greeter", "other")})

    def bad(name: str) -> Resource:
        message = Cluster(
            name=name,
            type=ClusterDiscoveryType.EDS,
            eds_cluster_config=ClusterEdsClusterConfig(eds_config=from_ads()),
            lb_policy=ClusterLbPolicy.MAGLEV,
        )
        return Resource(CLUSTER, name, encode(message), good[CLUSTER, name].refs)

    clock = SystemClock()
    hub: Hub[str] = Hub(lambda _node: "all")
    async with (
        opened("memory:") as store,
        serving(Address(), hub, Registry(store, clock), clock=clock) as server,
        backends(server.address) as programs,
    ):
        greeter = (await programs.add("a", "greeter")).workload
        alive = (greeter, replace(greeter, service="other"))
        around = Surroundings(alive, frozenset(), ("127.0.0.1", 1), ("127.0.0.1", 2))
        told = snapshot(ProxylessScope(), world, around).by_type.values()
        good = {(r.type_url, r.name): r for named in told for r in named.values()}
        hub.publish("all", Snapshot.of(good.values()))
        async with client(server.address) as caller:
            assert await caller.calls("greeter") == {"a": 1}
            refused = {**good, (CLUSTER, "greeter"): bad("greeter")}
            hub.publish("all", Snapshot.of(refused.values()))

            async def shown() -> bool:
                types = [kind for stream in server.streams() for kind in stream.types]
                errors = {kind.type_url: kind.error for kind in types if kind.error}
                return "greeter" in errors.get(CLUSTER, "")

            await until(shown)
            assert await caller.calls("greeter", 5) == {"a": 5}
            assert await caller.calls("other", 5) == {"a": 5}
            hub.publish("all", Snapshot.of(good.values()))

            async def calm() -> bool:
                return not await shown()

            await until(calm)
            assert await caller.calls("greeter", 5) == {"a": 5}


EXAMPLE = Path(__file__).parents[2] / "examples" / "proxyless"


async def test_the_example_does_what_its_readme_says(tmp_path):
    text = (EXAMPLE / "mesh.yaml").read_text()
    async with mesh(tmp_path, text) as made, AsyncExitStack() as stack:
        pilot = str(made.pilot.address)
        bootstrap = (await output(WHERRY, "bootstrap", "--grpc", "--xds", pilot)).decode()

        async def answers(*arguments: str) -> Counter[str]:
            client = (sys.executable, EXAMPLE / "client.py", *arguments)
            lines = (await output(*client, GRPC_XDS_BOOTSTRAP_CONFIG=bootstrap)).decode()
            counted = (line.split(maxsplit=1) for line in lines.splitlines())
            return Counter({answer[-2:]: int(count) for count, answer in counted})

        servers = [
            await stack.enter_async_context(program(EXAMPLE / "server.py", version, pilot))
            for version in ("v1", "v2")
        ]
        await made.joined(2)
        shares = await answers("200")
        assert shares.total() == 200
        assert 160 < shares["v1"] < 200
        assert await answers("20", "x-preview=yes") == {"v2": 20}
        assert await ended(servers[0]) == 0
        await made.joined(1)
        assert await answers("20", "x-preview=yes") == {"v2": 20}


async def output(*command: object, **environment: str) -> bytes:
    """Run a command to its end and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, env={**os.environ, **environment}
    )
    async with asyncio.timeout(30):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed


@asynccontextmanager
async def program(*arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a Python program until the block ends."""
    process = await asyncio.create_subprocess_exec(sys.executable, *map(str, arguments))
    try:
        yield process
    finally:
        await ended(process)


async def test_a_bootstrap_says_who_the_client_is_and_where():
    where = ("--xds", "127.0.0.1:7", "--locality", "eu/a", "--service", "web")
    first, second = [
        json.loads(await output(WHERRY, "bootstrap", "--grpc", *where)) for _ in range(2)
    ]
    assert first["xds_servers"][0]["server_uri"] == "127.0.0.1:7"
    assert first["node"]["locality"] == {"region": "eu", "zone": "a"}
    assert first["node"]["id"] != second["node"]["id"]
    node = first["node"]["id"]
    assert scope_of(node, first["node"]["metadata"]) == ProxylessScope("web")


def test_a_grpc_node_with_a_name_that_no_service_has_is_refused():
    with pytest.raises(UnknownNode, match="metadata service: 'No Name'"):
        scope_of("grpc~1", {"role": "grpc", "service": "No Name"})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--grpc", "--app-port", "1"], "--app-port 1, expected none with --grpc"),
        (["--grpc", "--locality", "a/b/c/d"], "expected REGION"),
        (["--grpc", "--service", "No"], "expected a DNS-1123 name"),
        (["--service", "web"], "no --app-port"),
        (["--app-port", "1"], "no --service"),
        (["--service", "web", "--node", "n"], "--node n, expected none with a sidecar"),
    ],
)
def test_a_bootstrap_that_cannot_be_is_refused_in_one_line(arguments, said):
    done = subprocess.run(
        [WHERRY, "bootstrap", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


async def test_a_name_that_the_mesh_does_not_know_is_refused_at_once(tmp_path):
    async with (
        mesh(tmp_path, services("greeter")) as made,
        client(made.pilot.address) as caller,
    ):
        met, seconds = await caller.timed("nosuch", seconds=14)
        assert met.startswith("UNAVAILABLE")
        assert "nosuch" in met
        assert seconds < 10


async def test_a_client_of_a_service_reaches_what_that_service_may_call(tmp_path):
    text = "services: {web: {calls: [one]}, one: {}, two: {}}\n"
    async with (
        mesh(tmp_path, text) as made,
        backends(made.pilot.address) as programs,
        client(made.pilot.address, service="web") as caller,
    ):
        await programs.add("a", "one", "two")
        assert await caller.calls("one") == {"a": 1}
        (refused,) = await caller.calls("two", seconds=10)
        assert refused.startswith("UNAVAILABLE")
        await made.become(text.replace("[one]", "[one, two]"))

        async def reached():  # the client asks for one type after the other
            return await caller.calls("two", seconds=10) == {"a": 1}

        await until(reached)


async def test_a_service_without_programs_is_refused_at_once(tmp_path):
    async with (
        mesh(tmp_path, services("greeter")) as made,
        client(made.pilot.address) as caller,
    ):
        met, seconds = await caller.timed("greeter", seconds=14)
        assert met.startswith("UNAVAILABLE")
        assert "greeter" in met
        assert seconds < 10
