"""Queues keep their promises through any order of sends, receives, deletes, kills and restarts."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from support.mortal import Killed, Mortal

from faas.place import Place
from faas.queues.faults import (
    InvalidParameterValue,
    OverLimit,
    QueueDoesNotExist,
    ReceiptHandleIsInvalid,
)
from faas.queues.line import Line
from faas.queues.message import Attribute, Content, Message, attributes_md5
from faas.queues.sending import Sending
from faas.queues.service import Limits, Queues
from wherry.store.memory import MemoryStore

ARN = "arn:aws:sqs:us-east-1:000000000000:"


class SettableClock:
    def __init__(self):
        self.seconds = 1_000_000.0

    def now(self):
        return self.seconds

    def unix_ns(self):
        return int(self.seconds * 1e9)


def opened(store, clock, **limits):
    return Queues(store, Place(), clock, Limits(**limits))


async def received(queues, name="q", most=10):
    found = await queues.get(name).receive(most, wait=0)
    return [each.content.body for each in found], found


class QueueMachine(RuleBasedStateMachine):
    """A queue against a model of what it holds; at times the process is killed."""

    name = "q"
    attributes: ClassVar = {"VisibilityTimeout": "30"}

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock, self.store = SettableClock(), MemoryStore()
        self.queues = opened(self.store, self.clock)
        self.runner.run(self.queues.create(self.name, self.attributes, {}))
        self.sent, self.deleted = {}, set()
        self.hidden, self.handles = {}, {}

    def teardown(self):
        self.clock.seconds += 1000
        while True:
            bodies, found = self.runner.run(received(self.queues, self.name))
            if not bodies:
                break
            for each in found:
                self.runner.run(self.queues.get(self.name).delete(each.handle))
                assert each.content.body not in self.deleted
                self.deleted.add(each.content.body)
        assert self.deleted == set(self.sent)
        self.runner.close()

    @rule(group=st.sampled_from("ab"), delay=st.sampled_from([None, 10]))
    def send(self, group, delay):
        body = str(len(self.sent))
        self.sent[body] = group
        self.runner.run(self.queues.send(self.name, self.sending(body, group, delay)))
        if delay and not self.name.endswith("fifo"):
            self.hidden[body] = self.clock.seconds + delay

    def sending(self, body, _group, delay):
        return Sending(Content(body), delay=delay)

    @rule(most=st.integers(1, 10))
    def receive(self, most):
        _, found = self.runner.run(received(self.queues, self.name, most))
        assert len(found) <= most
        for each in found:
            body = each.content.body
            assert body not in self.deleted
            assert self.hidden.get(body, 0) <= self.clock.seconds
            self.hidden[body] = self.clock.seconds + 30
            self.handles[body] = each.handle
        self.check([each.content.body for each in found])

    def check(self, bodies):
        assert len(set(bodies)) == len(bodies)

    @rule(data=st.data())
    def delete(self, data):
        if self.handles:
            body = data.draw(st.sampled_from(sorted(self.handles)))
            deleting = self.queues.get(self.name).delete(self.handles.pop(body))
            if self.late(body):
                with pytest.raises(InvalidParameterValue, match="has expired"):
                    self.runner.run(deleting)
            else:
                self.runner.run(deleting)
                self.deleted.add(body)

    def late(self, _body):
        return False

    @rule(seconds=st.sampled_from([1, 15, 31]))
    def wait(self, seconds):
        self.clock.seconds += seconds

    @rule()
    def restart(self):
        self.queues = opened(self.store, self.clock)
        self.runner.run(self.queues.open())


class FifoMachine(QueueMachine):
    """The same of a queue that keeps each group's order."""

    name = "q.fifo"
    attributes: ClassVar = {
        "FifoQueue": "true",
        "ContentBasedDeduplication": "true",
        "VisibilityTimeout": "30",
    }

    def sending(self, body, group, _delay):
        return Sending(Content(body), group=group)

    def late(self, body):
        return self.hidden[body] <= self.clock.seconds

    def check(self, bodies):
        super().check(bodies)
        for group in "ab":
            waiting = [
                body for body, of in self.sent.items() if of == group and body not in self.deleted
            ]
            got = [body for body in bodies if self.sent[body] == group]
            assert got == waiting[: len(got)]

    @rule()
    def send_again(self):
        for body, group in list(self.sent.items())[-1:]:
            self.runner.run(self.queues.send(self.name, self.sending(body, group, None)))


QueueMachine.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=30)
FifoMachine.TestCase.settings = settings(deadline=None, max_examples=40, stateful_step_count=20)
TestAnyOrder = QueueMachine.TestCase
TestAnyOrderInGroups = FifoMachine.TestCase


