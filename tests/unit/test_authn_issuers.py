"""Keys that are fetched, rotated and kept, and tokens that only their server can read."""

import asyncio

import pytest
from support.callers import NOW, head, open_house
from support.issuer import jwk, open_issuer, private, token

from gateway.authn.check import BadMethod
from gateway.problem import Refused
from wherry.model.authentication import Introspection, Jwt

CONSUMERS = """
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: bobs}
spec: {apps: [{name: web, identities: [{issuer: "https://issuer.example", subject: bob}]}]}
"""
ED, NEXT = private("EdDSA"), private("EdDSA")


def bearer(text):
    return head(headers={"Authorization": f"Bearer {text}"})


def by_url(issuer, **more):
    more = {"issuer": "https://issuer.example", "consumer": "bobs", **more}
    return Jwt(type="jwt", jwks_url=issuer.url + "/keys", **more)


async def status(house, methods, text):
    try:
        await house.identify(methods, bearer(text))
    except Refused as refused:
        return refused.status
    return 200


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_keys_are_fetched_once_for_all_who_wait_and_then_nobody_waits():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.document = {"keys": [jwk(ED, kid="one")]}
        methods = [by_url(issuer)]
        prepared = house.prepare(methods)
        text = token(ED)
        assert house.quick(methods, bearer(text)) is None
        issuer.released.clear()
        async with asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(house.identify(methods, bearer(token(ED, sub=f"bob{n}"))))
                for n in range(20)
            ]
            await until(lambda: issuer.fetches)
            issuer.released.set()
        assert {task.result().consumer for task in waiting} == {"bobs"}
        assert issuer.fetches == 1
        assert house.quick(methods, bearer(text)).consumer == "bobs"
        assert prepared.checks


async def test_an_issuer_is_found_by_its_discovery_document_if_it_is_its_own():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.document = {"keys": [jwk(ED, kid="one")]}
        method = Jwt(type="jwt", issuer=issuer.url, consumer="bobs")
        prepared = house.prepare([method])
        text = token(ED, iss=issuer.url)
        issuer.claims_to_be = "https://evil.example"
        assert await status(house, [method], text) == 503
        issuer.claims_to_be = None
        house.clock.seconds += 10
        assert await status(house, [method], text) == 200
        assert (issuer.discoveries, issuer.fetches) == (2, 1)
        assert prepared.checks


async def test_a_new_key_counts_at_once_but_unknown_ones_are_not_asked_for_again_and_again():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.document = {"keys": [jwk(ED, kid="one")]}
        methods = [by_url(issuer)]
        prepared = house.prepare(methods)
        assert await status(house, methods, token(ED)) == 200
        house.clock.seconds += 10
        issuer.document = {"keys": [jwk(ED, kid="one"), jwk(NEXT, kid="two")]}
        fresh = token(NEXT, header={"kid": "two"})
        assert house.quick(methods, bearer(fresh)) is None
        assert await status(house, methods, fresh) == 200
        assert issuer.fetches == 2
        for number in range(50):
            assert await status(house, methods, token(NEXT, header={"kid": f"{number}"})) == 401
        assert issuer.fetches == 2
        assert prepared.checks


async def test_a_withdrawn_key_ends_with_the_next_look_even_for_remembered_tokens():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.document = {"keys": [jwk(ED, kid="one")]}
        issuer.headers = {"Cache-Control": "public, max-age=120"}
        methods = [by_url(issuer)]
        prepared = house.prepare(methods)
        text = token(ED)
        assert await status(house, methods, text) == 200
        issuer.document = {"keys": [jwk(NEXT, kid="two")]}
        house.clock.seconds += 119
        assert house.quick(methods, bearer(text)).consumer == "bobs"
        assert issuer.fetches == 1
        house.clock.seconds += 1
        assert house.quick(methods, bearer(text)).consumer == "bobs"
        await until(lambda: issuer.fetches == 2)
        async with asyncio.timeout(5):
            while await status(house, methods, text) != 401:
                await asyncio.sleep(0)
        assert prepared.checks


