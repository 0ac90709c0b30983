"""What may be read of a key, for people and programs."""

from datetime import UTC, datetime

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
        "created": time(key.created_ns),
        "expires": None if key.expires_ns is None else time(key.expires_ns),
        "revoked": None if key.revoked_ns is None else time(key.revoked_ns),
        "lastUsed": None if used_ns is None else time(used_ns),
    }


def time(unix_ns: int) -> str:
    """Return Unix nanoseconds as people and programs read them, to the second."""
    return datetime.fromtimestamp(unix_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
