"""Who changed what, and when: a log in the Store that only grows, without secrets."""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from wherry.store import Store

LOG = "audit"
"""Name of the Store's log."""

MAX_SIDE = 256 << 10
"""Most bytes of JSON of what was or is; more is told by digest and size."""

HIDDEN = "(hidden)"
"""Takes the place of what may be a secret."""

_SECRET = re.compile(
    r"secret|password|passwd|token|credential|authorization|cookie|api[-_]?key|private|digest",
    re.IGNORECASE,
)
_PLAIN = frozenset({"clientSecretEnv", "tokensLast", "credentials"})
_PRIVATE_KEY_PARTS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One change.

    Attributes:
        id: Idempotency key.
        at_ns: Unix nanoseconds.
        actor: Who: the name of a token, ``portal:CONSUMER``, or a command.
        verb: Like ``create``, ``update``, ``delete``, ``revoke``.
        subject: What, like ``Plan/gold`` or ``key/ab12cd34``.
        before: What it was, without secrets; None when there was none.
        after: What it is, without secrets; None when it is gone.
    """

    id: str
    at_ns: int
    actor: str
    verb: str
    subject: str
    before: object = None
    after: object = None

    def encode(self) -> bytes:
        """Return the event's body."""
        fields = asdict(self) | {"before": _bounded(self.before), "after": _bounded(self.after)}
        return json.dumps(fields, ensure_ascii=False).encode()

    @classmethod
    def decode(cls, body: bytes) -> "Entry":
        """Read what `encode` wrote."""
        return cls(**json.loads(body))


async def noted(
    store: Store,
    *,
    at_ns: int,
    actor: str,
    verb: str,
    subject: str,
    before: object = None,
    after: object = None,
) -> None:
    """Append one change, which was never noted before; see `Entry` for the arguments."""
    entry = Entry(secrets.token_hex(8), at_ns, actor, verb, subject, before, after)
    await wrote(store, [entry])


async def wrote(store: Store, entries: Sequence[Entry]) -> None:
    """Append entries to the log; those that are in it already are not written again."""
    await store.append(LOG, [(entry.id, entry.encode()) for entry in entries])


def redacted(value: object) -> object:
    """Return ``value`` with `HIDDEN` for whatever a field's or header's name calls a secret."""
    match value:
        case Mapping():
            return _fields(value)
        case list() | tuple():
            return [redacted(each) for each in value]
        case str():
            return _USERINFO.sub(HIDDEN, value)
        case _:
            return value


def _fields(value: Mapping[str, object]) -> dict[str, object]:
    kept = {name: _field(name, inner) for name, inner in value.items()}
    if "value" in kept and _SECRET.search(str(value.get("name", ""))):
        kept["value"] = HIDDEN  # a header or variable that is named so
    if "kty" in kept:
        kept |= dict.fromkeys(kept.keys() & _PRIVATE_KEY_PARTS, HIDDEN)
    return kept


def _field(name: str, inner: object) -> object:
    if name in _PLAIN or not _SECRET.search(name):
        return redacted(inner)
    match inner:
        case bool() | None | Mapping():
            return redacted(inner)
        case list() | tuple():
            return [_field(name, each) for each in inner]
        case _:
            return HIDDEN


def _bounded(value: object) -> object:
    kept = redacted(value)
    text = json.dumps(kept, ensure_ascii=False).encode()
    if len(text) <= MAX_SIDE:
        return kept
    return {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
