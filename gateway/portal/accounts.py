"""Accounts in the Store: an email address, a password, and the consumer they stand for."""

import asyncio
import hmac
import json
import re
import secrets
from dataclasses import dataclass, replace

from gateway.portal.password import MAX_PASSWORD, MIN_PASSWORD, NOBODY, SALT_BYTES, Hashed
from wherry.clock import Clock
from wherry.errors import WherryError
from wherry.store import Conflict, Store

FOLDER = "portal/account/"

MAX_EMAIL = 254
"""Most characters in an email address (RFC 5321, 4.5.3.1.3)."""

_EMAIL = re.compile(r"[^\s@<>\"(),:;\\\[\]\x00-\x1f\x7f]{1,64}@[^\s@<>\"(),:;\\\[\]]{1,253}")
_AT_ONCE = 2


class Taken(WherryError):
    """There is an account with that email address already."""

    def __init__(self) -> None:
        super().__init__("account: there is one with that address, expected none")


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may sign in.

    Attributes:
        id: Name of its record: a keyed digest of the address, which tells it to nobody.
        email: As written at sign-up.
        title: Who they are, as invoices show it.
        consumer: The consumer that they stand for.
        password: What is kept of it.
        created_ns: Unix nanoseconds.
    """

    id: str
    email: str
    title: str
    consumer: str
    password: Hashed
    created_ns: int

    def encode(self) -> bytes:
        """Return the record's body."""
        return json.dumps(
            {
                "email": self.email,
                "title": self.title,
                "consumer": self.consumer,
                "password": self.password.text(),
                "created_ns": self.created_ns,
            }
        ).encode()

    @classmethod
    def decode(cls, each: str, body: bytes) -> "Account":
        """Read the record of the account ``each``.

        Raises:
            ValueError: It is not what `encode` writes.
        """
        try:
            read = json.loads(body)
            return cls(
                each,
                str(read["email"]),
                str(read["title"]),
                str(read["consumer"]),
                Hashed.read(str(read["password"])),
                int(read["created_ns"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"account {each}: {error}, expected an account") from None


def faults(email: str, password: str) -> dict[str, str]:
    """Return what is wrong with a sign-up, by field; empty when nothing is."""
    found = {}
    if len(email) > MAX_EMAIL or not _EMAIL.fullmatch(email):
        found["email"] = "Write an email address, like ada@example.com."
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        found["password"] = f"Use {MIN_PASSWORD} to {MAX_PASSWORD} characters."
    elif password.strip().lower() == email.lower() or len(set(password)) < 4:  # noqa: PLR2004
        found["password"] = "Choose one that is harder to guess."  # noqa: S105
    return found


class Accounts:
    """The accounts.

    At most two passwords are looked at at once, for each takes memory and a core; more wait.
    """

    def __init__(self, store: Store, secret: bytes, clock: Clock) -> None:
        self._store, self._secret, self._clock = store, secret, clock
        self._places = asyncio.Semaphore(_AT_ONCE)

    def id_of(self, email: str) -> str:
        """Return the name of the record for ``email``; upper and lower case are the same."""
        given = b"account:" + email.strip().lower().encode()
        return hmac.digest(self._secret, given, "sha256").hex()

    async def create(self, email: str, password: str, *, title: str, consumer: str) -> Account:
        """Make an account.

        Raises:
            Taken: The address has one.
        """
        account = Account(
            self.id_of(email), email, title, consumer, await self._hashed(password), self._now()
        )
        try:
            await self._store.put(FOLDER + account.id, account.encode(), expect=0)
        except Conflict:
            raise Taken from None
        return account

    async def get(self, each: str) -> Account | None:
        """Return the account with that id."""
        record = await self._store.get(FOLDER + each)
        return None if record is None else Account.decode(each, record.body)

    async def signed_in(self, email: str, password: str) -> Account | None:
        """Return the account whose password this is; None takes as long as a wrong password."""
        account = await self.get(self.id_of(email))
        kept = NOBODY if account is None else account.password
        async with self._places:
            right = await asyncio.to_thread(kept.accepts, password[: MAX_PASSWORD + 1])
        return account if right else None

    async def change_password(self, account: Account, password: str) -> Account:
        """Keep another password for the account."""
        changed = replace(account, password=await self._hashed(password))
        await self._store.put(FOLDER + account.id, changed.encode())
        return changed

    async def _hashed(self, password: str) -> Hashed:
        async with self._places:
            return await asyncio.to_thread(Hashed.of, password, secrets.token_bytes(SALT_BYTES))

    def _now(self) -> int:
        return self._clock.unix_ns()
