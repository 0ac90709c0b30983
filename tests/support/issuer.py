"""An issuer of tokens over real HTTP, which rotates its keys, fails and stalls as told."""

import asyncio
import json
from base64 import b64decode, urlsafe_b64encode
from contextlib import asynccontextmanager

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from support.callers import NOW

_RSA = rsa.generate_private_key(65537, 2048)


def private(algorithm):
    if algorithm.startswith(("RS", "PS")):
        return _RSA
    if algorithm.startswith("ES"):
        return ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())
    return Ed25519PrivateKey.generate()


def jwk(key, **more):
    made = next(
        kind.to_jwk(key.public_key(), as_dict=True)
        for kind, form in (
            (RSAAlgorithm, rsa.RSAPrivateKey),
            (ECAlgorithm, ec.EllipticCurvePrivateKey),
            (OKPAlgorithm, Ed25519PrivateKey),
        )
        if isinstance(key, form)
    )
    return {**made, **more}


def token(key, algorithm="EdDSA", *, header=None, **claims):
    claims = {"iss": "https://issuer.example", "sub": "bob", "exp": NOW + 600, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    headers = {"kid": "one", **(header or {})}
    if headers["kid"] is None:
        del headers["kid"]
    return jwt.encode(claims, key, algorithm, headers=headers)


def raw(header, claims, signature=b"x"):
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


class Issuer:
    """What it serves, and what it was asked."""

    def __init__(self):
        self.url = ""
        self.document, self.headers = {"keys": []}, {}
        self.body = None
        self.status = 200
        self.fetches, self.discoveries = 0, 0
        self.claims_to_be = None
        self.released = asyncio.Event()
        self.released.set()
        self.tokens, self.asked = {}, []

    async def keys(self, _request):
        self.fetches += 1
        await self.released.wait()
        if self.body is not None:
            return web.Response(body=self.body, status=self.status)
        if self.status in (301, 302):
            return web.Response(status=self.status, headers={"Location": self.url + "/other"})
        return web.json_response(self.document, status=self.status, headers=self.headers)

    async def discovery(self, _request):
        self.discoveries += 1
        document = {"issuer": self.claims_to_be or self.url, "jwks_uri": self.url + "/keys"}
        return web.json_response(document, status=self.status)

    async def introspect(self, request):
        form = await request.post()
        scheme, _, credential = request.headers["Authorization"].partition(" ")
        self.asked.append((scheme, b64decode(credential).decode(), form["token"]))
        await self.released.wait()
        found = self.tokens.get(form["token"], {"active": False})
        return web.json_response(found, status=self.status)


@asynccontextmanager
async def open_issuer():
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/keys", issuer.keys)
    app.router.add_get("/other", issuer.keys)
    app.router.add_get("/.well-known/openid-configuration", issuer.discovery)
    app.router.add_post("/introspect", issuer.introspect)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        issuer.url = "http://{}:{}".format(*runner.addresses[0])
        yield issuer
    finally:
        issuer.released.set()
        await runner.cleanup()
