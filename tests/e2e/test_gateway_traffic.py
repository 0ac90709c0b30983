"""Policies of a product as a client and an upstream see them."""

import asyncio
import json
import ssl
from textwrap import indent

import pytest
import trustme
from support.gateway_site import problem, site, world

from gateway.keyring import Grant

GATEWAY = """
---
apiVersion: wherry.dev/v1
kind: ApiGateway
metadata: {{name: default}}
spec: {spec}
"""
SAY = '- {path: "/shop/{rest+}", to: {service: shop, rewrite: /}}'


def selling(traffic="", *, routes=SAY, product="", **more):
    """Return a World whose product has these policies, in YAML."""
    lines = [product] if product else []
    if traffic:
        lines.append("traffic:\n" + indent(traffic.strip(), "    "))
    return world(routes=routes, product="\n  ".join(lines), **more)


# Who gets where


async def test_the_same_path_on_another_host_is_another_environment(tmp_path):
    product = """environments:
  - {name: live, hosts: [api.test]}
  - {name: try, hosts: ["*.try.test"], to: {service: trial}}"""
    made = selling(product=product, more="\n---\nservices: {trial: {}}")
    async with site(tmp_path, made) as gateway:
        for host, service in (("api.test", "shop"), ("a.try.test:80", "trial")):
            async with await gateway.call("/shop/a", headers={"Host": host}) as answer:
                assert answer.status == 201
            assert gateway.upstream.requests[-1].headers["Host"] == service
        async with await gateway.call("/shop/a", headers={"Host": "other.test"}) as answer:
            assert answer.status == 404


async def test_a_host_that_the_gateway_has_not_is_421_and_no_host_or_two_400(tmp_path):
    made = selling(more=GATEWAY.format(spec="{hosts: [api.test]}"))
    async with site(tmp_path, made) as gateway:
        async with await gateway.call("/shop/a", headers={"Host": "API.test:8000"}) as answer:
            assert answer.status == 201
        async with await gateway.call("/shop/a", headers={"Host": "evil.test"}) as answer:
            assert answer.status == 421
            await problem(answer)
        end = f"x-api-key: {gateway.key}\r\nConnection: close\r\n\r\n"
        for head in (
            "GET /shop/a HTTP/1.1\r\n",
            "GET /shop/a HTTP/1.1\r\nHost: api.test\r\nHost: api.test\r\n",
            "GET /shop/a HTTP/1.1\r\nHost: api.test/x\r\n",
        ):
            assert (await gateway.raw((head + end).encode())).split()[1] == b"400"
        head = "GET http://evil.test/shop/a HTTP/1.1\r\nHost: api.test\r\n"
        assert (await gateway.raw((head + end).encode())).split()[1] == b"421"


async def test_a_header_chooses_among_routes_of_one_path(tmp_path):
    routes = """
- {path: /say/x, to: {mock: {text: plain}}}
- {path: /say/x, headers: [{name: X-Version, value: "2"}], to: {mock: {text: second}}}
"""
    async with site(tmp_path, selling(routes=routes)) as gateway:
        for headers, text in (({}, "plain"), ({"X-Version": "2"}, "second")):
            async with await gateway.call("/say/x", headers=headers) as answer:
                assert await answer.text() == text


async def test_a_key_without_the_scope_or_for_another_environment_is_403(tmp_path):
    product = "scopes: {write: To write}"
    routes = "- {path: /items, scopes: [write], to: {service: shop}}"
    consumer = """
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: carol}
spec:
  apps: [{name: a}, {name: b}, {name: c}]
  subscriptions: [{product: store, plan: basic}]
"""
    made = selling(routes=routes, product=product, more=consumer)
    async with site(tmp_path, made) as gateway:
        grants = (
            Grant("a", scopes=frozenset()),
            Grant("b", scopes=frozenset({"write"})),
            Grant("c", environment="test"),
        )
        keys = [await gateway.new_key("carol", grant=grant) for grant in grants]
        reader, writer, other = (text for _, text in keys)
        await gateway.until(201, "/items", key=writer)
        await gateway.until(403, "/items", key=reader)
        await gateway.until(403, "/items", key=other)


