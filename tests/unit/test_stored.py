"""Stored resources and files are one catalogue: checked as one, written whole or not at all."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import pytest
from support.mortal import WITHOUT_END, Killed, Mortal

from wherry import audit
from wherry.audit import Entry
from wherry.config.stored import Absent, Busy, Declared, differences
from wherry.config.watch import Worlds
from wherry.errors import ConfigError, Problem
from wherry.resources import Resources
from wherry.resources.commit import COMMIT
from wherry.resources.follow import follow
from wherry.store import Conflict, Lease, opened
from wherry.store.memory import MemoryStore


def document(kind, name, **spec):
    return {
        "apiVersion": "wherry.dev/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


PLAN = document("Plan", "gold", rate={"requests": 10})
PRODUCT = document(
    "ApiProduct", "shop", routes=[{"path": "/x", "to": {"mock": {"text": "x"}}}], plans=["gold"]
)
CONSUMER = document("Consumer", "ann", subscriptions=[{"product": "shop", "plan": "gold"}])
FILE = "apiVersion: wherry.dev/v1\nkind: Plan\nmetadata: {name: filed}\n"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    async with opened(f"{request.param}:{folder / 'wherry.db'}") as store:
        yield store


@pytest.fixture
def resources(store, tmp_path):
    (tmp_path / "plans.yaml").write_text(FILE)
    return Resources(store, tmp_path)


async def entries(store):
    return [Entry.decode(event.body) for event in await store.read(audit.LOG)]


async def test_what_is_put_is_read_back_and_part_of_the_world(resources):
    change = await resources.put(PLAN, actor="ann")
    assert change.verb == "create"
    held = await resources.get("Plan", "gold")
    assert (held.document, held.revision, held.origin) == (PLAN, change.revision, None)
    world = await resources.world()
    assert sorted(world.plans) == ["filed", "gold"]
    assert str(world.origin("Plan", "gold")) == "store:Plan/gold:1"


async def test_a_list_holds_files_and_store_by_name(resources, tmp_path):
    await resources.put(PLAN, actor="ann")
    listed = await resources.list("Plan")
    assert [(held.name, held.origin) for held in listed] == [
        ("filed", f"{tmp_path}/plans.yaml:1"),
        ("gold", None),
    ]
    assert await resources.list("Consumer") == []
    assert await resources.get("Plan", "none") is None


@pytest.mark.parametrize("write", ["put", "delete", "apply"])
async def test_a_name_in_a_file_is_changed_there_only(resources, tmp_path, write):
    filed = document("Plan", "filed")
    writing = {
        "put": lambda: resources.put(filed, actor="ann"),
        "delete": lambda: resources.delete("Plan", "filed", actor="ann"),
        "apply": lambda: resources.apply([PLAN, filed], actor="ann"),
    }
    with pytest.raises(Declared, match=r"plans.yaml:1, expected a change of that file"):
        await writing[write]()
    assert await resources.get("Plan", "gold") is None


async def test_a_file_takes_the_place_of_what_is_stored(resources, tmp_path):
    await resources.put(PLAN, actor="ann")
    (tmp_path / "plans.yaml").write_text(FILE.replace("filed", "gold"))
    world = await resources.world()
    assert world.plans["gold"].spec.rate is None
    assert (await resources.get("Plan", "gold")).origin == f"{tmp_path}/plans.yaml:1"


async def test_a_write_expects_what_was_read(resources):
    first = await resources.put(PLAN, expect=0, actor="ann")
    with pytest.raises(Conflict, match=f"found revision {first.revision}, expected 0"):
        await resources.put(PLAN, expect=0, actor="bob")
    changed = document("Plan", "gold", rate={"requests": 20})
    second = await resources.put(changed, expect=first.revision, actor="bob")
    assert (second.verb, second.before, second.after) == ("update", PLAN, changed)
    with pytest.raises(Conflict):
        await resources.delete("Plan", "gold", expect=first.revision, actor="ann")
    await resources.delete("Plan", "gold", expect=second.revision, actor="ann")
    with pytest.raises(Absent, match="Plan 'gold': not found"):
        await resources.delete("Plan", "gold", actor="ann")


async def test_what_would_lead_nowhere_is_refused_with_its_place_and_nothing_is_written(
    resources, store
):
    with pytest.raises(ConfigError) as caught:
        await resources.apply([CONSUMER, PRODUCT], actor="ann")
    assert [str(problem) for problem in caught.value.problems] == [
        "store:ApiProduct/shop#/spec/plans/0:1: no plan 'gold', expected one of filed",
        "store:Consumer/ann#/spec/subscriptions/0/plan:1: no plan 'gold', expected one of filed",
    ]
    assert dict(await store.list("")) == {}
    assert await entries(store) == []


async def test_nothing_is_removed_that_others_refer_to(resources):
    await resources.apply([CONSUMER, PRODUCT, PLAN], actor="ann")
    with pytest.raises(ConfigError, match="no plan 'gold'"):
        await resources.delete("Plan", "gold", actor="ann")
    assert await resources.get("Plan", "gold") is not None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (document("Plan", "p", rate={"request": 1}), "Plan/p#/spec/rate/request:1: unknown field"),
        (document("Plan", "p", rate={"requests": 0}), "#/spec/rate/requests:1: spec.rate.requests"),
        (document("Pan", "p"), "kind 'Pan', expected 'Plan'"),
        (document("Service", "p"), "kind 'Service', expected one of ApiGateway, Plan"),
        ({"spec": 1}, "no kind"),
        (document("Plan", "No Name"), "#/metadata/name:1: metadata.name: 'No Name'"),
        (document("Plan", "p", title="\ud800"), "no JSON"),
        (document("Plan", "p", title=float("nan")), "no JSON"),
        (PRODUCT | {"spec": PRODUCT["spec"] | {"openapi": "api.yaml"}}, "/spec/openapi:1: spec.op"),
        (document("ApiGateway", "default", tls={"certificate": "a", "key": "b"}), "tls only in a"),
    ],
)
async def test_a_wrong_document_is_refused_with_the_place_in_it(resources, wrong, said):
    with pytest.raises(ConfigError) as caught:
        await resources.put(wrong, actor="ann")
    assert said in str(caught.value)


async def test_many_changes_come_together_and_pruning_removes_what_is_not_among_them(resources):
    changes = await resources.apply([CONSUMER, PRODUCT, PLAN], actor="ann")
    assert [(c.kind, c.verb) for c in changes] == [
        ("Consumer", "create"),
        ("ApiProduct", "create"),
        ("Plan", "create"),
    ]
    silver = document("Plan", "silver")
    product = PRODUCT | {"spec": PRODUCT["spec"] | {"plans": ["silver"]}}
    dry = await resources.apply([silver, product], prune=True, dry_run=True, actor="ann")
    wanted = [("silver", "create"), ("shop", "update"), ("ann", "delete"), ("gold", "delete")]
    assert [(c.name, c.verb) for c in dry] == wanted
    assert await resources.get("Plan", "silver") is None
    changes = await resources.apply([silver, product], prune=True, actor="ann")
    assert [(c.name, c.verb) for c in changes] == wanted
    world = await resources.world()
    assert (sorted(world.plans), sorted(world.consumers)) == (["filed", "silver"], [])


async def test_the_same_again_changes_nothing_and_is_not_noted(resources, store):
    await resources.apply([PLAN], actor="ann")
    [change] = await resources.apply([PLAN], actor="ann")
    assert (change.verb, change.revision) == ("keep", (await resources.get(*ID)).revision)
    assert len(await entries(store)) == 1


ID = ("Plan", "gold")


async def test_one_name_twice_in_one_write_is_refused(resources):
    with pytest.raises(ConfigError, match="Plan 'gold' a second time"):
        await resources.apply([PLAN, PLAN], actor="ann")


async def test_every_change_is_noted_with_before_and_after_and_without_secrets(resources, store):
    header = {"request": {"headers": {"set": [{"name": "Authorization", "value": "Bearer s3"}]}}}
    secret = PRODUCT | {"spec": PRODUCT["spec"] | {"traffic": {"transform": header}}}
    await resources.apply([PLAN, secret], actor="ann")
    await resources.put(PRODUCT, actor="bob")
    await resources.delete("ApiProduct", "shop", actor="eve")
    told = [(e.actor, e.verb, e.subject) for e in await entries(store)]
    assert told == [
        ("ann", "create", "Plan/gold"),
        ("ann", "create", "ApiProduct/shop"),
        ("bob", "update", "ApiProduct/shop"),
        ("eve", "delete", "ApiProduct/shop"),
    ]
    update = (await entries(store))[2]
    assert update.after == PRODUCT
    assert "s3" not in json.dumps(update.before)
    assert audit.HIDDEN in json.dumps(update.before)


@pytest.mark.parametrize("writes", range(6))
async def test_a_write_that_dies_on_the_way_has_happened_whole_or_not_at_all(writes):
    store = Mortal(MemoryStore(), WITHOUT_END)
    resources = Resources(store, None)
    await resources.put(PLAN, actor="ann")
    store.left = writes
    silver = document("Plan", "silver")
    with suppress(Killed):
        await resources.apply([silver, PRODUCT | {"spec": _with_silver()}], prune=True, actor="bob")
    store.left = WITHOUT_END
    plans = [held.name for held in await resources.list("Plan")]
    products = [held.name for held in await resources.list("ApiProduct")]
    world = await resources.world()
    happened = writes > 0
    assert plans == (["silver"] if happened else ["gold"])
    assert products == (["shop"] if happened else [])
    assert sorted(world.plans) == plans
    await resources.put(document("Plan", "bronze"), actor="eve")
    assert [held.name for held in await resources.list("Plan")] == ["bronze", *plans]
    told = [(e.verb, e.subject) for e in await entries(store) if e.actor == "bob"]
    assert len(told) == (3 if happened else 0)


def _with_silver():
    return PRODUCT["spec"] | {"plans": ["silver"]}


async def test_writers_wait_for_each_other(store):
    one, other = Resources(store, None), Resources(store, None)
    async with asyncio.TaskGroup() as group:
        for n in range(8):
            writer = (one, other)[n % 2]
            group.create_task(writer.put(document("Plan", f"p{n}"), expect=0, actor="ann"))
    assert len(await one.list("Plan")) == 8
    assert len(await entries(store)) == 8


class Lawless(MemoryStore):
    """Gives a claim to everyone at once, and others their turn before each write."""

    async def lease(self, key, holder, *, seconds):
        return Lease(key, holder, 0)

    async def put(self, key, body, *, expect=None):
        await asyncio.sleep(0)
        return await super().put(key, body, expect=expect)


async def test_writers_whose_claim_ended_too_early_lose_nothing_of_each_other():
    store = Lawless()
    async with asyncio.TaskGroup() as group:
        for n in range(6):
            writer = Resources(store, None)
            group.create_task(writer.put(document("Plan", f"p{n}"), expect=0, actor="ann"))
    assert len(await Resources(store, None).list("Plan")) == 6
    assert len(await entries(store)) == 6


class Overtaken(Lawless):
    """Lets another writer come first, right before the first decisive write."""

    overtake = None

    async def put(self, key, body, *, expect=None):
        if key == COMMIT and self.overtake is not None:
            other, self.overtake = self.overtake, None
            await other()
        return await super().put(key, body, expect=expect)


async def test_a_writer_that_is_overtaken_looks_again_at_what_it_would_break():
    store = Overtaken()
    slow, fast = Resources(store, None), Resources(store, None)
    await slow.put(PLAN, actor="ann")
    store.overtake = lambda: fast.put(PRODUCT, actor="bob")
    with pytest.raises(ConfigError, match="no plan 'gold'"):
        await slow.delete("Plan", "gold", actor="ann")
    assert sorted((await slow.world()).plans) == ["gold"]


async def test_a_writer_that_does_not_end_is_not_waited_for_without_end(store, monkeypatch):
    monkeypatch.setattr("wherry.resources.writer._PATIENCE", 0.05)
    await store.lease("resources", "another", seconds=60)
    with pytest.raises(Busy):
        await Resources(store, None).put(PLAN, actor="ann")


async def test_what_a_service_cannot_use_is_refused_before_it_is_written(store):
    def check(world):
        if "gold" in world.plans:
            raise ConfigError([Problem("store:Plan/gold", 1, "gold", "silver")])

    with pytest.raises(ConfigError, match="expected silver"):
        await Resources(store, None, check=check).put(PLAN, actor="ann")
    assert await store.get(COMMIT) is None


@asynccontextmanager
async def following(store, source):
    worlds = Worlds(await Resources(store, source).world())
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow(store, source, worlds))
        yield worlds
        task.cancel()


async def reached(worlds, right):
    async with asyncio.timeout(10):
        async for world in worlds.follow():
            if right(world):
                return


async def test_the_world_follows_files_and_store(store, tmp_path):
    (tmp_path / "plans.yaml").write_text(FILE)
    resources = Resources(store, tmp_path)
    async with following(store, tmp_path) as worlds:
        await resources.put(PLAN, actor="ann")
        await reached(worlds, lambda world: set(world.plans) == {"filed", "gold"})
        (tmp_path / "plans.yaml").write_text(FILE.replace("filed", "other"))
        await reached(worlds, lambda world: set(world.plans) == {"other", "gold"})
        await resources.delete("Plan", "gold", actor="ann")
        await reached(worlds, lambda world: set(world.plans) == {"other"})


async def test_files_that_stored_resources_cannot_do_without_are_refused(store, tmp_path):
    (tmp_path / "plans.yaml").write_text(FILE)
    product = PRODUCT | {"spec": PRODUCT["spec"] | {"plans": ["filed"]}}
    await Resources(store, tmp_path).put(product, actor="ann")
    async with following(store, tmp_path) as worlds:
        (tmp_path / "plans.yaml").write_text("")
        async with asyncio.timeout(10):
            while worlds.refused is None:
                await asyncio.sleep(0.01)
        assert "store:ApiProduct/shop#/spec/plans/0" in str(worlds.refused)
        assert set(worlds.current.products) == {"shop"}


def test_differences_are_named_by_their_smallest_place():
    before = {"a": {"b": 1, "c/d": [1]}, "x": 1}
    after = {"a": {"b": 2, "c/d": [1, 2]}, "y": None, "z": 3}
    told = {d.pointer: (d.before, d.after) for d in differences(before, after)}
    assert told == {"/a/b": (1, 2), "/a/c~1d": ([1], [1, 2]), "/x": (1, None), "/z": (None, 3)}
    assert list(differences(before, before)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"kind": "Plan", "kind": "Plan"}', "field 'kind' a second time"),
        ("[" * 5000, "no JSON"),
        ("[" * 100 + "]" * 100, "nested deeper than 64"),
        ("\xff", "no JSON"),
    ],
)
async def test_a_damaged_record_is_refused_by_its_name(store, text, said):
    await store.put("resource/Plan/gold", text.encode("latin-1"))
    with pytest.raises(ConfigError, match="store:Plan/gold") as caught:
        await Resources(store, None).world()
    assert said in str(caught.value)
