"""Usage from the call to the report: real journals, real stores, real kills, the admin API."""

import asyncio
import csv
import io
import json
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

import gateway.app
from gateway import keyring
from gateway.metering.batch import MINUTE_NS, Key, Sum, encoded, uses
from gateway.metering.endpoints import endpoints
from gateway.metering.roller import LEASE, Retention, Roller
from gateway.metering.rollup import Level, Progress, UsageGone, series, used
from gateway.pepper import pepper
from gateway.problem import Refused
from gateway.recorder import Recorder, UsageLost
from gateway.usage import LOG, Usage
from wherry.cli.usage import moment, usage
from wherry.config import assemble
from wherry.config.watch import Worlds
from wherry.errors import StartError, WherryError
from wherry.serve import Address
from wherry.store import opened
from wherry.store.memory import MemoryStore

NOW = 1_764_504_000 * 10**9
"""2025-11-30T12:00:00Z"""

WORLD = assemble(
    {
        Path("world.yaml"): """
services: {shop: {}}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
---
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: gold}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: shop}
spec: {plans: [basic, gold], routes: [{path: /, to: {service: shop}}]}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: bank}
spec: {plans: [basic], routes: [{path: /bank, to: {service: shop}}]}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {subscriptions: [{product: shop, plan: basic}], apps: [{name: web}]}
---
apiVersion: wherry.dev/v1
kind: Subscription
metadata: {name: alice-web}
spec: {consumer: alice, app: web, product: shop, plan: gold}
"""
    }
)


class Clock:
    """Stands where the test puts it."""

    def __init__(self, ns=NOW):
        self.ns = ns

    def now(self):
        return self.ns / 1e9

    def unix_ns(self):
        return self.ns


class BrokenStore(MemoryStore):
    """A store whose log takes nothing while it is broken."""

    def __init__(self):
        super().__init__()
        self.broken = asyncio.Event()

    async def append(self, log, events):
        if self.broken.is_set():
            raise Broken("no store")
        return await super().append(log, events)


class Broken(WherryError):
    """What a broken store says."""


def a_use(recorder, *, at_ns=NOW, consumer="alice", status=200, product="shop", **amounts):
    return Usage(
        *(recorder if isinstance(recorder, str) else recorder.next_id(), at_ns, consumer),
        *("default", product, "list", "basic", "ab12", status, amounts or {"requests": 1}),
    )


@asynccontextmanager
async def recording(store, **options):
    recorder = Recorder(store, **options)
    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run(), name="recorder")
        try:
            yield recorder
        finally:
            recorder.end()


async def logged(store):
    found, after = [], 0
    while events := await store.read(LOG, after):
        found += [use for event in events for use in uses(event.body)]
        after = events[-1].offset
    return found


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


# On the way to the log


async def test_every_use_is_in_the_log_once_and_the_journal_is_empty_at_the_end(tmp_path):
    store = MemoryStore()
    async with recording(store, folder=tmp_path / "usage") as recorder:
        for _ in range(1200):
            await recorder.reserve()
            recorder.record(a_use(recorder))
    found = await logged(store)
    assert (len(found), len({use.id for use in found})) == (1200, 1200)
    assert list((tmp_path / "usage").iterdir()) == []


async def test_a_journal_lets_calls_go_on_while_the_store_is_down_and_loses_none(tmp_path):
    store = BrokenStore()
    store.broken.set()
    async with recording(store, folder=tmp_path, places=10, patience=5) as recorder:
        for _ in range(100):
            async with asyncio.timeout(5):
                await recorder.reserve()
            recorder.record(a_use(recorder))
        assert not recorder.failing
        assert await logged(store) == []
        store.broken.clear()
    assert len(await logged(store)) == 100


