"""API keys: their form, what is kept of them, and the commands that make and end them."""

import asyncio
import json
import os
import stat
import threading
from dataclasses import replace
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway import keyring, keys
from gateway.authn import owned
from gateway.authn.owned import TooManyKeys
from gateway.authn.seeds import seeds
from gateway.authn.uses import Uses, last_used
from gateway.keyring import DeadKey, Keyring, UnknownKey
from gateway.keys import BadRecord, Key
from gateway.pepper import MARK, familiar, pepper
from wherry.audit import LOG, Entry
from wherry.cli.keys import app
from wherry.cli.state import note_consumers
from wherry.errors import StartError
from wherry.store import StoreFailed
from wherry.store.memory import MemoryStore
from wherry.store.sqlite import SqliteStore

PEPPER = b"p" * 32
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class StoppedClock:
    def __init__(self, unix_ns=1000):
        self.ns = unix_ns

    def now(self):
        return self.ns / 1e9

    def unix_ns(self):
        return self.ns


@pytest.fixture
def clock():
    return StoppedClock()


# The form


def test_a_minted_key_is_well_formed_and_names_its_prefix():
    prefix, text = keys.minted()
    assert keys.prefix_of(text) == prefix
    scheme, shown, secret, checksum = text.split("_")
    assert (scheme, shown) == ("wh", prefix)
    assert (len(secret) * 5, len(checksum)) == (160, 8)


A_KEY = keys.minted()[1]
"""One for all examples: hypothesis plays them again and needs the same."""


def test_minted_keys_do_not_repeat():
    assert len({keys.minted()[1] for _ in range(1000)}) == 1000


@given(st.data())
def test_a_changed_letter_is_refused_by_the_checksum(data):
    text = A_KEY
    places = [i for i, letter in enumerate(text) if i > 2 and letter != "_"]
    place = data.draw(st.sampled_from(places))
    letter = data.draw(st.sampled_from(ALPHABET + "0189").filter(lambda a: a != text[place]))
    assert keys.prefix_of(text[:place] + letter + text[place + 1 :]) is None


@given(st.binary(max_size=200), st.text(max_size=300))
def test_a_digester_makes_the_digest_that_is_stored(pepper, text):
    digester = keys.Digester(pepper)
    assert [digester.digest(text) for _ in range(2)] == [keys.digest(pepper, text)] * 2


@given(st.text(max_size=80))
def test_any_other_text_is_no_key(text):
    assert keys.prefix_of(text) is None


@pytest.mark.parametrize(
    "change", [str.upper, lambda k: k + "\n", lambda k: " " + k, lambda k: k[:-1]]
)
def test_a_key_in_another_spelling_is_no_key(change):
    assert keys.prefix_of(change(keys.minted()[1])) is None


def test_what_is_stored_neither_shows_the_key_nor_works_as_one():
    prefix, text = keys.minted()
    stored = Key(prefix, "alice", keys.digest(PEPPER, text), 1).encode().decode()
    assert text.split("_")[2] not in stored
    digest = json.loads(stored)["digest"]
    assert keys.prefix_of(digest) is None
    assert keys.digest(PEPPER, digest).hex() != digest


def test_another_pepper_makes_another_digest():
    assert keys.digest(b"a" * 32, "x") != keys.digest(b"b" * 32, "x")


@given(
    st.builds(
        Key,
        prefix=st.text(ALPHABET, min_size=8, max_size=8),
        consumer=st.text(max_size=20),
        digest=st.binary(min_size=32, max_size=32),
        created_ns=st.integers(0, 2**63),
        expires_ns=st.none() | st.integers(0, 2**63),
        revoked_ns=st.none() | st.integers(0, 2**63),
        app=st.text(max_size=20),
        scopes=st.none() | st.frozensets(st.text(max_size=5), max_size=3),
        environment=st.none() | st.text(max_size=20),
        title=st.text(max_size=20),
    )
)
def test_a_record_reads_back_as_it_was_written(key):
    assert Key.decode(f"apikey/{key.prefix}", key.encode()) == key


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"consumer":"a","digest":"zz"}'])
def test_a_record_that_is_none_is_refused_by_name(body):
    with pytest.raises(BadRecord, match="apikey/aaaaaaaa"):
        Key.decode("apikey/aaaaaaaa", body)


def test_a_key_ends_when_it_expires_or_is_revoked():
    key = Key(keys.Prefix("a" * 8), "alice", b"", 1, expires_ns=10)
    assert key.accepted_at(9)
    assert not key.accepted_at(10)
    assert not Key(key.prefix, "alice", b"", 1, revoked_ns=5).accepted_at(1)


