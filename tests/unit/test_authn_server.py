"""The gateway's own token server, and calls with its tokens."""

import json
import stat
from base64 import b64encode, urlsafe_b64decode
from urllib.parse import urlencode

import jwt
import pytest
from jwt import PyJWK
from support.callers import ISSUER, NOW, head, open_house
from support.issuer import private, token

from gateway.authn import oauth
from gateway.authn.oauth import METADATA, Signer
from gateway.authn.seeds import renewed, seeds
from gateway.keyring import Grant
from gateway.problem import Refused
from wherry.errors import StartError
from wherry.model.authentication import Anonymous, OAuth2
from wherry.store import StoreFailed
from wherry.store.memory import MemoryStore

CONSUMERS = """
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {apps: [{name: phone, scopes: [read, write]}]}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: bob}
"""
METHOD = OAuth2(type="oauth2")
FORM = "application/x-www-form-urlencoded"
GRANT = {"grant_type": "client_credentials"}


def basic(prefix, text):
    return {"Authorization": "Basic " + b64encode(f"{prefix}:{text}".encode()).decode()}


async def ask(house, path, form, *, headers=None, method="POST", kind=FORM):
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    asked = head(path, method=method, headers={"Content-Type": kind, **(headers or {})})
    answer = await house.authenticator.own(asked, body)
    return answer, json.loads(answer.body)


async def tokened(house, key, text, **more):
    answer, document = await ask(
        house, oauth.TOKEN, {**GRANT, **more}, headers=basic(key.prefix, text)
    )
    assert answer.status == 200, document
    assert answer.headers["Cache-Control"] == "no-store"
    return document


def call(house, text, methods=(METHOD,)):
    return house.quick(list(methods), head(headers={"Authorization": f"Bearer {text}"}))


def refused(house, text, *, status=401):
    with pytest.raises(Refused) as caught:
        call(house, text)
    assert caught.value.status == status
    return caught.value


async def test_a_key_gets_a_token_and_the_token_calls_for_it():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice", grant=Grant("phone", None, "sandbox"))
        made = await tokened(house, key, text)
        assert (made["token_type"], made["expires_in"]) == ("Bearer", 900)
        assert made["scope"] == "read write"
        caller = call(house, made["access_token"])
        assert (caller.consumer, caller.app, caller.method) == ("alice", "phone", "oauth2")
        assert (caller.credential, caller.environment) == (key.prefix, "sandbox")
        assert caller.scopes == {"read", "write"}
        posted, again = await ask(
            house, oauth.TOKEN, {**GRANT, "client_id": key.prefix, "client_secret": text}
        )
        assert posted.status == 200
        assert again["access_token"] != made["access_token"]


async def test_a_token_has_the_shape_that_others_can_verify():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        made = (await tokened(house, key, text))["access_token"]
        _, jwks = await ask(house, oauth.JWKS, b"", method="GET")
        (public,) = jwks["keys"]
        header = jwt.get_unverified_header(made)
        assert header == {"typ": "at+jwt", "alg": "EdDSA", "kid": public["kid"]}
        claims = jwt.decode(
            made,
            PyJWK(public),
            algorithms=["EdDSA"],
            audience=ISSUER,
            options={"verify_exp": False, "verify_iat": False},
        )
        assert claims.pop("jti")
        assert claims == {
            "iss": ISSUER,
            "aud": ISSUER,
            "sub": key.prefix,
            "client_id": key.prefix,
            "iat": NOW,
            "exp": NOW + 900,
        }
        assert "d" not in public
        assert len(urlsafe_b64decode(public["x"] + "=")) == 32


async def test_a_token_is_granted_what_is_asked_for_if_the_key_has_it():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice", grant=Grant("phone"))
        made = await tokened(house, key, text, scope="read")
        assert made["scope"] == "read"
        assert call(house, made["access_token"]).scopes == {"read"}
        house.configure(CONSUMERS.replace("[read, write]", "[write]"))
        assert call(house, made["access_token"]).scopes == frozenset()
        free, its = await house.key("bob")
        assert "scope" not in await tokened(house, free, its)
        made = await tokened(house, free, its, scope="any thing")
        assert call(house, made["access_token"]).scopes == {"any", "thing"}


async def test_a_token_ends_with_its_time_its_key_and_its_consumer():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        made = (await tokened(house, key, text))["access_token"]
        house.clock.seconds += 899
        assert call(house, made).consumer == "alice"
        house.clock.seconds += 1
        refused(house, made)
        made = (await tokened(house, key, text))["access_token"]
        assert call(house, made).consumer == "alice"
        await house.revoke(key.prefix)
        refused(house, made)
        brief, its = await house.key("alice", expires_ns=house.clock.unix_ns() + 60 * 10**9)
        made = await tokened(house, brief, its)
        assert made["expires_in"] == 60
        other, its = await house.key("bob")
        house.configure(CONSUMERS + "spec: {blocked: true}\n")
        answer, document = await ask(house, oauth.TOKEN, GRANT, headers=basic(other.prefix, its))
        assert (answer.status, document["error"]) == (401, "invalid_client")


