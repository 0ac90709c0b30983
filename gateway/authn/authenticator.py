"""Says who calls, by the ways that each product allows."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway import path
from gateway.authn.check import Callers, Check, Prepared, Wrong
from gateway.authn.directory import Directory
from gateway.authn.methods import Methods
from gateway.authn.own import NoToken
from gateway.authn.revoked import Revoked
from gateway.authn.server import TokenServer
from gateway.authn.signed import Replays
from gateway.authn.signingkeys import SigningKeys
from gateway.authn.web import Web
from gateway.call import Answer, Caller, Head
from gateway.keyring import Keyring
from gateway.tasks import given_up
from wherry.clock import Clock
from wherry.model.authentication import Introspection, Jwt, Method, OAuth2
from wherry.model.resource import seconds
from wherry.model.world import World

logger = logging.getLogger(__name__)

_TOKENS = (Jwt, OAuth2, Introspection)


@dataclass(frozen=True, slots=True)
class Settings:
    """How callers are identified.

    Attributes:
        issuer: The gateway's own address without a path, like ``http://127.0.0.1:8000``: what
            its tokens say they are from.
        signing_keys: File of the keys that sign them; made at first use.
        shared: Whether other processes take calls, too: then a signed request that one of them
            took is refused by all, at the price of a question to the Store.
    """

    issuer: str
    signing_keys: Path
    shared: bool = False


class Authenticator:
    """Identifies callers; made by `Authenticator.open`."""

    def __init__(
        self,
        keyring: Keyring,
        settings: Settings,
        clock: Clock,
        *,
        web: Web,
        signing: SigningKeys,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._callers = Callers()
        self._revoked = Revoked(keyring.store, clock)
        self._server = TokenServer(
            keyring,
            callers=self._callers,
            signing=signing,
            revoked=self._revoked,
            clock=clock,
        )
        self._methods = Methods(
            keyring,
            callers=self._callers,
            clock=clock,
            web=web,
            tasks=tasks,
            server=self._server,
            signing=signing,
            revoked=self._revoked,
            replays=Replays(clock, keyring.store if settings.shared else None),
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, keyring: Keyring, settings: Settings, clock: Clock
    ) -> AsyncIterator["Authenticator"]:
        """Identify callers until the block ends; then write when keys were last used.

        Begins once it is known which tokens were revoked.

        Args:
            keyring: Every key; followed by whoever made it.
            settings: See `Settings`.
            clock: Where the time is read.

        Raises:
            StartError: The signing keys cannot be used.
        """
        signing = await asyncio.to_thread(SigningKeys, settings.signing_keys, settings.issuer)
        async with Web.open() as web, given_up() as tasks:
            self = cls(keyring, settings, clock, web=web, signing=signing, tasks=tasks)
            tasks.create_task(keyring.uses.run(), name="gateway: write uses of keys")
            tasks.create_task(self._revoked.follow(), name="gateway: follow revoked tokens")
            await self._revoked.loaded.wait()
            try:
                yield self
            finally:
                await keyring.uses.flush()

    def take(self, world: World) -> None:
        """Know the consumers and the settings of ``world`` from now on."""
        self._callers.directory = Directory.of(world.consumers)
        gateway = world.api_gateways.get("default")
        self._callers.explain = gateway is not None and gateway.spec.explain_refusals
        self._server.lasts = 900 if gateway is None else round(seconds(gateway.spec.tokens_last))

    def prepare(self, methods: Sequence[Method]) -> Prepared:
        """Return ``methods`` ready to use; the same method twice shares what it remembers.

        Raises:
            BadMethod: One cannot be used as it is written.
        """
        checks: list[Check] = [self._methods.check(method) for method in methods]
        places = [place for place, method in enumerate(methods, 1) if isinstance(method, _TOKENS)]
        if places:
            checks.insert(places[-1], NoToken())
        return Prepared.of(checks)

    def quick(self, prepared: Prepared, head: Head, product: str) -> Caller | None:
        """Return who sent ``head``, and take the key out of its query; None: `identify` can tell.

        Args:
            prepared: What the product or route allows.
            head: Of the request.
            product: For the log.

        Raises:
            Refused: 401, with every way's challenge; 503 when nobody can tell now.
        """
        for check in prepared.checks:
            shown = check.shown(head)
            if shown is not None:
                try:
                    caller = check.quick(head, shown)
                except Wrong as wrong:
                    raise self._refused(prepared, product, wrong) from None
                if caller is not None and prepared.parameters and head.query:
                    _strip(prepared, head)
                return caller
        raise self._refused(prepared, product)

    async def identify(self, prepared: Prepared, head: Head, product: str) -> Caller:
        """Return who sent ``head``, whatever wait that takes; see `quick`.

        Raises:
            Refused: 401, with every way's challenge; 503 when nobody can tell now.
        """
        for check in prepared.checks:
            shown = check.shown(head)
            if shown is not None:
                try:
                    caller = check.quick(head, shown) or await check.slow(head, shown)
                except Wrong as wrong:
                    raise self._refused(prepared, product, wrong) from None
                if prepared.parameters and head.query:
                    _strip(prepared, head)
                return caller
        raise self._refused(prepared, product)

    async def own(self, head: Head, body: bytes) -> Answer | None:
        """Answer a request to the token server (`gateway.authn.oauth.PATHS`); None for others."""
        return await self._server.own(head, body)

    def _refused(self, prepared: Prepared, product: str, wrong: Wrong | None = None) -> Exception:
        if logger.isEnabledFor(logging.DEBUG):
            why = "nothing shown" if wrong is None else str(wrong)
            logger.debug("caller refused", extra={"product": product, "why": why})
        return prepared.refusal(wrong, explain=self._callers.explain)


def _strip(prepared: Prepared, head: Head) -> None:
    for name in prepared.parameters:
        if name in head.query or "%" in head.query:
            head.query = path.without(head.query, name)[0]