async def test_a_full_journal_makes_calls_wait_and_says_that_it_fails(tmp_path):
    store = BrokenStore()
    store.broken.set()
    async with recording(store, folder=tmp_path, places=10, most_waiting=1000) as recorder:

        async def calls():
            for _ in range(300):
                await recorder.reserve()
                recorder.record(a_use(recorder))

        async with asyncio.TaskGroup() as group:
            task = group.create_task(calls())
            await until(lambda: recorder.failing)
            assert not task.done()
            store.broken.clear()
        await until(lambda: not recorder.failing)
    assert len(await logged(store)) == 300


async def test_what_the_store_did_not_take_before_the_end_is_sent_by_the_next_start(tmp_path):
    store = BrokenStore()
    store.broken.set()
    async with recording(store, folder=tmp_path, patience=0.1) as recorder:
        await recorder.reserve()
        recorder.record(a_use(recorder))
    assert await logged(store) == []
    store.broken.clear()
    async with recording(store, folder=tmp_path):
        async with asyncio.timeout(10):
            while not await logged(store):
                await asyncio.sleep(0.01)
    assert len(await logged(store)) == 1
    assert list(tmp_path.iterdir()) == []


async def test_without_a_journal_the_end_says_what_is_lost():
    store = BrokenStore()
    store.broken.set()
    recorder = Recorder(store, patience=0.1)
    await recorder.reserve()
    recorder.record(a_use(recorder))
    recorder.end()
    with pytest.raises(UsageLost) as lost:
        await recorder.run()
    assert lost.value.count == 1


@pytest.mark.parametrize("ended", [True, False])
async def test_a_recorder_that_is_cancelled_loses_nothing(tmp_path, ended):
    store = MemoryStore()
    recorder = Recorder(store, folder=tmp_path)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(recorder.run())
        for number in range(1500):
            await recorder.reserve()
            recorder.record(a_use(recorder))
            if number % 100 == 0:
                await asyncio.sleep(0)
        if ended:
            recorder.end()
        task.cancel()
    assert len(await logged(store)) == 1500 or not ended
    async with recording(store, folder=tmp_path):
        pass
    found = [use.id for use in await logged(store)]
    assert (len(found), len(set(found))) == (1500, 1500)
    assert list(tmp_path.iterdir()) == []