# The Store


async def test_a_made_key_is_stored_under_its_prefix_and_listed_without_its_secret():
    store = MemoryStore()
    key, text = await keyring.create(store, PEPPER, "alice", now_ns=2)
    other, _ = await keyring.create(store, PEPPER, "bob", now_ns=1, expires_ns=9)
    assert await keyring.listed(store) == [other, key]
    record = await store.get(f"apikey/{key.prefix}")
    assert text.encode() not in record.body


async def test_a_revoked_key_stays_revoked_since_the_first_time():
    store = MemoryStore()
    key, _ = await keyring.create(store, PEPPER, "alice", now_ns=1)
    first = await keyring.revoke(store, key.prefix, now_ns=5)
    assert await keyring.revoke(store, key.prefix, now_ns=9) == first
    assert first.revoked_ns == 5
    with pytest.raises(UnknownKey, match="'nothing'"):
        await keyring.revoke(store, "nothing", now_ns=1)


async def test_a_keyring_knows_its_keys_and_nothing_else(clock):
    store = MemoryStore()
    key, text = await keyring.create(store, PEPPER, "alice", now_ns=1, expires_ns=5000)
    ring = Keyring(store, PEPPER, clock)
    assert ring.owner(text) is None
    ring.take((await store.list(keys.FOLDER)).values())
    assert ring.owner(text) == key
    assert Keyring(store, b"q" * 32, clock).owner(text) is None
    assert ring.owner(keys.minted()[1]) is None
    body = f"wh_{key.prefix}_{'a' * 32}"
    forged = f"{body}_{crc32(body.encode()):08x}"
    assert keys.prefix_of(forged) == key.prefix
    assert ring.owner(forged) is None
    clock.ns = 5000
    assert ring.owner(text) is None


async def test_a_keyring_keeps_up_when_keys_change_or_go(clock):
    store = MemoryStore()
    ring = Keyring(store, PEPPER, clock)
    key, text = await keyring.create(store, PEPPER, "alice", now_ns=1)
    for _ in range(2):
        ring.take((await store.list(keys.FOLDER)).values())
        assert ring.owner(text) == key
    await store.put("apikey/broken", b"?")
    await keyring.revoke(store, key.prefix, now_ns=2)
    ring.take((await store.list(keys.FOLDER)).values())
    assert ring.owner(text) is None
    again, text = await keyring.create(store, PEPPER, "alice", now_ns=1)
    ring.take((await store.list(keys.FOLDER)).values())
    assert ring.owner(text) == again
    await store.delete(f"apikey/{again.prefix}")
    ring.take((await store.list(keys.FOLDER)).values())
    assert ring.owner(text) is None


# The pepper


def test_the_pepper_is_made_once_for_its_owner_only(tmp_path):
    made = pepper(tmp_path / "pepper")
    assert len(made) == 32
    assert pepper(tmp_path / "pepper") == made
    assert stat.S_IMODE((tmp_path / "pepper").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["pepper"]  # noqa: PTH208


def test_all_that_make_a_pepper_at_once_get_the_same(tmp_path):
    made = []
    barrier = threading.Barrier(8)

    def one():
        barrier.wait()
        made.append(pepper(tmp_path / "pepper"))

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_a_pepper_that_others_can_read_or_that_is_short_is_refused(tmp_path):
    path = tmp_path / "pepper"
    pepper(path)
    path.chmod(0o640)
    with pytest.raises(StartError, match="mode 0640, expected 0600; run chmod 600"):
        pepper(path)
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(StartError, match="5 bytes, expected at least 32"):
        pepper(path)
    with pytest.raises(StartError, match="No such file"):
        pepper(tmp_path / "missing" / "pepper")


# The commands


@pytest.fixture
def run(tmp_path):
    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [*arguments, "--state", str(tmp_path / "state")])
        assert result.exit_code == code, result.output
        return result

    return run


def test_a_created_key_is_printed_once_alone_on_stdout(run):
    result = run("create", "alice")
    prefix = keys.prefix_of(result.stdout.strip())
    assert prefix is not None
    assert "not shown again" in result.stderr
    assert result.stdout.strip() not in run("list").stdout
    assert prefix in run("list").stdout


