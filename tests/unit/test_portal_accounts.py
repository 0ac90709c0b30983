"""Accounts, passwords, sessions and how often one may fail."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.portal import accounts, sessions
from gateway.portal.accounts import Accounts, Taken, faults
from gateway.portal.attempts import MOST_KNOWN, Attempts, SignIns
from gateway.portal.password import NOBODY, Hashed
from gateway.portal.sessions import LASTS, MOST_EACH, Sessions
from gateway.portal.site import new_name
from wherry.clock import SystemClock
from wherry.model.resource import is_name
from wherry.store.memory import MemoryStore

SECRET = b"s" * 32
PASSWORD = "analytical engine"  # noqa: S105
DIGEST = "00" * 32


class Clock(SystemClock):
    at = 10**18

    def unix_ns(self) -> int:
        return self.at


def test_a_password_is_accepted_and_its_neighbours_are_not():
    kept = Hashed.read(Hashed.of(PASSWORD, b"salt" * 4).text())
    assert kept.accepts(PASSWORD)
    assert not kept.accepts(PASSWORD + " ")
    assert PASSWORD not in kept.text()
    assert not NOBODY.accepts("")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "md5$1$1$1$00$00",
        f"scrypt$1048576$8$1$00${DIGEST}",
        f"scrypt$0$8$1$00${DIGEST}",
        "scrypt$2$2$2$x$y",
    ],
)
def test_a_record_that_asks_for_too_much_work_is_refused(line):
    with pytest.raises(ValueError, match="password record"):
        Hashed.read(line)


async def test_an_address_has_one_account_whatever_its_case():
    desk = Accounts(MemoryStore(), SECRET, Clock())
    made = await desk.create("Ada@Example.com", PASSWORD, title="Ada", consumer="ada")
    with pytest.raises(Taken):
        await desk.create("ada@example.COM", PASSWORD, title="Eve", consumer="eve")
    assert await desk.signed_in(" ada@example.com", PASSWORD) == made
    assert await desk.signed_in("ada@example.com", "wrong") is None
    assert await desk.signed_in("eve@example.com", PASSWORD) is None


async def test_the_store_holds_neither_password_nor_cookie_nor_address_in_a_name():
    store = MemoryStore()
    desk, hall = Accounts(store, SECRET, Clock()), Sessions(store, SECRET, Clock())
    account = await desk.create("ada@example.com", PASSWORD, title="Ada", consumer="ada")
    cookie = await hall.begin(account.id)
    held = await store.list("")
    assert not [key for key in held if "ada" in key]
    everything = b"".join(record.body for record in held.values()) + "".join(held).encode()
    assert PASSWORD.encode() not in everything
    assert cookie.partition(".")[2].encode() not in everything


async def test_a_session_ends_by_itself_by_signing_out_and_when_there_are_too_many():
    store, clock = MemoryStore(), Clock()
    hall, account = Sessions(store, SECRET, clock), "a" * 64
    first = await hall.begin(account)
    assert (await hall.find(first)) is not None
    cookies = [await hall.begin(account) for _ in range(MOST_EACH)]
    assert await hall.find(first) is None
    found = await hall.find(cookies[0])
    await hall.end(found)
    assert await hall.find(cookies[0]) is None
    clock.at += LASTS * 10**9
    assert await hall.find(cookies[-1]) is None
    await hall.sweep()
    assert not await store.list(sessions.FOLDER)


@pytest.mark.parametrize("cookie", ["", ".", "a" * 64, "../x." + "t" * 43, "a" * 64 + "." + "t"])
async def test_a_cookie_of_another_form_is_nobodys(cookie):
    assert await Sessions(MemoryStore(), SECRET, Clock()).find(cookie) is None


def test_a_guard_is_bound_to_its_cookie():
    hall = Sessions(MemoryStore(), SECRET, Clock())
    assert hall.guarded("one", hall.guard("one"))
    assert not hall.guarded("two", hall.guard("one"))
    assert not hall.guarded("one", "ü")


async def test_an_account_record_that_is_none_is_said_to_be_none():
    store = MemoryStore()
    await store.put(accounts.FOLDER + "x", json.dumps({"email": "a"}).encode())
    with pytest.raises(ValueError, match="expected an account"):
        await Accounts(store, SECRET, Clock()).get("x")


@pytest.mark.parametrize(
    ("email", "password", "wrong"),
    [
        ("ada@example.com", PASSWORD, set()),
        ("ada", PASSWORD, {"email"}),
        ("a da@example.com", PASSWORD, {"email"}),
        ("ada@exa<mple.com", PASSWORD, {"email"}),
        ("a@" + "b" * 300, PASSWORD, {"email"}),
        ("ada@example.com", "short", {"password"}),
        ("ada@example.com", "x" * 257, {"password"}),
        ("ada@example.com", "aaaaaaaaaaaaaa", {"password"}),
        ("ada@example.com", "ADA@example.com", {"password"}),
    ],
)
def test_what_is_wrong_with_a_sign_up_is_said_by_field(email, password, wrong):
    assert set(faults(email, password)) == wrong


def test_failures_make_one_wait_until_the_window_ends():
    tries = Attempts(3, 60)
    for second in (0, 10, 20):
        assert tries.wait("ada", second) == 0
        tries.failed("ada", second)
    assert tries.wait("ada", 20) == 40
    assert tries.wait("eve", 20) == 0
    assert tries.wait("ada", 60) == 0
    tries.failed("ada", 61)
    assert tries.wait("ada", 61) == 0


def test_success_forgets_failures_and_names_are_bounded():
    tries = Attempts(1, 60)
    tries.failed("ada", 0)
    tries.succeeded("ada")
    assert tries.wait("ada", 1) == 0
    for n in range(MOST_KNOWN + 1):
        tries.failed(str(n), 2)
    assert tries.wait("0", 3) == 0
    assert tries.wait("1", 3) > 0


@given(st.text(max_size=80))
def test_a_new_consumer_has_a_name_that_a_resource_may_have(title):
    assert is_name(new_name(title))
    assert new_name(title) != new_name(title)


def test_success_with_one_account_does_not_excuse_failures_with_others():
    tries = SignIns(2, 60)
    for n in range(10):
        tries.failed(f"victim {n}", "192.0.2.1", 0)
        tries.failed("own", "192.0.2.1", 0)
        tries.succeeded("own", "192.0.2.1")
    assert tries.wait("victim 11", "192.0.2.1", 1) > 0
    assert tries.wait("victim 11", "192.0.2.2", 1) == 0


def test_others_hardly_lock_the_owner_of_an_account_out():
    tries = SignIns(2, 60)
    for _ in range(2):
        tries.failed("ada", "192.0.2.66", 0)
    assert tries.wait("ada", "192.0.2.66", 1) > 0
    assert tries.wait("ada", "192.0.2.1", 1) == 0
    for n in range(18):
        tries.failed("ada", f"198.51.100.{n}", 0)
    assert tries.wait("ada", "192.0.2.1", 1) > 0
