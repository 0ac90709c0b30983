"""When keys were last used: several write it, and it outlives a failure of the Store."""

from support.mortal import WITHOUT_END, Mortal

from gateway.authn.uses import FOLDER, Uses, last_used
from wherry.store import StoreFailed
from wherry.store.memory import MemoryStore


def down():
    raise StoreFailed("test", "down")


async def test_the_latest_use_counts_whoever_writes_it_last():
    store = MemoryStore()
    here, there = Uses(store), Uses(store)
    here.note("aaaaaaaa", 5)
    here.note("aaaaaaaa", 9)
    there.note("aaaaaaaa", 7)
    there.note("aabbbbbb", 3)
    await here.flush()
    await there.flush()
    assert await last_used(store) == {"aaaaaaaa": 9, "aabbbbbb": 3}


async def test_what_a_failing_store_did_not_take_is_written_later(caplog):
    store = Mortal(MemoryStore(), 1, down)
    uses = Uses(store)
    noted = {f"{first}{first}aaaaaa": at for at, first in enumerate("abcd", 1)}
    for prefix, at in noted.items():
        uses.note(prefix, at)
    await uses.flush()
    assert len(await last_used(store)) == 1
    assert caplog.text.count("uses of keys not written") == 1
    uses.note("ddaaaaaa", 9)
    store.left = WITHOUT_END
    await uses.flush()
    assert await last_used(store) == {**noted, "ddaaaaaa": 9}
    assert store.left == WITHOUT_END - 3


async def test_a_record_that_is_unreadable_is_written_anew():
    store = MemoryStore()
    uses = Uses(store)
    await store.put(f"{FOLDER}aa", b"no JSON")
    assert await last_used(store) == {}
    uses.note("aaaaaaaa", 5)
    await uses.flush()
    assert await last_used(store) == {"aaaaaaaa": 5}
