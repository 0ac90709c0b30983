"""The gateway's own tokens as a way to authenticate."""

from dataclasses import replace

from gateway.authn import tokens
from gateway.authn.bearer import Bearer
from gateway.authn.check import AtOnce, Callers, Wrong
from gateway.authn.memory import Memory
from gateway.authn.oauth import Signer, Token
from gateway.authn.revoked import Revoked
from gateway.authn.server import TokenServer
from gateway.authn.signingkeys import SigningKeys
from gateway.call import Caller, Head
from gateway.keyring import Keyring
from wherry.clock import Clock


class ByOwnToken(Bearer):
    """A token that `TokenServer` gave; see `gateway.authn.check.Check`.

    It counts as long as the key does that it was made for, and grants at most what that does.

    Args:
        server: Made the tokens.
        keyring: The keys.
        callers: Makes callers.
        signing: Verifies tokens.
        revoked: Those that were given back.
        clock: Where the time is read.
    """

    def __init__(
        self,
        server: TokenServer,
        *,
        keyring: Keyring,
        callers: Callers,
        signing: SigningKeys,
        revoked: Revoked,
        clock: Clock,
    ) -> None:
        self._server, self._keyring, self._callers = server, keyring, callers
        self._signing, self._revoked, self._clock = signing, revoked, clock
        self._memory: Memory[Token] = Memory()

    def shown(self, head: Head) -> str | None:
        """See `Check.shown`."""
        text = super().shown(head)
        if not text or self._memory.get(text, self._now(), self._signer) is not None:
            return text
        opened = tokens.opened(text)
        return text if opened is not None and opened.issuer == self._signer.issuer else None

    def quick(self, head: Head, shown: str) -> Caller | None:
        """See `Check.quick`."""
        del head
        known = self._memory.get(shown, self._now(), self._signer)
        if known is not None:
            return self._caller(known.found)
        opened = tokens.opened(shown)
        if opened is None:
            raise Wrong(error="invalid_token")
        if not self._signer.knows(opened):
            return None
        token = self._signer.read(opened, self._now())
        if token is None:
            raise Wrong("The token is not valid, or expired.", error="invalid_token")
        self._memory.put(shown, token, token.ends, self._signer)
        return self._caller(token)

    async def slow(self, head: Head, shown: str) -> Caller:
        """See `Check.slow`."""
        del head
        token = await self._server.read(shown)
        if token is None:
            raise Wrong("The token is not valid, or expired.", error="invalid_token")
        return self._caller(token)

    def _caller(self, token: Token) -> Caller:
        key = self._keyring.live(token.client)
        if key is None or token.id in self._revoked:
            raise Wrong("The token was revoked, or its key is.", error="invalid_token")
        caller = self._callers.of_key(key, "oauth2")
        if token.scopes is None:
            return caller
        granted = caller.scopes
        return replace(caller, scopes=token.scopes if granted is None else token.scopes & granted)

    @property
    def _signer(self) -> Signer:
        return self._signing.signer

    def _now(self) -> float:
        return self._clock.unix_ns() / 1e9


class NoToken(Bearer, AtOnce):
    """Stands behind every other way that takes tokens: a token that none of them knows is wrong."""

    def quick(self, head: Head, shown: str) -> Caller | None:
        """See `Check.quick`."""
        del head, shown
        raise Wrong(error="invalid_token")
