"""Every way to say who calls, through a running gateway to a service behind it."""

import asyncio
import hmac
import json
import ssl
from base64 import b64encode
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from textwrap import indent
from urllib.parse import urlencode

import aiohttp
import pytest
import trustme
from aiohttp import web
from support import redis
from support.callers import PEPPER, head, open_house
from support.issuer import jwk, open_issuer, private, token

from gateway import keyring, keys
from gateway.app import Settings, running
from gateway.authn import oauth
from gateway.keyring import Grant
from gateway.pepper import pepper
from gateway.problem import Refused
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.config.watch import Worlds
from wherry.model.authentication import Hmac, OAuth2
from wherry.serve import Address
from wherry.store import opened
from wherry.store.memory import MemoryStore

pytestmark = pytest.mark.e2e

ED = private("EdDSA")
VARIABLE = "INTROSPECTION_SECRET"


def world(authentication, *, apps="[]", gateway="{}", scopes="[]", folder=Path()):
    """Return a World with one product, whose route ``/items`` asks for ``scopes``."""
    text = f"""
services: {{shop: {{}}}}
---
apiVersion: wherry.dev/v1
kind: ApiGateway
metadata: {{name: default}}
spec: {gateway}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {{name: basic}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {{name: store}}
spec:
  plans: [basic]
  scopes: {{read: Read, write: Write}}
  authentication:
{indent(authentication.strip(), "    ")}
  routes:
    - {{path: /items, to: {{service: shop}}, scopes: {scopes}}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: alice}}
spec:
  apps: {apps}
  subscriptions: [{{product: store, plan: basic}}]
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {{name: guests}}
spec: {{subscriptions: [{{product: store, plan: basic}}]}}
"""
    return assemble({folder / "world.yaml": text})


class Site:
    """A running gateway, the service behind it and a client."""

    def __init__(self, address, store, worlds, client, secret, seen):
        self.address, self.store, self.worlds = address, store, worlds
        self.client, self.secret, self.seen = client, secret, seen

    async def key(self, consumer="alice", **more):
        now = SystemClock().unix_ns()
        return await keyring.create(
            self.store, self.secret, consumer, now_ns=now, grant=Grant(**more)
        )

    async def call(self, path="/items", *, method="GET", headers=None, data=None):
        async with self.client.request(
            method, self.address.url + path, headers=headers, data=data
        ) as answer:
            return answer.status, answer.headers, await answer.read()

    async def until(self, status, path="/items", **more):
        async with asyncio.timeout(5):
            while True:
                answer = await self.call(path, **more)
                if answer[0] == status:
                    return answer


@asynccontextmanager
async def site(folder, made, **settings):
    seen = []

    async def shop(request):
        seen.append((request.raw_path, dict(request.headers), await request.read()))
        return web.json_response({"consumer": request.headers.get("X-Wherry-Consumer")})

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", shop)
    async with AsyncExitStack() as stack:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.UnixSite(runner, str(folder / "mesh.sock")).start()
        store, worlds = MemoryStore(), Worlds(made)
        chosen = Settings(
            pepper=folder / "pepper", address=Address(), mesh=folder / "mesh.sock", **settings
        )
        ran = await stack.enter_async_context(running(chosen, store=store, worlds=worlds))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        yield Site(ran.address, store, worlds, client, pepper(folder / "pepper"), seen)


def now():
    return SystemClock().unix_ns() // 10**9


def basic(user, password):
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


def bearer(text):
    return {"Authorization": f"Bearer {text}"}


async def test_a_key_as_a_password_never_reaches_the_service(tmp_path):
    async with site(tmp_path, world("[{type: basic}]")) as gateway:
        key, text = await gateway.key()
        await gateway.until(200, headers=basic(key.prefix, text))
        status, headers, body = await gateway.call()
        assert (status, headers["WWW-Authenticate"][:5]) == (401, "Basic")
        assert json.loads(body)["status"] == 401
        assert text not in str(gateway.seen)
        assert all("Authorization" not in headers for _, headers, _ in gateway.seen)


