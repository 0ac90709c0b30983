"""`wherry apply`, `wherry api diff`, `wherry export` and `wherry admin token` on a running API."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
import typer
from typer.testing import CliRunner

from gateway.admin.app import Settings, running
from gateway.admin.first import first_token
from gateway.pepper import pepper
from wherry.audit import LOG, Entry
from wherry.cli import admin_tokens, apply
from wherry.cli.admin_client import NoAdmin, NotTaken, client, place
from wherry.cli.state import write_addresses
from wherry.clock import SystemClock
from wherry.errors import WherryError
from wherry.resources import Resources
from wherry.serve import Address
from wherry.store import opened

pytestmark = pytest.mark.e2e

FILES = """\
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: gold}
spec: {title: "Gold: 1_000", rate: {requests: 10}}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: shop}
spec:
  plans: [gold]
  openapi: shop.json
  routes:
  - path: /x
    to: {mock: {json: {day: 2026-01-01, n: 1.50, yes: "no"}}}
"""

COMMANDS = typer.Typer()
COMMANDS.command("apply")(apply.apply)
COMMANDS.command("diff")(apply.diff)
COMMANDS.command("export")(apply.export)
COMMANDS.add_typer(admin_tokens.app, name="admin")


class Shell:
    """The commands, in a state folder with a running admin API."""

    def __init__(self, folder, state, store):
        self.folder, self.state, self.store = folder, state, store

    async def __call__(self, *arguments):
        given = [*map(str, arguments), "--state", str(self.state)]
        result = await asyncio.to_thread(CliRunner().invoke, COMMANDS, given)
        if isinstance(result.exception, WherryError):
            return result.exit_code, str(result.exception)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout


@asynccontextmanager
async def serving(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    async with opened(f"sqlite:{state / 'wherry.db'}") as store:
        secret = await asyncio.to_thread(pepper, state / "pepper")
        await first_token(store, secret, state / "admin-token", SystemClock())
        settings = Settings(state / "pepper", Address())
        async with running(settings, store=store, resources=Resources(store, None)) as address:
            write_addresses(state, {"admin": address.url})
            yield Shell(tmp_path, state, store)


@pytest.fixture
async def shell(tmp_path, monkeypatch):
    monkeypatch.delenv("WHERRY_ADMIN_TOKEN", raising=False)
    monkeypatch.delenv("WHERRY_ADMIN_URL", raising=False)
    (tmp_path / "shop.yaml").write_text(FILES)
    (tmp_path / "shop.json").write_text('{"openapi": "3.1.0", "info": {"x": "\\u2028"}}')
    async with serving(tmp_path) as shell:
        yield shell


async def test_files_are_applied_compared_and_exported_to_the_same(shell, tmp_path):
    source = tmp_path / "shop.yaml"
    status, out = await shell("diff", source)
    assert (status, out.splitlines()[-1]) == (
        1,
        "2 created, 0 changed, 0 removed, 0 kept; nothing was written",
    )
    assert await shell("apply", source) == (
        0,
        "+ Plan gold\n+ ApiProduct shop\n2 created, 0 changed, 0 removed, 0 kept\n",
    )
    assert (await shell("diff", source, "--prune"))[0] == 0
    _, text = await shell("export")
    exported = tmp_path / "exported.yaml"
    exported.write_text(text)
    assert (await shell("diff", exported, "--prune"))[0] == 0
    assert [each["kind"] for each in json.loads((await shell("export", "--json"))[1])] == [
        "Plan",
        "ApiProduct",
    ]


async def test_a_change_is_shown_by_its_place(shell, tmp_path):
    source = tmp_path / "shop.yaml"
    await shell("apply", source)
    source.write_text(FILES.replace("requests: 10", "requests: 20"))
    status, out = await shell("apply", source, "--dry-run")
    assert (status, out.splitlines()[:2]) == (
        0,
        ["~ Plan gold", "    /spec/rate/requests: 10 -> 20"],
    )
    source.write_text(FILES.partition("---")[0])
    status, out = await shell("apply", source, "--prune")
    assert (status, out.splitlines()[0]) == (0, "- ApiProduct shop")


async def test_what_is_wrong_is_said_by_the_line_of_the_file(shell, tmp_path):
    source = tmp_path / "shop.yaml"
    source.write_text(FILES.replace("plans: [gold]", "plans: [gald]"))
    status, said = await shell("apply", source)
    assert (status, said) == (1, f"{source}:10: no plan 'gald', expected 'gold'")
    source.write_text(FILES.replace("path: /x", "path: x"))
    _, said = await shell("apply", source)
    assert said.startswith(f"{source}:13: spec.routes[0].path: 'x'")
    (tmp_path / "shop.json").unlink()
    _, said = await shell("apply", source)
    assert said.startswith(f"{source}:11: {tmp_path}/shop.json: No such file")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services: {web: {}}\n", ":1: no kind, expected one of ApiGateway, Plan"),
        ("kind: Function\n", ":1: kind 'Function', expected one of"),
        ("{", "no YAML"),
        ("", "no resource, expected one at least"),
    ],
)
async def test_what_is_no_catalogue_is_not_sent(shell, tmp_path, text, said):
    (tmp_path / "a.yaml").write_text(text)
    status, out = await shell("apply", tmp_path / "a.yaml")
    assert status == 1
    assert said in out


async def test_tokens_are_made_listed_and_revoked(shell, monkeypatch):
    status, out = await shell("admin", "token", "create", "ci", "--role", "editor", "--json")
    made = json.loads(out)
    assert (status, made["role"], made["expires"]) == (0, "editor", None)
    at = place(state=shell.state)
    async with client(at) as admin:
        listed = await admin.ask("GET", "/v1/tokens")
    assert [each["name"] for each in listed["items"]] == ["ci", "local"]
    monkeypatch.setenv("WHERRY_ADMIN_TOKEN", made["token"])
    async with client(place(at.url)) as admin:
        with pytest.raises(NotTaken, match="403, The token has the role editor"):
            await admin.ask("GET", "/v1/tokens")
    assert (await shell("admin", "token", "revoke", "ci"))[0] == 0
    async with client(place(at.url)) as admin:
        with pytest.raises(NotTaken, match="401"):
            await admin.export()
    _, said = await shell("admin", "token", "create", "ci", "--role", "king")
    assert said == "--role 'king': expected one of viewer, editor, owner"
    noted = [Entry.decode(each.body) for each in await shell.store.read(LOG)]
    assert [(e.actor, e.verb, e.subject) for e in noted] == [
        ("wherry admin token", "createToken", "token/ci"),
        ("wherry admin token", "revokeToken", "token/ci"),
    ]
    _, out = await shell("admin", "audit", "--limit", "1", "--about", "token/", "--json")
    assert json.loads(out)["before"]["role"] == "editor"
    assert "revokeToken" in (await shell("admin", "audit"))[1]


async def test_the_owners_token_goes_to_no_other_address(shell):
    with pytest.raises(NoAdmin, match="no token"):
        place("http://127.0.0.1:1", shell.state)
    assert "wha_" not in repr(place(state=shell.state))


async def test_where_nobody_answers_that_is_said(shell, monkeypatch):
    monkeypatch.setenv("WHERRY_ADMIN_TOKEN", "x")
    async with client(place("127.0.0.1:1")) as admin:
        with pytest.raises(NoAdmin, match="is Wherry running there"):
            await admin.export()
