"""Hosts that are sent one by one to a real Envoy answer as those in one piece do."""

import asyncio

import aiohttp
import pytest
from support.edge import EDGE, Edge, Load, edge_of, route, services, to
from support.members import mesh

pytestmark = pytest.mark.e2e

SPELLINGS = {
    "a.test": "one",
    "A.Test": "one",
    "a.test:8080": "one",
    "A.TEST:1": "one",
    "a.test.": "one",
    "A.test.:80": "one",
    "b.test": "two",
    "aa.test": 404,
    "test": 404,
    "[::1]": 404,
    "[::1]:80": 404,
    "127.0.0.1": 404,
}
ALL = route("all", to("two"))
HOSTS = route("a", to("one"), hosts="[a.test]") + route("b", to("two"), hosts="[b.test]")


async def test_a_host_is_found_however_it_is_written(tmp_path):
    async with mesh(tmp_path, services("one", "two") + HOSTS) as made, edge_of(made) as edge:
        await made.program("one")
        await made.program("two")
        await made.joined(2)
        found = {host: await edge.meets(Host=host) for host in SPELLINGS}
        assert found == SPELLINGS
        _, said = await edge.asks(Host="A.test:1", **{"x-wherry-scope": "gateway/edge/80:b.test"})
        assert said["service"] == "one"
        assert said["headers"]["host"] == "A.test:1"
        assert "x-wherry-scope" not in said["headers"]
        await made.become(services("one", "two") + HOSTS + ALL)
        whole = {host: "two" if met == 404 else met for host, met in SPELLINGS.items()}
        async with aiohttp.ClientSession() as fresh:  # the new listener takes new connections
            edge.client = fresh
            assert {host: await edge.meets(Host=host) for host in SPELLINGS} == whole


CALLS = {
    "one": "one",
    "ONE:80": "one",
    "One.localhost:1": "one",
    "one.": "one",
    "two": 404,
    "nobody": 502,
    "[::1]": 502,
    "one.more": 502,
}


async def test_a_service_is_called_however_its_name_is_written(tmp_path):
    parent = "{group: '', kind: Service, name: two}"
    some = route("some", to("one", "path: {value: /x}"), parent=parent)
    text = services("web", "one", "two") + route("edge", to("web")) + some
    async with mesh(tmp_path, text) as made, edge_of(made) as edge:
        await made.program("web")
        await made.program("one")
        await made.joined(2)
        _, said = await edge.asks()
        found, bodies = {}, {}
        for host in CALLS:
            async with edge.client.get(said["proxy"], headers={"Host": host}) as answer:
                told = await answer.json(content_type=None) if answer.status == 200 else {}
                found[host] = told.get("service", answer.status)
                bodies[host] = "" if told else await answer.text()
        assert found == CALLS
        assert bodies["nobody"] == "no such service in this mesh\n"
        assert bodies["two"] == ""
        async with edge.client.get(f"{said['proxy']}/x", headers={"Host": "two"}) as answer:
            assert (await answer.json(content_type=None))["service"] == "one"


async def test_a_sidecar_that_may_call_nothing_starts_and_says_so(tmp_path):
    nothing = "services: {web: {calls: []}, one: {}}\n" + EDGE.partition("\n")[2]
    async with mesh(tmp_path, nothing + route("edge", to("web"))) as made, edge_of(made) as edge:
        await made.program("web")
        await made.joined(1)
        _, said = await edge.asks()
        async with aiohttp.ClientSession() as client:
            async with client.get(said["proxy"], headers={"Host": "one"}) as answer:
                assert answer.status == 502
            await made.become(nothing.replace("[]", "[one]") + route("edge", to("web")))
            await made.program("one")
            await made.joined(2)
            async with client.get(said["proxy"], headers={"Host": "one"}) as answer:
                assert answer.status == 200


class OfHost(Edge):
    """The ingress to a client that asks for one host."""

    async def meets(self, path: str = "/", method: str = "GET", **headers: str) -> object:
        return await super().meets(path, method, Host="a.test", **headers)


@pytest.mark.timeout(90)
async def test_no_request_is_lost_while_a_port_changes_how_its_hosts_are_sent(tmp_path):
    base = services("one", "two") + HOSTS
    async with mesh(tmp_path, base) as made, edge_of(made) as edge:
        await made.program("one")
        await made.program("two")
        await made.joined(2)
        async with Load(OfHost(edge.at, edge.client)).flowing() as load:
            for number in range(4):
                await made.become(base + ALL)
                await load.more(30)
                more = route("more", to("two"), hosts=f"[c{number}.test]")
                await made.become(base + more)
                await load.more(30)
                assert await edge.meets(Host=f"c{number}.test") == "two"
            address = made.pilot.address
            await made.stop()
            await load.more(20)
            await made.serve(address)
            async with asyncio.timeout(40):
                while len(made.pilot.streams()) < 3:
                    await load.more(10)
            await made.settled()
            await made.become(base)
            await load.more(30)
            assert await edge.meets(Host="c3.test") == 404
        assert set(load.ended) == {"one"}, load.ended
