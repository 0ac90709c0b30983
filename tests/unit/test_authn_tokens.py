"""Signed tokens of other people's issuers: what counts, and every trick that does not."""

import hmac
import json
from base64 import urlsafe_b64encode

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from support.callers import NOW, head, open_house
from support.issuer import jwk, private, raw, token

from gateway.authn import tokens
from gateway.authn.check import BadMethod
from gateway.authn.jwks import KeySet
from gateway.problem import Refused
from wherry.model.authentication import Anonymous, ApiKey, Jwt

ISSUER = "https://issuer.example"
CONSUMERS = f"""
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: bobs}}
spec:
  apps:
    - {{name: web, scopes: [read], identities: [{{issuer: "{ISSUER}", subject: bob}}]}}
"""
ED = private("EdDSA")


def method(*keys, **more):
    document = {"keys": list(keys) or [jwk(ED, kid="one")]}
    return Jwt(type="jwt", issuer=ISSUER, jwks=document, **more)


def signed(claims):
    """Sign claims as they are, also those that no library would write."""
    named = {name: value for name, value in claims.items() if value is not None}
    body = raw({"alg": "EdDSA", "kid": "one"}, named).rsplit(".", 1)[0]
    return f"{body}.{urlsafe_b64encode(ED.sign(body.encode())).rstrip(b'=').decode()}"


def bearer(text):
    return head(headers={"Authorization": f"Bearer {text}"})


def refused(house, methods, text):
    with pytest.raises(Refused) as caught:
        house.quick(methods, bearer(text))
    assert caught.value.status == 401
    assert 'error="invalid_token"' in caught.value.headers["WWW-Authenticate"]
    return caught.value


async def test_a_token_stands_for_the_app_that_has_its_identity():
    async with open_house(CONSUMERS) as house:
        text = token(ED, scope="read write")
        caller = house.quick([method()], bearer(text))
        assert (caller.consumer, caller.app, caller.method) == ("bobs", "web", "jwt")
        assert (caller.subject, caller.scopes) == ("bob", {"read"})
        assert caller.credential.startswith("jwt:")
        assert house.quick([method()], bearer(text)) == caller
        assert house.quick([method()], bearer(token(ED, scope=["read"]))).scopes == {"read"}
        assert house.quick([method()], bearer(token(ED))).scopes == frozenset()
        assert house.prepare([method()]).secret_fields == ("authorization",)


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES256", "ES384", "EdDSA"])
async def test_every_allowed_algorithm_verifies(algorithm):
    key = private(algorithm)
    async with open_house(CONSUMERS) as house:
        allowed = method(jwk(key, kid="one"), algorithms=[algorithm])
        text = token(key, algorithm)
        assert house.quick([allowed], bearer(text)).consumer == "bobs"
        begin, signature = text.rsplit(".", 1)
        other = "A" if signature[5] != "A" else "B"
        refused(house, [allowed], f"{begin}.{signature[:5]}{other}{signature[6:]}")
        other = {"RS256": "ES256"}.get(algorithm, "RS256")
        refused(house, [method(jwk(key, kid="one"), algorithms=[other])], text)


async def test_a_subject_without_an_app_is_the_methods_consumer_or_nobody():
    async with open_house(CONSUMERS) as house:
        refused(house, [method()], token(ED, sub="eve"))
        caller = house.quick([method(consumer="bobs")], bearer(token(ED, sub="eve")))
        assert (caller.consumer, caller.app, caller.subject) == ("bobs", "default", "eve")
        by_claim = method(claim="azp")
        refused(house, [by_claim], token(ED))
        assert house.quick([by_claim], bearer(token(ED, sub="x", azp="bob"))).app == "web"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": NOW - 31}, "expired"),
        ({"exp": None}, "no end"),
        ({"exp": "never"}, "no numbers"),
        ({"exp": True}, "no numbers"),
        ({"nbf": NOW + 31}, "not count yet"),
        ({"iat": NOW + 31}, "not count yet"),
        ({"aud": "others"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"sub": None}, "no claim sub"),
        ({"sub": "x" * 2000}, "no claim sub"),
        ({"sub": "\ud800"}, "is no text"),
    ],
)
async def test_claims_that_do_not_hold_are_refused_and_told_who_asks_for_it(claims, why):
    async with open_house(CONSUMERS) as house:
        expecting = method(audiences=["us", "them"])
        assert house.quick([expecting], bearer(token(ED, aud=["x", "us"]))).consumer == "bobs"
        text = signed({"iss": ISSUER, "sub": "bob", "exp": NOW + 600, "aud": "us", **claims})
        assert why not in refused(house, [expecting], text).detail
        house.configure(CONSUMERS, explain=True)
        assert why in refused(house, [expecting], text).detail


async def test_leeway_is_granted_at_both_ends_and_a_remembered_token_ends_too():
    async with open_house(CONSUMERS) as house:
        text = token(ED, exp=NOW - 29, nbf=NOW - 100)
        assert house.quick([method()], bearer(text)).consumer == "bobs"
        house.clock.seconds += 1
        refused(house, [method()], text)
        assert house.quick([method()], bearer(token(ED, nbf=NOW + 30))).consumer == "bobs"
        refused(house, [method(leeway="0s")], token(ED, exp=NOW))