async def test_how_long_tokens_last_is_a_setting():
    async with open_house(CONSUMERS) as house:
        house.configure(
            CONSUMERS + "---\napiVersion: wherry.dev/v1\nkind: ApiGateway\n"
            "metadata: {name: default}\nspec: {tokensLast: 1h}\n"
        )
        assert (await tokened(house, *await house.key("alice")))["expires_in"] == 3600


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({**GRANT, "scope": "read admin"}, "invalid_scope"),
        ({**GRANT, "scope": ""}, "invalid_scope"),
        ({**GRANT, "scope": 'a"b'}, "invalid_scope"),
        (b"grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        (b"grant_type", "invalid_request"),
        (b"\xff", "invalid_request"),
        (b"grant_type=%ff", "invalid_request"),
        (b"&".join(b"%d=1" % n for n in range(100)), "invalid_request"),
        (b"a=" + b"x" * (17 << 10), "invalid_request"),
        ({**GRANT, "client_secret": "x"}, "invalid_request"),
        ({**GRANT, "client_id": "another"}, "invalid_request"),
    ],
)
async def test_a_request_that_is_wrong_gets_the_error_of_the_rfc(form, code):
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice", grant=Grant("phone"))
        answer, document = await ask(house, oauth.TOKEN, form, headers=basic(key.prefix, text))
        assert (answer.status, document["error"]) == (400, code)
        assert answer.headers["Cache-Control"] == "no-store"


async def test_every_wrong_client_gets_the_very_same_answer():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        dead, its = await house.key("alice")
        await house.revoke(dead.prefix)
        wrong = [
            basic(key.prefix, its),
            basic(dead.prefix, its),
            basic("alice", text),
            basic(key.prefix, ""),
            {"Authorization": "Basic ?"},
            {"Authorization": f"Bearer {text}"},
            {},
        ]
        seen = set()
        for headers in wrong:
            answer, document = await ask(house, oauth.TOKEN, GRANT, headers=headers)
            assert (answer.status, document["error"]) == (401, "invalid_client")
            assert answer.headers["WWW-Authenticate"] == 'Basic realm="wherry"'
            seen.add(answer.body)
        assert len(seen) == 1


async def test_only_forms_and_only_posts_are_taken():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        answer, document = await ask(
            house, oauth.TOKEN, GRANT, headers=basic(key.prefix, text), kind="application/json"
        )
        assert (answer.status, document["error"]) == (400, "invalid_request")
        answer, _ = await ask(house, oauth.TOKEN, b"", method="GET")
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        answer, _ = await ask(house, oauth.JWKS, b"")
        assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert await house.authenticator.own(head("/.wherry/oauth2/other"), b"") is None


async def test_introspection_tells_a_consumer_of_its_own_tokens_only():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice", grant=Grant("phone"))
        made = (await tokened(house, key, text))["access_token"]
        other, its = await house.key("alice")

        async def asked(token, prefix=other.prefix, secret=its):
            _, document = await ask(
                house, oauth.INTROSPECT, {"token": token}, headers=basic(prefix, secret)
            )
            return document

        found = await asked(made)
        assert found["active"] is True
        assert (found["client_id"], found["scope"]) == (key.prefix, "read write")
        assert (found["exp"], found["iss"]) == (NOW + 900, ISSUER)
        bob, his = await house.key("bob")
        assert await asked(made, bob.prefix, his) == {"active": False}
        for wrong in ("garbage", made[:-4] + "AAAA", token(private("EdDSA"), iss=ISSUER)):
            assert await asked(wrong) == {"active": False}
        answer, document = await ask(house, oauth.INTROSPECT, {}, headers=basic(other.prefix, its))
        assert (answer.status, document["error"]) == (400, "invalid_request")
        answer, _ = await ask(house, oauth.INTROSPECT, {"token": made})
        assert answer.status == 401
        await house.revoke(key.prefix)
        assert await asked(made) == {"active": False}


async def test_a_revoked_token_counts_no_more_and_its_note_goes_with_its_end():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        made = (await tokened(house, key, text))["access_token"]
        kept = (await tokened(house, key, text))["access_token"]
        assert call(house, made).consumer == "alice"
        bob, his = await house.key("bob")
        answer, document = await ask(
            house, oauth.REVOKE, {"token": made}, headers=basic(bob.prefix, his)
        )
        assert (answer.status, document["error"]) == (400, "unauthorized_client")
        for each in (made, made, "garbage"):
            answer, _ = await ask(
                house, oauth.REVOKE, {"token": each}, headers=basic(key.prefix, text)
            )
            assert answer.status == 200
        refused(house, made)
        assert call(house, kept).consumer == "alice"
        assert len(await house.store.list("tokenrevoked/")) == 1
        house.clock.seconds += 901
        last = (await tokened(house, key, text))["access_token"]
        await ask(house, oauth.REVOKE, {"token": last}, headers=basic(key.prefix, text))
        assert len(await house.store.list("tokenrevoked/")) == 1


