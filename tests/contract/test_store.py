"""Every store keeps the same promises; SQLite and Redis also keep them between processes."""

import asyncio
import secrets
import shutil
import signal
import sqlite3
import stat
import sys
import tempfile
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import redis

from wherry.errors import StartError
from wherry.store import (
    MAX_BODY,
    Conflict,
    LeaseLost,
    StoreClosed,
    StoreFailed,
    TooLarge,
    bounds,
    opened,
    scripts,
)
from wherry.store.memory import MemoryStore
from wherry.store.redis import RedisStore
from wherry.store.scripts import Script
from wherry.store.sqlite import SqliteStore
from wherry.store.steps import Advance, Advanced, Held, Hold


class SettableClock:
    """A clock that stands until the test moves it."""

    def __init__(self):
        self.ns = 1_000_000_000

    def now(self):
        return self.ns / 1e9

    def unix_ns(self):
        return self.ns


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    with redis.serving(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(params=["memory", "sqlite", "redis"])
async def store(request, tmp_path, clock):
    url = request.getfixturevalue("redis_url") if request.param == "redis" else ""
    async with making(request.param, tmp_path, clock, url) as made:
        yield made


@asynccontextmanager
async def making(kind, folder, clock, url):
    match kind:
        case "memory":
            yield MemoryStore(clock)
        case "sqlite":
            async with SqliteStore.open(folder / "store.db", clock=clock) as made:
                yield made
        case "redis":
            async with RedisStore.open(url, prefix=f"{secrets.token_hex(8)}:", clock=clock) as made:
                yield made


async def soon(awaitable):
    async with asyncio.timeout(10):
        return await awaitable


# Records


async def test_an_absent_record_is_none_and_deleting_it_says_so(store):
    assert await store.get("k") is None
    assert await store.delete("k") is False


async def test_a_put_record_comes_back_with_its_revision(store):
    put = await store.put("k", b"\x00\xff")
    assert await store.get("k") == put
    assert put.revision > 0


async def test_put_refuses_a_writer_that_read_an_older_revision(store):
    first = await store.put("k", b"1", expect=0)
    second = await store.put("k", b"2", expect=first.revision)
    message = f"found revision {second.revision}, expected {first.revision}"
    with pytest.raises(Conflict, match=message):
        await store.put("k", b"3", expect=first.revision)
    with pytest.raises(Conflict):
        await store.delete("k", expect=first.revision)
    assert (await store.get("k")).body == b"2"


async def test_creation_is_refused_when_the_record_exists_and_an_update_when_it_does_not(store):
    await store.put("k", b"1")
    with pytest.raises(Conflict):
        await store.put("k", b"2", expect=0)
    with pytest.raises(Conflict):
        await store.put("absent", b"2", expect=1)
    with pytest.raises(Conflict):
        await store.delete("absent", expect=1)


async def test_of_many_writers_at_the_same_revision_one_wins(store):
    async def attempt(n):
        try:
            await store.put("k", b"%d" % n, expect=0)
        except Conflict:
            return False
        return True

    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(attempt(n)) for n in range(10)]
    assert sum(each.result() for each in tries) == 1


async def test_revisions_grow_over_all_keys_and_past_deletions(store):
    first = await store.put("a", b"")
    second = await store.put("b", b"")
    await store.delete("b")
    third = await store.put("b", b"")
    assert first.revision < second.revision < third.revision


async def test_a_record_over_the_limit_is_refused_and_one_at_the_limit_is_kept(store):
    await store.put("k", bytes(MAX_BODY))
    with pytest.raises(TooLarge, match=str(MAX_BODY + 1)):
        await store.put("k", bytes(MAX_BODY + 1))
    with pytest.raises(TooLarge):
        await store.append("log", [("a", b""), ("b", bytes(MAX_BODY + 1))])
    assert await store.read("log") == []


@pytest.mark.parametrize("key", ["", "k" * 1025, "é" * 513, "\ud800"])
async def test_a_key_that_is_empty_too_long_or_no_text_is_refused(store, key):
    with pytest.raises(ValueError):  # noqa: PT011
        await store.put(key, b"")