async def test_a_kill_in_the_middle_of_a_burial_neither_loses_nor_doubles_the_message():
    for writes in range(12):
        clock, store = SettableClock(), MemoryStore()
        queues = opened(store, clock)
        await queues.create("dead", {}, {})
        policy = {"deadLetterTargetArn": ARN + "dead", "maxReceiveCount": 1}
        given = {"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "0"}
        await queues.create("q", given, {})
        await queues.send("q", Sending(Content("poison")))
        assert (await received(queues))[0] == ["poison"]
        dying = opened(Mortal(store, writes), clock)
        await dying.open()
        with suppress(Killed):
            await received(dying)
        again = opened(store, clock)
        await again.open()
        taken, found = await received(again, "dead")
        for each in found:
            await again.get("dead").delete(each.handle)
        assert (await received(again))[0] == []
        taken += (await received(again, "dead"))[0]
        assert taken == ["poison"], writes


async def test_a_send_that_was_cut_short_leaves_no_message():
    clock, store = SettableClock(), MemoryStore()
    await opened(store, clock).create("q", {}, {})
    dying = opened(Mortal(store, 1), clock)
    await dying.open()
    with pytest.raises(Killed):
        await dying.send("q", Sending(Content("half")))
    again = opened(store, clock)
    await again.open()
    assert (await received(again))[0] == []
    assert not await store.list("queue-message/")


async def test_a_queue_deleted_halfway_is_removed_at_the_next_start():
    clock, store = SettableClock(), MemoryStore()
    queues = opened(store, clock)
    await queues.create("q", {}, {})
    await queues.send("q", Sending(Content("m")))
    dying = opened(Mortal(store, 1), clock)
    await dying.open()
    with pytest.raises(Killed):
        await dying.delete("q")
    again = opened(store, clock)
    await again.open()
    assert again.names() == []
    assert not await store.list("queue-")


async def test_who_waits_at_a_queue_that_is_deleted_is_told():
    queues = opened(MemoryStore(), SettableClock())
    await queues.create("q", {}, {})
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(refused(queues.get("q").receive(1, wait=20)))
        await asyncio.sleep(0)
        await queues.delete("q")
    assert waiting.result() is QueueDoesNotExist


async def refused(awaitable):
    try:
        await awaitable
    except Exception as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Content(""), "must contain the parameter MessageBody"),
        (Content("x" * ((1 << 20) + 1)), "shorter than 1048576 bytes"),
        (Content("x", {"aws.x": Attribute("String", "y")}), "is invalid"),
        (Content("x", {"a..b": Attribute("String", "y")}), "is invalid"),
        (Content("x", {"a": Attribute("Text", "y")}), "invalid message attribute type"),
        (Content("x", {"a": Attribute("String", "")}), "non-empty"),
        (Content("x", {"a": Attribute("Number", "seven")}), "to a number"),
        (Content("x", {str(n): Attribute("String", "y") for n in range(11)}), "exceeds"),
    ],
)
async def test_a_message_that_is_not_as_it_has_to_be_is_refused(content, said):
    queues = opened(MemoryStore(), SettableClock())
    await queues.create("q", {}, {})
    with pytest.raises(InvalidParameterValue, match=said):
        await queues.send("q", Sending(content))


async def test_limits_of_bytes_and_handles_are_kept():
    queues = opened(MemoryStore(), SettableClock(), total_bytes=10, queues=1)
    await queues.create("q", {}, {})
    with pytest.raises(OverLimit):
        await queues.create("r", {}, {})
    with pytest.raises(OverLimit):
        await queues.send("q", Sending(Content("x" * 11)))
    for handle in ("", "no handle", "ü", "AAAA"):
        with pytest.raises(ReceiptHandleIsInvalid):
            await queues.get("q").delete(handle)


def test_a_line_gives_what_is_visible_longest_first():
    message = Message("a", 1, 0.0, 5.0, 1, 1)
    line = Line([message, replace(message, id="b", sequence=2, visible=3.0)])
    assert line.next(2.0) is None
    assert line.due() == 3.0
    assert line.next(6.0).id == "b"
    line.put(replace(message, id="b", sequence=2, visible=9.0, receives=1))
    assert line.next(6.0).id == "a"
    assert line.counts(6.0) == (1, 1, 0)
    line.remove("a")
    assert line.due() == 9.0
    assert (len(line), line.size) == (1, 1)


def test_the_digest_of_attributes_is_the_one_of_sqs():
    one = {"SOME_Valid.attribute-Name": Attribute("Number", "1493147359900")}
    assert attributes_md5(one) == "36655e7e9d7c0e8479fa3f3f42247ae7"
    several = {
        "id": Attribute("String", "2018fc74-4f77-1a5a-1be0-c2d037d5052b"),
        "contentType": Attribute("String", "application/json"),
        "timestamp": Attribute("Number.java.lang.Long", "1602845432024"),
    }
    assert attributes_md5(several) == "b12289320bb6e494b18b645ef562b4a9"
    assert attributes_md5({}) == ""
