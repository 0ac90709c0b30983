"""What an Envoy of this machine says it has, over the unix socket of its admin interface.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/admin/v3/config_dump.proto
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from wherry.cli.envoys import Envoy
from wherry.errors import WherryError
from wherry.serve import Address

SECONDS = 15.0
MAX_BYTES = 256 << 20

_SECTIONS = {
    "ClustersConfigDump": "cds",
    "EndpointsConfigDump": "eds",
    "ListenersConfigDump": "lds",
    "RoutesConfigDump": "rds",
    "ScopedRoutesConfigDump": "srds",
    "SecretsConfigDump": "sds",
    "EcdsConfigDump": "ecds",
}
_STATES = {"active_state": "active", "warming_state": "warming", "draining_state": "draining"}
_NAMES = ("name", "cluster_name")

RUN = "run"
"""The file of a state folder that notes where its Envoys have their sockets."""
FOLDERS = "wherry-"
"""What the names of such folders begin with."""


class NoAdmin(WherryError):
    """An Envoy's admin interface is not here, or gives no answer."""


def socket_of(node: str, state: Path) -> Path:
    """Return the admin socket of the Envoy of ``node``, started by a Wherry of this user here.

    Args:
        node: Its full id.
        state: Folder of the Wherry that is asked first; other Wherries may have a node of that
            name, too.

    Raises:
        NoAdmin: There is none on this machine, or there are several.
    """
    name = Envoy(node, {}, Address(), Path()).admin.name
    note = state / RUN
    if note.exists() and (own := Path(note.read_text()) / name).is_socket():
        return own
    found = sorted(Path(tempfile.gettempdir()).glob(f"{FOLDERS}*/{name}"))
    if len(found) == 1:
        return found[0]
    raise NoAdmin(
        f"proxy {node}: {len(found)} admin sockets {name} on this machine, expected one, of an "
        "Envoy that this user started with wherry; name its socket with --admin"
    )


async def dumped(admin: Path, only: str | None = None) -> list[dict[str, Any]]:
    """Return what came by discovery to the Envoy behind the socket ``admin``.

    Args:
        admin: Path of the socket.
        only: Short name of the one type to return.

    Raises:
        NoAdmin: Nobody answers there, or not with a configuration dump.
    """
    raw = await _read(admin)
    try:
        dump = await asyncio.to_thread(json.loads, raw)
        return [row for row in _rows(dump["configs"]) if only in (None, row["type"])]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoAdmin(f"admin {admin}: {error!r}, expected a configuration dump") from None


async def _read(admin: Path) -> bytes:
    body = bytearray()
    try:
        async with (
            asyncio.timeout(SECONDS),
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(admin))) as session,
            session.get("http://envoy/config_dump?include_eds") as answer,
        ):
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise NoAdmin(f"admin {admin}: over {MAX_BYTES} bytes, expected at most that")
    except (OSError, aiohttp.ClientError, TimeoutError) as error:
        raise NoAdmin(
            f"admin {admin}: {str(error) or type(error).__name__}, expected an Envoy that answers"
        ) from None
    return bytes(body)


def _rows(sections: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for section in sections:
        kind = _SECTIONS.get(section["@type"].rpartition(".")[2])
        for key, entries in section.items():
            if kind and (key.startswith("dynamic_") or key == "ecds_filters"):
                state = "warming" if "warming" in key else "active"
                for entry in entries:
                    yield from _entry(kind, entry, state)


def _entry(kind: str, entry: Mapping[str, Any], state: str) -> Iterator[dict[str, Any]]:
    failure = entry.get("error_state", {})
    reason = {"refused": failure["details"]} if "details" in failure else {}
    versions = [(entry[key], name) for key, name in _STATES.items() if key in entry]
    for each, word in versions or [(entry, state)]:
        body = next((v for v in each.values() if isinstance(v, dict) and "@type" in v), None)
        name = entry.get("name") or next(
            (body[key] for key in _NAMES if body is not None and key in body), ""
        )
        if not name and reason:
            name = failure.get("failed_configuration", {}).get("name", "")
        yield {
            "type": kind,
            "name": name,
            "state": "refused" if body is None and reason else word,
            "version": each.get("version_info", ""),
            "updated": each.get("last_updated"),
            **reason,
            "resource": body,
        }