async def test_a_list_holds_exactly_the_keys_that_start_with_the_prefix(store):
    keys = [
        "a",
        "a/",
        "a/b",
        "a/\U0010ffff",
        "a0",
        "b",
        "\ud7ff",
        "\ud7ffx",
        "\ue000",
        "\U0010ffff",
    ]
    for key in keys:
        await store.put(key, key.encode())
    for prefix in ["", "a", "a/", "a/b", "c", "\ud7ff", "\U0010ffff", "a/\U0010ffff"]:
        listed = await store.list(prefix)
        assert set(listed) == {key for key in keys if key.startswith(prefix)}
        assert all(listed[key].body == key.encode() for key in listed)


# Watches


async def test_a_watch_begins_with_what_is_there(store):
    await store.put("w/a", b"1")
    async with aclosing(store.watch("w/")) as views:
        assert set(await soon(anext(views))) == {"w/a"}


async def test_a_slow_watcher_gets_only_the_newest_view(store):
    async with aclosing(store.watch("")) as views:
        assert dict(await soon(anext(views))) == {}
        for n in range(3):
            await store.put(f"k{n}", b"", expect=0)
        assert set(await soon(anext(views))) == {"k0", "k1", "k2"}


async def test_a_quiet_watcher_wakes_on_the_next_write_and_on_a_deletion(store):
    async with aclosing(store.watch("w/")) as views:
        await soon(anext(views))
        for write, left in ((store.put("w/a", b""), {"w/a"}), (store.delete("w/a"), set())):
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                waiter = group.create_task(anext(views))
                await write
            assert set(waiter.result()) == left


async def test_a_watcher_is_not_woken_by_other_prefixes(store):
    async with aclosing(store.watch("w/")) as views, asyncio.TaskGroup() as group:
        await soon(anext(views))
        waiter = group.create_task(anext(views))
        for n in range(5):
            await store.put("x/a", b"%d" % n)
            await store.get("w/a")
        assert not waiter.done()
        await store.put("w/a", b"")
        assert set(await soon(waiter)) == {"w/a"}


async def test_a_rewrite_of_the_same_body_is_a_change(store):
    await store.put("w", b"same")
    async with aclosing(store.watch("w")) as views:
        await soon(anext(views))
        again = await store.put("w", b"same")
        assert await soon(anext(views)) == {"w": again}


async def test_two_watchers_see_the_same_writes(store):
    async with aclosing(store.watch("")) as one, aclosing(store.watch("")) as two:
        await soon(anext(one))
        await soon(anext(two))
        await store.put("k", b"")
        assert await soon(anext(one)) == await soon(anext(two))


async def test_a_view_does_not_change_under_its_reader(store):
    await store.put("k", b"1")
    view = await store.list("")
    await store.put("k", b"2")
    assert view["k"].body == b"1"
    with pytest.raises(TypeError):
        view["k"] = None


# Counters and leases


async def test_a_counter_starts_at_zero_and_adds(store):
    assert [await store.add("c", n) for n in (5, -7, 0)] == [5, -2, -2]
    assert await store.add("other", 1) == 1


async def test_a_counter_outside_64_bits_is_refused_and_keeps_its_value(store):
    await store.add("c", 2**63 - 1)
    with pytest.raises(ValueError, match="64-bit"):
        await store.add("c", 1)
    assert await store.add("c", 0) == 2**63 - 1


async def test_a_lease_is_held_by_one_until_it_ends(store, clock):
    lease = await store.lease("l", "one", seconds=10)
    assert lease.expires_ns == clock.ns + 10 * 10**9
    with pytest.raises(LeaseLost):
        await store.lease("l", "two", seconds=10)
    clock.ns = lease.expires_ns
    assert (await store.lease("l", "two", seconds=1)).holder == "two"
    with pytest.raises(LeaseLost):
        await store.lease("l", "one", seconds=1)


async def test_a_holder_extends_its_own_lease(store, clock):
    await store.lease("l", "one", seconds=10)
    clock.ns += 5 * 10**9
    longer = await store.lease("l", "one", seconds=10)
    assert longer.expires_ns == clock.ns + 10 * 10**9