PLACES = 20
RECORDING = """
import asyncio, sys
from pathlib import Path
from gateway.recorder import Recorder
from gateway.usage import Usage
from wherry.serve import Address
from wherry.store import opened

async def main(folder):
    async with opened(f"sqlite:{folder / 'wherry.db'}") as store, asyncio.TaskGroup() as group:
        recorder = Recorder(store, folder=folder / "usage", places=20)
        group.create_task(recorder.run())
        number = 0
        while True:
            number += 1
            await recorder.reserve()
            recorder.record(Usage(
                f"use-{number}", 1_764_504_000 * 10**9, "alice", "default", "shop", "list",
                "basic", "ab12", 200, {"requests": 1}))
            print(number, flush=True)
            await asyncio.sleep(0.001)

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_killed_gateway_loses_at_most_its_flush_window_and_nothing_counts_twice(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RECORDING, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        for _ in range(700):
            await process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        last = 700 + len((await process.stdout.read()).splitlines())
        await process.wait()
    async with opened(f"sqlite:{tmp_path / 'wherry.db'}") as store:
        async with recording(store, folder=tmp_path / "usage"):
            pass
        found = [use.id for use in await logged(store)]
    assert len(found) == len(set(found))
    assert {f"use-{number}" for number in range(1, last - PLACES)} <= set(found)
    assert list((tmp_path / "usage").iterdir()) == []


async def test_a_signal_to_end_loses_nothing(tmp_path):
    program = RECORDING.replace(
        "        number = 0\n",
        "        number = 0\n"
        "        import signal\n"
        "        stop = asyncio.Event()\n"
        "        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)\n",
    ).replace("while True:", "while not stop.is_set():")
    program = program.replace("\nasyncio.run(", "        recorder.end()\n\nasyncio.run(")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        for _ in range(200):
            await process.stdout.readline()
        process.terminate()
        rest = await process.stdout.read()
        assert await process.wait() == 0
    last = 200 + len(rest.split())
    async with opened(f"sqlite:{tmp_path / 'wherry.db'}") as store:
        assert len(await logged(store)) == last


# Sums


async def rolled(store, clock=None, **options):
    roller = Roller(store, clock or Clock(), **options)
    while await roller.roll():
        pass
    return roller


async def kept(store, *many):
    async with recording(store) as recorder:
        for each in many:
            await recorder.reserve()
            recorder.record(each)


async def test_sums_are_the_same_before_and_after_they_are_rolled_up():
    store = MemoryStore()
    await kept(
        store,
        a_use("1", requests=2, tokens=10),
        a_use("2", status=502, at_ns=NOW + MINUTE_NS),
        a_use("3", consumer="bob"),
    )
    alice = Key("alice", "default", "shop", "basic", "list", "requests")
    expected = {
        alice: Sum(3, 2, 2, 1),
        alice._replace(meter="tokens"): Sum(10, 10, 1, 0),
        alice._replace(consumer="bob"): Sum(1, 1, 1, 0),
    }
    for _ in range(2):
        assert await used(store, begins_ns=0, ends_ns=NOW + 2 * MINUTE_NS) == expected
        assert await used(store, consumer="bob", begins_ns=0, ends_ns=NOW + 1) == {
            alice._replace(consumer="bob"): Sum(1, 1, 1, 0)
        }
        assert await used(store, product="bank", begins_ns=0, ends_ns=NOW * 2) == {}
        late = await used(store, begins_ns=NOW + MINUTE_NS, ends_ns=NOW + 2 * MINUTE_NS)
        assert late == {alice: Sum(1, 0, 1, 1)}
        await rolled(store)
    assert (await Progress.of(store)).offset > 0


async def test_a_late_use_goes_to_its_own_minute():
    store = MemoryStore()
    await kept(store, a_use("1"))
    await rolled(store)
    await kept(store, a_use("2", at_ns=NOW - 26 * 3600 * 10**9))
    await rolled(store)
    begins = NOW - 48 * 3600 * 10**9
    points = await series(
        store, meter="requests", begins_ns=begins, ends_ns=NOW + 1, step=Level.HOUR
    )
    assert [place for place, point in enumerate(points) if point.sum.calls] == [22, 48]
    assert len(points) == 49


async def test_minutes_are_forgotten_after_their_time_and_days_are_not():
    store, clock = MemoryStore(), Clock()
    await kept(store, a_use("1"))
    await rolled(store, clock, retention=Retention(minutes=2, hours=4))
    clock.ns += 3 * 86_400 * 10**9
    await rolled(store, clock, retention=Retention(minutes=2, hours=4))
    records = await store.list("usage/")
    assert {key.split("/")[1] for key in records if key.count("/") > 2} == {"day", "hour"}
    with pytest.raises(UsageGone, match="no longer kept by the minute, expected whole hours"):
        await used(store, begins_ns=NOW + MINUTE_NS, ends_ns=NOW + 2 * MINUTE_NS)
    clock.ns += 3 * 86_400 * 10**9
    await rolled(store, clock, retention=Retention(minutes=2, hours=4))
    (total,) = (await used(store, begins_ns=0, ends_ns=clock.ns // 86_400 * 86_400)).values()
    assert total == Sum(1, 1, 1, 0)
    with pytest.raises(UsageGone, match="expected whole days"):
        await series(store, meter="requests", begins_ns=NOW, ends_ns=NOW + 1, step=Level.HOUR)


async def test_old_uses_leave_the_log_and_are_still_known_for_a_while():
    store, clock, days = MemoryStore(), Clock(), Retention(events=3, ids=6)
    roller = Roller(store, clock, retention=days)
    asked = {"begins_ns": 0, "ends_ns": NOW + 86_400 * 10**9}

    async def turn(days=0):
        clock.ns += days * 86_400 * 10**9
        while await roller.roll() or await roller.trim():
            pass
        return [event.id for event in await store.read(LOG)]

    first = [("first", body) for body in encoded([a_use("1")])]
    await store.append(LOG, first)
    assert await turn() == ["first"]
    before = await used(store, **asked)
    assert await turn(2) == ["first"]
    second = [("second", body) for body in encoded([a_use("2")])]
    await store.append(LOG, second)
    assert await turn() == ["first", "second"]
    assert await turn(2) == ["second"]  # the first was there for more than three days
    assert await store.append(LOG, first) == 0
    assert await turn(2) == ["second"]
    assert await store.append(LOG, first) == 0
    assert await turn(2) == []
    assert await store.append(LOG, first) == 1  # longer ago than ids are kept
    assert await store.append(LOG, second) == 0
    [[key, value]] = before.items()
    assert await used(store, **asked) == {key: value.plus(value).plus(value)}


async def test_what_is_not_rolled_up_stays_in_the_log_however_old_it_is():
    store, clock = MemoryStore(), Clock()
    roller = Roller(store, clock, retention=Retention(events=1, ids=1))
    await roller.trim()
    await kept(store, a_use("1"))
    for _ in range(5):
        clock.ns += 86_400 * 10**9
        assert not await roller.trim()
    assert len(await store.read(LOG)) == 1
    assert len(await used(store, begins_ns=0, ends_ns=clock.ns)) == 1


async def test_one_roller_works_at_a_time_and_another_takes_over():
    store = MemoryStore()
    await store.lease(LEASE, "another", seconds=60)
    await kept(store, a_use("1"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Roller(store, Clock(), seconds=0.01).run())
        await asyncio.sleep(0)
        assert (await Progress.of(store)).offset == 0
        lease = await store.lease(LEASE, "another", seconds=60)
        await store.release(lease)
        async with asyncio.timeout(10):
            while (await Progress.of(store)).offset == 0:
                await asyncio.sleep(0.01)
        task.cancel()
    await store.lease(LEASE, "another", seconds=60)


async def test_an_event_that_is_no_batch_stops_nothing(caplog):
    store = MemoryStore()
    await store.append(LOG, [("odd", b'{"no": "batch"}')])
    await kept(store, a_use("1"))
    for _ in range(2):
        assert len(await used(store, begins_ns=0, ends_ns=NOW + 1)) == 1
        await rolled(store)
    assert "no batch" in caplog.text


async def test_a_series_of_too_many_steps_is_refused():
    with pytest.raises(ValueError, match="expected at most 20000"):
        await series(MemoryStore(), meter="requests", begins_ns=0, ends_ns=NOW, step=Level.MINUTE)


# The admin API


@asynccontextmanager
async def api(store, clock=None):
    @web.middleware
    async def problems(request, handler):
        try:
            return await handler(request)
        except Refused as error:
            return web.json_response(
                body=error.body(), status=error.status, headers=dict(error.headers)
            )

    app = web.Application(client_max_size=1 << 23, middlewares=[problems])
    for each in endpoints(store, lambda: WORLD, clock or Clock()):
        app.router.add_route(each.method, each.path, each.handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = "http://{}:{}".format(*runner.addresses[0])
        async with aiohttp.ClientSession(url) as client:
            yield client
    finally:
        await runner.cleanup()


def an_event(name, **data):
    return {
        "specversion": "1.0",
        "id": name,
        "source": "/meter",
        "type": "dev.wherry.usage.v1",
        "time": "2025-11-30T11:59:00Z",
        "data": {"consumer": "alice", "product": "shop", "amounts": {"tokens": 5}, **data},
    }


async def post(client, document, kind="application/cloudevents+json"):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    async with client.post("/v1/usage", data=data, headers={"Content-Type": kind}) as answer:
        return answer.status, await answer.json()


async def test_reported_uses_count_once_and_leave_as_they_came():
    store = MemoryStore()
    async with api(store) as client:
        many = "application/cloudevents-batch+json"
        batch = [an_event("a"), an_event("b", app="web"), an_event("a")]
        assert await post(client, batch, many) == (200, {"new": 2, "known": 1})
        assert await post(client, an_event("b")) == (200, {"new": 0, "known": 1})
        async with client.get("/v1/usage", params={"consumer": "alice"}) as answer:
            items = (await answer.json())["items"]
        assert [(item["app"], item["plan"], item["amount"]) for item in items] == [
            ("default", "basic", 5),
            ("web", "gold", 5),
        ]
        async with client.get("/v1/usage/events") as answer:
            assert answer.content_type == many
            after, found = answer.headers["Usage-After"], await answer.json()
        assert [event["id"] for event in found] == ["a", "b"]
        assert found[0]["data"]["amounts"] == {"tokens": 5}
        assert found[0]["source"] == "/meter"
        async with client.get("/v1/usage/events", params={"after": after}) as answer:
            assert await answer.json() == []


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        (an_event("a", consumer="mallory"), "#/data/consumer"),
        (an_event("a", product="nothing"), "#/data/product"),
        (an_event("a", product="bank"), "#/data/product"),
        (an_event("a", plan="nothing"), "#/data/plan"),
        (an_event("a", amounts={"tokens": -1}), "#/data/amounts/tokens"),
        ({**an_event("a"), "time": "2026-01-01T00:00:00Z"}, "#/time"),
    ],
)
async def test_a_report_that_cannot_be_taken_names_its_place_and_takes_nothing(event, pointer):
    store = MemoryStore()
    async with api(store) as client:
        status, problem = await post(client, event)
        assert status == 422
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
        many = "application/cloudevents-batch+json"
        status, problem = await post(client, [an_event("good"), event], many)
        assert (status, problem["errors"][0]["pointer"]) == (422, pointer.replace("#", "#/1"))
    assert await logged(store) == []


async def test_a_report_of_another_kind_is_refused():
    async with api(MemoryStore()) as client:
        status, _ = await post(client, an_event("a"), "application/json")
        assert status == 415
        assert (await post(client, b"\xff"))[0] == 422


async def test_a_series_has_a_point_for_each_step():
    store = MemoryStore()
    await kept(store, a_use("1"), a_use("2", at_ns=NOW + 3600 * 10**9))
    async with api(store, Clock(NOW + 2 * 3600 * 10**9)) as client:
        asked = {"step": "hour", "begins": "2025-11-30T10:00:00Z", "consumer": "alice"}
        async with client.get("/v1/usage", params=asked) as answer:
            points = (await answer.json())["points"]
    assert [(point["at"][11:13], point["calls"]) for point in points] == [
        *(("10", 0), ("11", 0), ("12", 1), ("13", 1)),
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"colour": "red"},
        {"begins": "yesterday"},
        {"step": "week", "begins": "2025-11-30T10:00:00Z"},
        {"step": "minute"},
        {"begins": "2025-11-30T10:00:00Z", "ends": "2025-11-30T09:00:00Z"},
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused(asked):
    async with api(MemoryStore()) as client:
        async with client.get("/v1/usage", params=asked) as answer:
            assert answer.status == 400
        async with client.get("/v1/usage/events", params={"after": "-1"}) as answer:
            assert answer.status == 400


# Through the gateway

SOLD = """
apiVersion: wherry.dev/v1
kind: Plan
metadata: {name: basic}
---
apiVersion: wherry.dev/v1
kind: ApiProduct
metadata: {name: shop}
spec:
  plans: [basic]
  version: v3
  traffic:
    meters: [{meter: tokens, header: X-Tokens}]
  routes:
  - path: /good
    operation: buy
    cost: 5
    to: {mock: {text: hello, headers: [{name: X-Tokens, value: "42"}]}}
  - {path: /broken, operation: sell, to: {mock: {status: 502, text: oh}}}