async def test_scopes_and_the_environment_of_a_key_are_held_against_the_route(tmp_path):
    made = world("[{type: apiKey}]", scopes="[read, write]")
    async with site(tmp_path, made) as gateway:
        _, all_ = await gateway.key()
        _, some = await gateway.key(scopes=frozenset({"read"}), environment="default")
        _, else_ = await gateway.key(environment="elsewhere")
        await gateway.until(200, headers={"x-api-key": all_})
        _, _, body = await gateway.until(403, headers={"x-api-key": some})
        assert "write" in json.loads(body)["detail"]
        await gateway.until(403, headers={"x-api-key": else_})


async def test_strangers_pass_where_a_product_lets_them_but_not_with_a_wrong_key(tmp_path):
    made = world("[{type: apiKey}, {type: anonymous, consumer: guests}]")
    async with site(tmp_path, made) as gateway:
        _, text = await gateway.key()
        status, _, body = await gateway.call()
        assert (status, json.loads(body)["consumer"]) == (200, "guests")
        _, _, body = await gateway.until(200, headers={"x-api-key": text})
        assert json.loads(body)["consumer"] == "alice"
        assert (await gateway.call(headers={"x-api-key": "wrong"}))[0] == 401


async def test_tokens_of_an_issuer_count_through_a_rotation_of_its_keys(tmp_path):
    async with open_issuer() as issuer:
        issuer.document = {"keys": [jwk(ED, kid="one")]}
        apps = f'[{{name: web, identities: [{{issuer: "{issuer.url}", subject: bob}}]}}]'
        made = world(f'[{{type: jwt, issuer: "{issuer.url}"}}]', apps=apps)
        async with site(tmp_path, made) as gateway:
            ends = now() + 60
            text = token(ED, iss=issuer.url, exp=ends)
            status, _, body = await gateway.call(headers=bearer(text))
            assert (status, json.loads(body)["consumer"]) == (200, "alice")
            assert (issuer.discoveries, issuer.fetches) == (1, 1)
            assert (await gateway.call(headers=bearer(text)))[0] == 200
            assert (issuer.discoveries, issuer.fetches) == (1, 1)
            stranger = token(private("EdDSA"), iss=issuer.url, exp=ends)
            status, headers, _ = await gateway.call(headers=bearer(stranger))
            assert (status, 'error="invalid_token"' in headers["WWW-Authenticate"]) == (401, True)
            methods = f'[{{type: jwt, issuer: "{issuer.url}"}}, {{type: basic}}]'
            await gateway.worlds.replace(world(methods, apps=apps))
            async with asyncio.timeout(5):
                while "Basic" not in (await gateway.call())[1]["WWW-Authenticate"]:
                    pass
            assert (await gateway.call(headers=bearer(text)))[0] == 200
            assert (issuer.discoveries, issuer.fetches) == (1, 1)
            await gateway.worlds.replace(world("[{type: apiKey}]"))
            await gateway.until(401, headers=bearer(text))
            assert text not in str(gateway.seen)


async def test_a_client_discovers_the_token_server_gets_a_token_and_calls_with_it(tmp_path):
    apps = "[{name: phone, scopes: [read]}]"
    made = world("[{type: oauth2}]", apps=apps, scopes="[read]", gateway="{tokensLast: 1m}")
    async with site(tmp_path, made) as gateway:
        key, text = await gateway.key(app="phone")
        _, _, body = await gateway.call("/.well-known/oauth-authorization-server")
        found = json.loads(body)
        assert found["issuer"] == gateway.address.url
        form = {"grant_type": "client_credentials", "scope": "read"}

        async def post(endpoint, fields, credential):
            async with gateway.client.post(
                found[endpoint], data=fields, headers=credential
            ) as answer:
                return answer.status, json.loads(await answer.read())

        async with asyncio.timeout(5):
            while (made_ := await post("token_endpoint", form, basic(key.prefix, text)))[0] != 200:
                await asyncio.sleep(0)
        assert made_[1]["expires_in"] == 60
        mine = made_[1]["access_token"]
        status, _, body = await gateway.call(headers=bearer(mine))
        assert (status, json.loads(body)["consumer"]) == (200, "alice")
        assert mine not in str(gateway.seen)
        _, jwks, body = await gateway.call("/.wherry/oauth2/jwks.json")
        assert jwks["Content-Type"] == "application/json"
        assert len(json.loads(body)["keys"]) == 1
        asked = await post("introspection_endpoint", {"token": mine}, basic(key.prefix, text))
        assert asked[1]["active"] is True
        refused = await post("token_endpoint", form, basic(key.prefix, "wrong"))
        assert (refused[0], refused[1]["error"]) == (401, "invalid_client")
        assert (await post("revocation_endpoint", {"token": mine}, basic(key.prefix, text)))[
            0
        ] == 200
        assert (await gateway.call(headers=bearer(mine)))[0] == 401
        other = (await post("token_endpoint", form, basic(key.prefix, text)))[1]["access_token"]
        assert (await gateway.call(headers=bearer(other)))[0] == 200
        await keyring.revoke(gateway.store, key.prefix, now_ns=SystemClock().unix_ns())
        await gateway.until(401, headers=bearer(other))


