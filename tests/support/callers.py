"""An authenticator with its store, keys and configuration, and requests to show it."""

import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

from multidict import CIMultiDict

from gateway import keyring, keys, path
from gateway.authn.authenticator import Authenticator, Settings
from gateway.call import Head
from gateway.keyring import Keyring
from wherry.config import assemble
from wherry.store.memory import MemoryStore

PEPPER = b"p" * 32
ISSUER = "http://127.0.0.1:8000"
NOW = 1_800_000_000


class SetClock:
    """A clock that tests set, in seconds."""

    def __init__(self, now=float(NOW)):
        self.seconds = now

    def now(self):
        return self.seconds

    def unix_ns(self):
        return round(self.seconds * 1e9)


def head(target="/a", *, method="GET", query="", headers=(), peer="127.0.0.1", certificate=None):
    where, found = path.split(target)
    return Head(
        method=method,
        path=where,
        query=query or found,
        host="api.example",
        headers=CIMultiDict(headers),
        peer=peer,
        certificate=certificate,
    )


class House:
    """What `open_house` makes."""

    def __init__(self, store, clock, ring, authenticator, signing_keys):
        self.store, self.clock, self.ring = store, clock, ring
        self.authenticator, self.signing_keys = authenticator, signing_keys

    async def key(self, consumer, **more):
        made = await keyring.create(
            self.store, PEPPER, consumer, now_ns=self.clock.unix_ns(), **more
        )
        await self.look()
        return made

    async def revoke(self, prefix):
        await keyring.revoke(self.store, prefix, now_ns=self.clock.unix_ns())
        await self.look()

    async def look(self):
        self.ring.take((await self.store.list(keys.FOLDER)).values())

    def configure(self, text, *, explain=False):
        if explain:
            text += (
                "\n---\napiVersion: wherry.dev/v1\nkind: ApiGateway\n"
                "metadata: {name: default}\nspec: {explainRefusals: true}\n"
            )
        self.authenticator.take(assemble({Path("world.yaml"): text}))

    def prepare(self, methods):
        return self.authenticator.prepare(methods)

    def quick(self, methods, request):
        return self.authenticator.quick(self.prepare(methods), request, "store")

    async def identify(self, methods, request):
        return await self.authenticator.identify(self.prepare(methods), request, "store")


@asynccontextmanager
async def open_house(configuration="", *, store=None, clock=None, shared=False, signing_keys=None):
    """Open an authenticator that knows the consumers of ``configuration``."""
    clock = clock or SetClock()
    store = store or MemoryStore(clock)
    ring = Keyring(store, PEPPER, clock)
    with tempfile.TemporaryDirectory() as folder:
        path = signing_keys or Path(folder) / "signing-keys.json"
        settings = Settings(ISSUER, path, shared=shared)
        async with Authenticator.open(ring, settings, clock) as authenticator:
            house = House(store, clock, ring, authenticator, path)
            house.configure(configuration)
            yield house