async def test_a_release_ends_only_ones_own_lease(store, clock):
    first = await store.lease("l", "one", seconds=1)
    clock.ns = first.expires_ns
    second = await store.lease("l", "two", seconds=1)
    await store.release(first)
    with pytest.raises(LeaseLost):
        await store.lease("l", "one", seconds=1)
    await store.release(second)
    assert (await store.lease("l", "one", seconds=1)).holder == "one"


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
async def test_a_lease_without_a_length_is_refused(store, seconds):
    with pytest.raises(ValueError, match="lease 'l'"):
        await store.lease("l", "one", seconds=seconds)


# Levels and shares


async def step(store, n, *, floor=None, most=None, seconds=10):
    return await store.advance("l", n, floor=floor, most=most, seconds=seconds)


async def test_a_level_rises_to_its_ceiling_and_not_over(store):
    assert await step(store, 3, most=5) == Advanced(3, True)
    assert await step(store, 3, most=5) == Advanced(3, False)
    assert await step(store, 2, most=5) == Advanced(5, True)
    assert await step(store, 0, most=5) == Advanced(5, True)
    assert await step(store, -4) == Advanced(1, True)


async def test_a_level_begins_at_its_floor_and_reading_it_changes_nothing(store):
    now = 1_795_400_000_123_456_789
    assert await step(store, 0, floor=now) == Advanced(now, True)
    assert await step(store, 7, floor=now, most=now + 7) == Advanced(now + 7, True)
    assert await step(store, 1, floor=now, most=now + 7) == Advanced(now + 7, False)
    assert await step(store, 0) == Advanced(now + 7, True)
    assert await step(store, 1, floor=now - 5) == Advanced(now + 8, True)
    assert await step(store, 1, floor=now + 100, most=now + 100) == Advanced(now + 100, False)
    assert await step(store, 0) == Advanced(now + 8, True)


async def test_a_level_is_forgotten_when_it_was_not_changed_for_long_enough(store, clock):
    await step(store, 3, seconds=10)
    clock.ns += 9 * 10**9
    await step(store, 0, seconds=10)
    await step(store, 9, most=5, seconds=10)
    assert (await step(store, 1, seconds=10)).value == 4
    clock.ns += 9 * 10**9
    assert (await step(store, 0)).value == 4
    clock.ns += 10**9
    assert await step(store, 2) == Advanced(2, True)


async def test_levels_and_counters_of_one_name_are_apart(store):
    await store.add("l", 5)
    assert (await step(store, 1)).value == 1
    assert await store.add("l", 0) == 5


@pytest.mark.parametrize("base", [2**63 - 1, -(2**63)])
async def test_a_level_outside_64_bits_is_refused_and_keeps_its_value(store, base):
    await step(store, base)
    with pytest.raises(ValueError, match="64-bit"):
        await step(store, 1 if base > 0 else -1)
    assert (await step(store, 0)).value == base


async def test_many_steps_are_taken_in_order_each_by_itself(store):
    steps = [
        Advance("a", 4, None, 5, 10),
        Advance("b", -2, -7, None, 10),
        Advance("a", 4, None, 5, 10),
        Advance("a", 1, None, 5, 10),
    ]
    assert list(await store.advance_all(steps)) == [
        Advanced(4, True),
        Advanced(-2, True),
        Advanced(4, False),
        Advanced(5, True),
    ]
    assert list(await store.advance_all([])) == []
    with pytest.raises(ValueError, match="at most 1000"):
        await store.advance_all([Advance("a", 1, None, None, 1)] * 1001)


async def test_many_who_step_at_once_never_pass_the_ceiling_together(store):
    async with asyncio.TaskGroup() as group:
        tries = [group.create_task(step(store, 3, most=50)) for _ in range(40)]
    assert sum(each.result().passed for each in tries) == 16
    assert (await step(store, 0)).value == 48


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
async def test_a_level_or_share_without_a_length_is_refused(store, seconds):
    with pytest.raises(ValueError, match="'l'"):
        await step(store, 1, seconds=seconds)
    with pytest.raises(ValueError, match="'l'"):
        await store.hold("l", "one", 1, most=None, seconds=seconds)


async def test_shares_of_all_holders_stay_within_the_whole(store):
    async def hold(holder, amount):
        return await store.hold("s", holder, amount, most=5, seconds=10)

    assert await hold("one", 3) == Held(3, True)
    assert await hold("two", 3) == Held(3, False)
    assert await hold("two", 2) == Held(5, True)
    assert await hold("one", 1) == Held(3, True)
    assert await hold("two", 4) == Held(5, True)
    assert await hold("one", 0) == Held(4, True)
    assert await hold("none", 0) == Held(4, True)


