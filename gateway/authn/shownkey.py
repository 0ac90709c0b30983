"""What may be read of a key, for people and programs."""

from gateway.days import to_the_second
from gateway.keys import Key


def shown(key: Key, now_ns: int, used_ns: int | None = None) -> dict[str, object]:
    """Return what may be read of a key, as JSON."""
    return {
        "prefix": key.prefix,
        "consumer": key.consumer,
        "app": key.app,
        "title": key.title,
        "scopes": None if key.scopes is None else sorted(key.scopes),
        "environment": key.environment,
        "state": key.state_at(now_ns),
        "created": to_the_second(key.created_ns),
        "expires": None if key.expires_ns is None else to_the_second(key.expires_ns),
        "revoked": None if key.revoked_ns is None else to_the_second(key.revoked_ns),
        "lastUsed": None if used_ns is None else to_the_second(used_ns),
    }
