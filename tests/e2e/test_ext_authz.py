"""A real Envoy asks the check service, and nothing passes that was not allowed."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import grpc
import grpc.aio
import pytest
from support.envoy import envoy

from policy import wire
from policy.app import Settings, running
from policy.decision import Verdict
from wherry.config import load
from wherry.config.watch import Worlds, reload
from wherry.errors import PortInUse

pytestmark = pytest.mark.e2e

METHOD = "/envoy.service.auth.v3.Authorization/Check"
TYPE = "type.googleapis.com/envoy.extensions"
POLICIES = """
services: {entries: {}, web: {}}
---
apiVersion: wherry.dev/v1
kind: CheckPolicy
metadata: {name: entries-check}
spec:
  services: [entries]
  rules:
  - {name: bots, action: deny, reason: no bots here, when: {headers: {X-Bot: ["*"]}}}
  - {name: admin, action: deny, when: {paths: ["/admin*"]}}
  - {name: web, action: allow, when: {sources: [web]}}
  default: deny
"""
LISTENER = f"""
  - name: NAME
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": {TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: NAME
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              PER_ROUTE
              routes:
              - match: {{prefix: /}}
                direct_response: {{status: 200, body: {{inline_string: passed}}}}
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": {TYPE}.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              failure_mode_allow: false
              status_on_error: {{code: ServiceUnavailable}}
              grpc_service:
                envoy_grpc: {{cluster_name: policy}}
                timeout: 1s
                METADATA
          - name: envoy.filters.http.router
            typed_config: {{"@type": {TYPE}.filters.http.router.v3.Router}}"""
PER_ROUTE = f"""
              typed_per_filter_config:
                envoy.filters.http.ext_authz:
                  "@type": {TYPE}.filters.http.ext_authz.v3.ExtAuthzPerRoute
                  check_settings: {{context_extensions: {{service: SERVICE}}}}"""
METADATA = """
                initial_metadata: [{key: x-wherry-service, value: entries}]"""
CLUSTERS = f"""
  clusters:
  - name: policy
    type: STATIC
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": {TYPE}.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: policy
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: PORT}}}}}}"""


def listener(name, *, per_route="", metadata=""):
    text = LISTENER.replace("NAME", name)
    return text.replace("PER_ROUTE", per_route).replace("METADATA", metadata)


def bootstrap(policy):
    return (
        "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n"
        "static_resources:\n  listeners:"
        + listener("entries", per_route=PER_ROUTE.replace("SERVICE", "entries"))
        + listener("by-metadata", metadata=METADATA)
        + listener("ghost", per_route=PER_ROUTE.replace("SERVICE", "ghost"))
        + listener("nameless")
        + CLUSTERS.replace("PORT", str(policy.port))
    )


class Guarded:
    """An Envoy in front of nothing, its check service, and a client."""

    def __init__(self, folder):
        self.file = folder / "policies.yaml"
        self.file.write_text(POLICIES)
        self.worlds = Worlds(load(self.file))
        self.folder = folder
        self.policy = AsyncExitStack()

    @asynccontextmanager
    async def started(self):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.policy)
            self.service = await self.serve(Settings())
            config = bootstrap(self.service.address)
            self.ports = await stack.enter_async_context(envoy(config, self.folder))
            self.session = await stack.enter_async_context(aiohttp.ClientSession())
            yield self

    async def serve(self, settings):
        return await self.policy.enter_async_context(running(settings, worlds=self.worlds))

    async def get(self, path="/", *, listener="entries", source="web", **headers):
        headers = {"x-wherry-source": source, **headers}
        url = f"http://127.0.0.1:{self.ports[listener]}{path}"
        async with self.session.get(url, headers=headers) as response:
            return response.status, response.headers.get("Content-Type"), await response.text()


@pytest.fixture
async def guarded(tmp_path):
    async with Guarded(tmp_path).started() as made:
        yield made


async def test_a_request_passes_untouched_or_is_refused_with_the_reason(guarded):
    status, _, body = await guarded.get()
    assert (status, body) == (200, "passed")

    status, content_type, body = await guarded.get(**{"x-bot": "yes"})
    assert (status, content_type) == (403, "application/problem+json")
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "no bots here",
        "rule": "entries-check/bots",
    }
    assert (await guarded.get(source="stranger"))[0] == 403
    assert guarded.service.collect() == {
        ("entries-check/web", Verdict.ALLOW): 1,
        ("entries-check/bots", Verdict.DENY): 1,
        ("entries-check", Verdict.DENY): 1,
    }


@pytest.mark.parametrize("path", ["/admin", "/x/../admin", "//admin", "/%61dmin", "/x/%2e./admin"])
async def test_a_path_cannot_be_spelled_past_a_refusal(guarded, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.ports["entries"])
    writer.write(f"GET {path} HTTP/1.1\r\nhost: e\r\nx-wherry-source: web\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert (await reader.readline()).split()[1] == b"403"
    writer.close()
    await writer.wait_closed()


async def test_a_header_sent_twice_or_in_odd_bytes_cannot_hide(guarded):
    for value in (b"\xff", b"a\r\nx-bot: b", b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", guarded.ports["entries"])
        head = b"GET / HTTP/1.1\r\nhost: e\r\nx-wherry-source: web\r\nx-bot: %b\r\n\r\n"
        writer.write(head % value)
        async with asyncio.timeout(10):
            assert (await reader.readline()).split()[1] == b"403"
        writer.close()
        await writer.wait_closed()


async def test_the_service_may_be_named_by_the_listener_and_must_be_known(guarded):
    assert (await guarded.get(listener="by-metadata"))[0] == 200
    status, _, body = await guarded.get(listener="by-metadata", **{"x-bot": "1"})
    assert (status, json.loads(body)["rule"]) == (403, "entries-check/bots")
    status, _, body = await guarded.get(listener="ghost")
    assert (status, json.loads(body)["detail"]) == (403, "service ghost: not in the configuration")
    assert (await guarded.get(listener="nameless"))[0] == 503


async def test_a_caller_cannot_name_another_service(guarded):
    status, _, _ = await guarded.get(**{"x-wherry-service": "web", "x-bot": "1"})
    assert status == 403


async def test_a_changed_policy_decides_the_next_request(guarded):
    assert (await guarded.get())[0] == 200
    guarded.file.write_text(POLICIES.replace("name: web, action: allow", "name: web, action: deny"))
    await reload(guarded.file, guarded.worlds)
    assert (await guarded.get())[0] == 403
    guarded.file.write_text(POLICIES.replace("action: deny", "action: dney"))
    await reload(guarded.file, guarded.worlds)
    assert guarded.worlds.refused is not None
    assert (await guarded.get())[0] == 403
    guarded.file.write_text(POLICIES)
    await reload(guarded.file, guarded.worlds)
    assert (await guarded.get())[0] == 200


async def test_nothing_passes_while_the_check_service_is_gone_and_all_is_well_when_it_is_back(
    guarded,
):
    assert (await guarded.get())[0] == 200
    await guarded.policy.aclose()
    for _ in range(5):
        status, _, body = await guarded.get()
        assert (status, body) == (503, "")
    await guarded.serve(Settings(address=guarded.service.address))
    async with asyncio.timeout(20):
        while (await guarded.get())[0] != 200:
            assert (await guarded.get())[2] in ("", "passed")


@pytest.fixture
async def alone(tmp_path):
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES)
    settings = Settings(max_message_bytes=4096)
    async with running(settings, worlds=Worlds(load(file))) as service:
        yield service


async def test_a_check_that_cannot_be_read_or_is_too_large_gets_an_error_and_no_answer(alone):
    too_many = {"x": "y" * 8192}
    large = wire.MESSAGES["CheckRequest"](attributes={"context_extensions": too_many})
    async with grpc.aio.insecure_channel(str(alone.address)) as channel:
        for request, code in (
            (b"\xff", grpc.StatusCode.INVALID_ARGUMENT),
            (b"", grpc.StatusCode.INVALID_ARGUMENT),
            (large.SerializeToString(), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(METHOD)(request)
            assert refused.value.code() is code
    assert alone.collect() == {}


async def test_a_port_in_use_is_said_in_one_line(alone, tmp_path):
    worlds = Worlds(load(tmp_path / "policies.yaml"))
    with pytest.raises(PortInUse, match=r"policy: 127.0.0.1:\d+ is taken .* --listen policy="):
        async with running(Settings(address=alone.address), worlds=worlds):
            pass
