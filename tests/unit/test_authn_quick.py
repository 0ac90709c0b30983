"""Who calls, by what is shown at once: keys, passwords, certificates, nothing."""

from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.callers import head, open_house
from support.issuer import jwk, private

from gateway import keys
from gateway.authn.check import BadMethod
from gateway.keyring import Grant
from gateway.problem import Refused
from wherry.model.authentication import (
    Anonymous,
    ApiKey,
    Basic,
    Hmac,
    Introspection,
    Jwt,
    Mtls,
    OAuth2,
)

DER, ED = b"a certificate", private("EdDSA")
CONSUMERS = f"""
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: alice}}
spec:
  apps:
    - {{name: phone, scopes: [read, write], certificates: [{sha256(DER).hexdigest()}]}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: guests}}
"""


def basic(user, password):
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def refused(house, methods, request, *, status=401):
    with pytest.raises(Refused) as caught:
        house.quick(methods, request)
    assert caught.value.status == status
    return caught.value


async def test_a_key_in_the_header_or_the_query_names_its_caller_and_leaves_the_query():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        for request in (
            head(headers={"X-Api-Key": text}),
            head(query=f"a=1&apikey={text}&b"),
            head(query="apikey=other&b", headers={"x-api-key": text}),
        ):
            caller = house.quick([ApiKey()], request)
            assert (caller.consumer, caller.app, caller.method) == ("alice", "default", "apiKey")
            assert (caller.credential, caller.scopes) == (key.prefix, None)
            assert "apikey" not in request.query
            assert text not in repr(caller)


async def test_a_key_is_granted_what_both_it_and_its_app_may_have():
    async with open_house(CONSUMERS) as house:
        for asked, granted in (
            (None, {"read", "write"}),
            ({"read", "admin"}, {"read"}),
            (set(), set()),
        ):
            scopes = None if asked is None else frozenset(asked)
            grant = Grant("phone", scopes, "sandbox")
            key, text = await house.key("alice", grant=grant)
            caller = house.quick([ApiKey()], head(headers={"x-api-key": text}))
            assert (caller.app, caller.scopes, caller.environment) == ("phone", granted, "sandbox")
            await house.revoke(key.prefix)


async def test_a_key_of_an_app_that_is_no_more_is_granted_nothing():
    async with open_house(CONSUMERS) as house:
        _, text = await house.key("alice", grant=Grant("gone"))
        assert house.quick([ApiKey()], head(headers={"x-api-key": text})).scopes == frozenset()


async def test_every_wrong_key_gets_the_same_refusal_unless_the_owner_asks_for_more():
    async with open_house(CONSUMERS) as house:
        _, expired = await house.key("alice", expires_ns=1)
        key, revoked = await house.key("alice")
        await house.revoke(key.prefix)
        wrong = ["", "x", expired, revoked, keys.minted()[1], revoked[:-1] + "x"]
        seen = {
            (str(refusal.detail), refusal.headers["WWW-Authenticate"])
            for text in wrong
            for refusal in [refused(house, [ApiKey()], head(headers={"x-api-key": text}))]
        }
        none = refused(house, [ApiKey()], head())
        assert seen == {(none.detail, 'ApiKey realm="wherry", header="x-api-key"')}
        house.configure(CONSUMERS, explain=True)
        for text, why in ((expired, "expired"), (revoked, "revoked"), (wrong[4], "not known")):
            assert why in refused(house, [ApiKey()], head(headers={"x-api-key": text})).detail


async def test_two_keys_in_one_header_are_none():
    async with open_house(CONSUMERS) as house:
        _, text = await house.key("alice")
        refused(house, [ApiKey()], head(headers=[("x-api-key", text), ("x-api-key", text)]))


async def test_a_key_may_have_another_header_or_parameter_or_only_one_of_them():
    async with open_house(CONSUMERS) as house:
        _, text = await house.key("alice")
        only_query = ApiKey(header=None, query="k")
        assert house.quick([only_query], head(query=f"k={text}")).consumer == "alice"
        refusal = refused(house, [only_query], head(headers={"x-api-key": text}))
        assert refusal.headers["WWW-Authenticate"] == 'ApiKey realm="wherry", parameter="k"'
        only_header = ApiKey(header="Key", query=None)
        assert house.quick([only_header], head(headers={"key": text})).consumer == "alice"
        refused(house, [only_header], head(query=f"apikey={text}"))
        assert house.prepare([only_header]).secret_fields == ("key",)
        with pytest.raises(BadMethod, match="neither header nor query"):
            house.prepare([ApiKey(header=None, query=None)])


async def test_a_key_as_a_password_needs_its_prefix_as_the_user():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        method = Basic(type="basic")
        caller = house.quick([method], head(headers=basic(key.prefix, text)))
        assert (caller.consumer, caller.method) == ("alice", "basic")
        for headers in (
            basic("alice", text),
            basic(key.prefix, "x"),
            {"Authorization": "Basic ?"},
            {"Authorization": "Basic " + b64encode(b"nocolon").decode()},
            [*basic(key.prefix, text).items()] * 2,
            {},
        ):
            refusal = refused(house, [method], head(headers=headers))
            assert refusal.headers["WWW-Authenticate"] == 'Basic realm="wherry", charset="UTF-8"'


