"""The vault: what it seals, what it refuses to read, and where its key lies."""

import sqlite3
import stat
from dataclasses import replace

import pytest

from faas.functions.registry import Registry
from faas.functions.sealed import PREFIX
from faas.model.function import Function, Reference
from faas.place import Place
from faas.records import Records
from faas.vault import Unsealable, Vault
from wherry.clock import SystemClock
from wherry.errors import StartError
from wherry.store.sqlite import SqliteStore

WORDS = "correct-horse-battery-staple"
CODE = {"runtime": "python3.11", "handler": "app.handler", "digest": "00" * 32, "code_size": 1}


def test_what_was_sealed_comes_back_with_its_context_only(tmp_path):
    vault = Vault.open(tmp_path / "vault.key")
    sealed = vault.seal(b"value", "one")
    assert b"value" not in sealed
    assert vault.unseal(sealed, "one") == b"value"
    with pytest.raises(Unsealable, match="belongs elsewhere"):
        vault.unseal(sealed, "two")


def test_equal_values_are_sealed_differently(tmp_path):
    vault = Vault.open(tmp_path / "vault.key")
    assert vault.seal(b"value", "one") != vault.seal(b"value", "one")


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "deep" / "vault.key"
    sealed = Vault.open(path).seal(b"value", "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Vault.open(path).unseal(sealed, "one") == b"value"
    assert [each.name for each in path.parent.iterdir()] == ["vault.key"]


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31])
def test_a_file_that_holds_no_key_is_refused(tmp_path, text):
    path = tmp_path / "vault.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(StartError, match="found no key"):
        Vault.open(path)
    assert path.read_text() == text


def test_a_key_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "vault.key"
    Vault.open(path)
    path.chmod(0o644)
    with pytest.raises(StartError, match="mode 0644, expected 0600"):
        Vault.open(path)


@pytest.mark.parametrize("at", [0, 3, 8, 20, -1])
def test_a_value_that_was_changed_is_told_from_a_good_one(tmp_path, at):
    vault = Vault.open(tmp_path / "vault.key")
    sealed = bytearray(vault.seal(b"value", "one"))
    sealed[at] ^= 1
    with pytest.raises(Unsealable):
        vault.unseal(bytes(sealed), "one")


@pytest.mark.parametrize("value", [b"", b"\x01", b"no sealed value at all, but long enough"])
def test_what_was_never_sealed_is_refused(tmp_path, value):
    with pytest.raises(Unsealable, match="no sealed one"):
        Vault.open(tmp_path / "vault.key").unseal(value, "one")


def registry(store, folder, vault):
    return Registry(store, folder / "code", Place(), SystemClock(), vault)


async def test_variables_never_lie_readable_in_the_store(tmp_path):
    path = tmp_path / "wherry.db"
    vault = Vault.open(tmp_path / "vault.key")
    async with SqliteStore.open(path) as store:
        there = registry(store, tmp_path, vault)
        await there.create(
            "f", {**CODE, "environment": {"PASSWORD": WORDS}, "kms_key": "arn:aws:kms:k"}
        )
        await there.settle(await there.get(Reference("f")))
        await there.publish("f")
        assert (await there.get(Reference("f"))).environment == {"PASSWORD": WORDS}
        version = await there.get(Reference("f", "1"))
        assert version.environment == {"PASSWORD": WORDS}
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert WORDS.encode() not in file.read_bytes(), file
    with sqlite3.connect(path) as database:
        dump = "\n".join(map(str, database.iterdump()))
    database.close()
    assert "function/f" in dump
    assert WORDS not in dump
    assert "PASSWORD" not in dump


async def test_with_another_key_one_function_is_locked_and_the_others_serve(tmp_path, caplog):
    path = tmp_path / "wherry.db"
    first = Vault.open(tmp_path / "vault.key")
    async with SqliteStore.open(path) as store:
        there = registry(store, tmp_path, first)
        await there.create("secret", {**CODE, "environment": {"PASSWORD": WORDS}}, pending=False)
        await there.create("plain", CODE, pending=False)
    other = Vault.open(tmp_path / "other.key")
    async with SqliteStore.open(path) as store:
        there = registry(store, tmp_path, other)
        locked = await there.get(Reference("secret"))
        assert locked.sealed
        assert locked.environment == {}
        assert "function:secret" in caplog.records[-1].function
        assert not (await there.get(Reference("plain"))).sealed
        assert [each.name for each in await there.list()] == ["plain", "secret"]
        await there.update(Reference("secret"), {"description": "x"}, pending=False)
        await there.update(Reference("plain"), {"environment": {"A1": "b"}}, pending=False)
        assert (await there.get(Reference("plain"))).environment == {"A1": "b"}
    async with SqliteStore.open(path) as store:
        there = registry(store, tmp_path, first)
        back = await there.get(Reference("secret"))
        assert back.description == "x"
        assert back.environment == {"PASSWORD": WORDS}
        assert (await there.get(Reference("plain"))).sealed


async def test_a_locked_function_opens_when_its_variables_are_set_again(tmp_path):
    async with SqliteStore.open(tmp_path / "wherry.db") as store:
        vaults = [Vault.open(tmp_path / name) for name in ("one.key", "two.key")]
        created = {**CODE, "environment": {"PASSWORD": WORDS}}
        await registry(store, tmp_path, vaults[0]).create("f", created, pending=False)
        there = registry(store, tmp_path, vaults[1])
        await there.update(Reference("f"), {"environment": {"NEW": "x"}}, pending=False)
        found = await there.get(Reference("f"))
        assert (found.sealed, found.environment) == ("", {"NEW": "x"})


async def test_a_record_of_before_the_vault_is_read_and_sealed_when_it_changes(tmp_path):
    vault = Vault.open(tmp_path / "vault.key")
    async with SqliteStore.open(tmp_path / "wherry.db") as store:
        there = registry(store, tmp_path, vault)
        await there.create("f", CODE, pending=False)
        old = replace(await there.get(Reference("f")), environment={"PASSWORD": WORDS})
        await Records(store, PREFIX, Function).put("f", old)
        assert (await there.get(Reference("f"))).environment == {"PASSWORD": WORDS}
        await there.retag("f", {})
        assert WORDS.encode() not in (await store.get(PREFIX + "f")).body
        assert (await there.get(Reference("f"))).environment == {"PASSWORD": WORDS}