async def test_a_subscription_counts_only_between_its_days_and_an_apps_own_comes_first(tmp_path):
    text = """
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: carol}
spec: {apps: [{name: site}], subscriptions: [{product: store, plan: basic, ends: "2001-01-01"}]}
---
apiVersion: wherry.dev/v1
kind: Subscription
metadata: {name: carols}
spec: {consumer: carol, app: site, product: store, plan: basic, begins: "2001-01-01"}
"""
    made = world(routes=SAY, more=text)
    async with site(tmp_path, made) as gateway:
        _, general = await gateway.new_key("carol")
        _, own = await gateway.new_key("carol", grant=Grant(app="site"))
        await gateway.until(201, "/shop/a", key=own)
        await gateway.until(403, "/shop/a", key=general)


async def test_a_blocked_consumer_and_an_address_that_is_denied_get_403(tmp_path):
    made = selling("addresses: {deny: [127.0.0.0/8]}")
    async with site(tmp_path, made) as gateway, await gateway.call("/shop/a") as answer:
        assert answer.status == 403
        await problem(answer)
    made = selling(
        "addresses: {allow: [10.1.2.3]}",
        more=GATEWAY.format(spec="{trustedProxies: [127.0.0.1]}"),
    )
    async with site(tmp_path, made) as gateway:
        for forwarded, status in (("10.1.2.3", 201), ("10.1.2.3, 10.9.9.9", 403), ("", 403)):
            headers = {"X-Forwarded-For": forwarded}
            async with await gateway.call("/shop/a", headers=headers) as answer:
                assert answer.status == status
        assert gateway.upstream.requests[0].headers["X-Forwarded-For"] == "10.1.2.3"


async def test_pages_of_another_origin_may_do_what_the_product_says(tmp_path):
    async with site(tmp_path, selling("cors: {origins: [https://page.test]}")) as gateway:
        ask = {
            "Origin": "https://page.test",
            "Access-Control-Request-Method": "GET",
            "x-api-key": "",
        }
        async with await gateway.call("/shop/a", method="OPTIONS", headers=ask) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == "https://page.test"
        ask["Origin"] = "https://evil.test"
        async with await gateway.call("/shop/a", method="OPTIONS", headers=ask) as answer:
            assert answer.status == 403
        origin = {"Origin": "https://page.test"}
        for key, status in ((gateway.key, 201), ("none", 401)):
            async with await gateway.call("/shop/a", key=key, headers=origin) as answer:
                assert answer.status == status
                assert answer.headers["Access-Control-Allow-Origin"] == "https://page.test"
                assert "Origin" in answer.headers["Vary"]


async def test_maintenance_is_503_with_its_message(tmp_path):
    policy = "maintenance: {message: Back soon., retryAfter: 5m}"
    async with site(tmp_path, selling(policy)) as gateway, await gateway.call("/shop/a") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "300")
        assert (await problem(answer))["detail"] == "Back soon."


# What is changed


async def test_requests_and_answers_are_changed_on_their_way(tmp_path):
    policy = """
transform:
  request:
    headers: {set: [{name: X-Who, value: "${consumer} on ${plan}"}], remove: [X-Gone]}
    query: {set: {from: "${path.rest}"}}
    body: {set: {/who: "${consumer}"}, remove: [/secret]}
  response:
    headers: {add: [{name: X-Seen, value: "yes"}]}
    body: {remove: [/inner]}
"""
    async with site(tmp_path, selling(policy)) as gateway:
        gateway.upstream.answers["/say/x"] = [
            (200, {"Content-Type": "application/json"}, b'{"a": 1, "inner": 2}')
        ]
        sent = {"secret": 1, "kept": 2}
        headers = {"X-Gone": "1"}
        async with await gateway.call(
            "/shop/say/x", method="POST", json=sent, headers=headers
        ) as answer:
            assert await answer.json() == {"a": 1}
            assert answer.headers["X-Seen"] == "yes"
        (seen,), (body,) = gateway.upstream.requests, gateway.upstream.bodies
    assert json.loads(body) == {"kept": 2, "who": "alice"}
    assert seen.headers["X-Who"] == "alice on basic"
    assert seen.query["from"] == "say/x"
    assert "X-Gone" not in seen.headers


