"""Read what an Envoy holds over the unix socket of its admin interface."""

import asyncio
import json
from pathlib import Path

import aiohttp

from xds.csds.dump import BadDump, configs_of
from xds.csds.fleet import Config

MAX_BYTES = 64 << 20
"""Longest dump that is read."""
SECONDS = 10.0
"""Longest that Envoy may take for it."""

_OK = 200


async def held_by(admin: Path, *, seconds: float = SECONDS) -> tuple[Config, ...]:
    """Return what the Envoy behind the socket ``admin`` has from discovery, sorted by type.

    Raises:
        BadDump: The answer is no configuration dump, or longer than `MAX_BYTES`.
        OSError: Nobody listens there (`aiohttp.ClientConnectorError` is one).
        TimeoutError: It took longer than ``seconds``.
    """
    connector = aiohttp.UnixConnector(str(admin))
    async with (
        asyncio.timeout(seconds),
        aiohttp.ClientSession(connector=connector) as client,
        client.get("http://envoy/config_dump?include_eds") as answer,
    ):
        raw = bytearray()
        async for chunk in answer.content.iter_any():
            raw += chunk
            if len(raw) > MAX_BYTES:
                raise BadDump(f"config dump: over {MAX_BYTES} bytes, expected at most that")
        if answer.status != _OK:
            raise BadDump(f"config dump: status {answer.status}, expected {_OK}")
    try:
        dump = await asyncio.to_thread(json.loads, bytes(raw))
    except ValueError as error:
        raise BadDump(f"config dump: {error}, expected JSON") from None
    return configs_of(dump)