async def test_a_share_ends_by_itself_unless_its_holder_renews_it(store, clock):
    async def hold(holder, amount):
        return await store.hold("s", holder, amount, most=5, seconds=10)

    await hold("one", 3)
    await hold("two", 2)
    clock.ns += 6 * 10**9
    assert await hold("one", 3) == Held(5, True)
    clock.ns += 6 * 10**9
    assert await hold("three", 2) == Held(5, True)
    clock.ns += 6 * 10**9
    assert await hold("three", 5) == Held(5, True)


async def test_a_share_over_a_lowered_whole_can_still_be_renewed_and_shrunk(store):
    await store.hold("s", "one", 5, most=5, seconds=10)
    assert await store.hold("s", "one", 5, most=3, seconds=10) == Held(5, True)
    assert await store.hold("s", "one", 4, most=3, seconds=10) == Held(4, True)
    assert await store.hold("s", "one", 5, most=3, seconds=10) == Held(4, False)


async def test_many_claims_are_made_in_order_each_by_itself(store):
    claims = [
        Hold("a", "one", 2, 2, 10),
        Hold("b", "one", 1, None, 10),
        Hold("a", "two", 1, 2, 10),
        Hold("a", "one", 0, 2, 10),
        Hold("a", "two", 1, 2, 10),
    ]
    made = [Held(2, True), Held(1, True), Held(2, False), Held(0, True), Held(1, True)]
    assert list(await store.hold_all(claims)) == made
    with pytest.raises(ValueError, match="share of 'a'"):
        await store.hold("a", "one", -1, most=None, seconds=1)


# Logs


async def test_a_log_holds_each_id_once_and_in_order(store):
    assert await store.append("log", [("a", b"1"), ("b", b"2"), ("a", b"3")]) == 2
    assert await store.append("log", [("b", b"4"), ("c", b"5")]) == 1
    assert [(e.id, e.body) for e in await store.read("log")] == [
        ("a", b"1"),
        ("b", b"2"),
        ("c", b"5"),
    ]


async def test_logs_are_apart(store):
    assert await store.append("one", [("a", b"1")]) == 1
    assert await store.append("two", [("a", b"2")]) == 1
    assert [e.body for e in await store.read("two")] == [b"2"]
    assert await store.read("none") == []
    assert await store.append("none", []) == 0


async def test_a_reader_pages_by_offset(store):
    await store.append("other", [("x", b"")])
    await store.append("log", [(str(n), b"") for n in range(10)])
    seen, after = [], 0
    while page := await store.read("log", after, limit=3):
        assert len(page) <= 3
        seen += [event.id for event in page]
        after = page[-1].offset
    assert seen == [str(n) for n in range(10)]
    with pytest.raises(ValueError, match="read limit"):
        await store.read("log", limit=-1)


async def test_a_trimmed_log_keeps_its_newer_events_and_refuses_the_ids_of_older_ones(store):
    await store.append("other", [("a", b"1")])
    await store.append("log", [(name, name.encode()) for name in "abcd"])
    before = await store.read("log")
    assert await store.trim("log", before[2].offset) == 2
    assert await store.read("log") == before[2:]
    assert await store.read("log", before[0].offset) == before[2:]
    assert await store.append("log", [("a", b""), ("d", b""), ("e", b"e")]) == 1
    assert [event.id for event in await store.read("log")] == ["c", "d", "e"]
    assert [event.id for event in await store.read("other")] == ["a"]
    assert await store.trim("log", before[2].offset) == 0
    assert await store.trim("none", 10, forget=10) == 0


async def test_an_id_that_is_forgotten_is_new_again_and_its_offset_is_never_given_twice(store):
    await store.append("log", [(name, b"") for name in "abc"])
    newest = (await store.read("log"))[-1].offset
    assert await store.trim("log", newest + 1, forget=newest) == 5  # three events, two ids
    assert await store.read("log") == []
    assert await store.append("log", [("a", b"new"), ("c", b"new")]) == 1
    [event] = await store.read("log")
    assert (event.id, event.body) == ("a", b"new")
    assert event.offset > newest


