"""Keys over the admin API: made for apps that there are, shown once, rotated and revoked."""

import json
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway import keys
from gateway.admin import tokens
from gateway.admin.app import Settings, running
from gateway.admin.endpoint import Role
from gateway.authn.endpoints import endpoints
from gateway.authn.uses import Uses
from gateway.pepper import pepper
from wherry.audit import LOG, Entry
from wherry.clock import SystemClock
from wherry.config import assemble
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store.memory import MemoryStore

CONSUMERS = """
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {apps: [{name: phone, scopes: [read, write]}]}
"""
OF_ALICE = "/v1/consumers/alice/keys"


class Api:
    """The admin API with the operations on keys."""

    def __init__(self, session, address, store, texts):
        self.session, self.address, self.store, self.texts = session, address, store, texts

    async def __call__(self, method, path, body=None, *, role="editor"):
        headers = {"Authorization": f"Bearer {self.texts[role]}"}
        more = {} if body is None else {"json": body}
        async with self.session.request(
            method, self.address.url + path, headers=headers, **more
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else None

    async def noted(self):
        return [Entry.decode(event.body) for event in await self.store.read(LOG)]


@pytest.fixture
async def api(tmp_path):
    @asynccontextmanager
    async def opened():
        (tmp_path / "config").mkdir()
        store, world = MemoryStore(), assemble({Path("world.yaml"): CONSUMERS})
        secret, texts = pepper(tmp_path / "pepper"), {}
        for role in Role:
            name = role.name.lower()
            _, texts[name] = await tokens.create(store, secret, name, role, now_ns=1)
        async with (
            running(
                Settings(tmp_path / "pepper", Address()),
                store=store,
                resources=Resources(store, tmp_path / "config"),
                endpoints=endpoints(store, secret, lambda: world, SystemClock()),
            ) as address,
            aiohttp.ClientSession() as session,
        ):
            yield Api(session, address, store, texts)

    async with opened() as made:
        yield made


async def test_a_key_is_shown_once_and_listed_without_its_secret(api):
    wanted = {"app": "phone", "scopes": ["read"], "title": "Mine", "lasts": "1h"}
    status, made = await api("POST", OF_ALICE, {**wanted, "environment": "test"})
    assert status == 201
    assert keys.prefix_of(made["key"]) == made["prefix"]
    assert (made["app"], made["scopes"], made["title"]) == ("phone", ["read"], "Mine")
    assert (made["environment"], made["state"]) == ("test", "active")
    uses = Uses(api.store)
    uses.note(made["prefix"], 60 * 10**9)
    await uses.flush()
    status, found = await api("GET", OF_ALICE, role="viewer")
    assert status == 200
    text = made.pop("key")
    assert found == {"items": [{**made, "lastUsed": "1970-01-01T00:01:00Z"}]}
    (entry,) = await api.noted()
    assert (entry.verb, entry.subject) == ("createKey", f"key/{made['prefix']}")
    assert text not in str(entry)
    assert text.split("_")[2] not in str(entry)


async def test_a_key_is_rotated_and_revoked_and_both_are_noted(api):
    _, old = await api("POST", OF_ALICE, {})
    status, new = await api("POST", f"/v1/keys/{old['prefix']}/rotate", {"oldLasts": "1h"})
    assert status == 201
    assert keys.prefix_of(new["key"]) == new["prefix"]
    _, found = await api("GET", OF_ALICE)
    assert {key["prefix"] for key in found["items"]} == {old["prefix"], new["prefix"]}
    by_prefix = {key["prefix"]: key for key in found["items"]}
    assert by_prefix[old["prefix"]]["expires"] is not None
    status, refused = await api("POST", OF_ALICE, {})
    assert (status, refused["title"]) == (409, "Conflict")
    assert "2 live keys" in refused["detail"]
    assert (await api("DELETE", f"/v1/keys/{new['prefix']}"))[0] == 204
    status, refused = await api("POST", f"/v1/keys/{new['prefix']}/rotate", {})
    assert (status, "revoked, expected a live one" in refused["detail"]) == (409, True)
    noted = await api.noted()
    assert [entry.verb for entry in noted] == ["createKey", "rotateKey", "revokeKey"]
    assert noted[1].subject == f"key/{old['prefix']}"
    assert (noted[1].before["expires"], noted[1].after["old"]["state"]) == (None, "active")
    assert noted[1].after["old"]["expires"] == by_prefix[old["prefix"]]["expires"]
    assert noted[1].after["new"]["prefix"] == new["prefix"]
    assert (noted[2].before["state"], noted[2].after["state"]) == ("active", "revoked")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "why"),
    [
        ("GET", "/v1/consumers/nobody/keys", None, 404, "'nobody': not found"),
        ("POST", "/v1/consumers/nobody/keys", {}, 404, "'nobody': not found"),
        ("POST", OF_ALICE, {"app": "tablet"}, 422, "expected one of default, phone"),
        ("POST", OF_ALICE, {"app": "phone", "scopes": ["admin"]}, 422, "some of read, write"),
        ("POST", OF_ALICE, {"scopes": ["a b"]}, 422, "fields of the body"),
        ("POST", OF_ALICE, {"lasts": "for ever"}, 422, "fields of the body"),
        ("POST", OF_ALICE, {"other": 1}, 422, "fields of the body"),
        ("POST", OF_ALICE, [], 422, "no JSON object"),
        ("DELETE", "/v1/keys/aaaaaaaa", None, 404, "'aaaaaaaa': not found"),
        ("POST", "/v1/keys/aaaaaaaa/rotate", {}, 404, "'aaaaaaaa': not found"),
        ("DELETE", "/v1/keys/%2e%2e%2fadmin", None, 404, "not found"),
    ],
)
async def test_a_mistake_is_a_problem_that_says_what_is_expected(
    api, method, path, body, status, why
):
    found, refused = await api(method, path, body)
    assert (found, why in refused["detail"]) == (status, True), refused
    assert await api.noted() == []


async def test_a_viewer_may_look_and_change_nothing(api):
    assert (await api("GET", OF_ALICE, role="viewer"))[0] == 200
    for method, path in (
        ("POST", OF_ALICE),
        ("DELETE", "/v1/keys/aaaaaaaa"),
        ("POST", "/v1/keys/aaaaaaaa/rotate"),
    ):
        assert (await api(method, path, {}, role="viewer"))[0] == 403