async def test_a_token_that_was_revoked_before_the_start_does_not_count():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        made = (await tokened(house, key, text))["access_token"]
        await ask(house, oauth.REVOKE, {"token": made}, headers=basic(key.prefix, text))
        keys_of_tokens = house.signing_keys
        async with open_house(CONSUMERS, store=house.store, signing_keys=keys_of_tokens) as other:
            await other.look()
            refused(other, made)


async def test_a_store_that_fails_is_said_as_such():
    class Failing(MemoryStore):
        failing = False

        async def put(self, key, body, *, expect=None):
            if self.failing and key.startswith("tokenrevoked/"):
                raise StoreFailed("store", "it is gone")
            return await super().put(key, body, expect=expect)

    async with open_house(CONSUMERS, store=Failing()) as house:
        key, text = await house.key("alice")
        made = (await tokened(house, key, text))["access_token"]
        house.store.failing = True
        answer, document = await ask(
            house, oauth.REVOKE, {"token": made}, headers=basic(key.prefix, text)
        )
        assert (answer.status, document["error"]) == (503, "server_error")


async def test_no_foreign_token_counts_as_one_of_ours():
    async with open_house(CONSUMERS) as house:
        key, text = await house.key("alice")
        made = (await tokened(house, key, text))["access_token"]
        mine = jwt.get_unverified_header(made)
        stranger = private("EdDSA")
        claims = {"iss": ISSUER, "aud": ISSUER, "client_id": key.prefix, "jti": "1"}
        for wrong in (
            token(stranger, header=mine, **claims),
            token(stranger, header={**mine, "kid": None}, **claims),
            made[:-4] + "AAAA",
            text,
            key.prefix,
        ):
            with pytest.raises(Refused) as caught:
                await house.identify(
                    [METHOD, Anonymous(type="anonymous", consumer="bob")],
                    head(headers={"Authorization": f"Bearer {wrong}"}),
                )
            assert caught.value.status == 401


async def test_the_server_describes_itself():
    async with open_house(CONSUMERS) as house:
        answer, document = await ask(house, METADATA, b"", method="GET")
        assert answer.headers["Cache-Control"] == "max-age=300"
        assert document["issuer"] == ISSUER
        assert document["token_endpoint"] == f"{ISSUER}/.wherry/oauth2/token"
        assert document["grant_types_supported"] == ["client_credentials"]
        assert set(oauth.PATHS) > {
            document[name].removeprefix(ISSUER) for name in document if name.endswith("_endpoint")
        }


# The signing keys


async def test_after_a_renewal_new_and_old_tokens_count_until_the_next(tmp_path):
    async with open_house(CONSUMERS) as house:
        path = house.signing_keys
        key, text = await house.key("alice")
        first = (await tokened(house, key, text))["access_token"]
        renewed(path)
        ours = Signer(seeds(path), ISSUER)
        assert [each["kid"] for each in ours.public["keys"]][1] == jwt.get_unverified_header(first)[
            "kid"
        ]
        async with open_house(CONSUMERS, store=house.store, signing_keys=path) as other:
            await other.look()
            second = (await tokened(other, key, text))["access_token"]
            assert call(other, first).consumer == "alice"
        assert call(house, second) is None
        asked = head(headers={"Authorization": f"Bearer {second}"})
        assert (await house.identify([METHOD], asked)).consumer == "alice"
        assert call(house, second).consumer == "alice"
        assert call(house, first).consumer == "alice"
        renewed(path)
        async with open_house(CONSUMERS, store=house.store, signing_keys=path) as other:
            await other.look()
            assert call(other, second).consumer == "alice"
            assert call(other, first) is None
            with pytest.raises(Refused):
                await other.identify([METHOD], head(headers={"Authorization": f"Bearer {first}"}))


def test_the_signing_keys_are_for_their_owner_only_and_must_be_whole(tmp_path):
    path = tmp_path / "signing-keys.json"
    made = seeds(path)
    assert seeds(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    renewed(path)
    assert seeds(path)[1:] == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    path.chmod(0o644)
    with pytest.raises(StartError, match="mode 0644, expected 0600"):
        seeds(path)
    path.chmod(0o600)
    for damaged in ("", "{}", '{"ed25519": []}', '{"ed25519": ["00"]}', '{"ed25519": [7]}'):
        path.write_text(damaged)
        with pytest.raises(StartError, match="unreadable, expected 1 to 2 Ed25519 keys"):
            seeds(path)
