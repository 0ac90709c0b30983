"""Real Envoys, told by the Pilot: what a file says is what requests meet."""

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from support.edge import Load, edge_of, route, services, to
from support.house import command_of, descendants
from support.members import mesh, until
from yarl import URL

from wherry.cli.envoys import free_port
from wherry.cli.gateways import Gateways
from wherry.cli.owned import owned
from wherry.cli.programs import Programs
from wherry.config import assemble
from wherry.errors import MissingBinary, PortInUse, StartError
from wherry.serve import bound
from xds.workload import from_record, record_body

pytestmark = pytest.mark.e2e

POLICY = """\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: %s}
spec: {selector: {matchLabels: {app: %s}}, action: %s, rules: %s}
"""


async def raw(address: str, request: bytes) -> bytes:
    """Send bytes that no client would; return the status line."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(10):
            writer.write(request)
            return await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()


RULES = [
    to("one", "path: {type: Exact, value: /exact}"),
    to("two", "path: {value: /exact}"),
    to("two", "path: {type: RegularExpression, value: '/re/[0-9]+'}"),
    to("one", "path: {value: /shop}, method: POST"),
    to("two", "path: {value: /shop}, headers: [{name: X-Beta, value: 'yes'}]"),
    to("one", "path: {value: /shop}, queryParams: [{name: v, value: '2'}]"),
    to("web", "path: {value: /shop}"),
    "{matches: [{path: {value: /none}}]}",
    "{matches: [{path: {value: /changed}}], backendRefs: [{name: one}], filters: ["
    "{type: RequestHeaderModifier, requestHeaderModifier: "
    "{set: [{name: x-set, value: '100%'}], add: [{name: x-add, value: b}], remove: [x-gone]}}]}",
]
TABLE = [
    ("GET", "/exact", {}, "one"),
    ("GET", "/exact?x=1", {}, "one"),
    ("GET", "/exact/more", {}, "two"),
    ("GET", "/exactly", {}, 404),
    ("GET", "/re/12", {}, "two"),
    ("GET", "/re/x", {}, 404),
    ("POST", "/shop", {}, "one"),
    ("POST", "/shop/a", {"X-Beta": "yes"}, "one"),
    ("GET", "/shop", {"X-Beta": "yes"}, "two"),
    ("GET", "/shop", {"X-Beta": "no"}, "web"),
    ("GET", "/shop?v=2", {}, "one"),
    ("GET", "/shop?v=2", {"X-Beta": "yes"}, "two"),
    ("GET", "/shop/?v=3", {}, "web"),
    ("GET", "/shopping", {}, 404),
    ("GET", "/x/..//shop", {}, "web"),
    ("GET", "/none", {}, 500),
    ("GET", "/", {"Host": "only.test"}, "two"),
    ("GET", "/shop", {"Host": "ONLY.test:99"}, "web"),
    ("GET", "/", {"Host": "other.test"}, 404),
]


async def test_a_table_of_requests_meets_what_the_routes_say(tmp_path):
    hosts = route("hosts", to("two", "path: {type: Exact, value: /}"), hosts="[only.test]")
    text = services("web", "one", "two") + route("table", *RULES) + hosts
    async with mesh(tmp_path, text) as made, edge_of(made) as edge:
        for name in ("web", "one", "two"):
            await made.program(name)
        await made.joined(3)
        found = [(m, p, h, await edge.meets(p, m, **h)) for m, p, h, _ in TABLE]
        assert found == TABLE
        _, said = await edge.asks("/changed", **{"x-gone": "1", "x-add": "a"})
        headers = said["headers"]
        assert (headers["x-set"], headers["x-add"]) == ("100%", "a,b")
        assert "x-gone" not in headers
        spoofed = {"x-wherry-source": "two", "X-Wherry-Source-Version": "v9"}
        _, said = await edge.asks("/exact", **spoofed)
        assert said["headers"]["x-wherry-source"] == "edge"
        assert said["headers"]["x-wherry-source-version"] == "v1"


async def test_weights_split_requests_in_their_proportion(tmp_path):
    def split(one: int, two: int) -> str:
        refs = f"{{name: one, weight: {one}}}, {{name: two, weight: {two}}}"
        return services("one", "two") + route("split", f"{{backendRefs: [{refs}]}}")

    async with mesh(tmp_path, split(90, 10)) as made, edge_of(made) as edge:
        await made.program("one")
        await made.program("two")
        await made.joined(2)
        found = Counter([await edge.meets() for _ in range(400)])
        assert set(found) == {"one", "two"}
        assert 15 <= found["two"] <= 75  # six standard deviations around 40
        await made.become(split(0, 1))
        assert {await edge.meets() for _ in range(50)} == {"two"}
        await made.become(split(0, 0))
        assert await edge.meets() == 500


@pytest.mark.timeout(90)
async def test_no_get_is_lost_when_an_instance_is_killed(tmp_path):
    text = services("one") + route("all", to("one"))
    async with mesh(tmp_path, text) as made, edge_of(made) as edge:
        whole, part = await made.program("one"), await made.program("one")
        await made.joined(2)
        async with Load(edge, "/slow").flowing() as load:
            [program] = [
                p for p in descendants(part.pid) if str(made.echo) in command_of(p)
            ]  # fmt: skip
            os.kill(program, signal.SIGKILL)
            await made.joined(1)
            await load.more(60)
            third = await made.program("one")
            await made.joined(2)
            whole.kill()
            await load.more(100)
        assert set(load.ended) == {"one"}, load.ended
        assert third.returncode is None


DENIED = ["/admin", "/admin/", "/admin/x", "//admin", "/./admin", "/x/../admin", "/%2e/admin",
          "/x/%2e%2e/admin", "/x/.%2E/admin", "/%61dmin", "/admin?a=b", "//admin//x",
          "/admin/../admin", "/admin/%2e"]  # fmt: skip
OPEN = ["/", "/adminx", "/Admin", "/ADMIN", "/x/admin", "/admin/../x", "/admin;a", "/?/admin"]
REFUSED = ["/x%2fadmin", "/admin%2Fx", "/x%5cadmin", "/..%2fadmin"]


async def test_no_spelling_of_a_path_gets_around_a_rule(tmp_path):
    rules = "[{to: [{operation: {paths: [/admin, /admin/*]}}]}]"
    text = services("web") + route("all", to("web")) + POLICY % ("p", "web", "DENY", rules)
    async with mesh(tmp_path, text) as made, edge_of(made) as edge:
        await made.program("web")
        await made.joined(1)
        expected = {**dict.fromkeys(DENIED, 403), **dict.fromkeys(OPEN, "web")}
        expected |= dict.fromkeys(REFUSED, 400)
        assert {path: await edge.meets(path) for path in expected} == expected
        for path in (b"/x\\..\\admin", b"\\admin", b"/admin#x", b"/x/..\\admin"):
            line = await raw(edge.at, b"GET %s HTTP/1.1\r\nhost: a\r\n\r\n" % path)
            assert line.split()[1] in {b"400", b"403"}, (path, line)


MATRIX = [
    # policies of web, then requests and what they meet
    ([], [("GET", "/", {}, "web")]),
    ([("a", "ALLOW", "[]")], [("GET", "/", {}, 403)]),
    ([("d", "DENY", "[]")], [("GET", "/", {}, "web")]),
    ([("d", "DENY", "[{}]")], [("GET", "/", {}, 403)]),
    ([("a", "ALLOW", "[{to: [{operation: {methods: [GET], paths: ['/r*', '*.txt']}}]}]")],
     [("GET", "/read", {}, "web"), ("GET", "/a.txt", {}, "web"), ("GET", "/w", {}, 403),
      ("POST", "/read", {}, 403), ("GET", "/w?x=/r", {}, 403)]),
    ([("a", "ALLOW", "[{}]"), ("d", "DENY", "[{to: [{operation: {notMethods: [GET]}}]}]")],
     [("GET", "/", {}, "web"), ("DELETE", "/", {}, 403)]),
    ([("d", "DENY", "[{to: [{operation: {notPaths: [/ok]}}]}]")],
     [("GET", "/ok", {}, "web"), ("GET", "/no", {}, 403)]),
    ([("d", "DENY", "[{to: [{operation: {hosts: [Secret.test, '*.in.test']}}]}]")],
     [("GET", "/", {"Host": "secret.TEST"}, 403), ("GET", "/", {"Host": "secret.test:81"}, 403),
      ("GET", "/", {"Host": "a.in.test:1"}, 403), ("GET", "/", {"Host": "in.test"}, "web"),
      ("GET", "/", {"Host": "secret.test."}, 403), ("GET", "/", {"Host": "secret.test:"}, 403)]),
    ([("d", "DENY", "[{when: [{key: 'request.headers[Host]', values: [secret.test]}]}]")],
     [("GET", "/", {"Host": "secret.TEST:81"}, 403), ("GET", "/", {"Host": "a.test"}, "web")]),
    ([("a", "ALLOW", "[{when: [{key: 'request.headers[X-Team]', values: [a, 'b*']}]}]")],
     [("GET", "/", {"x-team": "a"}, "web"), ("GET", "/", {"x-team": "bc"}, "web"),
      ("GET", "/", {"x-team": "c"}, 403), ("GET", "/", {}, 403)]),
    ([("a", "ALLOW", "[{when: [{key: 'request.headers[X-Team]', notValues: ['*']}]}]")],
     [("GET", "/", {"x-team": "a"}, 403), ("GET", "/", {}, "web")]),
]  # fmt: skip


async def test_policies_decide_as_written_and_changes_close_no_connection(tmp_path):
    base = services("web", "other") + route("all", to("web"))
    async with mesh(tmp_path, base) as made, edge_of(made) as edge:
        await made.program("web")
        await made.joined(1)
        for policies, requests in MATRIX:
            texts = [POLICY % (name, "web", action, rules) for name, action, rules in policies]
            texts.append(POLICY % ("elsewhere", "other", "ALLOW", "[]"))
            await made.become(base + "".join(texts))
            found = [(m, p, h, await edge.meets(p, m, **h)) for m, p, h, _ in requests]
            assert found == requests, policies


async def test_a_program_calls_another_by_proxy_by_host_and_by_name_on_loopback(tmp_path):
    text = services("web", "one", "two") + route("edge", to("web"))
    parent = "{group: '', kind: Service, name: one}"
    text += route("mesh", to("two", "path: {value: /moved}"), to("one"), parent=parent)
    async with mesh(tmp_path, text) as made, edge_of(made) as edge:
        for name in ("web", "one", "two"):
            await made.program(name)
        await made.joined(3)
        _, said = await edge.asks()
        out = said["proxy"]
        port = URL(out).port

        async def calls(url: str, **options) -> object:
            async with edge.client.get(url, **options) as answer:
                if answer.status != 200:
                    return answer.status
                told = await answer.json(content_type=None)
                return told["service"], told["headers"]["x-wherry-source"]

        assert await calls("http://one/", proxy=out) == ("one", "web")
        assert await calls("http://one:80/moved/x", proxy=out) == ("two", "web")
        spoofed = {"x-wherry-source": "edge"}
        assert await calls("http://one/", proxy=out, headers=spoofed) == ("one", "web")
        assert await calls(f"{out}/", headers={"Host": "two"}) == ("two", "web")
        loopback = {"Host": f"two.localhost:{port}"}
        assert await calls(f"{out}/", headers=loopback) == ("two", "web")
        assert await calls("http://nobody/", proxy=out) == 502
        assert await calls(f"{out}/") == 502


@pytest.mark.timeout(90)
async def test_no_request_is_lost_while_the_world_changes(tmp_path):
    names = ["one", "two"]

    def world(target: str, *more: str) -> str:
        return services(*names, *more) + route("all", to(target))

    async with mesh(tmp_path, world("one")) as made, edge_of(made) as edge:
        for name in names:
            await made.program(name)
        await made.joined(2)
        alias = (
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: %s}\n"
            "spec: {selector: {app: one}}\n"
        )
        async with Load(edge).flowing() as load:
            for number in range(3):
                old, new = f"name{number}", f"name{number + 1}"
                await made.become(world(old, "spare") + alias % old)
                await load.more(30)
                await made.become(world(new) + alias % new)  # the cluster is renamed
                await load.more(30)
                await made.become(world("two", "added"))
                await load.more(30)
                split = "{backendRefs: [{name: one}, {name: two}]}"
                await made.become(services("one", "two") + route("moved", split))
                await load.more(30)
        assert set(load.ended) == {"one", "two"}, load.ended


@pytest.mark.timeout(90)
async def test_no_request_is_lost_while_the_pilot_restarts(tmp_path):
    text = services("one", "two") + route("all", to("one"))
    async with mesh(tmp_path, text) as made, edge_of(made) as edge:
        for name in ("one", "two"):
            await made.program(name)
        await made.joined(2)
        address = made.pilot.address
        async with Load(edge).flowing() as load:
            for ended in (False, True):
                await made.stop()
                await load.more(50)
                if ended:  # as if the Pilot had been away for longer than registrations last
                    for key, record in (await made.store.list("workload/")).items():
                        _, service, instance = key.split("/")
                        workload, _ = from_record(service, instance, record.body)
                        await made.store.put(key, record_body(workload, 1))
                await made.serve(address)
                async with asyncio.timeout(40):
                    while len(made.pilot.streams()) < 3:
                        await load.more(10)
                await made.settled()
                await load.more(50)
            await made.become(services("one", "two") + route("all", to("two")))
            await load.more(50)
        assert set(load.ended) == {"one", "two"}, load.ended
        assert len(await made.members()) == 2


def gateway(name: str, port: int) -> str:
    return (
        f"---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}"
        f"\nspec: {{gatewayClassName: wherry, listeners: [{{name: http, port: {port}}}]}}\n"
    )


@pytest.mark.timeout(90)
async def test_what_cannot_start_keeps_nothing_else_from_it(tmp_path):
    good = f"zoo: {{run: [{sys.executable}, {tmp_path / 'echo.py'}]}}"
    programs = f"services: {{art: {{run: [no-such-program]}}, bad: {{run: ['true']}}, {good}}}\n"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad").touch()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = free_port()
        text = programs + gateway("art", bound(taken).port) + gateway("zoo", port)
        async with (
            mesh(tmp_path, text) as made,
            aiohttp.ClientSession() as client,
            owned() as tasks,
        ):
            at, world = made.pilot.address, made.worlds.current
            edges = Gateways(at, tmp_path, None, False, tasks.start, print)
            with pytest.raises(PortInUse):
                await edges.become(world)
            async with client.get(f"http://127.0.0.1:{port}/") as answer:
                assert answer.status == 404
            members = Programs(at, tmp_path, tmp_path, tasks.start)
            with pytest.raises(MissingBinary):
                await members.become(world)
            await made.joined(1, "zoo")

            world = assemble({Path("mesh.yaml"): services("one") + gateway("third", 80)})
            edges.free_ports = True
            async with asyncio.TaskGroup() as group:
                group.create_task(killed("third"))
                with pytest.raises(StartError, match="ended with status -9 while starting"):
                    await edges.become(world)
            await edges.become(world)
            await edges.become(assemble({}))


async def killed(gateway: str) -> None:
    """Kill our Envoy of this gateway as soon as there is one."""

    def found() -> list[int]:
        ours = descendants(os.getpid())
        return [p for p in ours if f"/gateway-{gateway}.json" in command_of(p)]

    async def there() -> bool:
        return bool(found())

    await until(there)
    os.kill(found()[0], signal.SIGKILL)


async def test_a_connection_stays_open_while_routes_and_rules_change(tmp_path):
    base = services("web", "one") + route("all", to("web"))
    async with mesh(tmp_path, base) as made, edge_of(made) as edge:
        await made.program("web")
        await made.joined(1)
        host, port = edge.at.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        rules = "[{to: [{operation: {paths: [/no]}}]}]"
        for text in (base, base + POLICY % ("p", "web", "DENY", rules), base):
            await made.become(text)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
            assert head.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in head.lower()
        writer.close()
        await writer.wait_closed()