async def test_while_an_issuer_is_down_known_keys_count_and_unknown_ones_are_no_401():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        methods = [by_url(issuer)]
        prepared = house.prepare(methods)
        issuer.status = 500
        assert await status(house, methods, token(ED)) == 503
        issuer.status, issuer.document = 200, {"keys": [jwk(ED, kid="one")]}
        assert await status(house, methods, token(ED)) == 503
        house.clock.seconds += 10
        assert await status(house, methods, token(ED)) == 200
        issuer.status = 500
        house.clock.seconds += 500
        for _ in range(3):
            house.clock.seconds += 20
            assert await status(house, methods, token(ED)) == 200
            assert await status(house, methods, token(NEXT, header={"kid": "two"})) == 503
        assert prepared.checks


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 300_000, 200),
        (b"x", 200),
        (b'{"keys": []}', 200),
        (b'{"keys": 1}', 200),
        (b"[]", 200),
        (b"", 302),
        (b"", 404),
    ],
)
async def test_an_answer_that_is_no_key_set_is_none(body, code):
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.body, issuer.status = body, code
        assert await status(house, [by_url(issuer)], token(ED)) == 503


async def test_a_redirect_is_not_followed():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.document, issuer.status = {"keys": [jwk(ED, kid="one")]}, 302
        assert await status(house, [by_url(issuer)], token(ED)) == 503
        assert issuer.fetches == 1


async def test_who_gives_up_waiting_does_not_end_the_fetch_of_others():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.document = {"keys": [jwk(ED, kid="one")]}
        issuer.released.clear()
        methods = [by_url(issuer)]
        async with asyncio.TaskGroup() as group:
            first = group.create_task(house.identify(methods, bearer(token(ED))))
            await until(lambda: issuer.fetches)
            second = group.create_task(house.identify(methods, bearer(token(ED))))
            first.cancel()
            await asyncio.sleep(0)
            issuer.released.set()
        assert second.result().consumer == "bobs"


# Introspection

VARIABLE = "INTROSPECTION_SECRET"


def opaque(issuer, **more):
    return Introspection(
        type="introspection",
        url=issuer.url + "/introspect",
        issuer="https://issuer.example",
        client_id="gate:way",
        client_secret_env=VARIABLE,
        **more,
    )


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    monkeypatch.setenv(VARIABLE, "s3cret")


ACTIVE = {"active": True, "sub": "bob", "scope": "read write"}


async def test_a_token_that_its_server_knows_counts_and_is_asked_about_once():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.tokens["opaque"] = ACTIVE
        methods = [opaque(issuer)]
        prepared = house.prepare(methods)
        assert house.quick(methods, bearer("opaque")) is None
        issuer.released.clear()
        async with asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(house.identify(methods, bearer("opaque"))) for _ in range(9)
            ]
            await until(lambda: issuer.asked)
            issuer.released.set()
        caller = waiting[0].result()
        assert (caller.consumer, caller.app, caller.method) == ("bobs", "web", "introspection")
        assert (caller.subject, caller.scopes) == ("bob", {"read", "write"})
        assert issuer.asked == [("Basic", "gate%3Away:s3cret", "opaque")]
        assert house.quick(methods, bearer("opaque")) == caller
        house.clock.seconds += 30
        assert house.quick(methods, bearer("opaque")) is None
        assert prepared.checks


async def test_a_token_that_does_not_count_is_remembered_too():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.tokens["stranger"] = {**ACTIVE, "sub": "eve"}
        issuer.tokens["other"] = {**ACTIVE, "iss": "https://other.example"}
        issuer.tokens["late"] = {**ACTIVE, "exp": NOW}
        methods = [opaque(issuer)]
        prepared = house.prepare(methods)
        for text in ("unknown", "stranger", "other", "late") * 2:
            assert await status(house, methods, text) == 401
        assert len(issuer.asked) == 4
        assert prepared.checks


async def test_an_answer_never_counts_beyond_the_tokens_end():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.tokens["short"] = {**ACTIVE, "exp": NOW + 5}
        methods = [opaque(issuer)]
        prepared = house.prepare(methods)
        assert await status(house, methods, "short") == 200
        house.clock.seconds += 5
        assert house.quick(methods, bearer("short")) is None
        assert await status(house, methods, "short") == 401
        assert prepared.checks


async def test_while_the_server_cannot_be_asked_nothing_is_a_401():
    async with open_issuer() as issuer, open_house(CONSUMERS) as house:
        issuer.tokens["opaque"] = ACTIVE
        methods = [opaque(issuer)]
        prepared = house.prepare(methods)
        issuer.status = 503
        assert await status(house, methods, "opaque") == 503
        issuer.status = 200
        assert await status(house, methods, "opaque") == 200
        assert prepared.checks


async def test_a_missing_secret_is_refused_with_the_configuration(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    async with open_issuer() as issuer, open_house() as house:
        with pytest.raises(BadMethod, match="INTROSPECTION_SECRET is not set"):
            house.prepare([opaque(issuer)])
