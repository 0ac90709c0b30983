"""Endpoints checked by plain clients and by real Envoys."""

import asyncio
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from aiohttp import web
from support.envoy import envoy

from wherry.clock import SystemClock
from xds.health import wire
from xds.health.check import BadCheck, Check, ClusterChecks, Endpoint, Grpc, Http, Tcp
from xds.health.server import SERVICE, Health, Settings

BOUND = 20.0
MESSAGES = wire.MESSAGES
HERE = ("eu", "a", "")
GOOD, BAD = 1, 2


@asynccontextmanager
async def serving(health):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((health.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def talking(health):
    async with serving(health) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def until(true):
    async with asyncio.timeout(BOUND):
        while not true():
            await asyncio.sleep(0.02)


def checks(*ports, name="web", by=None):
    endpoints = tuple((Endpoint("127.0.0.1", port), HERE) for port in ports)
    check = Check(by or Http("/health", statuses=((200, 204),)), 0.1, 0.5, 1, 1)
    return ClusterChecks(name, (check,), endpoints)


def quick(clock=None, **more):
    """Return a Health that shares out at once; by default every first check is long done."""
    return Health(clock or Hurried(), Settings(settle_seconds=0.0, **more))


class Hurried:
    """A clock on which an hour passes between two looks."""

    def __init__(self):
        self.hours = 0

    def now(self):
        self.hours += 1
        return self.hours * 3600.0

    def unix_ns(self):
        return SystemClock().unix_ns()


class Watched(SystemClock):
    """A clock that counts how often it is read: once an assignment and once a report."""

    def __init__(self):
        self.looks = 0

    def now(self):
        self.looks += 1
        return super().now()


class Checker:
    """A client of health discovery that speaks bytes."""

    def __init__(self, channel):
        self.call = channel.stream_stream(f"/{SERVICE}/StreamHealthCheck")()

    async def join(self, node="side-1"):
        await self.say(health_check_request={"node": {"id": node}})

    async def say(self, **fields):
        message = MESSAGES["HealthCheckRequestOrEndpointHealthResponse"](**fields)
        await self.call.write(message.SerializeToString())

    async def report(self, statuses, cluster="web", place=HERE):
        region, zone, sub_zone = place
        endpoints = [
            {
                "endpoint": {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}
                },
                "health_status": status,
            }
            for port, status in statuses.items()
        ]
        where = {"region": region, "zone": zone, "sub_zone": sub_zone}
        grouped = [{"locality": where, "endpoints_health": endpoints}]
        await self.say(
            endpoint_health_response={
                "cluster_endpoints_health": [
                    {"cluster_name": cluster, "locality_endpoints_health": grouped}
                ]
            }
        )

    async def hear(self):
        async with asyncio.timeout(BOUND):
            raw = await self.call.read()
        assert raw is not grpc.aio.EOF, await self.call.details()
        return MESSAGES["HealthCheckSpecifier"].FromString(raw)

    async def ended(self):
        with suppress(grpc.aio.AioRpcError):
            while await self.call.read() is not grpc.aio.EOF:
                pass
        return await self.call.code(), await self.call.details()


def ports_of(specifier):
    return {
        cluster.cluster_name: sorted(
            endpoint.address.socket_address.port_value
            for place in cluster.locality_endpoints
            for endpoint in place.endpoints
        )
        for cluster in specifier.cluster_health_checks
    }


async def test_a_checker_is_told_what_to_check_and_its_word_counts():
    health = quick(report_seconds=1.5)
    health.checks([checks(80, 81), checks(90, name="rpc", by=Grpc("x"))])
    async with talking(health) as channel:
        checker = Checker(channel)
        await checker.join()
        asked = await checker.hear()
        assert ports_of(asked) == {"web": [80, 81], "rpc": [90]}
        assert asked.interval.ToMilliseconds() == 1500
        rpc, plain = asked.cluster_health_checks
        (check,) = plain.health_checks
        assert (check.timeout.ToMilliseconds(), check.interval.ToMilliseconds()) == (500, 100)
        assert (check.http_health_check.path, check.http_health_check.host) == ("/health", "web")
        assert [(r.start, r.end) for r in check.http_health_check.expected_statuses] == [(200, 205)]
        assert plain.locality_endpoints[0].locality.zone == "a"
        assert rpc.health_checks[0].grpc_health_check.service_name == "x"
        await checker.report({80: GOOD, 81: BAD})
        await until(lambda: health.unhealthy == {("web", Endpoint("127.0.0.1", 81))})
        await checker.report({80: GOOD, 81: GOOD})
        await until(lambda: not health.unhealthy)
        await checker.report({80: BAD, 81: 0})
        await until(lambda: health.unhealthy == {("web", Endpoint("127.0.0.1", 80))})
        assert [(s.endpoint.port, s.checkers) for s in health.status()] == [
            (90, 0),
            (80, 1),
            (81, 0),
        ]
        checker.call.cancel()
        await until(lambda: not health.unhealthy)


async def test_checks_that_change_are_told_and_those_that_do_not_are_not():
    health = quick()
    async with talking(health) as channel:
        checker = Checker(channel)
        await checker.join()
        for wanted in ([checks(80)], [checks(80), checks(81, name="api")], []):
            health.checks(wanted)
            health.checks(list(wanted))
            assert ports_of(await checker.hear()) == {
                each.cluster: [e.port for e, _ in each.endpoints] for each in wanted
            }
        checker.call.cancel()


async def test_work_is_shared_between_checkers_and_moves_when_one_leaves():
    health = quick(copies=1)
    health.checks([checks(*range(1, 41))])
    async with talking(health) as channel:
        first, second = Checker(channel), Checker(channel)
        await first.join("side-1")
        assert len(ports_of(await first.hear())["web"]) == 40
        await second.join("side-2")
        mine, other = ports_of(await first.hear())["web"], ports_of(await second.hear())["web"]
        assert sorted(mine + other) == list(range(1, 41))
        assert mine
        assert other
        await second.report(dict.fromkeys(other, BAD))
        await until(lambda: len(health.unhealthy) == len(other))
        second.call.cancel()
        assert len(ports_of(await first.hear())["web"]) == 40
        assert health.unhealthy == frozenset()
        first.call.cancel()


async def test_the_majority_of_checkers_decides():
    health = quick(copies=3)
    health.checks([checks(80)])
    async with talking(health) as channel:
        three = [Checker(channel) for _ in range(3)]
        for number, checker in enumerate(three):
            await checker.join(f"side-{number}")
            await checker.hear()
        await three[0].report({80: BAD})
        await until(lambda: health.unhealthy)
        await three[1].report({80: GOOD})
        await until(lambda: not health.unhealthy)
        await three[2].report({80: BAD})
        await until(lambda: health.unhealthy)
        for checker in three:
            checker.call.cancel()


async def test_a_follower_sees_the_newest_at_once_and_each_change():
    health = quick()
    health.checks([checks(80)])
    async with talking(health) as channel, aclosing(health.follow()) as changes:
        assert await anext(changes) == frozenset()
        checker = Checker(channel)
        await checker.join()
        await checker.hear()
        await checker.report({80: BAD})
        async with asyncio.timeout(BOUND):
            assert await anext(changes) == {("web", Endpoint("127.0.0.1", 80))}
        checker.call.cancel()
        async with asyncio.timeout(BOUND):
            assert await anext(changes) == frozenset()


async def test_a_checker_that_falls_silent_is_cut_off_and_no_longer_heard():
    health = quick(report_seconds=0.05, silent_reports=2)
    health.checks([checks(80)])
    async with talking(health) as channel:
        checker = Checker(channel)
        await checker.join()
        await checker.hear()
        await checker.report({80: BAD})
        code, details = await checker.ended()
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "expected" in details
        await until(lambda: not health.unhealthy)


async def test_a_checker_that_never_reports_is_cut_off_and_one_without_work_is_not():
    health = quick(report_seconds=0.05, silent_reports=2)
    async with talking(health) as channel:
        checker = Checker(channel)
        await checker.join()
        health.checks([checks(80)])
        await checker.hear()
        assert (await checker.ended())[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        health.checks([])
        patient = Checker(channel)
        await patient.join()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await patient.call.read()


@pytest.mark.parametrize(
    ("say", "settings", "code"),
    [
        ({"health_check_request": {}}, {}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"endpoint_health_response": {}}, {}, grpc.StatusCode.INVALID_ARGUMENT),
        ({}, {}, grpc.StatusCode.INVALID_ARGUMENT),
        (
            {"health_check_request": {"node": {"id": "n" * 2000}}},
            {},
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            {"health_check_request": {"node": {"id": "n" * 200}}},
            {"message_bytes": 100},
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        (
            {"health_check_request": {"node": {"id": "n"}}},
            {"streams": 0},
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
    ],
    ids=["no-node", "report-first", "empty", "long-id", "bytes", "streams"],
)
async def test_a_stream_that_is_none_or_over_a_limit_is_ended_with_a_reason(say, settings, code):
    async with talking(quick(**settings)) as channel:
        checker = Checker(channel)
        with suppress(grpc.aio.AioRpcError):
            await checker.say(**say)
        found, details = await checker.ended()
        assert found is code
        assert "expected" in details


async def test_a_stream_that_says_nothing_or_no_protobuf_is_ended():
    async with talking(quick(first_seconds=0.05)) as channel:
        assert (await Checker(channel).ended())[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    async with talking(quick()) as channel:
        checker = Checker(channel)
        await checker.call.write(b"\xff\xff")
        assert (await checker.ended())[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "wanted",
    [
        [checks(80), checks(81)],
        [checks(*range(1, 5))],
        [ClusterChecks("web", (), ())],
    ],
    ids=["twice", "many", "no-check"],
)
def test_checks_that_cannot_be_are_refused(wanted):
    with pytest.raises(BadCheck, match="expected"):
        quick(endpoints=3).checks(wanted)


HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CONFIG = f"""
node: {{id: NODE, cluster: side}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
hds_config:
  api_type: GRPC
  transport_api_version: V3
  grpc_services: [{{envoy_grpc: {{cluster_name: pilot}}}}]
static_resources:
  listeners:
  - name: echo
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: echo
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo
  clusters:
  - name: pilot
    type: STATIC
    typed_extension_protocol_options:
      {HTTP}:
        "@type": type.googleapis.com/{HTTP}
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: pilot
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: PILOT}}}}}}
"""


class Upstream:
    """An HTTP server whose health can be turned, and that can take its time."""

    def __init__(self):
        self.status, self.asked, self.hold = 200, 0, asyncio.Event()
        self.hold.set()

    async def answer(self, _):
        self.asked += 1
        await self.hold.wait()
        return web.Response(status=self.status)

    @asynccontextmanager
    async def started(self):
        application = web.Application()
        application.router.add_get("/health", self.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield site._server.sockets[0].getsockname()[1]
        finally:
            await runner.cleanup()


@asynccontextmanager
async def checked_by_envoy(health, folder):
    async with serving(health) as pilot:
        config = CONFIG.replace("PILOT", str(pilot)).replace("NODE", "side-1")
        async with envoy(config, folder):
            yield


@pytest.mark.e2e
async def test_a_real_envoy_sees_a_server_fall_ill_and_recover(tmp_path):
    health, upstream = quick(SystemClock(), report_seconds=0.1), Upstream()
    async with upstream.started() as port:
        health.checks([checks(port)])
        async with checked_by_envoy(health, tmp_path):
            await until(lambda: health.status() and health.status()[0].checkers)
            assert health.unhealthy == frozenset()
            upstream.status = 503
            await until(lambda: health.unhealthy == {("web", Endpoint("127.0.0.1", port))})
            upstream.status = 200
            await until(lambda: not health.unhealthy)
            health.checks([])
            await until(lambda: not health.status())
            health.checks([checks(port, name="again")])
            await until(lambda: health.status() and health.status()[0].checkers)
        await until(lambda: not health.status())


@pytest.mark.e2e
async def test_a_real_envoy_checks_by_connecting_too(tmp_path):
    health, upstream = quick(SystemClock(), report_seconds=0.1), Upstream()
    async with upstream.started() as port:
        health.checks([checks(port, 1, by=Tcp())])
        async with checked_by_envoy(health, tmp_path):
            await until(lambda: health.unhealthy == {("web", Endpoint("127.0.0.1", 1))})
            assert [(s.endpoint.port, s.healthy) for s in health.status()] == [
                (1, False),
                (port, True),
            ]


@pytest.mark.e2e
async def test_what_a_real_envoy_says_before_its_first_check_is_not_believed(tmp_path):
    clock = Watched()
    health, upstream = quick(clock, report_seconds=0.05), Upstream()
    upstream.hold.clear()
    ill = []
    async with upstream.started() as port, asyncio.TaskGroup() as group:
        slow = Check(Http("/health"), interval_seconds=30.0, timeout_seconds=30.0)
        health.checks([replace(checks(port), checks=(slow,))])

        async def follow():
            async with aclosing(health.follow()) as changes:
                async for unhealthy in changes:
                    ill.extend(unhealthy)

        following = group.create_task(follow(), name="follow")
        async with checked_by_envoy(health, tmp_path):
            await until(lambda: upstream.asked and clock.looks > 4)
            upstream.hold.set()
            await until(lambda: health.status() and health.status()[0].checkers)
        following.cancel()
    assert ill == []