async def test_ids_of_events_that_stay_are_never_forgotten(store):
    await store.append("log", [("a", b""), ("b", b"")])
    _, second = await store.read("log")
    assert await store.trim("log", second.offset, forget=second.offset + 1) == 2
    assert await store.append("log", [("b", b"")]) == 0
    assert await store.append("log", [("a", b"")]) == 1


async def test_a_trim_takes_only_so_many_at_a_time_the_oldest_first(store):
    more = 7
    names = [str(number) for number in range(bounds.MAX_TRIMMED + more)]
    await store.append("log", [(name, b"x") for name in names])
    last = (await store.read("log", limit=10_000))[-1].offset
    assert await store.trim("log", last) == bounds.MAX_TRIMMED
    left = await store.read("log")
    assert [event.id for event in left] == names[bounds.MAX_TRIMMED :]
    assert await store.trim("log", last) == more - 1
    assert await store.trim("log", last) == 0
    assert await store.trim("log", 0, forget=last) == bounds.MAX_TRIMMED


# The SQLite file


async def in_another_process(code, *arguments):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )


WRITE = """
import asyncio, sys
from pathlib import Path
from wherry.store.scripts import Script
from wherry.store.sqlite import SqliteStore
async def main(path, key):
    async with SqliteStore.open(Path(path)) as store:
        await store.put("ready/" + key, b"")
        async for view in store.watch("go"):
            if view:
                break
        await store.append("log", [(key, b"")])
        await store.put(key, b"from there")
        for n in range(20):
            await store.add("c", 1)
            await store.append("log", [(f"{key}-{n}", b""), (f"shared-{n}", b"")])
asyncio.run(main(*sys.argv[1:]))
"""

