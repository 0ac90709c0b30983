"""Asks the admin API of the Wherry that runs here, or of one that is named."""

import io
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from wherry.cli.state import addresses, state_dir
from wherry.errors import WherryError

ANSWER_SECONDS = 60.0
MAX_ANSWER_BYTES = 256 << 20

TOKEN_FILE = "admin-token"  # noqa: S105  # the name of a file
"""File of the state folder that holds the token of its owner."""

URL_VARIABLE, TOKEN_VARIABLE = "WHERRY_ADMIN_URL", "WHERRY_ADMIN_TOKEN"

_REFUSED = 400

Answer = Mapping[str, Any]


class NoAdmin(WherryError):
    """The admin API gave no answer; the message says why and the way out."""

    def __init__(self, where: str, found: str, way_out: str) -> None:
        super().__init__(f"admin API {where}: {found}, expected an answer; {way_out}")


class NotTaken(WherryError):
    """The admin API refused a request.

    Attributes:
        status: The HTTP status.
        problem: The problem document (RFC 9457).
    """

    def __init__(self, url: str, status: int, problem: Answer) -> None:
        detail = problem.get("detail") or problem.get("title") or "no reason given"
        super().__init__(f"admin API {url}: {status}, {detail}")
        self.status, self.problem = status, problem


@dataclass(frozen=True, slots=True)
class Place:
    """Where an admin API is, and who asks.

    Attributes:
        url: Like ``http://127.0.0.1:8001``.
        token: Goes with each request.
    """

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Place({self.url!r})"


def place(url: str | None = None, state: Path | None = None) -> Place:
    """Return where to ask: ``url``, else WHERRY_ADMIN_URL, else the Wherry of ``state``.

    The token is that of WHERRY_ADMIN_TOKEN, else the owner's in the state folder. The latter goes
    to the Wherry of that folder only, never to a URL that was named.

    Raises:
        StartError: Nothing runs here.
        NoAdmin: There is no address, or no token.
    """
    named = url or os.environ.get(URL_VARIABLE)
    token = os.environ.get(TOKEN_VARIABLE)
    if named is not None:
        if not token:
            raise NoAdmin(named, "no token", f"put one in {TOKEN_VARIABLE}")
        return Place((named if "://" in named else f"http://{named}").rstrip("/"), token)
    folder = state_dir(state)
    here = addresses(folder).get("admin")
    if here is None:
        raise NoAdmin(str(folder), "no address noted", f"start it, or set {URL_VARIABLE}")
    try:
        token = token or (folder / TOKEN_FILE).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        found = f"no token ({getattr(error, 'strerror', None) or 'unreadable'})"
        way_out = f"put one in {TOKEN_VARIABLE}; wherry admin token create makes one"
        raise NoAdmin(str(folder / TOKEN_FILE), found, way_out) from None
    return Place(here if "://" in here else f"http://{here}", token)


class Client:
    """One session with the admin API; made by `client`."""

    def __init__(self, session: aiohttp.ClientSession, at: Place) -> None:
        self._session, self._at = session, at

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        **query: str,
    ) -> Answer:
        """Return the JSON of the answer; an empty one is an empty mapping.

        Args:
            method: Like ``GET``.
            path: Like ``/v1/plans``.
            body: Sent as JSON unless None.
            headers: More than the token.
            query: Parameters.

        Raises:
            NoAdmin: There is no answer, or none of the admin API.
            NotTaken: It was refused.
        """
        url, sent = self._at.url, dict(headers or {})
        data = None
        if body is not None:
            data = io.BytesIO(json.dumps(body).encode())
            sent["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method, url + path, data=data, params=query, headers=sent, allow_redirects=False
            ) as answer:
                text, status = await self._body(answer), answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            found = str(error) or "no answer in time"
            raise NoAdmin(url, found, "is Wherry running there?") from None
        return self._read(status, text)

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        text = bytearray()
        async for chunk in answer.content.iter_any():
            text += chunk
            if len(text) > MAX_ANSWER_BYTES:
                raise NoAdmin(self._at.url, f"over {MAX_ANSWER_BYTES} bytes", "ask for less")
        return bytes(text)

    def _read(self, status: int, text: bytes) -> Answer:
        try:
            found = json.loads(text or b"{}")
        except ValueError:
            found = None
        if not isinstance(found, dict):
            told = f"status {status} with a body that is no JSON object"
            raise NoAdmin(self._at.url, told, "is it the admin API that listens there?")
        if status >= _REFUSED:
            raise NotTaken(self._at.url, status, found)
        return found

    async def apply(
        self,
        documents: Sequence[Mapping[str, object]],
        *,
        prune: bool = False,
        dry_run: bool = False,
    ) -> Sequence[Answer]:
        """Write resources, all or none; return the changes (``kind name verb differences``).

        Raises:
            NoAdmin: There is no answer.
            NotTaken: They were refused; ``problem["errors"]`` has each place.
        """
        answer = await self.ask(
            "POST",
            "/v1/apply",
            {"documents": list(documents)},
            prune=str(prune).lower(),
            dryRun=str(dry_run).lower(),
        )
        changes: Sequence[Answer] = answer["changes"]
        return changes

    async def export(self, *, everything: bool = False) -> Sequence[Answer]:
        """Return the stored resources; with ``everything`` also those that files declare."""
        answer = await self.ask("GET", "/v1/export", all=str(everything).lower())
        documents: Sequence[Answer] = answer["documents"]
        return documents


@asynccontextmanager
async def client(at: Place) -> AsyncIterator[Client]:
    """Open a session with the admin API at ``at``."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        headers={"Authorization": f"Bearer {at.token}"},
        trust_env=False,
    ) as session:
        yield Client(session, at)
