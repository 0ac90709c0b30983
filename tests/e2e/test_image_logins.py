"""A registry that wants a token and keeps its layers elsewhere: who hears a password."""

import base64
import json
import platform
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from support.images import Layout

from faas.oci.documents import OCI_MANIFEST, ImageError
from faas.oci.images import taken

pytestmark = pytest.mark.e2e

LOGIN = "Basic " + base64.b64encode(b"me:secret").decode()


@asynccontextmanager
async def serving(handler):
    """Serve ``handler`` on a free port of loopback; enter with its address."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


class Guarded:
    """A registry whose manifests need a token and whose blobs lie at another address."""

    def __init__(self, layout):
        self.blobs = layout.path / "blobs/sha256"
        index = json.loads((layout.path / "index.json").read_text())
        self.manifest = index["manifests"][0]["digest"].removeprefix("sha256:")
        self.storage = ""
        self.scopes = []
        self.heard = []

    async def registry(self, request):
        if request.path == "/token":
            self.scopes.append(request.query["scope"])
            known = request.headers.get("Authorization") == LOGIN
            return web.json_response({"token": "open"} if known else {}, status=200)
        if request.headers.get("Authorization") != "Bearer open":
            realm = f"http://{request.host}/token"
            asked = f'Bearer realm="{realm}",service="s",scope="repository:app:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": asked})
        if "/manifests/" in request.path:
            body = (self.blobs / self.manifest).read_bytes()
            return web.Response(body=body, content_type=OCI_MANIFEST)
        digest = request.path.rpartition(":")[2]
        raise web.HTTPTemporaryRedirect(f"{self.storage}/{digest}")

    async def store(self, request):
        self.heard.append(request.headers.get("Authorization"))
        return web.FileResponse(self.blobs / request.path.strip("/"))


@pytest.fixture
def guarded(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    layout = Layout(tmp_path / "layout")
    layout.layer({"a": "1"})
    layout.config("--architecture", {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()])
    return Guarded(layout)


async def test_a_token_is_asked_for_with_dockers_login_and_told_to_nobody_else(guarded, tmp_path):
    async with serving(guarded.registry) as address, serving(guarded.store) as storage:
        guarded.storage = f"http://{storage}"
        config = {"auths": {address: {"auth": LOGIN.removeprefix("Basic ")}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        package = await taken(f"{address}/app:v1", tmp_path / "code", lambda _: None)
        assert (package.root / "a").read_text() == "1"
        assert set(guarded.scopes) == {"repository:app:pull"}
        assert guarded.heard
        assert set(guarded.heard) == {None}


async def test_without_a_login_the_way_out_is_named(guarded, tmp_path):
    async with serving(guarded.registry) as address:
        with pytest.raises(ImageError, match="answered with no token"):
            await taken(f"{address}/app:v1", tmp_path / "code", lambda _: None)


async def test_a_registry_may_not_send_to_places_in_the_clear(guarded, tmp_path):
    guarded.storage = "http://storage.example"
    async with serving(guarded.registry) as address:
        config = {"auths": {address: {"auth": LOGIN.removeprefix("Basic ")}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ImageError, match="expected https"):
            await taken(f"{address}/app:v1", tmp_path / "code", lambda _: None)


async def test_a_basic_login_that_is_missing_or_wrong_is_said(guarded, tmp_path):
    async def basic(request):
        return web.Response(status=401, headers={"WWW-Authenticate": "Basic realm=x"})

    async with serving(basic) as address:
        with pytest.raises(ImageError, match="run docker login"):
            await taken(f"{address}/app:v1", tmp_path / "code", lambda _: None)
        config = {"auths": {address: {"auth": LOGIN.removeprefix("Basic ")}}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ImageError, match="the login was refused"):
            await taken(f"{address}/app:v1", tmp_path / "code", lambda _: None)
