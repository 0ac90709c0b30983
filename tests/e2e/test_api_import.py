"""`wherry api import --apply` and purges, on a running admin API."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict
from typer.testing import CliRunner

from gateway.admin.app import Settings, running
from gateway.admin.first import first_token
from gateway.path import canonical
from gateway.pepper import pepper
from gateway.traffic.cache.purges import RECORD
from gateway.traffic.endpoints import endpoints
from gateway.traffic.openapi.contract import Contract
from gateway.traffic.openapi.imported import Wanted, imported
from wherry.audit import LOG, Entry
from wherry.cli.admin_client import NotTaken, client, place
from wherry.cli.api import app
from wherry.cli.state import write_addresses
from wherry.clock import SystemClock
from wherry.errors import ConfigError
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store import Store, opened

pytestmark = pytest.mark.e2e

API = """\
openapi: 3.1.0
info: {title: Weather, version: "2"}
servers: [{url: "https://weather.example/v2"}]
paths:
  /now/{city}:
    get:
      operationId: now
      parameters:
        - {in: path, name: city, required: true, schema: {type: string, maxLength: 40}}
      responses: {"200": {description: ok}}
"""


class House:
    def __init__(self, folder: Path, store: Store):
        self.folder, self.store = folder, store
        self.source = folder / "weather.yaml"

    async def run(self, *arguments: object) -> Any:
        given = ["import", str(self.source), *map(str, arguments), "--state", str(self.folder)]
        return await asyncio.to_thread(CliRunner().invoke, app, given)


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.delenv("WHERRY_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("WHERRY_ADMIN_URL", raising=False)
    config = tmp_path / "config"
    config.mkdir()
    (tmp_path / "weather.yaml").write_text(API)
    async with opened("memory:") as store:
        resources, secret = Resources(store, config), pepper(tmp_path / "pepper")
        await first_token(store, secret, tmp_path / "admin-token", SystemClock())
        async with running(
            Settings(tmp_path / "pepper", Address()),
            store=store,
            resources=resources,
            endpoints=endpoints(store),
        ) as address:
            write_addresses(tmp_path, {"admin": address.url})
            yield House(tmp_path, store)


async def test_one_command_makes_a_product_in_the_running_catalogue(house: House):
    done = await house.run("--apply", "--validate")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "+ ApiProduct weather" in done.stdout
    async with client(place(None, house.folder)) as admin:
        product = await admin.ask("GET", "/v1/products/weather")
        assert product["spec"]["routes"][0]["path"] == "/v2/now/{city}"
        assert product["spec"]["openapi"]["info"]["title"] == "Weather"
        plan = await admin.ask("GET", "/v1/plans/weather-free")
    changed = plan | {"spec": plan["spec"] | {"title": "Mine"}}
    async with client(place(None, house.folder)) as admin:
        await admin.apply([changed])
    house.source.write_text(API.replace("operationId: now", "operationId: today"))
    again = await house.run("--apply")
    assert "~ ApiProduct weather" in again.stdout
    assert "Plan" not in again.stdout
    async with client(place(None, house.folder)) as admin:
        assert (await admin.ask("GET", "/v1/plans/weather-free"))["spec"]["title"] == "Mine"


async def test_what_the_catalogue_refuses_is_said(house: House):
    done = await house.run("--apply", "--plan", "none")
    assert done.exit_code == 1
    assert isinstance(done.exception, ConfigError)
    assert "ApiProduct/weather" in str(done.exception)
    assert "'none'" in str(done.exception)


async def test_a_purge_is_noted_with_who_ordered_it(house: House):
    async with client(place(None, house.folder)) as admin:
        answer = await admin.ask("POST", "/v1/cache/purge", {"product": "weather"})
        assert answer == {"order": 1}
        with pytest.raises(NotTaken, match="422"):
            await admin.ask("POST", "/v1/cache/purge", {})
    assert await house.store.get(RECORD) is not None
    entries = [Entry.decode(event.body) for event in await house.store.read(LOG)]
    [note] = [entry for entry in entries if entry.verb == "purgeCache"]
    assert (note.subject, note.after) == ("cache", {"product": "weather", "everything": False})
    at = place(None, house.folder)
    url = at.url + "/v1/cache/purge"
    async with aiohttp.ClientSession() as session, session.post(url, json={}) as answer:
        assert answer.status == 401


async def test_the_admin_apis_own_document_makes_a_product_and_its_answers_keep_to_it(
    house: House,
):
    at = place(None, house.folder)
    headers = {"Authorization": f"Bearer {at.token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(at.url + "/openapi.json") as answer:
            document = await answer.json()
        contract = Contract.of(document)
        for path in ("/v1/plans", "/v1/audit", "/v1/cache/purge"):
            method, sent = ("POST", b'{"product": "x"}') if "purge" in path else ("GET", b"")
            kind = CIMultiDict({"Content-Type": "application/json"})
            assert contract.request(method, canonical(path), "", kind, sent) == []
            async with session.request(method, at.url + path, data=sent, headers=kind) as answer:
                body = await answer.read()
                status, fields = answer.status, answer.headers
            assert contract.response(method, canonical(path), status, fields, body) == []
    made = imported(document, Wanted(name="admin", url=at.url, validate=True))
    assert len(made.product["spec"]["routes"]) > 10
