"""The whole story of the guestbook: real Envoys, real microVMs, real clients."""

import asyncio
import os
import re
import signal
import time
from collections import Counter

import aiohttp
import boto3
import pytest
from botocore.config import Config
from support.house import house

from faas.image.built import QEMU, find
from gateway.metering.batch import uses
from gateway.usage import LOG
from wherry.store import opened

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PATH = "/guestbook/entries"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    if find(QEMU) is None and not os.getenv("CI"):
        pytest.skip("QEMU is not installed; run: wherry faas setup")
    with house(tmp_path_factory.mktemp("guestbook"), "--backend", "qemu") as running:
        yield running


@pytest.fixture
async def client():
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


async def eventually(check, *, within: float = 10.0):
    """Return what ``check`` returns once that is true; fail after ``within`` seconds."""
    async with asyncio.timeout(within):
        while not (found := await check()):
            await asyncio.sleep(0.02)
        return found


async def test_a_call_without_a_key_is_refused_and_told_how(mesh, client):
    async with client.get(mesh.addresses["gateway"] + PATH) as answer:
        assert answer.status == 401
        assert answer.content_type == "application/problem+json"
        assert "WWW-Authenticate" in answer.headers


async def test_an_entry_added_through_the_api_is_listed_through_the_api(mesh, client):
    url, headers = mesh.addresses["gateway"] + PATH, {"x-api-key": mesh.key("bob")}
    async with client.post(url, json={"text": "hello mesh"}, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        added = await answer.json()
    async with client.get(url, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        entries = (await answer.json())["entries"]
    assert added in entries
    assert set(added) == {"text", "_id", "updatedAt"}
    assert added["text"] == "hello mesh"


async def test_over_its_rate_a_key_is_told_when_to_come_back(mesh, client):
    url, headers = mesh.addresses["gateway"] + PATH, {"x-api-key": mesh.key("alice")}
    for _ in range(20):
        async with client.get(url, headers=headers) as answer:
            assert answer.status in {200, 429}
            assert "RateLimit" in answer.headers
            assert answer.headers["RateLimit-Policy"] == '"free";q=5;w=10'
            if answer.status == 429:
                assert answer.content_type == "application/problem+json"
                assert 1 <= int(answer.headers["Retry-After"]) <= 10
                assert (await answer.json())["status"] == 429
                break
    else:
        pytest.fail("twenty calls passed a rate of five in ten seconds")


async def test_the_gateway_fronts_a_service_of_the_mesh_too(mesh, client):
    url, headers = mesh.addresses["gateway"], {"x-api-key": mesh.key("bob")}
    async with client.get(url + "/guestbook/web/entries", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert "entries" in await answer.json()


async def test_a_body_over_the_limit_is_413(mesh, client):
    url, headers = mesh.addresses["gateway"] + PATH, {"x-api-key": mesh.key("bob")}
    async with client.post(url, data=b"x" * 70_000, headers=headers) as answer:
        assert answer.status == 413


async def test_an_authorization_policy_denies_a_path_in_envoy(mesh, client):
    async with client.get(mesh.addresses["ingress"] + "/admin/users") as answer:
        assert answer.status == 403
        assert await answer.text() == "RBAC: access denied"
    async with client.get(mesh.addresses["ingress"] + "/x/..%2fadmin") as answer:
        assert answer.status == 400


async def test_a_rule_of_the_check_service_denies_by_header(mesh, client):
    url = mesh.addresses["ingress"] + "/entries"
    async with client.get(url, headers={"x-robot": "yes"}) as answer:
        assert answer.status == 403
        assert "robots do not sign guestbooks" in await answer.text()
    async with client.get(url) as answer:
        assert answer.status == 200


async def test_editing_the_route_file_moves_traffic_and_loses_no_request(mesh, client):
    url = mesh.addresses["ingress"] + "/entries"
    seen: list[tuple[float, int, str]] = []
    stop = asyncio.Event()

    async def caller():
        while not stop.is_set():
            async with client.get(url) as answer:
                await answer.read()
                version = answer.headers.get("x-entries-version", "none")
                seen.append((time.monotonic(), answer.status, version))

    def shares(after: float) -> Counter:
        return Counter(version for at, _, version in seen if at > after)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(caller())
        await eventually(lambda: _true(len(seen) > 300), within=60)
        before = shares(0)
        assert before["v1"] > 3 * before["v2"] > 0
        mesh.edit("routes.yaml", "weight: 90", "weight: 0")
        mesh.edit("routes.yaml", "weight: 10", "weight: 100")
        edited = time.monotonic()
        await eventually(lambda: _true(shares(edited + 1.0).total() > 100), within=60)
        mesh.edit("routes.yaml", "weight: 100", "weight: 10")
        mesh.edit("routes.yaml", "weight: 0", "weight: 90")
        back = time.monotonic()
        await eventually(lambda: _true(shares(back + 1.0).total() > 200), within=60)
        stop.set()
    assert {status for _, status, _ in seen} == {200}
    moved = Counter(v for at, _, v in seen if edited + 1.0 < at < back)
    assert set(moved) == {"v2"}
    after = shares(back + 1.0)
    assert after["v1"] > 3 * after["v2"] > 0


async def _true(value):
    return value


async def test_a_broken_edit_is_said_by_line_and_the_last_good_configuration_serves(mesh, client):
    mesh.edit("routes.yaml", "name: entries-v2, weight", "name: entries-v3, weight")

    async def said():
        return [line for line in mesh.output if "no service 'entries-v3'" in line]

    [line] = await eventually(said)
    assert re.search(r"routes\.yaml:10: no service 'entries-v3', expected 'entries-v2'", line)
    async with client.get(mesh.addresses["ingress"] + "/entries") as answer:
        assert answer.status == 200
    mesh.edit("routes.yaml", "name: entries-v3, weight", "name: entries-v2, weight")


async def test_metrics_show_requests_by_source_destination_version_and_code(mesh, client):
    ingress = mesh.addresses["ingress"]
    for path in ("/entries", "/admin"):
        async with client.get(ingress + path) as answer:
            await answer.read()

    async def counted():
        async with client.get(mesh.addresses["metrics"] + "/metrics") as answer:
            text = await answer.text()
        wanted = [
            ("ingress", "web", "v1", "200"),
            ("ingress", "web", "v1", "403"),
            ("web", "entries", "v1", "200"),
            ("list", "entries", "v1", "200"),
            ("add", "entries", "v1", "201"),
        ]
        lines = [ln for ln in text.splitlines() if ln.startswith("istio_requests_total{")]
        found = [
            any(
                f'source_app="{source}"' in ln
                and f'destination_service_name="{destination}"' in ln
                and f'destination_version="{version}"' in ln
                and f'response_code="{code}"' in ln
                for ln in lines
            )
            for source, destination, version, code in wanted
        ]
        return all(found) and "istio_request_duration_milliseconds_bucket{" in text

    headers = {"x-api-key": mesh.key("bob")}
    for _ in range(12):  # nine in ten go to v1
        url = mesh.addresses["gateway"] + PATH
        async with client.post(url, json={"text": "again"}, headers=headers) as answer:
            assert answer.status == 201
        async with client.get(url, headers=headers) as answer:
            assert answer.status == 200
    await eventually(counted)


async def test_each_api_call_leaves_one_usage_record(mesh, client):
    headers = {"x-api-key": mesh.key("bob")}

    async def records():
        async with opened(f"sqlite:{mesh.state / 'wherry.db'}") as store:
            events = await store.read(LOG, 0, limit=1000)
            return [use.id for event in events for use in uses(event.body)]

    before = await records()
    for _ in range(5):
        async with client.get(mesh.addresses["gateway"] + PATH, headers=headers) as answer:
            assert answer.status == 200

    async def five_more():
        return len(await records()) == len(before) + 5

    await eventually(five_more)
    after = await records()
    assert len(set(after)) == len(after)


async def test_a_killed_envoy_comes_back_by_itself(mesh, client):
    [envoy] = [p for p in mesh.children("envoy") if p in mesh.children("gateway-ingress.json")]
    os.kill(envoy, signal.SIGKILL)

    async def serves():
        try:
            async with client.get(mesh.addresses["ingress"] + "/entries") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    await eventually(lambda: _true(envoy not in mesh.children("envoy")))
    await eventually(serves, within=30)


async def test_boto3_invokes_a_function_of_the_guestbook(mesh):
    def invoke():
        functions = boto3.client(
            "lambda",
            endpoint_url=mesh.addresses["lambda"],
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",  # noqa: S106
            config=Config(retries={"max_attempts": 0}),
        )
        return functions.invoke(FunctionName="list", Payload=b"{}")["Payload"].read()

    assert b"entries" in await asyncio.to_thread(invoke)


async def test_a_killed_microvm_comes_back_by_itself(mesh, client):
    url, headers = mesh.addresses["gateway"] + PATH, {"x-api-key": mesh.key("bob")}
    async with client.get(url, headers=headers) as answer:
        assert answer.status == 200
    machines = mesh.children("qemu-system")
    assert machines
    for pid in machines:
        os.kill(pid, signal.SIGKILL)

    async def serves():
        async with client.get(url, headers=headers) as answer:
            return answer.status == 200

    await eventually(serves, within=60)
