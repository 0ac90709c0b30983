"""Ask the Pilot that runs here about its proxies."""

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import aiohttp
import typer
from rich.console import Console
from yarl import URL

from wherry.cli.state import addresses, state_dir
from wherry.errors import WherryError

ANSWER_SECONDS = 30.0
MAX_ANSWER_BYTES = 256 << 20

WAY_OUT = "start one with `wherry up` or `wherry run xds`, or name another with --url"

WIDE = 240
"""Columns where nobody looks at a terminal: a file, a pipe."""

Url = Annotated[
    str | None,
    typer.Option(help="Where the Pilot answers, as http://HOST:PORT; else the Wherry here."),
]
Node = Annotated[
    str, typer.Argument(help="Id of a proxy, or what it begins with; `wherry status` lists them.")
]

_OK, _BAD, _NOT_FOUND, _CONFLICT = 200, 400, 404, 409

_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\ufffd") | {9: "\t", 10: "\n"}
"""What no text of a proxy may do to a terminal: a proxy chooses its name and its reasons."""


def shown_on() -> Console:
    """Return what tables are printed on: as wide as the terminal; wide where there is none."""
    console = Console()
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return Console(width=WIDE)


class NoPilot(WherryError):
    """The Pilot gave no answer; the message says why and the way out."""

    def __init__(self, url: str, found: str) -> None:
        super().__init__(f"pilot {url}: {found}, expected an answer about proxies; {WAY_OUT}")


class NoProxy(WherryError):
    """The Pilot knows no such proxy, or not that of it; the message says which there are."""


def noted(url: str | None) -> str:
    """Return ``url``, else where the Pilot of the Wherry here answers.

    Raises:
        StartError: Nothing runs here.
        NoPilot: What runs here has no Pilot.
    """
    if url is None:
        folder = state_dir()
        url = addresses(folder).get("pilot")
        if url is None:
            raise NoPilot(str(folder), "no address noted")
    return (url if "://" in url else f"http://{url}").rstrip("/")


async def ask(url: str, *path: str, **query: str) -> Mapping[str, Any]:
    """Return what the Pilot at ``url`` says about ``path`` below ``/api/proxies``.

    Raises:
        NoPilot: It gives no answer, or another than that.
        NoProxy: It knows no such proxy.
    """
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return await fetch(session, url, *path, **query)


async def fetch(
    session: aiohttp.ClientSession, url: str, *path: str, **query: str
) -> Mapping[str, Any]:
    """As `ask`, on a session that stays."""
    target = "/".join([f"{url}/api/proxies", *(quote(part, safe="") for part in path)])
    return await _got(session, url, target, query)


async def load(url: str) -> Mapping[str, Any]:
    """Return what the Pilot at ``url`` says of the requests that proxies send.

    Raises:
        NoPilot: It gives no answer, or another than that.
    """
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return await _got(session, url, f"{url}/api/load", {})


async def _got(
    session: aiohttp.ClientSession, url: str, target: str, query: Mapping[str, str]
) -> Mapping[str, Any]:
    try:
        # Encoded here: yarl would undo the quoting of a slash within a name.
        given = URL(target, encoded=True).with_query(query)
        async with session.get(given, allow_redirects=False) as response:
            body = await _read(response)
    except (aiohttp.ClientError, ValueError) as error:
        raise NoPilot(url, str(error) or type(error).__name__) from None
    except TimeoutError:
        raise NoPilot(url, f"no answer within {ANSWER_SECONDS:g} s") from None
    answer = await asyncio.to_thread(_object, body)
    said = response.status in (_BAD, _NOT_FOUND, _CONFLICT)
    if said and answer is not None and "error" in answer:
        raise NoProxy(str(answer["error"]))
    if response.status != _OK or len(body) > MAX_ANSWER_BYTES:
        raise NoPilot(url, f"status {response.status} with {len(body)} bytes")
    if answer is None:
        raise NoPilot(url, "an answer of another form")
    return answer


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            break
    return bytes(body)


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return _harmless(found) if isinstance(found, dict) else None


def _harmless(value: Any) -> Any:
    """Return an answer without what a terminal would obey."""
    match value:
        case str():
            return value if value.isprintable() else value.translate(_CONTROLS)
        case dict():
            return {_harmless(name): _harmless(inner) for name, inner in value.items()}
        case list():
            return [_harmless(inner) for inner in value]
        case _:
            return value