def test_the_life_of_a_key_on_the_command_line(run):
    made = json.loads(run("create", "alice", "--expires", "90d", "--json").stdout)
    assert (made["consumer"], made["state"]) == ("alice", "active")
    (listed,) = json.loads(run("list", "--json").stdout)
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert json.loads(run("revoke", made["prefix"], "--json").stdout)["state"] == "revoked"
    (listed,) = json.loads(run("list", "--json").stdout)
    assert listed["state"] == "revoked"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "Not A Name"), "consumer 'Not A Name': not a name"),
        (("create", "alice", "--expires", "soon"), "--expires 'soon': not a lifetime"),
        (("create", "alice", "--expires", "0d"), "--expires '0d': not a lifetime"),
        (("revoke", "nothing"), "key 'nothing': not found"),
    ],
)
def test_a_mistake_is_said_in_one_line(run, arguments, message):
    run("create", "alice")
    result = run(*arguments, code=1)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_folder_of_keys_is_for_its_owner_only(run, tmp_path):
    run("create", "alice")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert modes == {0o600}


def audited(state):
    async def read():
        async with SqliteStore.open(state / "wherry.db") as store:
            return [Entry.decode(event.body) for event in await store.read(LOG)]

    return asyncio.run(read())


def test_what_the_commands_change_is_in_the_audit_log_without_a_secret(run, tmp_path):
    made = json.loads(run("create", "alice", "--json").stdout)
    new = json.loads(run("rotate", made["prefix"], "--ends", "1h", "--json").stdout)
    run("revoke", new["prefix"])
    entries = audited(tmp_path / "state")
    assert [(entry.verb, entry.subject) for entry in entries] == [
        ("createKey", f"key/{made['prefix']}"),
        ("rotateKey", f"key/{made['prefix']}"),
        ("revokeKey", f"key/{new['prefix']}"),
    ]
    assert {entry.actor for entry in entries} == {"wherry key"}
    assert entries[1].after["new"]["prefix"] == new["prefix"]
    assert made["key"].split("_")[2] not in str(entries)


def test_a_key_for_nobody_or_in_a_strange_folder_is_made_with_a_word_of_warning(tmp_path):
    made = CliRunner().invoke(app, ["create", "nobody", "--state", str(tmp_path)])
    assert made.exit_code == 0
    assert f"No Wherry has used {tmp_path} yet" in made.stderr
    note_consumers(tmp_path, ["alice", "bob"])
    made = CliRunner().invoke(app, ["create", "nobody", "--state", str(tmp_path)])
    assert "There is no consumer 'nobody' yet; there are: alice, bob" in made.stderr
    assert len(made.stdout.strip().splitlines()) == 1


def test_listing_keys_where_no_wherry_was_says_so_and_makes_nothing(tmp_path):
    listed = CliRunner().invoke(app, ["list", "--state", str(tmp_path / "x")])
    assert listed.exit_code == 1
    assert not (tmp_path / "x").exists()


# Apps, rotation and last use


async def test_a_key_record_of_before_there_were_apps_is_of_the_default_app():
    old = b'{"consumer":"a","digest":"00","created_ns":1,"expires_ns":null,"revoked_ns":null}'
    assert Key.decode("apikey/aaaaaaaa", old) == Key(keys.Prefix("a" * 8), "a", b"\0", 1)


async def test_an_app_has_two_live_keys_in_an_environment_and_no_third():
    store = MemoryStore()

    async def make(consumer="alice", **more):
        made = await keyring.create(store, PEPPER, consumer, now_ns=5, grant=keyring.Grant(**more))
        return made[0]

    first, second = await make(), await make(expires_ns=9)
    with pytest.raises(TooManyKeys, match="app alice/default: 2 live keys") as caught:
        await make()
    assert set(caught.value.live) == {first.prefix, second.prefix}
    for other in ({"app": "phone"}, {"environment": "sandbox"}, {"consumer": "bob"}):
        await make(**other)
    assert len(await keyring.listed(store)) == 5
    await keyring.revoke(store, first.prefix, now_ns=6)
    await make()
    late = await keyring.create(store, PEPPER, "alice", now_ns=9)
    listed = await owned.keys_of(store, "alice")
    assert {key.prefix for key in listed} >= {first.prefix, second.prefix, late[0].prefix}
    assert all(key.consumer == "alice" for key in listed)
    assert len(listed) == 6


async def test_of_many_that_make_a_key_at_once_two_do():
    store = MemoryStore()
    made, refused = [], []

    async def one():
        try:
            made.append(await keyring.create(store, PEPPER, "alice", now_ns=1))
        except TooManyKeys:
            refused.append(1)

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(one())
    assert (len(made), len(refused)) == (2, 8)