async def test_an_opaque_token_is_asked_about_once_and_none_is_a_401_while_nobody_answers(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(VARIABLE, "s3cret")
    async with open_issuer() as issuer:
        made = world(
            f'[{{type: introspection, url: "{issuer.url}/introspect", issuer: "{issuer.url}", '
            f"clientId: us, clientSecretEnv: {VARIABLE}, consumer: alice}}]"
        )
        issuer.tokens["opaque"] = {"active": True, "sub": "bob"}
        async with site(tmp_path, made) as gateway:
            for _ in range(3):
                assert (await gateway.call(headers=bearer("opaque")))[0] == 200
            assert (await gateway.call(headers=bearer("other")))[0] == 401
            assert len(issuer.asked) == 2
            issuer.status = 500
            status, headers, _ = await gateway.call(headers=bearer("third"))
            assert (status, headers["Retry-After"]) == (503, "1")
            assert "opaque" not in str(gateway.seen)


def signed(secret, prefix, *, body=b"", sent=None, path="/items"):
    """Return method, headers and body of a signed request, as a client would make it."""
    digest = f"sha-256=:{b64encode(sha256(body).digest()).decode()}:"
    covered = ["@method", "@path", *(["content-digest"] if body else [])]
    method = "POST" if body else "GET"
    values = {"@method": method, "@path": path, "content-digest": digest}
    names = " ".join(f'"{name}"' for name in covered)
    made = now()
    parameters = f'({names});created={made};keyid="{prefix}"'
    lines = [f'"{name}": {values[name]}' for name in covered]
    base = "\n".join([*lines, f'"@signature-params": {parameters}']).encode()
    value = b64encode(hmac.digest(secret.encode(), base, "sha256")).decode()
    headers = {"Signature-Input": f"s={parameters}", "Signature": f"s=:{value}:"}
    if body:
        headers["Content-Digest"] = digest
    return {"method": method, "headers": headers, "data": (body if sent is None else sent) or None}


async def test_a_signed_request_passes_once_and_with_its_own_body_only(tmp_path):
    async with site(tmp_path, world("[{type: hmac}]")) as gateway:
        key, _ = await gateway.key()
        secret = keys.signing_secret(gateway.secret, key.prefix)
        asked = signed(secret, key.prefix)
        await gateway.until(200, **asked)
        assert (await gateway.call(**asked))[0] == 401
        whole = signed(secret, key.prefix, body=b"the order")
        status, _, _ = await gateway.call(**whole)
        assert (status, gateway.seen[-1][2]) == (200, b"the order")
        assert "Signature" not in gateway.seen[-1][1]
        before = len(gateway.seen)
        forged = signed(secret, key.prefix, body=b"my order", sent=b"no order")
        status, _, text = await gateway.call(**forged)
        assert (status, "signed" in text.decode()) == (400, True)
        assert len(gateway.seen) == before


async def test_a_client_certificate_stands_for_its_app(tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    known, unknown = authority.issue_cert("phone"), authority.issue_cert("tablet")
    der = ssl.PEM_cert_to_DER_cert(known.cert_chain_pems[0].bytes().decode())
    tls = "{certificate: server.pem, key: server.pem, clientAuthority: authority.pem}"
    made = world(
        "[{type: mtls}]",
        apps=f'[{{name: phone, certificates: ["{sha256(der).hexdigest()}"]}}]',
        gateway=f"{{tls: {tls}}}",
        folder=tmp_path,
    )

    def context(certificate):
        found = ssl.create_default_context()
        authority.configure_trust(found)
        if certificate is not None:
            certificate.configure_cert(found)
        return found

    async with site(tmp_path, made) as gateway:

        async def call(certificate):
            url = f"https://{gateway.address}/items"
            async with gateway.client.get(url, ssl=context(certificate)) as answer:
                return answer.status, await answer.read()

        status, body = await call(known)
        assert (status, json.loads(body)["consumer"]) == (200, "alice")
        assert (await call(unknown))[0] == 401
        assert (await call(None))[0] == 401
        with pytest.raises(aiohttp.ClientError):
            await call(other.issue_cert("phone"))


async def test_the_paths_of_the_token_server_answer_all_that_comes(tmp_path):
    async with site(tmp_path, world("[{type: oauth2}]")) as gateway:
        status, headers, body = await gateway.call("/.wherry/oauth2/jwks.json", method="HEAD")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 0
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        large = b"grant_type=client_credentials&x=" + b"x" * 20_000
        for data, expected in ((b"", 401), (b"%", 400), (large, 400)):
            status, headers, body = await gateway.call(
                "/.wherry/oauth2/token", method="POST", headers=form, data=data
            )
            assert (status, headers["Cache-Control"]) == (expected, "no-store")
            assert json.loads(body)["error"] in {"invalid_client", "invalid_request"}
        too_large = await gateway.call("/.wherry/oauth2/token", method="POST", data=b"x" * 100_000)
        assert too_large[0] == 413
        assert (await gateway.call("/.wherry/oauth2/token"))[0] == 405
        assert (await gateway.call("/.wherry/oauth2/authorize"))[0] == 404


async def test_processes_on_one_redis_agree_about_signed_requests_and_revoked_tokens(tmp_path):
    async with AsyncExitStack() as stack:
        server = stack.enter_context(redis.serving(tmp_path))
        one, other = [
            await stack.enter_async_context(
                open_house(
                    store=await stack.enter_async_context(opened(server.url)),
                    clock=SystemClock(),
                    shared=True,
                    signing_keys=tmp_path / "signing-keys.json",
                )
            )
            for _ in range(2)
        ]
        key, text = await one.key("alice")
        await other.look()
        asked = signed(keys.signing_secret(PEPPER, key.prefix), key.prefix)
        request = head("/items", headers=asked["headers"])
        by_signature, by_token = [Hmac(type="hmac")], [OAuth2(type="oauth2")]
        assert (await one.identify(by_signature, request)).consumer == "alice"
        with pytest.raises(Refused, match="came before"):
            await other.identify(by_signature, request)

        async def ask(house, path, form):
            fields = {"Content-Type": "application/x-www-form-urlencoded"}
            form |= {"client_id": key.prefix, "client_secret": text}
            sent = head(path, method="POST", headers=fields)
            answer = await house.authenticator.own(sent, urlencode(form).encode())
            return json.loads(answer.body)

        made = await ask(one, oauth.TOKEN, {"grant_type": "client_credentials"})
        carried = head("/items", headers=bearer(made["access_token"]))
        assert (await other.identify(by_token, carried)).consumer == "alice"
        await ask(one, oauth.REVOKE, {"token": made["access_token"]})

        async def until_refused():
            async with asyncio.timeout(5):
                while await other.identify(by_token, carried):
                    await asyncio.sleep(0)

        with pytest.raises(Refused):
            await until_refused()
        server.stop()
        late = signed(keys.signing_secret(PEPPER, key.prefix), key.prefix, path="/late")
        with pytest.raises(Refused) as caught:
            await one.identify(by_signature, head("/late", headers=late["headers"]))
        assert caught.value.status == 503