async def test_no_trick_with_the_algorithm_gets_in():
    rsa_key = private("RS256")
    pem = rsa_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    claims = {"iss": ISSUER, "sub": "bob", "exp": NOW + 600}

    def confused(algorithm, secret, header):
        text = raw({"alg": algorithm, "kid": "one", **header}, claims).rsplit(".", 1)[0]
        made = hmac.digest(secret, text.encode(), "sha256")
        return text + "." + urlsafe_b64encode(made).rstrip(b"=").decode()

    async with open_house(CONSUMERS) as house:
        allowed = method(jwk(rsa_key, kid="one"))
        assert house.quick([allowed], bearer(token(rsa_key, "RS256"))).consumer == "bobs"
        for text in (
            raw({"alg": "none"}, claims, b""),
            raw({"alg": "none", "kid": "one"}, claims),
            raw({"alg": "None", "kid": "one"}, claims),
            confused("HS256", pem, {}),
            confused("RS256", pem, {}),
            raw({"alg": "ES256", "kid": "one"}, claims),
            raw({"alg": ["RS256"], "kid": "one"}, claims),
            raw({"kid": "one"}, claims),
            token(private("EdDSA"), header={"jwk": jwk(ED)}),
            token(ED, header={"kid": "two"}),
            token(rsa_key, "RS256", header={"crit": ["exp"]}),
            token(rsa_key, "RS256", header={"typ": "dpop+jwt"}),
            token(rsa_key, "RS256", header={"typ": 1}),
            token(rsa_key, "RS256") + ".x",
            token(rsa_key, "RS256").rsplit(".", 1)[0] + ".",
            token(rsa_key, "RS256", padding="x" * 9000),
        ):
            refused(house, [allowed], text)


def test_a_key_set_leaves_out_what_cannot_be_trusted():
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "one"}
    leaked = {**jwk(ED, kid="one"), "d": "c2VjcmV0"}
    useless = [
        secret,
        leaked,
        jwk(small, kid="one"),
        jwk(ED, use="enc"),
        jwk(ED, key_ops=["sign"]),
        jwk(ED, alg="RS256"),
        {**jwk(ED), "x": "?"},
        {"kty": "EC", "crv": "P-256"},
        {"kty": "RSA"},
        {},
        None,
        7,
    ]
    with pytest.raises(ValueError, match="none of 12 keys"):
        KeySet.of({"keys": useless})
    with pytest.raises(ValueError, match="no list"):
        KeySet.of({"keys": {}})
    found = KeySet.of({"keys": [*useless, jwk(ED, kid="good")]})
    assert found.has("good", "EdDSA")
    assert found.has(None, "EdDSA")
    assert not found.has("good", "ES256")
    assert not found.has("one", "EdDSA")


async def test_a_token_that_names_no_key_is_tried_with_those_that_fit():
    async with open_house(CONSUMERS) as house:
        keys = [jwk(private("EdDSA"), kid="other"), jwk(private("ES256")), jwk(ED, kid="one")]
        assert house.quick([method(*keys)], bearer(token(ED, header={"kid": None}))).app == "web"


async def test_given_keys_that_cannot_be_used_are_refused_with_the_configuration():
    async with open_house() as house:
        with pytest.raises(BadMethod, match="none of 1 keys can be used"):
            house.prepare([method({"kty": "oct", "k": "AA"})])
        with pytest.raises(BadMethod, match="no URL, expected jwksUrl or jwks"):
            house.prepare([Jwt(type="jwt", issuer="me")])


async def test_of_two_issuers_the_one_that_a_token_names_decides():
    other = private("EdDSA")
    second = Jwt(
        type="jwt",
        issuer="https://other.example",
        jwks={"keys": [jwk(other, kid="one")]},
        consumer="bobs",
    )
    methods = [method(), second]
    async with open_house(CONSUMERS) as house:
        assert house.quick(methods, bearer(token(ED))).app == "web"
        theirs = bearer(token(other, iss="https://other.example"))
        assert house.quick(methods, theirs).app == "default"
        refused(house, methods, token(other))
        refused(house, methods, token(ED, iss="https://other.example"))
        refused(house, methods, token(ED, iss="https://third.example"))


async def test_a_wrong_token_is_rescued_by_no_later_way():
    async with open_house(CONSUMERS) as house:
        methods = [method(), ApiKey(), Anonymous(type="anonymous", consumer="bobs")]
        _, text = await house.key("bobs")
        assert house.quick(methods, head()).method == "anonymous"
        assert house.quick(methods, head(headers={"x-api-key": text})).method == "apiKey"
        for wrong in ("", "garbage", "a.b.c", token(ED, iss="https://third.example")):
            refused(house, methods, wrong)
        twice = head(headers=[("Authorization", f"Bearer {token(ED)}")] * 2)
        with pytest.raises(Refused):
            house.quick(methods, twice)


async def test_a_remembered_token_counts_no_more_when_its_identity_is_gone():
    async with open_house(CONSUMERS) as house:
        text = token(ED)
        assert house.quick([method()], bearer(text)).app == "web"
        house.configure(CONSUMERS.replace("subject: bob", "subject: eve"))
        refused(house, [method()], text)


@given(st.text(max_size=60) | st.lists(st.text(max_size=20), min_size=3, max_size=3).map(".".join))
def test_any_text_is_a_token_or_none(text):
    found = tokens.opened(text)
    assert found is None or found.signature


@pytest.mark.parametrize(
    "claims", ['{"iss":"a","iss":"b"}', "[" * 2000, '{"a":NaN}', "7", '"x"', "\xff", ""]
)
def test_claims_that_are_no_clear_object_are_no_claims(claims):
    def part(text):
        return urlsafe_b64encode(text.encode("latin-1")).rstrip(b"=").decode()

    header = part(json.dumps({"alg": "EdDSA"}))
    assert tokens.opened(f"{header}.{part(claims)}.AAAA") is None
    assert tokens.opened(f"{header}.{part('{}')}.AAAA") is not None
    assert tokens.opened(f"{header}.{part('{}')}=.AAAA") is None
