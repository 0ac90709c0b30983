"""The entries of the guestbook, kept in SQLite; all versions share one file."""

import os
import secrets
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

VERSION = os.environ.get("VERSION", "v1")
MAX_TEXT = 1000
MAX_SHOWN = 100


def opened() -> sqlite3.Connection:
    """Open the file that all versions share."""
    folder = Path(os.environ.get("WHERRY_DATA", "."))
    database = sqlite3.connect(folder / "guestbook.db", timeout=10, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE IF NOT EXISTS entries (id TEXT, text TEXT, at TEXT)")
    return database


async def listed(request: web.Request) -> web.Response:
    """Answer the newest entries, newest first."""
    rows = request.app[DATABASE].execute(
        "SELECT text, id, at FROM entries ORDER BY rowid DESC LIMIT ?", [MAX_SHOWN]
    )
    entries = [{"text": text, "_id": key, "updatedAt": at} for text, key, at in rows]
    return web.json_response({"entries": entries}, headers={"x-entries-version": VERSION})


async def added(request: web.Request) -> web.Response:
    """Add ``{"text": …}``."""
    try:
        text = (await request.json())["text"]
    except (ValueError, KeyError, TypeError):
        text = None
    if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
        problem = f"text: expected a string of 1 to {MAX_TEXT} characters"
        return web.json_response({"error": problem}, status=400)
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry = {"text": text, "_id": secrets.token_hex(12), "updatedAt": now}
    request.app[DATABASE].execute("INSERT INTO entries VALUES (:_id, :text, :updatedAt)", entry)
    return web.json_response(entry, status=201, headers={"x-entries-version": VERSION})


DATABASE = web.AppKey("database", sqlite3.Connection)
app = web.Application()
app[DATABASE] = opened()
app.add_routes([web.get("/entries", listed), web.post("/entries", added)])
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
