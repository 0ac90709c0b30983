"""Changes of keys as people ask for them, whichever way they come: each is noted for the audit."""

from gateway import keyring
from gateway.authn.shownkey import shown
from gateway.keyring import Grant
from gateway.keys import Key
from wherry import audit
from wherry.clock import Clock
from wherry.store import Store


class KeyDesk:
    """Makes, rotates and revokes keys.

    Args:
        store: Where keys are, and the audit log.
        clock: Where the time is read.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    async def create(
        self, pepper: bytes, consumer: str, grant: Grant, *, actor: str
    ) -> tuple[Key, str]:
        """Make a key; return its record and its text, which is kept nowhere.

        Args:
            pepper: See `gateway.pepper`.
            consumer: Whose it is.
            grant: What it is for.
            actor: Who asks, for the audit log.

        Raises:
            TooManyKeys: The app has two live keys in that environment.
        """
        now = self._clock.unix_ns()
        key, text = await keyring.create(self._store, pepper, consumer, now_ns=now, grant=grant)
        await self._note(actor, "createKey", key.prefix, None, shown(key, now))
        return key, text

    async def rotate(
        self, pepper: bytes, prefix: str, *, ends_ns: int | None, actor: str
    ) -> tuple[Key, str]:
        """Make the key that takes the place of ``prefix``; see `gateway.keyring.rotate`.

        Raises:
            UnknownKey: There is no such key.
            DeadKey: It is not accepted any more.
            TooManyKeys: The old key is not the app's only one.
        """
        now = self._clock.unix_ns()
        before = await keyring.found(self._store, prefix)
        key, text = await keyring.rotate(self._store, pepper, prefix, now_ns=now, ends_ns=ends_ns)
        old = await keyring.found(self._store, prefix)
        after = {"old": shown(old, now), "new": shown(key, now)}
        await self._note(actor, "rotateKey", prefix, shown(before, now), after)
        return key, text

    async def revoke(self, prefix: str, *, actor: str) -> Key:
        """Stop accepting a key, at once.

        Raises:
            UnknownKey: There is no such key.
        """
        now = self._clock.unix_ns()
        before = await keyring.found(self._store, prefix)
        after = await keyring.revoke(self._store, prefix, now_ns=now)
        await self._note(actor, "revokeKey", prefix, shown(before, now), shown(after, now))
        return after

    async def _note(
        self, actor: str, verb: str, prefix: str, before: object, after: object
    ) -> None:
        await audit.noted(
            self._store,
            at_ns=self._clock.unix_ns(),
            actor=actor,
            verb=verb,
            subject=f"key/{prefix}",
            before=before,
            after=after,
        )
