"""Kept answers: nobody can have one kept for others that is not theirs, nor get one that is."""

import pytest
from support.gateway_site import site, world

from gateway.catalogue import Catalogue
from gateway.catalogue.template import TemplateError

pytestmark = pytest.mark.e2e

SHARED = "traffic: {cache: {default: 60s, byConsumer: false}}"
BOB = """
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: bob}
spec: {subscriptions: [{product: store, plan: basic}]}
"""
PUBLIC = {"Cache-Control": "public, max-age=60"}


def say(gateway, *bodies, path="/say/a", **headers):
    """Let the shop answer with each of ``bodies`` in turn."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    gateway.upstream.answers[path] = [(200, {**PUBLIC, **fields}, body) for body in bodies]


async def get(gateway, path="/shop/say/a", **fields):
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    async with await gateway.call(path, headers=headers) as answer:
        return await answer.text()


async def raw(gateway, head):
    """Return the body that answers a request, given as its lines."""
    lines = [*head, f"x-api-key: {gateway.key}", "Connection: close", "", ""]
    return (await gateway.raw("\r\n".join(lines).encode())).rpartition(b"\r\n\r\n")[2].decode()


async def test_a_host_beside_the_target_or_another_port_reaches_no_answer_of_others(tmp_path):
    async with site(tmp_path, world(product=SHARED)) as gateway:
        say(gateway, b"first", b"second", b"third")
        real, target = "Host: shop.test", "GET {}/shop/say/a HTTP/1.1"
        assert await raw(gateway, [target.format("http://shop.test"), "Host: evil"]) == "first"
        assert await raw(gateway, [target.format(""), "Host: shop.test:666"]) == "second"
        assert await raw(gateway, [target.format(""), real]) == "first"
        seen = [request.headers["X-Forwarded-Host"] for request in gateway.upstream.requests]
        assert seen == ["shop.test", "shop.test:666"]


@pytest.mark.parametrize(
    "field",
    [
        "X-Forwarded-Host: evil",
        "X-Forwarded-Proto: ftp",
        "Forwarded: host=evil",
        "X-Original-URL: /admin",
        "X-HTTP-Method-Override: POST",
        "X_Forwarded_Host: evil",
        "X-Wherry-Subject: evil",
    ],
)
async def test_fields_that_are_in_no_key_do_not_reach_the_upstream(tmp_path, field):
    async with site(tmp_path, world(product=SHARED)) as gateway:
        say(gateway, b"plain")
        assert await raw(gateway, ["GET /shop/say/a HTTP/1.1", "Host: x", field]) == "plain"
        assert "evil" not in str(gateway.upstream.requests[0].raw_headers)
        assert field.partition(":")[0] not in {
            name.decode() for name, value in gateway.upstream.requests[0].raw_headers
        } - {"X-Forwarded-Host", "X-Forwarded-Proto"}


async def test_a_field_that_is_for_this_connection_only_chooses_no_variant(tmp_path):
    async with site(tmp_path, world(product=SHARED)) as gateway:
        say(gateway, b"english", b"deutsch", Vary="Accept-Language")
        lines = ["GET /shop/say/a HTTP/1.1", "Host: " + str(gateway.address), "Accept-Language: de"]
        assert await raw(gateway, [*lines, "Connection: accept-language"]) == "english"
        assert await get(gateway, Accept_Language="de") == "deutsch"
        assert await get(gateway) == "english"


async def test_each_consumer_gets_answers_of_their_own(tmp_path):
    made = world(product="traffic: {cache: {default: 60s}}", more=BOB)
    async with site(tmp_path, made) as gateway:
        say(gateway, b"for alice", b"for bob")
        _, bob = await gateway.new_key("bob")
        assert await get(gateway) == "for alice"
        await gateway.until(200, "/shop/say/a", key=bob)
        async with await gateway.call("/shop/say/a", key=bob) as answer:
            assert await answer.text() == "for bob"
        assert await get(gateway) == "for alice"


@pytest.mark.parametrize(
    ("said", "kept"),
    [("private", False), ("no-store", False), ("max-age=60", False), ("public, max-age=9", True)],
)
async def test_what_one_consumer_got_is_shared_only_if_the_upstream_says_so(tmp_path, said, kept):
    async with site(tmp_path, world(product=SHARED, more=BOB)) as gateway:
        say(gateway, b"first", b"second", Cache_Control=said)
        _, bob = await gateway.new_key("bob")
        assert await get(gateway) == "first"
        await gateway.until(200, "/shop/say/a", key=bob)
        async with await gateway.call("/shop/say/a", key=bob) as answer:
            assert await answer.text() == ("first" if kept else "second")


@pytest.mark.parametrize("field", ["Authorization", "Cookie"])
async def test_an_answer_to_a_credential_of_the_upstreams_own_is_nobody_elses(tmp_path, field):
    async with site(tmp_path, world(product="traffic: {cache: {default: 60s}}")) as gateway:
        say(gateway, b"mine", b"yours", b"nobody's", Cache_Control="max-age=60")
        assert await get(gateway, **{field: "mine"}) == "mine"
        assert await get(gateway, **{field: "yours"}) == "yours"
        assert await get(gateway) == "nobody's"


async def test_an_answer_with_a_cookie_is_not_kept_for_others(tmp_path):
    async with site(tmp_path, world(product="traffic: {cache: {default: 60s}}")) as gateway:
        say(gateway, b"first", b"second", Set_Cookie="session=1", Cache_Control="max-age=60")
        assert [await get(gateway), await get(gateway)] == ["first", "second"]


CHOSEN = """
- {path: "/shop/{rest+}", headers: [{name: X-Beta}], to: {service: shop, rewrite: /beta}}
- {path: "/shop/{rest+}", to: {service: shop, rewrite: /}}
"""


async def test_answers_of_two_routes_of_one_path_are_kept_apart(tmp_path):
    async with site(tmp_path, world(routes=CHOSEN, product=SHARED)) as gateway:
        async with await gateway.call("/shop/x", headers={"X-Beta": "1"}) as answer:
            assert (await answer.json())["path"] == "/beta/x"
        say(gateway, b"plain")
        gateway.upstream.answers["/beta/say/a"] = [(200, PUBLIC, b"beta")]
        async with await gateway.call("/shop/say/a") as answer:
            assert await answer.text() == "plain"
        async with await gateway.call("/shop/say/a", headers={"X-Beta": "1"}) as answer:
            assert (await answer.json())["path"] == "/beta/say/a"


SPLIT = """
- path: "/shop/{rest+}"
  to:
    split:
      - {service: shop, rewrite: /, weight: 1}
      - {url: "http://127.0.0.1:1/", rewrite: /, weight: 0, header: [x-canary, "yes"]}
