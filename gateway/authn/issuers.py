"""Keys of other people's issuers: fetched, kept, and fetched again before anyone has to wait.

Source: OpenID Connect Discovery 1.0, RFC 7517
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from gateway.authn.jwks import KeySet
from gateway.authn.web import Fetched, Unreachable, Web
from wherry.clock import Clock

logger = logging.getLogger(__name__)

APART = 10.0
"""Least seconds between two fetches, whatever tokens ask for."""

_FRESH, _LEAST_FRESH, _MOST_FRESH = 600.0, 60.0, 3600.0
"""Seconds for which keys are used without another look: by default, at least, and at most."""


class Issuer:
    """The keys of one issuer. Once there were any, they count until there are new ones.

    Args:
        name: The issuer.
        url: Where its keys are; None: where its discovery document says.
        web: How it is reached.
        clock: Where the time is read.
        tasks: Own the fetches.

    Attributes:
        keys: As they were read last; None before that.
        failing: Whether the last fetch did not work out.
    """

    def __init__(
        self, name: str, url: str | None, *, web: Web, clock: Clock, tasks: asyncio.TaskGroup
    ) -> None:
        self._name, self._url = name, url
        self._web, self._clock, self._tasks = web, clock, tasks
        self._fetching: asyncio.Task[None] | None = None
        self._not_before = self._fresh_until = float("-inf")
        self.keys: KeySet | None = None
        self.failing = False

    def may_fetch(self) -> bool:
        """Return whether a wait may bring other keys."""
        return self._fetching is not None or self._clock.now() >= self._not_before

    def keep_fresh(self) -> None:
        """Begin to fetch the keys if they are old; nobody waits for it."""
        now = self._clock.now()
        if now >= self._fresh_until and now >= self._not_before:
            self._fetching = self._begun()

    async def fetched(self) -> None:
        """Fetch the keys, unless that was done within `APART` seconds.

        All who ask meanwhile wait for the same fetch.
        """
        if self.may_fetch():
            await asyncio.shield(self._begun())

    def _begun(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._not_before = self._clock.now() + APART
            self._fetching = self._tasks.create_task(
                self._fetch(), name=f"gateway: keys of {self._name}"
            )
        return self._fetching

    async def _fetch(self) -> None:
        try:
            found = await self._web.read(self._url or await self._discovered())
            keys = KeySet.of(found.document)
        except (Unreachable, ValueError) as error:
            self.failing = True
            logger.warning("keys of an issuer not read: %s", error)
        except Exception:
            self.failing = True
            logger.exception("keys of an issuer not read", extra={"issuer": self._name})
        else:
            self.failing = False
            self._fresh_until = self._clock.now() + _lasting(found)
            if self.keys is None or self.keys.document != keys.document:
                self.keys = keys
        finally:
            self._fetching = None

    async def _discovered(self) -> str:
        url = self._name.rstrip("/") + "/.well-known/openid-configuration"
        return _jwks_url(self._name, (await self._web.read(url)).document)


def _lasting(found: Fetched) -> float:
    fresh = _FRESH if found.fresh is None else found.fresh
    return min(max(fresh, _LEAST_FRESH), _MOST_FRESH)


def _jwks_url(issuer: str, document: Mapping[str, Any]) -> str:
    """Return where the discovery document of ``issuer`` says its keys are.

    Raises:
        ValueError: It is another issuer's, or names no address that is as safe as its own.

    Source: OpenID Connect Discovery 1.0 section 4.3
    """
    if document.get("issuer") != issuer:
        raise ValueError(f"discovery of {issuer}: another issuer's, expected its own")
    url = document.get("jwks_uri")
    schemes = ("https://",) if issuer.startswith("https://") else ("https://", "http://")
    if not isinstance(url, str) or not url.startswith(schemes):
        raise ValueError(f"discovery of {issuer}: no usable jwks_uri, expected {schemes[0]}...")
    return url
