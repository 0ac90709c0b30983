"""Where a Redis is, and connections to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from wherry.errors import StartError

SECONDS = 5.0
"""Longest wait for a connection, and for a free one."""

MAX_CONNECTIONS = 32
"""Most connections of one store, watchers included; further calls wait for a free one."""

_SENTINEL = "redis+sentinel"
_SENTINEL_PORT = 26379


Client: TypeAlias = Any
"""A `redis.asyncio.Redis`, whose own types leave open which of its answers is bytes."""


def address(url: str) -> str:
    """Return ``url`` without the name and password in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """Yield a client for the server that ``url`` names; close its connections at the end.

    Nothing is sent twice by itself: a step that was taken twice would count twice. The wait for
    an answer is the caller's to bound.

    Raises:
        StartError: The URL is none.
    """
    # Whoever calls bounds the wait for an answer: the client's own way to do so starts a task for
    # each command, and on Python 3.11 sometimes loses that it was cancelled.
    options: dict[str, Any] = {
        "socket_timeout": None,
        "socket_connect_timeout": SECONDS,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
    }
    client: Client
    sentinels: list[Client] = []
    try:
        if url.startswith(_SENTINEL + ":"):
            client, sentinels = _by_sentinel(url, options)
        else:
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                url, max_connections=MAX_CONNECTIONS, timeout=SECONDS, **options
            )
            client = redis.asyncio.Redis(connection_pool=pool)
    except ValueError as error:
        raise StartError(
            f"store {address(url)!r}: {error}, expected redis://HOST:PORT/DB"
        ) from None
    try:
        yield client
    finally:
        for each in sentinels:
            await each.aclose()
        await client.connection_pool.disconnect()
        await client.aclose()


def _by_sentinel(url: str, options: dict[str, Any]) -> tuple[Client, list[Client]]:
    """Return a client of the master that sentinels name, and their own clients."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("no service or no host, like redis+sentinel://HOST:26379/SERVICE/0")
    where = []
    for each in hosts.split(","):
        host, _, port = each.partition(":")
        where.append((host, int(port or _SENTINEL_PORT)))
    name, _, password = credentials.partition(":")
    sentinel: Any = Sentinel
    asked = sentinel(where, sentinel_kwargs=options)
    client = asked.master_for(
        service,
        db=int(database or 0),
        username=name or None,
        password=password or None,
        max_connections=MAX_CONNECTIONS,
        **options,
    )
    return client, list(asked.sentinels)
