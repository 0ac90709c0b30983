"""Requests signed with the secret that belongs to a key, each of which counts once."""

import hmac
from collections import OrderedDict
from dataclasses import replace
from hashlib import sha256

from gateway.authn.check import REALM, Callers, Wrong
from gateway.authn.signature import BadSignature, Signature, body_digest, expect_covered
from gateway.call import Caller, Head
from gateway.keyring import Keyring
from gateway.problem import out_of_capacity
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.model.authentication import Hmac
from wherry.model.resource import seconds
from wherry.store import Store

MOST = 200_000
"""Most signed requests that are remembered; while none of them may be forgotten, more get 503."""


class Replays:
    """Signed requests that were taken.

    Args:
        clock: Where the time is read.
        store: Where other processes look, too; None: there are none.
    """

    def __init__(self, clock: Clock, store: Store | None) -> None:
        self._clock, self._store = clock, store
        self._taken: OrderedDict[bytes, float] = OrderedDict()

    @property
    def shared(self) -> bool:
        """Whether other processes take requests, too."""
        return self._store is not None

    def now(self) -> float:
        """Return Unix seconds."""
        return self._clock.unix_ns() / 1e9

    def first(self, signature: Signature, lasting: float) -> bool:
        """Return whether this process takes the request for the first time.

        Args:
            signature: Of the request, verified.
            lasting: Seconds for which it could come again.

        Raises:
            Refused: 503, there is no place to remember it.
        """
        now = self.now()
        while self._taken and next(iter(self._taken.values())) <= now:
            self._taken.popitem(last=False)
        name = _name(signature)
        if name in self._taken:
            return False
        if len(self._taken) >= MOST:
            raise out_of_capacity("Too many signed requests came at once.")
        self._taken[name] = now + lasting
        return True

    async def first_of_all(self, signature: Signature, lasting: float) -> bool:
        """Return whether any process takes the request for the first time; see `first`.

        Raises:
            Refused: 503, there is no place to remember it.
        """
        if not self.first(signature, lasting):
            return False
        if self._store is None:
            return True
        try:
            return (
                await self._store.advance(
                    f"signed/{_name(signature).hex()}", 1, floor=None, most=1, seconds=lasting
                )
            ).passed
        except WherryError:
            del self._taken[_name(signature)]
            raise out_of_capacity("Signed requests cannot be compared now.") from None


class BySignature:
    """A signed request; see `gateway.authn.check.Check`.

    Source: RFC 9421
    """

    challenge = f'Signature realm="{REALM}"'
    wanted = "a signature by a key's signing secret"
    secret_fields: tuple[str, ...] = ("signature", "signature-input")
    parameter: str | None = None

    def __init__(self, method: Hmac, keyring: Keyring, callers: Callers, replays: Replays) -> None:
        self._headers = tuple(name.lower() for name in method.headers)
        self._skew, self._digest = seconds(method.skew), method.digest
        self._keyring, self._callers, self._replays = keyring, callers, replays

    def shown(self, head: Head) -> str | None:
        """See `Check.shown`."""
        return head.headers.get("Signature-Input")

    def quick(self, head: Head, shown: str) -> Caller | None:
        """See `Check.quick`."""
        del shown
        if self._replays.shared:
            return None
        caller, signature = self._verified(head)
        if not self._replays.first(signature, 2 * self._skew + 1):
            raise _again()
        return caller

    async def slow(self, head: Head, shown: str) -> Caller:
        """See `Check.slow`."""
        del shown
        caller, signature = self._verified(head)
        if not await self._replays.first_of_all(signature, 2 * self._skew + 1):
            raise _again()
        return caller

    def _verified(self, head: Head) -> tuple[Caller, Signature]:
        try:
            signature = Signature.of(head)
            expect_covered(head, signature.covered, self._headers, digest=self._digest)
            digest = body_digest(head) if "content-digest" in signature.covered else None
        except BadSignature as error:
            raise Wrong(str(error), always=True) from None
        now = self._replays.now()
        if abs(now - signature.made) > self._skew:
            raise Wrong("The signature's time is too far from now.", always=True)
        if signature.ends is not None and now >= signature.ends:
            raise Wrong("The signature is expired.", always=True)
        secret = self._keyring.signing_secret(signature.key)
        made = hmac.digest(secret, signature.base, "sha256")
        if not hmac.compare_digest(made, signature.value):
            raise Wrong("The signature is not by that key.")
        key = self._keyring.live(signature.key)
        if key is None:
            raise Wrong("The signature's key is revoked or expired.")
        caller = self._callers.of_key(key, "hmac")
        return caller if digest is None else replace(caller, body_digest=digest), signature


def _again() -> Wrong:
    return Wrong("The signed request came before.", always=True)


def _name(signature: Signature) -> bytes:
    return sha256(signature.key.encode() + b"\n" + signature.nonce).digest()[:16]
