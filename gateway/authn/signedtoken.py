"""Tokens that other people's issuers signed.

Source: RFC 6750, RFC 7519
"""

from gateway.authn import tokens
from gateway.authn.bearer import Bearer, caller_of
from gateway.authn.check import Callers, Wrong
from gateway.authn.issuers import Issuer
from gateway.authn.jwks import KeySet
from gateway.authn.memory import Memory
from gateway.authn.tokens import Expected, Opened
from gateway.call import Caller, Head
from gateway.problem import out_of_capacity
from wherry.clock import Clock
from wherry.model.authentication import Jwt
from wherry.model.resource import seconds


class BySignedToken(Bearer):
    """A JWT; see `Check`. Only one that says it is of the method's issuer is meant by it.

    Args:
        method: As it is written.
        issuer: Who signs; None: the keys are given.
        keys: The keys themselves, or None.
        callers: Makes callers.
        clock: Where the time is read.
    """

    def __init__(
        self,
        method: Jwt,
        *,
        issuer: Issuer | None,
        keys: KeySet | None,
        callers: Callers,
        clock: Clock,
    ) -> None:
        self._method, self._issuer, self._given = method, issuer, keys
        self._callers, self._clock = callers, clock
        leeway = seconds(method.leeway)
        self._expected = Expected(method.issuer, frozenset(method.audiences), leeway)
        self._algorithms = frozenset(method.algorithms)
        self._memory: Memory[Caller] = Memory()

    def shown(self, head: Head) -> str | None:
        """See `Check.shown`."""
        token = super().shown(head)
        if not token or self._memory.get(token, self._now(), *self._ground()) is not None:
            return token
        found = tokens.opened(token)
        return token if found is not None and found.issuer == self._method.issuer else None

    def quick(self, head: Head, shown: str) -> Caller | None:
        """See `Check.quick`."""
        del head
        known = self._memory.get(shown, self._now(), *self._ground())
        if self._issuer is not None:
            self._issuer.keep_fresh()
        if known is not None:
            return known.found
        token = self._opened(shown)
        keys = self._keys()
        if keys is not None and keys.has(token.key, token.algorithm):
            return self._judged(shown, token, keys)
        if self._issuer is not None and self._issuer.may_fetch():
            return None
        raise self._unknown_key()

    async def slow(self, head: Head, shown: str) -> Caller:
        """See `Check.slow`."""
        del head
        token = self._opened(shown)
        if self._issuer is not None:
            await self._issuer.fetched()
        keys = self._keys()
        if keys is None or not keys.has(token.key, token.algorithm):
            raise self._unknown_key()
        return self._judged(shown, token, keys)

    def _opened(self, text: str) -> Opened:
        token = tokens.opened(text)
        if token is None or token.algorithm not in self._algorithms:
            raise Wrong(error="invalid_token")
        return token

    def _judged(self, text: str, token: Opened, keys: KeySet) -> Caller:
        if not keys.signed(token):
            raise Wrong("The token's signature is wrong.", error="invalid_token")
        now = self._now()
        found = tokens.fault(token.claims, self._expected, now)
        if found is not None:
            raise Wrong(found, error="invalid_token")
        granted = tokens.scopes(token.claims, self._method.scopes)
        caller = caller_of(token.claims, self._method, granted, self._callers.directory)
        until = float(token.claims["exp"]) + self._expected.leeway
        self._memory.put(text, caller, until, *self._ground())
        return caller

    def _unknown_key(self) -> Exception:
        if self._issuer is not None and (self._issuer.keys is None or self._issuer.failing):
            return out_of_capacity("The keys of the token's issuer cannot be read.")
        return Wrong("The token's key is not known.", error="invalid_token")

    def _keys(self) -> KeySet | None:
        return self._given if self._issuer is None else self._issuer.keys

    def _ground(self) -> tuple[object, ...]:
        return self._keys(), self._callers.directory

    def _now(self) -> float:
        return self._clock.unix_ns() / 1e9
