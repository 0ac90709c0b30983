"""Moments as Lambda's answers spell them: each kind of resource has its own way. Pure."""

from datetime import UTC, datetime


def milliseconds(unix_ns: int) -> str:
    """Return ``2019-12-31T20:28:49.123+0000``, as functions and layers have it."""
    return _at(unix_ns).strftime("%Y-%m-%dT%H:%M:%S.") + f"{unix_ns // 10**6 % 1000:03d}+0000"


def seconds(unix_ns: int) -> str:
    """Return ``2019-12-31T20:28:49+0000``, as provisioned concurrency has it."""
    return _at(unix_ns).strftime("%Y-%m-%dT%H:%M:%S+0000")


def zulu(unix_ns: int) -> str:
    """Return ``2019-12-31T20:28:49.123456Z``, as function URLs have it."""
    return _at(unix_ns).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _at(unix_ns: int) -> datetime:
    return datetime.fromtimestamp(unix_ns // 1000 / 10**6, UTC)