"""


async def test_an_answer_of_the_canary_is_kept_for_the_canarys_callers_only(tmp_path):
    async with site(tmp_path, world(routes=SPLIT, product=SHARED)) as gateway:
        say(gateway, b"stable")
        assert await get(gateway) == "stable"
        async with await gateway.call("/shop/say/a", headers={"x-canary": "yes"}) as answer:
            assert answer.status == 503
        assert await get(gateway) == "stable"


async def test_an_error_that_one_request_made_is_not_everyones(tmp_path):
    async with site(tmp_path, world(product="traffic: {cache: {default: 60s}}")) as gateway:
        for status in (400, 403, 405, 414, 431, 500, 501):
            path = f"/say/{status}"
            gateway.upstream.answers[path] = [(status, {}, b"no"), (200, {}, b"yes")]
            assert await get(gateway, "/shop" + path) == "no"
            assert await get(gateway, "/shop" + path) == "yes"


SAYS_WHO = """traffic:
    cache: {{default: 60s, byConsumer: {own}}}
    transform: {{response: {{headers: {{set: [{{name: X-For, value: "${{{what}}}"}}]}}}}}}"""


@pytest.mark.parametrize("what", ["consumer", "app", "plan", "header.X-A"])
def test_a_transform_that_says_who_calls_needs_answers_of_each_consumers_own(what):
    with pytest.raises(TemplateError, match=r"product 'store' .*byConsumer"):
        Catalogue.of(world(product=SAYS_WHO.format(own="false", what=what)))
    Catalogue.of(world(product=SAYS_WHO.format(own="true", what=what)))
    Catalogue.of(world(product=SAYS_WHO.format(own="false", what="request_id")))


async def test_what_a_transform_says_of_the_caller_is_said_to_that_caller_only(tmp_path):
    product = SAYS_WHO.format(own="true", what="header.X-User")
    async with site(tmp_path, world(product=product)) as gateway:
        say(gateway, b"hello")
        for user in ("one", "two", "one"):
            async with await gateway.call("/shop/say/a", headers={"X-User": user}) as answer:
                assert answer.headers["X-For"] == user
        assert len(gateway.upstream.requests) == 2
