"""Who is signed in: an opaque cookie, of which the Store keeps only a keyed digest."""

import hmac
import json
import secrets
from dataclasses import dataclass

from wherry.clock import Clock
from wherry.store import Store

FOLDER = "portal/session/"

LASTS = 12 * 3600
"""Seconds until somebody has to sign in again."""

MOST_EACH = 20
"""Most sessions of an account; the oldest end."""

_TOKEN_LETTERS = 43


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody signed in.

    Attributes:
        id: Name of its record.
        account: Whose it is.
        ends_ns: Unix nanoseconds when it ends.
    """

    id: str
    account: str
    ends_ns: int


class Sessions:
    """The sessions, and the tokens that guard forms."""

    def __init__(self, store: Store, secret: bytes, clock: Clock) -> None:
        self._store, self._secret, self._clock = store, secret, clock

    async def begin(self, account: str) -> str:
        """Return the cookie of a new session."""
        token = fresh_token()
        ends_ns = self._clock.unix_ns() + LASTS * 10**9
        body = json.dumps({"ends_ns": ends_ns}).encode()
        await self._store.put(self._key(account, token), body, expect=0)
        await self._trim(account)
        return f"{account}.{token}"

    async def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie, if it has not ended."""
        account, _, token = cookie.partition(".")
        if not (len(account) == 64 and account.isalnum() and len(token) == _TOKEN_LETTERS):  # noqa: PLR2004
            return None
        record = await self._store.get(self._key(account, token))
        if record is None:
            return None
        session = Session(record.key, account, int(json.loads(record.body)["ends_ns"]))
        return session if self._clock.unix_ns() < session.ends_ns else None

    async def end(self, session: Session) -> None:
        """Sign one browser out."""
        await self._store.delete(session.id)

    async def end_all(self, account: str) -> None:
        """Sign every browser of an account out."""
        for key in await self._store.list(f"{FOLDER}{account}/"):
            await self._store.delete(key)

    async def sweep(self) -> None:
        """Forget the sessions that have ended."""
        now = self._clock.unix_ns()
        for key, record in (await self._store.list(FOLDER)).items():
            if int(json.loads(record.body)["ends_ns"]) <= now:
                await self._store.delete(key)

    def guard(self, cookie: str) -> str:
        """Return what a form of the browser with that cookie must send back."""
        return hmac.digest(self._secret, b"form:" + cookie.encode(), "sha256").hex()

    def guarded(self, cookie: str, given: str) -> bool:
        """Return whether ``given`` is the `guard` of the cookie."""
        return hmac.compare_digest(self.guard(cookie).encode(), given.encode())

    async def _trim(self, account: str) -> None:
        held = await self._store.list(f"{FOLDER}{account}/")
        oldest = sorted(held.values(), key=lambda record: record.revision)
        for record in oldest[: max(0, len(oldest) - MOST_EACH)]:
            await self._store.delete(record.key)

    def _key(self, account: str, token: str) -> str:
        digest = hmac.digest(self._secret, b"session:" + token.encode(), "sha256").hex()
        return f"{FOLDER}{account}/{digest}"


def fresh_token() -> str:
    """Return 256 random bits as text for a cookie."""
    return secrets.token_urlsafe(32)
