"""The guestbook's page. It asks the service `entries`, through its sidecar."""

import html
import os
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Guestbook</title>
<style>body{{font:1rem/1.5 system-ui;max-width:40rem;margin:2rem auto;padding:0 1rem}}
li{{margin:.5rem 0}}time{{color:#666;font-size:.8rem}}</style>
<h1>Guestbook</h1><ul>{items}</ul><p>served by entries {version}</p></html>"""
ITEM = "<li>{text} <time>{at}</time></li>"


async def page(request: web.Request) -> web.Response:
    """Show the entries."""
    async with request.app[SESSION].get("http://entries/entries") as answer:
        entries = (await answer.json())["entries"]
        version = answer.headers["x-entries-version"]
    items = "".join(
        ITEM.format(text=html.escape(e["text"]), at=html.escape(e["updatedAt"])) for e in entries
    )
    text = PAGE.format(items=items, version=version)
    return web.Response(text=text, content_type="text/html", headers={"x-entries-version": version})


async def entries(request: web.Request) -> web.Response:
    """Pass the entries on as they are."""
    async with request.app[SESSION].get("http://entries/entries") as answer:
        return web.Response(
            body=await answer.read(),
            status=answer.status,
            content_type=answer.content_type,
            headers={"x-entries-version": answer.headers.get("x-entries-version", "none")},
        )


async def session(app: web.Application) -> AsyncIterator[None]:
    """Keep one client; ``trust_env`` makes it use the sidecar, which is HTTP_PROXY."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(trust_env=True, timeout=timeout) as client:
        app[SESSION] = client
        yield


SESSION = web.AppKey("session", aiohttp.ClientSession)
app = web.Application()
app.cleanup_ctx.append(session)
app.add_routes([web.get("/", page), web.get("/entries", entries)])
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
