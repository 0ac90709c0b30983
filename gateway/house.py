"""The parts of a gateway without its door: who decides, who records, and what they follow."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex

from gateway.authn.authenticator import Authenticator
from gateway.authn.authenticator import Settings as AuthSettings
from gateway.billing.balances import Balances
from gateway.catalogue import Catalogue, TemplateError
from gateway.catalogue.contracts import Contracts
from gateway.invoke import Invoker
from gateway.keyring import Keyring
from gateway.limits.limits import Limits
from gateway.parts import Parts
from gateway.passage import Passage
from gateway.pepper import familiar, pepper
from gateway.proxy import Proxy
from gateway.recorder import Recorder
from gateway.settings import Settings
from gateway.sidecars import Sidecars, guarded_worlds
from gateway.tasks import Background, owned
from gateway.traffic.cache.kept import Cache
from gateway.traffic.cache.purges import Purger
from gateway.treatment import Treatment
from gateway.upstream.client import Client
from wherry.clock import Clock
from wherry.config.catalogue import GATEWAY
from wherry.config.watch import Worlds
from wherry.errors import StartError
from wherry.model.world import World
from wherry.store import Store

logger = logging.getLogger(__name__)

MAX_BACKGROUND = 256
"""Most copies for mirrors and refreshed answers under way at once."""

Taken = Callable[[World, Catalogue], None]
"""Told of each World that is good, with what it compiles to."""


@dataclass(frozen=True, slots=True)
class House:
    """A gateway that decides and records.

    Attributes:
        catalogue: The first one.
        parts: What the stages of a call are made of.
        sidecars: Answers for products that sidecars enforce.
        told: Whom each later catalogue is told.
    """

    catalogue: Catalogue
    parts: Parts
    sidecars: Sidecars
    told: list[Taken]


@asynccontextmanager
async def standing(
    settings: Settings, url: str, *, store: Store, worlds: Worlds, clock: Clock
) -> AsyncIterator[House]:
    """Keep the parts together until the block ends; begins once keys and credit are known.

    At the end all usage is written.

    Args:
        settings: See `Settings`.
        url: Where the gateway is; its tokens name it unless `ApiGateway` says another.
        store: Holds keys and usage.
        worlds: Followed; a World with a template that cannot be used is refused and logged,
            and the one before stays.
        clock: Where the time is read.

    Raises:
        StartError: The pepper or the first World cannot be used.
    """
    secret = await asyncio.to_thread(pepper, settings.pepper)
    if not await familiar(store, secret):
        logger.warning("the pepper is another than before: keys made before do not count here")
    keyring = Keyring(store, secret, clock)
    recorder = Recorder(
        store,
        places=settings.max_unwritten,
        patience=settings.drain_seconds,
        folder=settings.journal,
    )
    async with AsyncExitStack() as stack:
        said = worlds.current.api_gateways.get(GATEWAY)
        issuer = AuthSettings(
            (said and said.spec.url) or url,
            settings.pepper.with_name("signing-keys.json"),
            settings.shared,
        )
        authenticator = await stack.enter_async_context(Authenticator.open(keyring, issuer, clock))
        compiler = _Compiler(authenticator)
        first, guarded = await compiler.first(worlds.current)
        client = await stack.enter_async_context(Client.open())
        invoker = await stack.enter_async_context(
            Invoker.open(settings.lambda_url, settings.signer)
        )
        group = await stack.enter_async_context(owned())
        background = Background(group, MAX_BACKGROUND)
        stack.callback(background.end)
        balances, cache = Balances(store), Cache()
        limits = Limits(
            store, clock, node=token_hex(8), shared=settings.shared, most=settings.max_callers
        )
        passage = Passage(Proxy(client, settings.mesh), invoker, clock, background)
        parts = Parts(
            keyring=keyring,
            authenticator=authenticator,
            stopped=balances.stopped,
            limits=limits,
            recorder=recorder,
            passage=passage,
            treatment=Treatment(passage, cache, clock, background),
        )
        house = House(first, parts, Sidecars(parts, clock), [])
        house.sidecars.use(guarded)
        followers = (
            (keyring.follow(), "keys"),
            (_follow(worlds, house, compiler), "configuration"),
            (balances.follow(), "balances"),
            (Purger(store, cache).follow(), "purges"),
            (limits.run(), "limits"),
            (house.sidecars.run(), "sidecars"),
        )
        stack.push_async_callback(limits.end)
        for work, what in followers:
            stack.callback(group.create_task(work, name=f"gateway: follow {what}").cancel)
        group.create_task(recorder.run(), name="gateway: record usage")
        stack.callback(recorder.end)
        stack.callback(house.sidecars.end)
        await keyring.loaded.wait()
        await balances.loaded.wait()
        yield house


class _Compiler:
    """Makes catalogues of Worlds.

    Args:
        authenticator: Makes ways to authenticate ready, and knows each World that is used.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator, self._contracts = authenticator, Contracts()

    async def first(self, world: World) -> tuple[Catalogue, dict[str, Catalogue]]:
        """Return the first catalogues.

        Raises:
            StartError: The World cannot be used.
        """
        try:
            return await self.compiled(world)
        except TemplateError as error:
            raise StartError(str(error)) from None

    async def compiled(self, world: World) -> tuple[Catalogue, dict[str, Catalogue]]:
        """Return the catalogue of the door, and that of each program that sidecars guard.

        Raises:
            TemplateError: One cannot be used.
        """
        contracts = await asyncio.to_thread(self._contracts.of, world)
        prepare = self._authenticator.prepare
        catalogue = Catalogue.of(world, prepare, contracts=contracts, at="gateway")
        guarded = {app: Catalogue.of(of, prepare) for app, of in guarded_worlds(world).items()}
        self._authenticator.take(world)
        return catalogue, guarded


async def _follow(worlds: Worlds, house: House, compiler: _Compiler) -> None:
    async for world in worlds.follow():
        try:
            catalogue, guarded = await compiler.compiled(world)
        except TemplateError as error:
            logger.warning("configuration refused: %s", error)
            continue
        for each in catalogue.overlapping:
            logger.warning("route belongs to another product: %s", each)
        house.sidecars.use(guarded)
        for told in house.told:
            told(world, catalogue)