async def test_an_answer_that_may_be_kept_is_asked_for_once(tmp_path):
    async with site(tmp_path, selling("cache: {}")) as gateway:
        said = {"Cache-Control": "public, max-age=60", "ETag": '"1"'}
        gateway.upstream.answers["/say/x"] = [(200, said, b"kept")]
        for expected in ("fwd=uri-miss", "hit"):
            async with await gateway.call("/shop/say/x") as answer:
                assert (answer.status, await answer.read()) == (200, b"kept")
                assert expected in answer.headers["Cache-Status"]
                assert "RateLimit" in answer.headers
        etag = {"If-None-Match": '"1"'}
        async with await gateway.call("/shop/say/x", headers=etag) as answer:
            assert answer.status == 304
        assert len(gateway.upstream.requests) == 1
        assert len(await gateway.usage(3)) == 3


async def test_what_the_answer_says_it_costs_is_counted_and_not_passed_on(tmp_path):
    policy = """
meters:
- {meter: tokens, header: X-Tokens}
- {meter: rows, body: /rows}
- {meter: sent, value: bytesOut}
"""
    async with site(tmp_path, selling(policy)) as gateway:
        body = b'{"rows": 3}'
        kind = {"Content-Type": "application/json"}
        gateway.upstream.answers["/say/x"] = [
            (200, {**kind, "X-Tokens": "12"}, body),
            (200, {**kind, "X-Tokens": "-12"}, body),
        ]
        for _ in range(2):
            async with await gateway.call("/shop/say/x") as answer:
                assert await answer.read() == body
                assert "X-Tokens" not in answer.headers
        good, bad = await gateway.usage(2)
        counted = 'wherry_gateway_flaws_total{product="store",flaw="amount"} 1'
        assert counted in gateway.metrics.render()
    assert good.amounts == {"requests": 1, "tokens": 12, "rows": 3, "sent": len(body)}
    assert bad.amounts == {"requests": 1, "rows": 3, "sent": len(body)}


async def test_a_request_is_held_against_the_products_document(tmp_path):
    product = """openapi:
    openapi: 3.1.0
    info: {title: shop, version: "1"}
    paths:
      /shop/say/x:
        post:
          requestBody:
            required: true
            content:
              application/json: {schema: {type: object, required: [name]}}
          responses:
            "200": {description: good, content: {application/json: {schema: {type: object}}}}"""
    made = selling("validate: {responses: refuse}", product=product)
    async with site(tmp_path, made) as gateway:
        kind = {"Content-Type": "application/json"}
        gateway.upstream.answers["/say/x"] = [(200, kind, b"{}"), (200, kind, b"[]")]
        async with await gateway.call("/shop/say/x", method="POST", json={}) as answer:
            assert answer.status == 400
            assert (await problem(answer))["violations"]
        for status in (200, 502):
            async with await gateway.call("/shop/say/x", method="POST", json={"name": 1}) as answer:
                assert answer.status == status
        assert len(gateway.upstream.requests) == 2
        counted = 'wherry_gateway_flaws_total{product="store",flaw="document"} 1'
        assert counted in gateway.metrics.render()


# Where it goes


async def test_a_failed_try_is_made_again_and_a_post_is_not(tmp_path):
    async with site(tmp_path, selling('retries: {on: ["503"]}')) as gateway:
        gateway.upstream.answers["/say/x"] = [(503, {}, b""), (200, {}, b"good")]
        async with await gateway.call("/shop/say/x") as answer:
            assert (answer.status, await answer.read()) == (200, b"good")
        gateway.upstream.answers["/say/y"] = [(503, {}, b""), (200, {}, b"good")]
        async with await gateway.call("/shop/say/y", method="POST", data=b"x") as answer:
            assert answer.status == 503
        assert len(gateway.upstream.requests) == 3


async def test_an_upstream_that_fails_is_left_alone_for_a_while(tmp_path):
    async with site(tmp_path, selling("breaker: {failures: 2, openFor: 1h}")) as gateway:
        gateway.upstream.answers["/say/x"] = [(500, {}, b"")]
        for status in (500, 500, 503, 503):
            async with await gateway.call("/shop/say/x") as answer:
                assert answer.status == status
        assert len(gateway.upstream.requests) == 2


