"""Schedules fire once per due time, also across kills, restarts and processes."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from faas.events.event import Event
from faas.events.service import Events, Host, Limits
from faas.lambda_errors import ResourceNotFound, TooManyRequests
from faas.place import Place
from faas.running.outcome import Kind, Outcome
from faas.schedules.expression import BadSchedule
from faas.schedules.service import Schedules
from wherry.store.memory import MemoryStore

START = 1_800_000_000.0


class SettableClock:
    def __init__(self):
        self.seconds = START

    def now(self):
        return self.seconds

    def unix_ns(self):
        return int(self.seconds * 1e9)


class Sink:
    """Takes events as `Events` does, each id once."""

    def __init__(self):
        self.taken: dict[str, Event] = {}
        self.refusal = None

    async def accept(self, event, *, hold=False):
        assert hold
        if self.refusal:
            raise self.refusal
        self.taken[event.id] = event

    async def settle(self, event):
        pass

    async def settle_left(self):
        pass


@asynccontextmanager
async def started(store, sink, clock, *functions):
    async with asyncio.TaskGroup() as tasks:
        schedules = Schedules(store, sink, Place(), clock=clock, tasks=tasks)
        for name, expressions in functions:
            await schedules.declare(name, expressions)
        await schedules.start()
        try:
            yield schedules
        finally:
            schedules.stop()


async def woken(schedules, clock, seconds):
    """Move the clock on and let the schedules see it."""
    clock.seconds += seconds
    await schedules._round()


async def test_each_due_time_is_one_event_of_eventbridges_shape():
    store, sink, clock = MemoryStore(), Sink(), SettableClock()
    async with started(store, sink, clock, ("f", ["rate(1 minute)"])) as schedules:
        for _ in range(6):
            await woken(schedules, clock, 30)
    assert len(sink.taken) == 3
    event = next(iter(sink.taken.values()))
    document = json.loads(event.payload)
    assert document["detail-type"] == "Scheduled Event"
    assert document["source"] == "aws.events"
    assert document["time"] == "2027-01-15T08:01:00Z"
    assert document["id"] == event.id
    assert document["resources"][0].startswith("arn:aws:events:us-east-1:000000000000:rule/f-")


async def test_what_was_missed_is_done_once():
    store, sink, clock = MemoryStore(), Sink(), SettableClock()
    async with started(store, sink, clock, ("f", ["rate(1 minute)"])):
        pass
    clock.seconds += 3600
    async with started(store, sink, clock) as schedules:
        assert len(sink.taken) == 1
        await woken(schedules, clock, 30)
        assert len(sink.taken) == 1
        await woken(schedules, clock, 30)
        assert len(sink.taken) == 2


async def test_two_processes_on_one_store_do_not_both_fire():
    store, sink, clock = MemoryStore(), Sink(), SettableClock()
    async with (
        started(store, sink, clock, ("f", ["rate(1 minute)"])) as one,
        started(store, sink, clock) as two,
    ):
        clock.seconds += 61
        await asyncio.gather(one._round(), two._round())  # noqa: TID251
        await asyncio.gather(two._round(), one._round())  # noqa: TID251
    assert len(sink.taken) == 1


async def test_a_full_service_is_asked_again_with_the_same_event():
    store, sink, clock = MemoryStore(), Sink(), SettableClock()
    async with started(store, sink, clock, ("f", ["rate(1 minute)"])) as schedules:
        sink.refusal = TooManyRequests()
        await woken(schedules, clock, 61)
        assert not sink.taken
        sink.refusal = None
        await woken(schedules, clock, 1)
    (event,) = sink.taken.values()
    assert json.loads(event.payload)["time"] == "2027-01-15T08:01:00Z"


async def test_a_function_that_went_does_not_stop_the_others():
    store, sink, clock = MemoryStore(), Sink(), SettableClock()
    async with started(store, sink, clock, ("f", ["rate(1 minute)"])) as schedules:
        sink.refusal = ResourceNotFound("gone")
        await woken(schedules, clock, 61)
        sink.refusal = None
        await woken(schedules, clock, 60)
    assert len(sink.taken) == 1


async def test_a_declaration_replaces_what_was_and_keeps_what_stays():
    store, sink, clock = MemoryStore(), Sink(), SettableClock()
    both = ["rate(1 minute)", "rate(2 minutes)"]
    async with started(store, sink, clock, ("f", both), ("g", both)) as schedules:
        clock.seconds += 50
        await schedules.declare("f", ["rate(1 minute)"])
        await schedules.keep(["f"])
        await woken(schedules, clock, 11)
        assert [event.function for event in sink.taken.values()] == ["f"]
        with pytest.raises(BadSchedule):
            await schedules.declare("f", ["rate(1 minute)", "daily"])


async def test_an_event_that_ran_before_the_kill_does_not_run_again():
    store, clock, ran = MemoryStore(), SettableClock(), []

    async def invoke(event):
        ran.append(event.id)
        return Outcome(b"1", None, Kind.WARM)

    async def letter(_reference):
        return ""

    async def over(events):
        for _ in range(1000):
            if all(each.phase == "done" for each in events._known.values()):
                return
            await asyncio.sleep(0.005)
        raise AssertionError("events are not over")

    class Killed(Exception):
        pass

    @asynccontextmanager
    async def life(store):
        async with asyncio.TaskGroup() as tasks:
            host = Host(invoke, letter, None)
            events = Events(store, host, clock=clock, limits=Limits(), tasks=tasks)
            await events.resume()
            schedules = Schedules(store, events, Place(), clock=clock, tasks=tasks)
            try:
                yield events, schedules
            finally:
                events.stop()
                schedules.stop()

    async with life(store) as (events, schedules):
        await schedules.declare("f", ["rate(1 minute)"])
        clock.seconds += 61

        async def put(*_given, **_named):
            await over(events)
            raise Killed

        schedules._records.put = put
        with pytest.raises(Killed):
            await schedules._round()
    assert len(ran) == 1
    async with life(store) as (events, schedules):
        await schedules.start()
        await over(events)
        assert events.pending == 0
    assert len(ran) == 1
    assert not await store.list("event")


async def test_a_function_has_at_most_fifty_schedules():
    store = MemoryStore()
    async with started(store, Sink(), SettableClock()) as schedules:
        many = [f"rate({number} minutes)" for number in range(2, 53)]
        with pytest.raises(ValueError, match="function f: 51 schedules, expected at most 50"):
            await schedules.declare("f", many)
        await schedules.declare("f", many[:50])
    assert len(await store.list("schedule/f/")) == 50