APPEND_FOREVER = """
import asyncio, sys
from pathlib import Path
from wherry.store.scripts import Script
from wherry.store.sqlite import SqliteStore
async def main(path):
    async with SqliteStore.open(Path(path)) as store:
        for n in range(10**6):
            await store.append("log", [(str(n), b"")])
            print(n, flush=True)
asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_watcher_sees_the_write_of_another_process(tmp_path):
    async with (
        SqliteStore.open(tmp_path / "s.db") as store,
        aclosing(store.watch("there/")) as views,
    ):
        assert await soon(anext(views)) == {}
        await store.put("go", b"")
        child = await in_another_process(WRITE, tmp_path / "s.db", "there/k")
        assert (await soon(anext(views)))["there/k"].body == b"from there"
        assert await soon(child.wait()) == 0


async def test_processes_that_make_and_write_one_file_at_once_lose_nothing(tmp_path):
    path = tmp_path / "s.db"
    children = [await in_another_process(WRITE, path, f"p{n}") for n in range(4)]
    async with SqliteStore.open(path) as store:
        async with asyncio.timeout(30), aclosing(store.watch("ready/")) as views:
            async for view in views:
                if len(view) == 4:
                    break
        await store.put("go", b"")
        assert [await soon(child.wait()) for child in children] == [0] * 4
        assert set(await store.list("p")) == {"p0", "p1", "p2", "p3"}
        assert await store.add("c", 0) == 80
        assert len(await store.read("log")) == 4 + 4 * 20 + 20


async def test_what_was_appended_survives_a_killed_process(tmp_path):
    path = tmp_path / "s.db"
    child = await in_another_process(APPEND_FOREVER, path)
    lines = [await soon(child.stdout.readline()) for _ in range(5)]
    child.send_signal(signal.SIGKILL)
    rest, _ = await soon(child.communicate())
    promised = [line.decode().strip() for line in [*lines, *rest.splitlines()] if line.strip()]
    async with SqliteStore.open(path) as store:
        kept = {event.id for event in await store.read("log", limit=10_000)}
    assert set(promised) <= kept


async def test_a_file_keeps_everything_between_openings_and_is_for_its_owner_only(tmp_path):
    path = tmp_path / "s.db"
    async with opened(f"sqlite:{path}") as store:
        put = await store.put("k", b"v")
        await store.append("log", [("a", b"")])
        modes = [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()]
        assert modes == [0o600] * len(modes)
    async with opened(f"sqlite:{path}") as store:
        assert await store.get("k") == put
        assert await store.append("log", [("a", b"")]) == 0
        assert (await store.put("k", b"w")).revision > put.revision


async def test_a_file_that_is_no_store_or_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "text").write_text("this is a poem and no database\n" * 100)
    with sqlite3.connect(tmp_path / "newer") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for name, message in (
        ("text", "not a database"),
        ("newer", "schema version 99, expected 3"),
        ("missing/s.db", "No such file"),
    ):
        with pytest.raises(StartError, match=message):
            async with SqliteStore.open(tmp_path / name):
                pass


async def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path):
    path = tmp_path / "s.db"
    async with SqliteStore.open(path) as store:
        put = await store.put("k", b"v")
        await store.append("log", [("a", b"1")])
    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE levels; DROP TABLE shares; DROP TABLE trims")
        db.execute("PRAGMA user_version = 1")
    db.close()
    async with SqliteStore.open(path) as store:
        assert await store.get("k") == put
        assert [event.id for event in await store.read("log")] == ["a"]
        assert (await store.advance("l", 1, floor=None, most=1, seconds=1)).passed


async def test_a_closed_store_says_so_and_wakes_its_watchers(tmp_path):
    async with SqliteStore.open(tmp_path / "s.db") as store:
        views = store.watch("")
        await anext(views)
    for use in (anext(views), store.get("k"), store.put("k", b"")):
        with pytest.raises(StoreClosed):
            await soon(use)


# The Redis server


async def test_a_restarted_server_keeps_what_it_was_told_and_watches_go_on(tmp_path):
    with redis.serving(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(server.url) as store, aclosing(store.watch("w/")) as views:
            await store.put("w/a", b"1")
            await store.append("log", [("a", b"1")])
            await store.advance("l", 7, floor=None, most=None, seconds=60)
            assert set(await soon(anext(views))) == {"w/a"}
            server.stop()
            for use in (store.get("w/a"), store.put("w/b", b""), store.add("c", 1)):
                with pytest.raises(StoreFailed, match="expected one that can be reached"):
                    await soon(use)
            async with asyncio.TaskGroup() as group:
                waiter = group.create_task(anext(views))
                server.start()
                assert (await store.get("w/a")).body == b"1"
                assert await store.append("log", [("a", b"2")]) == 0
                assert (await store.advance("l", 0, floor=None, most=None, seconds=60)).value == 7
                await store.put("w/b", b"2")
                assert set(await soon(waiter)) == {"w/a", "w/b"}


async def test_two_clients_of_one_server_see_each_other_and_race_for_the_same_units(redis_url):
    prefix = f"{secrets.token_hex(8)}:"
    async with (
        RedisStore.open(redis_url, prefix=prefix) as one,
        RedisStore.open(redis_url, prefix=prefix) as two,
        aclosing(two.watch("k")) as views,
    ):
        assert await soon(anext(views)) == {}
        await one.put("k", b"1")
        assert (await soon(anext(views)))["k"].body == b"1"
        async with asyncio.TaskGroup() as group:
            tries = [
                group.create_task(store.advance("l", 1, floor=None, most=150, seconds=60))
                for store in (one, two) * 100
            ]
        assert sum(each.result().passed for each in tries) == 150
        await one.hold("s", "one", 1, most=1, seconds=60)
        assert not (await two.hold("s", "two", 1, most=1, seconds=60)).passed


async def test_a_watch_that_missed_more_changes_than_are_kept_lists_anew(redis_url, monkeypatch):
    few = scripts.CHANGES_KEPT
    assert all(str(few) in script.text for script in (scripts.PUT, scripts.DELETE))
    put = Script(scripts.PUT.text.replace(str(few), "4"))
    monkeypatch.setattr(scripts, "PUT", put)
    async with (
        RedisStore.open(redis_url, prefix=f"{secrets.token_hex(8)}:") as store,
        aclosing(store.watch("")) as views,
    ):
        await soon(anext(views))
        for n in range(20):
            await store.put(f"k{n}", b"")
        await store.delete("k3")
        assert set(await soon(anext(views))) == {f"k{n}" for n in range(20)} - {"k3"}


async def test_a_closed_redis_store_says_so(redis_url):
    async with opened(redis_url) as store:
        pass
    with pytest.raises(StoreClosed):
        await store.get("k")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://u:secret@127.0.0.1:1/0", "is the server up"),
        ("redis://u:secret@127.0.0.1:port/0", "expected redis://HOST"),
        ("redis+sentinel://u:secret@127.0.0.1:1", "no service"),
        ("redis+sentinel://u:secret@127.0.0.1:1/mymaster", "is the server up"),
        ("etcd://u:secret@127.0.0.1", "unknown scheme"),
    ],
)
async def test_a_server_that_is_none_is_refused_without_showing_its_password(url, message):
    with pytest.raises(StartError, match=message) as refused:
        async with opened(url):
            pass
    assert "secret" not in str(refused.value)


# Against a model

KEYS = st.sampled_from(["a", "a/1", "a/2", "b", "b/é"])
NAMES = st.sampled_from(["x", "y"])
HOLDERS = st.sampled_from(["one", "two"])


class StoreMachine(RuleBasedStateMachine):
    """Random verbs against a store and against plain dicts."""

    kind = "memory"
    url = ""

    def __init__(self):
        super().__init__()
        self.clock = SettableClock()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.context = making(self.kind, self.folder, self.clock, self.url)
        self.store = self.run(self.context.__aenter__())
        self.records, self.revisions = {}, {}
        self.newest = 0
        self.counters, self.leases, self.logs = {}, {}, {}
        self.levels, self.shares = {}, {}
        self.views, self.watched, self.seen = None, "", None

    def teardown(self):
        if self.views is not None:
            self.run(self.views.aclose())
        self.run(self.context.__aexit__(None, None, None))
        self.runner.close()
        shutil.rmtree(self.folder)

    def run(self, awaitable):
        async def bounded():
            return await soon(awaitable)

        return self.runner.run(bounded())

    def under(self, prefix):
        return {k: v for k, v in self.records.items() if k.startswith(prefix)}

    @rule(key=KEYS, body=st.binary(max_size=3), expect=st.sampled_from([None, "right", 0, 1]))
    def put(self, key, body, expect):
        found = self.revisions.get(key, 0)
        expected = found if expect == "right" else expect
        try:
            record = self.run(self.store.put(key, body, expect=expected))
        except Conflict:
            assert expected is not None
            assert expected != found
            return
        assert expected in (None, found)
        assert record.revision > self.newest
        self.newest = self.revisions[key] = record.revision
        self.records[key] = (record.revision, body)

    @rule(key=KEYS, expect=st.sampled_from([None, "right", 0, 1]))
    def delete(self, key, expect):
        found = self.revisions.get(key, 0)
        expected = found if expect == "right" else expect
        try:
            deleted = self.run(self.store.delete(key, expect=expected))
        except Conflict:
            assert expected is not None
            assert expected != found
            return
        assert expected in (None, found)
        assert deleted == (key in self.records)
        self.records.pop(key, None)
        self.revisions.pop(key, None)

    @rule(key=KEYS)
    def get(self, key):
        record = self.run(self.store.get(key))
        assert (record and (record.revision, record.body)) == self.records.get(key)

    @rule(prefix=st.sampled_from(["", "a", "a/", "b", "z"]))
    def list(self, prefix):
        listed = self.run(self.store.list(prefix))
        assert {k: (r.revision, r.body) for k, r in listed.items()} == self.under(prefix)

    @precondition(lambda self: self.views is None)
    @rule(prefix=st.sampled_from(["", "a", "b/"]))
    def watch(self, prefix):
        self.views, self.watched, self.seen = self.store.watch(prefix), prefix, None

    @precondition(lambda self: self.views is not None and self.seen != self.under(self.watched))
    @rule()
    def see(self):
        view = self.run(anext(self.views))
        self.seen = {k: (r.revision, r.body) for k, r in view.items()}
        assert self.seen == self.under(self.watched)

    @rule(name=NAMES, n=st.integers(-5, 5))
    def add(self, name, n):
        self.counters[name] = self.counters.get(name, 0) + n
        assert self.run(self.store.add(name, n)) == self.counters[name]

    @rule(
        name=NAMES,
        n=st.integers(-3, 9),
        floor=st.one_of(st.none(), st.integers(-5, 20)),
        most=st.one_of(st.none(), st.integers(-5, 20)),
        scale=st.sampled_from([1, 10**17]),
        seconds=st.integers(1, 5),
    )
    def advance(self, name, n, floor, most, scale, seconds):
        n, floor, most = n * scale, floor and floor * scale, most and most * scale
        held, ends = self.levels.get(name, (0, 0))
        base = held if ends > self.clock.ns else 0
        base = base if floor is None else max(base, floor)
        passes = most is None or base + n <= most
        if passes and n:
            self.levels[name] = (base + n, self.clock.ns + seconds * 10**9)
        found = self.run(self.store.advance(name, n, floor=floor, most=most, seconds=seconds))
        assert found == Advanced(base + n if passes else base, passes)

    @rule(
        name=NAMES,
        holder=HOLDERS,
        amount=st.integers(0, 5),
        most=st.one_of(st.none(), st.integers(0, 6)),
        seconds=st.integers(1, 5),
    )
    def hold(self, name, holder, amount, most, seconds):
        live = {
            who: share
            for (what, who), (share, ends) in self.shares.items()
            if what == name and ends > self.clock.ns
        }
        after = {**live, holder: amount}
        passes = amount <= live.get(holder, 0) or most is None or sum(after.values()) <= most
        if passes:
            self.shares[name, holder] = (amount, self.clock.ns + seconds * 10**9)
        found = self.run(self.store.hold(name, holder, amount, most=most, seconds=seconds))
        assert found == Held(sum((after if passes else live).values()), passes)

    @rule(name=NAMES, holder=HOLDERS, seconds=st.integers(1, 5))
    def lease(self, name, holder, seconds):
        held = self.leases.get(name)
        free = held is None or held.holder == holder or held.expires_ns <= self.clock.ns
        try:
            self.leases[name] = self.run(self.store.lease(name, holder, seconds=seconds))
        except LeaseLost:
            assert not free
        else:
            assert free

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def release(self, data):
        name = data.draw(st.sampled_from(sorted(self.leases)))
        self.run(self.store.release(self.leases.pop(name)))

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds):
        self.clock.ns += seconds * 10**9

    @rule(
        log=NAMES,
        events=st.lists(st.tuples(st.sampled_from("abcdef"), st.binary(max_size=2)), max_size=4),
    )
    def append(self, log, events):
        held = self.logs.setdefault(log, {})
        before = len(held)
        for each, body in events:
            held.setdefault(each, body)
        assert self.run(self.store.append(log, events)) == len(held) - before

    @rule(log=NAMES, limit=st.integers(1, 4))
    def read(self, log, limit):
        after, seen = 0, []
        while page := self.run(self.store.read(log, after, limit=limit)):
            assert len(page) <= limit
            assert all(event.offset > after for event in page)
            after = page[-1].offset
            seen += [(event.id, event.body) for event in page]
        kept = self.logs.get(log, {}).items()
        assert seen == [(each, body) for each, body in kept if body is not None]

    @rule(log=NAMES, events=st.integers(0, 6), ids=st.integers(0, 6))
    def trim(self, log, events, ids):
        held = self.logs.get(log, {})
        offsets = {event.id: event.offset for event in self.run(self.store.read(log))}
        there = [each for each, body in held.items() if body is not None]
        gone = [each for each, body in held.items() if body is None]
        before = offsets[there[events]] if events < len(there) else 10**6
        removed = there[:events]
        forgotten = [*gone, *removed] if ids else []
        found = self.run(self.store.trim(log, before, forget=before if ids else 0))
        assert found == len(removed) + len(forgotten)
        held.update(dict.fromkeys(removed))
        for each in forgotten:
            del held[each]


class SqliteMachine(StoreMachine):
    kind = "sqlite"


class RedisMachine(StoreMachine):
    kind = "redis"


@pytest.mark.parametrize("machine", [StoreMachine, SqliteMachine, RedisMachine])
def test_random_verbs_do_what_plain_dictionaries_do(machine, request):
    if machine is RedisMachine:
        machine.url = request.getfixturevalue("redis_url")
    examples = 100 if machine is StoreMachine else 30
    run_state_machine_as_test(
        machine,
        settings=settings(deadline=None, stateful_step_count=30, max_examples=examples),
    )
