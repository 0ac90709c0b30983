"""Events survive a kill between any two writes, and end exactly once."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import pytest
from support.mortal import Killed, Mortal

from faas.events.event import MAX_EVENT, Event
from faas.events.service import Events, Host, Limits
from faas.lambda_errors import (
    RequestTooLarge,
    ResourceNotFound,
    ServiceFailure,
    TooManyRequests,
)
from faas.model import concurrency, delivery
from faas.model.concurrency import Reserved
from faas.model.delivery import Delivery
from faas.records import Records
from faas.running.outcome import Kind, Outcome
from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore

BASE = "arn:aws:lambda:us-east-1:000000000000:function:"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:"
OK = Outcome(b'"fine"', None, Kind.WARM)
BAD = Outcome(b'{"errorMessage": "boom", "errorType": "E"}', "Unhandled", Kind.WARM)


class World:
    """Functions and queues that outlive the process; queues remember ids until they are settled."""

    def __init__(self, **functions):
        self.functions = functions
        self.ran = []
        self.queues = {}
        self.once = set()
        self.letters = {}

    async def invoke(self, event):
        if event.function not in self.functions:
            raise ResourceNotFound(f"Function not found: {event.arn}")
        self.ran.append(event)
        outcome = self.functions[event.function]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def dead_letter(self, reference):
        if reference.name not in self.functions:
            raise ResourceNotFound(f"Function not found: {reference.name}")
        return self.letters.get(reference.name, "")

    async def post(self, queue, body, attributes, *, once):
        if queue not in self.queues:
            return False
        if once not in self.once:
            self.once.add(once)
            self.queues[queue].append((body, attributes))
        return True

    async def settle(self, queue, once):
        self.once.discard(once)


@asynccontextmanager
async def living(store, world, **limits):
    given = {"retries": (0.0, 0.0), "events": 10}
    async with asyncio.TaskGroup() as tasks:
        host = Host(world.invoke, world.dead_letter, world)
        events = Events(
            store, host, clock=SystemClock(), limits=Limits(**given | limits), tasks=tasks
        )
        try:
            yield events
        finally:
            events.stop()


async def ended(events):
    for _ in range(2000):
        if not events.pending:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{events.pending} events are not over")


def event(function="f", payload=b'{"n": 1}', name="e1"):
    return Event(name, function, "$LATEST", BASE + function, payload)


async def configured(store, function="f", **settings):
    value = Delivery(function, "$LATEST", 0.0, **settings)
    await Records(store, delivery.PREFIX, Delivery).put(f"{function}/$LATEST", value)


async def left(store):
    return sorted(await store.list("event"))


async def test_a_success_leaves_nothing_and_runs_once():
    store, world = MemoryStore(), World(f=OK)
    async with living(store, world) as events:
        await events.accept(event())
        await ended(events)
    assert [each.payload for each in world.ran] == [b'{"n": 1}']
    assert await left(store) == []


async def test_an_error_is_tried_twice_more_and_ends_in_both_places():
    store, world = MemoryStore(), World(f=BAD)
    world.queues = {"ends": [], "letters": []}
    world.letters["f"] = QUEUE + "letters"
    await configured(store, on_failure=QUEUE + "ends", on_success=QUEUE + "none")
    async with living(store, world) as events:
        await events.accept(event())
        await ended(events)
    assert len(world.ran) == 3
    ((record, _),) = world.queues["ends"]
    context = json.loads(record)["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("RetriesExhausted", 3)
    ((letter, attributes),) = world.queues["letters"]
    assert letter == '{"n": 1}'
    assert attributes["ErrorMessage"] == ("String", "boom")
    assert attributes["RequestID"] == ("String", "e1")
    assert await left(store) == []


@pytest.mark.parametrize("outcome", [OK, BAD], ids=["success", "failure"])
async def test_a_kill_before_any_write_leaves_exactly_one_record(outcome):
    seen = []
    for writes in range(40):
        store, world = MemoryStore(), World(f=outcome, next=OK)
        world.queues = {"ends": [], "letters": []}
        world.letters["f"] = QUEUE + "letters"
        await configured(store, on_failure=QUEUE + "ends", on_success=BASE + "next")
        accepted, survived = False, False
        try:
            async with living(Mortal(store, writes), world) as events:
                await events.accept(event())
                accepted = True
                await ended(events)
                survived = True
        except* Killed:
            pass
        world.queues = {name: got[:0] + got for name, got in world.queues.items()}
        async with living(store, world) as events:
            await events.resume()
            await ended(events)
        ran = Counter(each.function for each in world.ran)
        kept = [each for each in world.ran if each.function == "next"]
        if accepted and outcome is BAD:
            assert len(world.queues["ends"]) == 1, writes
            assert len(world.queues["letters"]) == 1, writes
            assert ran["f"] >= 3
        elif accepted:
            assert len({each.id for each in kept}) == 1, writes
        else:
            assert ran["f"] <= 3
        assert await left(store) == [], writes
        assert world.once == set() or writes
        seen.append(survived)
    assert seen[0] is False
    assert seen[-1] is True


async def test_a_message_taken_before_the_kill_is_not_sent_again():
    for writes in range(12):
        store, world = MemoryStore(), World(f=BAD)
        world.queues = {"ends": []}
        await configured(store, on_failure=QUEUE + "ends", max_retries=0)
        taken = []
        try:
            async with living(Mortal(store, writes), world) as events:
                await events.accept(event())
                await ended(events)
        except* Killed:
            pass
        taken += world.queues["ends"]
        world.queues["ends"] = []
        async with living(store, world) as events:
            await events.resume()
            await ended(events)
        taken += world.queues["ends"]
        assert len(taken) == (0 if writes == 0 or not world.ran else 1), writes


async def test_an_event_of_one_mebibyte_fits_and_one_byte_more_does_not():
    store, world = MemoryStore(), World(f=OK)
    body = b'"' + b"x" * (MAX_EVENT - 2) + b'"'
    async with living(store, world) as events:
        await events.accept(event(payload=body))
        with pytest.raises(RequestTooLarge):
            await events.accept(event(payload=body + b" ", name="e2"))
        await ended(events)
    assert world.ran[0].payload == body


async def test_full_it_throttles_by_number_and_by_bytes():
    store, world = MemoryStore(), World(f=BAD)
    async with living(store, world, events=2, total_bytes=20, retries=(60.0,)) as events:
        await events.accept(event(payload=b"1" * 10))
        with pytest.raises(TooManyRequests):
            await events.accept(event(payload=b"1" * 11, name="e2"))
        await events.accept(event(payload=b"1" * 10, name="e3"))
        with pytest.raises(TooManyRequests):
            await events.accept(event(payload=b"1", name="e4"))


async def test_stopped_it_takes_nothing_and_the_next_start_goes_on():
    store, world = MemoryStore(), World(f=BAD)
    async with living(store, world, retries=(60.0,)) as events:
        await events.accept(event())
        while not world.ran:
            await asyncio.sleep(0.005)
        events.stop()
        with pytest.raises(ServiceFailure):
            await events.accept(event(name="e2"))
    async with living(store, world) as events:
        await events.resume()
        assert events.pending == 1
        await events.accept(event(name="e1"))
        assert events.pending == 1


async def test_a_deleted_functions_events_end_where_it_said():
    store, world = MemoryStore(), World(f=BAD)
    world.queues = {"ends": [], "letters": []}
    world.letters["f"] = QUEUE + "letters"
    await configured(store, on_failure=QUEUE + "ends")
    async with living(store, world, retries=(0.1,)) as events:
        await events.accept(event())
        while not world.ran:
            await asyncio.sleep(0.005)
        del world.functions["f"]
        await store.delete(f"{delivery.PREFIX}f/$LATEST")
        await ended(events)
    ((record, _),) = world.queues["ends"]
    assert json.loads(record)["requestContext"]["approximateInvokeCount"] == 1
    assert world.queues["letters"][0][1]["ErrorCode"] == ("Number", "404")


async def test_an_unknown_function_is_refused_before_anything_is_kept():
    store = MemoryStore()
    async with living(store, World()) as events:
        with pytest.raises(ResourceNotFound):
            await events.accept(event())
        assert events.pending == 0
    assert await left(store) == []


async def test_nothing_waits_for_a_function_that_may_not_run_at_all():
    store, world = MemoryStore(), World(f=TooManyRequests())
    world.queues = {"ends": []}
    await configured(store, on_failure=QUEUE + "ends")
    await Records(store, concurrency.RESERVED, Reserved).put("f", Reserved("f", 0))
    async with living(store, world) as events:
        await events.accept(event())
        await ended(events)
    assert len(world.queues["ends"]) == 1


async def test_functions_that_call_each_other_are_cut_after_sixteen_runs():
    store, world = MemoryStore(), World(f=OK, g=BAD)
    world.queues = {"ends": []}
    await configured(store, "f", on_success=BASE + "g", on_failure=QUEUE + "ends")
    await configured(store, "g", on_failure=BASE + "f", max_retries=0)
    async with living(store, world, events=1) as events:
        await events.accept(event())
        await ended(events)
    ran = Counter(each.function for each in world.ran)
    assert ran == {"f": 16, "g": 16}
    ((record, _),) = world.queues["ends"]
    assert json.loads(record)["requestContext"]["condition"] == "RetriesExhausted"
    assert await left(store) == []


async def test_one_functions_events_do_not_hold_up_anothers():
    store, world = MemoryStore(), World(f=OK, g=OK)
    go = asyncio.Event()
    plain = world.invoke

    async def invoke(each):
        if each.function == "f":
            await go.wait()
        return await plain(each)

    world.invoke = invoke
    async with living(store, world, at_once=2, events=10) as events:
        for number in range(5):
            await events.accept(event(name=f"f{number}"))
        await events.accept(event("g", name="g"))
        while not world.ran:
            await asyncio.sleep(0.005)
        assert [each.function for each in world.ran] == ["g"]
        go.set()
        await ended(events)
    assert len(world.ran) == 6


def deep(levels):
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    "answer",
    [
        b'{"errorMessage": "half a pair: \\ud800", "errorType": "E"}',
        b'{"errorMessage": {"a": ["\\udfff"]}, "errorType": "E"}',
        deep(100_000),
        deep(900),
        b'{"errorMessage": %s}' % deep(900),
        b"\xff",
        b"NaN",
    ],
    ids=["half a pair", "within", "very deep", "deep", "a deep message", "no text", "no number"],
)
async def test_whatever_a_function_says_the_events_of_others_go_on(answer):
    store, world = MemoryStore(), World(f=Outcome(answer, "Unhandled", Kind.WARM), g=OK)
    world.queues = {"ends": [], "letters": []}
    world.letters["f"] = QUEUE + "letters"
    await configured(store, on_failure=QUEUE + "ends")
    async with living(store, world) as events:
        for levels in (1, 900, 950, 960, 970, 975, 980, 985, 990, 995):
            await events.accept(event(payload=deep(levels), name=f"e{levels}"))
        await ended(events)
        await events.accept(event("g", name="e2"))
        await ended(events)
    assert len(world.queues["ends"]) == len(world.queues["letters"]) == 10
    for record, _ in world.queues["ends"]:
        record.encode()
    assert world.ran[-1].function == "g"
    assert await left(store) == []