async def test_a_certificate_stands_for_the_app_that_names_it():
    async with open_house(CONSUMERS) as house:
        method = Mtls(type="mtls")
        caller = house.quick([method], head(certificate=DER))
        assert (caller.consumer, caller.app) == ("alice", "phone")
        assert caller.credential == "cert:" + sha256(DER).hexdigest()[:16]
        assert caller.scopes == {"read", "write"}
        refused(house, [method], head(certificate=b"another"))
        refused(house, [method], head())
        house.configure(CONSUMERS.replace(sha256(DER).hexdigest(), "f" * 64))
        refused(house, [method], head(certificate=DER))


async def test_strangers_are_who_shows_nothing_and_only_they():
    async with open_house(CONSUMERS) as house:
        _, text = await house.key("alice")
        methods = [ApiKey(), Anonymous(type="anonymous", consumer="guests")]
        stranger = house.quick(methods, head(peer="10.0.0.9"))
        assert (stranger.consumer, stranger.credential) == ("guests", "address:10.0.0.9")
        assert stranger.scopes == frozenset()
        assert house.quick(methods, head(headers={"x-api-key": text})).consumer == "alice"
        refused(house, methods, head(headers={"x-api-key": "wrong"}))


async def test_the_first_way_whose_credential_is_there_decides():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        methods = [ApiKey(), Basic(type="basic")]
        right = basic(key.prefix, text)
        assert house.quick(methods, head(headers=right)).method == "basic"
        both = head(headers={**right, "x-api-key": text})
        assert house.quick(methods, both).method == "apiKey"
        refusal = refused(house, methods, head(headers={**right, "x-api-key": "wrong"}))
        challenges = refusal.headers["WWW-Authenticate"]
        assert "ApiKey " in challenges
        assert "Basic " in challenges
        assert house.prepare(methods).secret_fields == ("x-api-key", "authorization")


async def test_the_same_method_prepared_twice_is_one():
    async with open_house(CONSUMERS) as house:
        one, other = house.prepare([ApiKey()]), house.prepare([ApiKey()])
        assert one.checks[0] is other.checks[0]
        assert one.checks[0] is not house.prepare([ApiKey(header="k")]).checks[0]


async def test_a_caller_changes_with_the_apps_of_the_configuration():
    async with open_house(CONSUMERS) as house:
        _, text = await house.key("alice", grant=Grant("phone"))
        request = head(headers={"x-api-key": text})
        assert house.quick([ApiKey()], request).scopes == {"read", "write"}
        house.configure(CONSUMERS.replace("[read, write]", "[read]"))
        assert house.quick([ApiKey()], request).scopes == {"read"}


VALUE = st.text(st.characters(exclude_characters="\r\n\0"), max_size=40)
FIELD = st.sampled_from(
    ["Authorization", "X-Api-Key", "Signature", "Signature-Input", "Content-Digest", "Date"]
)
SCHEMED = st.builds(
    "{} {}".format, st.sampled_from(["Bearer", "basic", "Basic", "BEARER", ""]), VALUE
)
INPUT = st.builds(
    'a=("{}" "@method");keyid="{}";created={}'.format,
    st.sampled_from(["@path", "date", "x-api-key", "content-digest", "authorization"]),
    st.sampled_from(["aaaaaaaa", "x"]),
    st.integers(-5, 2**40),
)


@given(
    st.lists(st.tuples(FIELD, VALUE | SCHEMED | INPUT | st.just("a=:AAAA:")), max_size=5),
    st.none() | st.binary(max_size=5),
)
async def test_whatever_a_request_carries_it_is_identified_or_refused(headers, certificate):
    methods = [
        Hmac(type="hmac"),
        OAuth2(type="oauth2"),
        Jwt(type="jwt", issuer="me", jwks={"keys": [jwk(ED, kid="one")]}),
        Basic(type="basic"),
        ApiKey(),
        Mtls(type="mtls"),
    ]
    async with open_house(CONSUMERS) as house:
        with pytest.raises(Refused) as caught:
            await house.identify(methods, head(headers=headers, certificate=certificate))
        assert caught.value.status == 401
        assert caught.value.body()


async def test_bytes_that_are_no_text_are_refused_as_any_other(monkeypatch):
    monkeypatch.setenv("ASKED_WITH", "x")
    opaque = Introspection(
        type="introspection",
        url="http://127.0.0.1:1/",
        issuer="me",
        client_id="us",
        client_secret_env="ASKED_WITH",  # noqa: S106
    )
    async with open_house(CONSUMERS) as house:
        for text in ("\udc80", "Bearer \udc80", "Basic \udc80", "Bearer \xe9"):
            headers = {"Authorization": text, "x-api-key": text}
            refused(
                house, [OAuth2(type="oauth2"), opaque, Basic(type="basic")], head(headers=headers)
            )
            refused(house, [ApiKey()], head(headers=headers))
