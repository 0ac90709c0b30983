"""Somebody who uses the portal without a browser."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape

import aiohttp

PASSWORD = "analytical engine"  # noqa: S105


@dataclass
class Page:
    """What came back."""

    status: int
    text: str
    headers: dict[str, str]
    path: str


@dataclass
class Visitor:
    """Keeps cookies, and sends the guard of the page before."""

    url: str
    session: aiohttp.ClientSession
    guard: str = ""

    async def get(self, path: str, **headers: str) -> Page:
        return await self.ask("GET", path, headers=headers)

    async def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> Page:
        """Send a form, from the page that was seen last."""
        if not self.guard:
            await self.get("/sign-in")
        data = {"guard": self.guard} | (fields or {})
        return await self.ask("POST", path, data=data, headers=headers)

    async def ask(self, method: str, path: str, **more: object) -> Page:
        async with self.session.request(method, self.url + path, **more) as answer:
            body = await answer.read()
            text = body.decode("utf-8", "replace")
            if found := re.search(r'name="guard" content="([0-9a-f]{64})"', text):
                self.guard = found[1]
            return Page(answer.status, unescape(text), dict(answer.headers), answer.url.path_qs)

    async def sign_up(self, name: str = "Ada", email: str = "ada@example.com") -> Page:
        fields = {"title": name, "email": email, "password": PASSWORD, "timezone": "Europe/Berlin"}
        await self.get("/sign-up")
        return await self.post("/sign-up", fields)

    async def sign_in(self, email: str = "ada@example.com", secret: str = PASSWORD) -> Page:
        await self.get("/sign-in")
        return await self.post("/sign-in", {"email": email, "password": secret})

    async def consumer(self) -> str:
        return re.search(r"<dt>Consumer</dt><dd>([^<]+)<", (await self.get("/account")).text)[1]

    async def key(self) -> str:
        """Make a key; return its text."""
        page = await self.post("/keys", {"title": "test", "app": "default"})
        return re.search(r'value="(wh_[a-z0-9_]+)"', page.text)[1]


@asynccontextmanager
async def visiting(url: str) -> AsyncIterator[Visitor]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Visitor(url, session)