async def test_keys_of_before_there_were_notes_count_too():
    store = MemoryStore()
    for number in range(2):
        prefix, text = keys.minted()
        key = Key(prefix, "alice", keys.digest(PEPPER, text), number)
        await store.put(f"apikey/{prefix}", key.encode())
    await store.put("apikey/broken", b"?")
    assert len(await owned.keys_of(store, "alice")) == 2
    with pytest.raises(TooManyKeys):
        await keyring.create(store, PEPPER, "alice", now_ns=2)


async def test_a_key_that_was_noted_but_never_written_counts_for_a_minute():
    store = MemoryStore()
    lost = Key(keys.Prefix("a" * 8), "alice", b"", 0)
    for _ in range(2):
        await owned.claim(store, replace(lost, prefix=keys.minted()[0]), now_ns=0)
    with pytest.raises(TooManyKeys):
        await keyring.create(store, PEPPER, "alice", now_ns=59 * 10**9)
    await keyring.create(store, PEPPER, "alice", now_ns=60 * 10**9)
    assert len(await owned.keys_of(store, "alice")) == 1


async def test_of_an_apps_dead_keys_the_newest_stay_noted():
    store = MemoryStore()
    for number in range(40):
        key, _ = await keyring.create(store, PEPPER, "alice", now_ns=number)
        await keyring.revoke(store, key.prefix, now_ns=number)
    found = await owned.keys_of(store, "alice")
    assert [key.created_ns for key in found] == list(range(7, 40))
    assert len(await keyring.listed(store)) == 40


async def test_rotation_makes_a_key_like_the_old_one_which_ends_when_told():
    store = MemoryStore()
    grant = keyring.Grant("phone", frozenset({"read"}), "sandbox", "mine", 1100)
    old, _ = await keyring.create(store, PEPPER, "alice", now_ns=100, grant=grant)
    new, text = await keyring.rotate(store, PEPPER, old.prefix, now_ns=500, ends_ns=600)
    assert keys.digest(PEPPER, text) == new.digest
    assert replace(new, prefix=old.prefix, digest=old.digest) == replace(
        old, created_ns=500, expires_ns=1500
    )
    assert (await keyring.found(store, old.prefix)).expires_ns == 600
    with pytest.raises(TooManyKeys):
        await keyring.rotate(store, PEPPER, new.prefix, now_ns=599)
    with pytest.raises(DeadKey, match="expired, expected a live one"):
        await keyring.rotate(store, PEPPER, old.prefix, now_ns=600)
    last, _ = await keyring.rotate(store, PEPPER, new.prefix, now_ns=600, ends_ns=10**6)
    assert (await keyring.found(store, new.prefix)).expires_ns == 1500
    await keyring.revoke(store, last.prefix, now_ns=601)
    with pytest.raises(DeadKey, match="revoked"):
        await keyring.rotate(store, PEPPER, last.prefix, now_ns=602)
    with pytest.raises(UnknownKey):
        await keyring.rotate(store, PEPPER, "aaaaaaaa", now_ns=1)


async def test_uses_are_noted_without_the_store_and_written_together(clock):
    store = MemoryStore()
    key, text = await keyring.create(store, PEPPER, "alice", now_ns=1)
    other, its = await keyring.create(store, PEPPER, "bob", now_ns=1)
    ring = Keyring(store, PEPPER, clock)
    ring.take((await store.list(keys.FOLDER)).values())
    before = (await store.put("mark", b"")).revision
    for _ in range(100):
        assert ring.owner(text)
        assert ring.live(other.prefix)
    assert not ring.owner(its[:-1] + "x")
    assert (await store.put("mark", b"")).revision == before + 1
    assert await last_used(store) == {}
    await ring.uses.flush()
    assert await last_used(store) == {key.prefix: 1000, other.prefix: 1000}
    clock.ns = 5000
    ring.owner(text)
    await ring.uses.flush()
    stale = Uses(store)
    stale.note(key.prefix, 2000)
    await stale.flush()
    assert await last_used(store) == {key.prefix: 5000, other.prefix: 1000}


async def test_uses_that_cannot_be_written_are_kept_for_the_next_time():
    class Failing(MemoryStore):
        failing = True

        async def put(self, key, body, *, expect=None):
            if self.failing:
                raise StoreFailed("store", "it is gone")
            return await super().put(key, body, expect=expect)

    store = Failing()
    uses = Uses(store)
    uses.note(keys.Prefix("a" * 8), 1)
    await uses.flush()
    uses.note(keys.Prefix("a" * 8), 2)
    store.failing = False
    await store.put("keyused/aa", b"damaged")
    await uses.flush()
    assert await last_used(store) == {"a" * 8: 2}