async def test_a_split_keeps_a_caller_where_it_is_and_a_header_sends_it_elsewhere(tmp_path):
    routes = """
- path: "/shop/{rest+}"
  to:
    split:
    - {service: shop, weight: 1, rewrite: /}
    - {service: trial, weight: 0, rewrite: /, header: [X-Canary, "1"]}
    mirror: {service: copy, rewrite: /say}
"""
    made = selling(routes=routes, more="\n---\nservices: {trial: {}, copy: {}}")
    async with site(tmp_path, made) as gateway:
        gateway.upstream.answers["/say/a"] = [(200, {}, b"")]
        for headers in ({}, {}, {"X-Canary": "1"}):
            async with await gateway.call("/shop/a", headers=headers) as answer:
                assert answer.status == 201
        async with asyncio.timeout(5):
            while len(gateway.upstream.requests) < 6:
                await asyncio.sleep(0.01)
        hosts = [request.headers["Host"] for request in gateway.upstream.requests]
    assert [host for host in hosts if host != "copy"] == ["shop", "shop", "trial"]
    assert hosts.count("copy") == 3


async def test_only_so_many_calls_of_a_route_are_under_way_at_once(tmp_path):
    async with site(tmp_path, selling("maxCalls: 1")) as gateway, asyncio.TaskGroup() as group:
        held = group.create_task(gateway.call("/shop/wait"))
        await gateway.upstream.waiting.wait()
        async with await gateway.call("/shop/a") as answer:
            assert answer.status == 503
        gateway.upstream.release.set()
        (await held).close()
        await gateway.until(201, "/shop/a", key=gateway.key)


async def test_an_outside_server_is_called_by_its_name_over_its_own_certificate(tmp_path):
    routes = '- {{path: "/out/{{rest+}}", to: {{url: "{url}", rewrite: /}}}}'

    async def served(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        body = b"%b" % head.splitlines()[0]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        writer.close()

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    for tls, status in ((None, 200), (context, 503)):
        server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=tls)
        port = server.sockets[0].getsockname()[1]
        url = f"http{'s' if tls else ''}://localhost:{port}/base"
        made = selling(routes=routes.format(url=url))
        async with server, site(tmp_path, made) as gateway, await gateway.call("/out/a?b=1") as got:
            assert got.status == status
            if status == 200:
                assert await got.text() == "GET /base/a?b=1 HTTP/1.1"


@pytest.mark.parametrize("spec", ["{timing: true}", "{accessLog: true}"])
async def test_answers_say_what_the_gateway_took_and_the_log_has_a_line(tmp_path, caplog, spec):
    caplog.set_level("INFO", logger="gateway.access")
    async with site(tmp_path, selling(more=GATEWAY.format(spec=spec))) as gateway:
        for query in ("", f"?apikey={gateway.key}"):
            async with await gateway.call(f"/shop/a{query}") as answer:
                assert answer.status == 201
                assert ("Server-Timing" in answer.headers) is ("timing" in spec)
        async with await gateway.call("/nowhere") as answer:
            assert answer.status == 404
    lines = [json.loads(r.message) for r in caplog.records if r.name == "gateway.access"]
    if "timing" in spec:
        assert lines == []
        return
    assert [line["status"] for line in lines] == [201, 201, 404]
    assert lines[0]["product"] == "store"
    assert lines[0]["path"] == "/shop/a"
    assert lines[2]["refused"] == "No product has this path."
    assert gateway.key.split("_")[2] not in caplog.text


async def test_metrics_count_calls_and_refusals(tmp_path):
    async with site(tmp_path, selling()) as gateway:
        for path in ("/shop/a", "/nowhere"):
            async with await gateway.call(path) as answer:
                await answer.read()
        text = gateway.metrics.render()
    assert (
        'wherry_gateway_calls_total{product="store",operation="* /shop/{rest+}",status="2xx"} 1'
        in text
    )
    assert 'wherry_gateway_refusals_total{status="404"} 1' in text