---
apiVersion: wherry.dev/v1
kind: Consumer
metadata: {name: alice}
spec: {subscriptions: [{product: shop, plan: basic}], apps: [{name: web}]}
"""


async def test_calls_through_the_gateway_become_rows_of_the_report(tmp_path, capsys):
    made = gateway.app.Settings(
        pepper=tmp_path / "pepper", address=Address(), journal=tmp_path / "usage"
    )
    worlds = Worlds(assemble({Path("sold.yaml"): SOLD}))
    async with opened(f"sqlite:{tmp_path / 'wherry.db'}") as store:
        grant = keyring.Grant(app="web")
        _, text = await keyring.create(
            store, pepper(tmp_path / "pepper"), "alice", now_ns=NOW, grant=grant
        )
        async with (
            gateway.app.running(made, store=store, worlds=worlds) as running,
            aiohttp.ClientSession(running.address.url, headers={"x-api-key": text}) as client,
        ):
            for path, status in (("/good", 200), ("/good", 200), ("/broken", 502)):
                async with client.get(path) as answer:
                    assert answer.status == status
            async with client.get("/nowhere") as answer:
                assert answer.status == 404
            async with client.get("/good", headers={"x-api-key": "wrong"}) as answer:
                assert answer.status == 401
        found = await logged(store)
    assert {(use.credential, use.labels["version"]) for use in found} == {(text[3:11], "v3")}
    assert list((tmp_path / "usage").iterdir()) == []
    await asyncio.to_thread(usage, state=tmp_path, by="consumer,app,product,operation", as_csv=True)
    assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:] == [
        ["alice", "web", "shop", "buy", "requests", "10", "10", "2", "0"],
        ["alice", "web", "shop", "buy", "tokens", "84", "84", "2", "0"],
        ["alice", "web", "shop", "sell", "requests", "1", "0", "1", "1"],
    ]


# The command


@pytest.fixture
async def state(tmp_path):
    async with opened(f"sqlite:{tmp_path / 'wherry.db'}") as store:
        await kept(
            store,
            a_use("1", at_ns=NOW - 86_400 * 10**9),
            a_use("2", status=502),
            a_use("3", consumer="bob", tokens=7),
        )
        await rolled(store)
        await kept(store, a_use("4"))
    return tmp_path


async def test_the_command_adds_up_what_is_rolled_and_what_is_not(state, capsys):
    await asyncio.to_thread(usage, state=state, as_json=True)
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert found == [
        {
            "consumer": "alice", "product": "shop", "meter": "requests",
            "amount": 3, "billed_amount": 2, "calls": 3, "errors": 1,
        },
        {
            "consumer": "bob", "product": "shop", "meter": "tokens",
            "amount": 7, "billed_amount": 7, "calls": 1, "errors": 0,
        },
    ]  # fmt: skip


async def test_the_command_tells_apart_what_it_is_asked_to_and_between_two_times(state, capsys):
    await asyncio.to_thread(
        usage, state=state, by="app,plan", since="2025-11-30", until="2025-12-01", as_csv=True
    )
    read = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert read == [
        ["app", "plan", "meter", "amount", "billed_amount", "calls", "errors"],
        ["default", "basic", "requests", "2", "1", "2", "1"],
        ["default", "basic", "tokens", "7", "7", "1", "0"],
    ]


async def test_the_command_shows_a_table_or_that_there_is_nothing(state, capsys):
    await asyncio.to_thread(usage, state=state)
    assert "billed amount" in capsys.readouterr().out
    await asyncio.to_thread(usage, state=state, until="2025-01-01")
    assert "No calls are recorded for that time." in capsys.readouterr().out


@pytest.mark.parametrize(
    "asked",
    [{"by": "colour"}, {"since": "yesterday"}, {"as_json": True, "as_csv": True}],
)
def test_the_command_refuses_what_it_does_not_know(tmp_path, asked):
    with pytest.raises(StartError, match="expected"):
        usage(state=tmp_path, **asked)


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [("90m", 5400), ("24h", 86_400), ("2w", 14 * 86_400), ("2025-11-30", 43_200),
     ("2025-11-30T11:59", 60), ("2025-11-30T12:59:00+01:00", 60)],
)  # fmt: skip
def test_times_are_read_as_people_write_them(text, seconds_ago):
    assert moment(text, NOW) == NOW - seconds_ago * 10**9