async def test_a_change_of_one_key_among_many_decodes_one_record(clock):
    store = MemoryStore()
    made = []
    for number in range(5000):
        prefix, text = keys.minted()
        key = Key(prefix, f"c{number}", keys.digest(PEPPER, text), 1)
        await store.put(f"apikey/{prefix}", key.encode())
        made.append((key, text))
    ring = Keyring(store, PEPPER, clock)
    ring.take((await store.list(keys.FOLDER)).values())
    held = [ring.owner(text) for _, text in made]
    assert held == [key for key, _ in made]
    await keyring.revoke(store, made[7][0].prefix, now_ns=2)
    ring.take((await store.list(keys.FOLDER)).values())
    now = [ring.owner(text) for _, text in made]
    assert now[7] is None
    assert all(
        one is other
        for number, (one, other) in enumerate(zip(now, held, strict=True))
        if number != 7
    )


def test_a_signing_secret_is_derived_from_prefix_and_pepper_alone():
    secret = keys.signing_secret(PEPPER, keys.Prefix("a" * 8))
    assert secret == keys.signing_secret(PEPPER, keys.Prefix("a" * 8))
    assert secret != keys.signing_secret(PEPPER, keys.Prefix("b" * 8))
    assert secret != keys.signing_secret(b"q" * 32, keys.Prefix("a" * 8))
    assert len(secret) * 5 >= 256
    assert keys.prefix_of(secret) is None


def test_a_key_is_made_for_an_app_with_scopes_and_rotated_on_the_command_line(run):
    options = ("--app", "phone", "--scope", "read", "--scope", "write", "--environment", "test")
    arguments = (*options, "--title", "My phone", "--signing", "--json")
    made = json.loads(run("create", "alice", *arguments).stdout)
    assert (made["app"], made["scopes"]) == ("phone", ["read", "write"])
    assert (made["environment"], made["title"]) == ("test", "My phone")
    assert len(made["signingSecret"]) == 52
    assert made["lastUsed"] is None
    new = json.loads(run("rotate", made["prefix"], "--ends", "7d", "--json").stdout)
    assert (new["app"], new["scopes"], new["expires"]) == ("phone", ["read", "write"], None)
    assert "signingSecret" not in new
    listed = {key["prefix"]: key for key in json.loads(run("list", "--json").stdout)}
    assert listed[made["prefix"]]["expires"] is not None
    refused = run("rotate", new["prefix"], code=1)
    assert "app alice/phone: 2 live keys" in refused.stderr
    assert json.loads(run("list", "--consumer", "bob", "--json").stdout) == []
    assert len(json.loads(run("list", "--consumer", "alice", "--json").stdout)) == 2
    both = run("create", "bob", "--signing").stdout.split()
    assert [len(line) for line in both] == [53, 52]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "alice", "--app", "My App"), "app 'My App': not a name"),
        (("create", "alice", "--environment", "?"), "environment '?': not a name"),
        (("create", "alice", "--scope", "a b"), "--scope 'a b': not a scope"),
        (("create", "alice", "--title", "x" * 201), "--title: 201 characters"),
        (("rotate", "nothing"), "key 'nothing': not found"),
        (("rotate", "nothing", "--ends", "soon"), "--ends 'soon': not a lifetime"),
    ],
)
def test_a_mistake_with_apps_is_said_in_one_line(run, arguments, message):
    run("create", "alice")
    result = run(*arguments, code=1)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_signing_keys_of_tokens_are_renewed_on_the_command_line(run, tmp_path):
    run("create", "alice")
    run("renew-signing")
    first = seeds(tmp_path / "state" / "signing-keys.json")
    assert "new key" in run("renew-signing").stdout
    assert seeds(tmp_path / "state" / "signing-keys.json")[1] == first[0]
    noted = [(entry.actor, entry.verb) for entry in audited(tmp_path / "state")]
    assert noted[1:] == [("wherry key", "renewSigningKeys")] * 2


async def test_a_store_knows_the_pepper_that_was_used_with_it_last():
    store = MemoryStore()
    assert [await familiar(store, each) for each in (b"a" * 32, b"a" * 32)] == [True, True]
    assert [await familiar(store, each) for each in (b"b" * 32, b"b" * 32)] == [False, True]
    record = await store.get(MARK)
    assert record is not None
    assert b"b" * 8 not in record.body
