"""Queues of ours and streams of a real Redis are read into functions."""

import asyncio
import base64
import json
import subprocess
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.debian import program

from faas.lambda_errors import TooManyRequests
from faas.mappings.service import Mappings, Settings
from faas.model.mapping import PREFIX, EventSourceMapping
from faas.place import Place
from faas.queues.message import Attribute, Content
from faas.queues.sending import Sending
from faas.queues.service import Limits, Queues
from faas.records import Records
from faas.running.outcome import Kind, Outcome
from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore

QUEUE = "arn:aws:sqs:us-east-1:000000000000:"
STREAM = "arn:aws:redis:us-east-1:000000000000:stream/"
OK = Outcome(b"null", None, Kind.WARM)
BAD = Outcome(b'{"errorMessage": "boom"}', "Unhandled", Kind.WARM)
PACKAGES = [
    "redis-server",
    "redis-tools",
    "libatomic1",
    "libjemalloc2",
    "liblzf1",
    "libssl3",
    "libsystemd0",
]


@pytest.fixture(scope="module")
def redis_url():
    """Return the URL of a real Redis, at a unix socket of its own."""
    found = program("usr/bin/redis-server", PACKAGES)
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        path = Path(folder) / "redis.sock"
        given = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        with subprocess.Popen(
            [found.path, *given], env=found.environment, stdout=subprocess.PIPE
        ) as running:
            for line in running.stdout:
                if b"eady to accept connections" in line and path.exists():
                    break
            else:
                raise AssertionError("redis-server did not start")
            yield f"unix://{path}"
            running.terminate()


class World:
    """A Store, queues, mappings and one function written in the test."""

    def __init__(self, store, queues, mappings, calls):
        self.store, self.queues, self.mappings, self.calls = store, queues, mappings, calls
        self.records = Records(store, PREFIX, EventSourceMapping)

    async def put(self, source, **settings):
        mapping = EventSourceMapping(
            "u-1", source, "f", "$LATEST", "arn:aws:lambda:r:0:function:f", 0.0, **settings
        )
        await self.records.put(mapping.uuid, mapping)
        return mapping

    async def send(self, *bodies, queue="q", **content):
        for body in bodies:
            await self.queues.send(queue, Sending(Content(body, **content)))

    async def left(self, queue="q"):
        return sum(await self.queues.get(queue).counts())


@asynccontextmanager
async def living(function=lambda _: OK, *, store=None, redis_url=""):
    """Live with a function of one argument: the records of its event."""
    clock, calls = SystemClock(), []
    store = store or MemoryStore()

    async def invoke(event):
        records = json.loads(event.payload)["Records"]
        calls.append(records)
        answer = function(records)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    queues = Queues(store, Place(), clock, Limits())
    await queues.open()
    async with asyncio.TaskGroup() as tasks:
        mappings = Mappings(
            store,
            queues,
            invoke,
            settings=Settings(redis_url=redis_url),
            clock=clock,
            tasks=tasks,
        )
        mappings.start()
        try:
            yield World(store, queues, mappings, calls)
        finally:
            mappings.stop()
            queues.stop()


async def until(condition):
    for _ in range(1000):
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited for 10 seconds in vain")


def bodies(calls):
    return [record["body"] for records in calls for record in records]


def numbers(calls):
    return [record["redis"]["fields"]["n"] for records in calls for record in records]


# Queues


async def test_a_message_arrives_in_lambdas_shape_and_is_deleted_after_success():
    async with living() as world:
        await world.queues.create("q", {}, {})
        await world.put(QUEUE + "q")
        attributes = {"a": Attribute("String", "x"), "b": Attribute("Binary", binary=b"\xff")}
        await world.send("hello", attributes=attributes)
        await until(lambda: world.calls)
        (record,) = world.calls[0]
        assert record["body"] == "hello"
        assert record["eventSource"] == "aws:sqs"
        assert record["eventSourceARN"] == QUEUE + "q"
        assert record["awsRegion"] == "us-east-1"
        assert record["md5OfBody"] == "5d41402abc4b2a76b9719d911017c592"
        assert record["attributes"]["ApproximateReceiveCount"] == "1"
        assert record["messageAttributes"]["a"] == {
            "stringValue": "x",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "String",
        }
        sent = record["messageAttributes"]["b"]["binaryValue"]
        assert base64.b64decode(sent) == b"\xff"

        async def empty():
            return await world.left() == 0

        await until(empty)


async def test_a_failed_batch_comes_again_and_ends_with_the_dead_letters():
    async with living(lambda _: BAD) as world:
        await world.queues.create("dead", {}, {})
        policy = {"deadLetterTargetArn": QUEUE + "dead", "maxReceiveCount": 2}
        await world.queues.create(
            "q", {"VisibilityTimeout": "0", "RedrivePolicy": json.dumps(policy)}, {}
        )
        await world.put(QUEUE + "q")
        await world.send("poison")

        async def dead():
            return await world.left("dead") == 1

        await until(dead)
        assert bodies(world.calls) == ["poison", "poison"]
        assert (await world.records.get("u-1")).last_result == "PROBLEM: Function call failed"


async def test_only_the_messages_that_an_answer_names_come_again():
    def partly(records):
        failed = [each["messageId"] for each in records if each["body"] == "bad"]
        items = [{"itemIdentifier": each} for each in failed]
        return replace(OK, payload=json.dumps({"batchItemFailures": items}).encode())

    async with living(partly) as world:
        await world.queues.create("q", {"VisibilityTimeout": "1"}, {})
        await world.send("good", "bad", "fine")
        await world.put(QUEUE + "q", report_failures=True)
        await until(lambda: Counter(bodies(world.calls))["bad"] >= 2)
        assert Counter(bodies(world.calls))["good"] == 1
        assert Counter(bodies(world.calls))["fine"] == 1


async def test_filters_choose_messages_and_delete_the_others():
    async with living() as world:
        await world.queues.create("q", {}, {})
        await world.send('{"kind": "a"}', '{"kind": "b"}', "text")
        await world.put(QUEUE + "q", filters=('{"body": {"kind": ["b"]}}',))

        async def empty():
            return await world.left() == 0

        await until(empty)
        assert bodies(world.calls) == ['{"kind": "b"}']


async def test_a_window_fills_a_batch_and_its_size_ends_it():
    async with living() as world:
        await world.queues.create("q", {}, {})
        await world.put(QUEUE + "q", batch_size=25, window=60.0)
        for number in range(30):
            await world.send(str(number))
        await until(lambda: world.calls)
        assert len(world.calls[0]) == 25


async def test_no_more_calls_run_at_once_than_the_mapping_allows():
    running, most = 0, 0

    async def slow(_records):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        return OK

    async with living(slow) as world:
        await world.queues.create("q", {}, {})
        await world.send(*map(str, range(12)))
        await world.put(QUEUE + "q", batch_size=1, max_concurrency=2)
        await until(lambda: len(world.calls) == 12)
    assert most == 2


async def test_a_mapping_that_is_disabled_changed_or_deleted_is_obeyed():
    async with living() as world:
        await world.queues.create("q", {}, {})
        mapping = await world.put(QUEUE + "q", enabled=False)
        await world.send("one")
        assert world.mappings.reading == 0
        await world.records.put("u-1", replace(mapping, enabled=True))
        await until(lambda: len(world.calls) == 1)
        await world.records.put("u-1", replace(mapping, filters=('{"body": ["two"]}',)))
        await world.send("two", "three")
        await until(lambda: len(world.calls) == 2)
        await world.records.delete("u-1")
        await until(lambda: world.mappings.reading == 0)


async def test_messages_that_went_in_a_circle_are_left_out():
    async with living() as world:
        await world.queues.create("q", {}, {})
        lineage = "Root=1-a-b;Lineage=252f10c8:16"
        await world.send("round", trace=lineage)
        await world.send("fresh")
        await world.put(QUEUE + "q", batch_size=1)

        async def empty():
            return await world.left() == 0

        await until(empty)
        assert bodies(world.calls) == ["fresh"]


# Streams


@pytest.fixture
async def stream(redis_url):
    """Return the name of a stream that nobody else has, and a client."""
    client = Redis.from_url(redis_url)
    await client.flushall()
    yield client
    await client.aclose()


async def add(client, *values, name="s"):
    for value in values:
        await client.xadd(name, {"n": value})


async def unread(client, name="s"):
    (group,) = await client.xinfo_groups(name)
    return group["pending"], group["lag"]


async def settled(client, name="s"):
    async def nothing_left():
        return bool(await client.xinfo_groups(name)) and await unread(client, name) == (0, 0)

    await until(nothing_left)


async def test_entries_arrive_in_order_and_are_acknowledged(stream, redis_url):
    await add(stream, *map(str, range(7)))
    await stream.xadd("s", {"n": "7", "raw": b"\xff"})
    async with living(redis_url=redis_url) as world:
        await world.put(STREAM + "s", batch_size=3, starting_position="TRIM_HORIZON")
        await settled(stream)
        assert numbers(world.calls) == list("01234567")
        assert [len(records) for records in world.calls] == [3, 3, 2]
        record = world.calls[-1][-1]
        assert record["redis"]["binaryFields"] == {"raw": "/w=="}
        assert record["redis"]["stream"] == "s"
        assert record["eventSource"] == "wherry:redis"
        assert record["eventID"] == f"s:{record['redis']['sequenceNumber']}"
        assert (await world.records.get("u-1")).last_result == "OK"
        await world.records.delete("u-1")

        async def forgotten():
            return await stream.xinfo_groups("s") == []

        await until(forgotten)


async def test_from_the_latest_only_what_comes_later_is_read(stream, redis_url):
    await add(stream, "old")
    async with living(redis_url=redis_url) as world:
        await world.put(STREAM + "s", starting_position="LATEST")

        async def joined():
            return bool(await stream.xinfo_groups("s"))

        await until(joined)
        await add(stream, "new")
        await until(lambda: world.calls)
        assert numbers(world.calls) == ["new"]


async def test_a_poisoned_entry_is_found_by_halving_and_recorded_once(stream, redis_url):
    await add(stream, *map(str, range(8)))

    def poisoned(records):
        return BAD if any(each["redis"]["fields"]["n"] == "5" for each in records) else OK

    async with living(poisoned, redis_url=redis_url) as world:
        await world.queues.create("lost", {}, {})
        await world.put(
            STREAM + "s",
            batch_size=8,
            bisect=True,
            max_retries=1,
            on_failure=QUEUE + "lost",
            starting_position="TRIM_HORIZON",
        )
        await settled(stream)
        done = [records for records in world.calls if poisoned(records) is OK]
        assert numbers(done) == list("0123467")
        (found,) = await world.queues.get("lost").receive(10, wait=5)
        record = json.loads(found.content.body)
        assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert record["requestContext"]["approximateInvokeCount"] == 2
        assert record["RedisStreamBatchInfo"]["batchSize"] == 1
        assert record["responseContext"]["functionError"] == "Unhandled"


async def test_a_reported_failure_is_the_checkpoint(stream, redis_url):
    await add(stream, *map(str, range(4)))
    seen = Counter()

    def partly(records):
        seen.update(each["redis"]["fields"]["n"] for each in records)
        bad = [each["eventID"] for each in records if each["redis"]["fields"]["n"] == "2"]
        names = [each.partition(":")[2] for each in bad] if seen["2"] < 2 else []
        items = [{"itemIdentifier": each} for each in names]
        return replace(OK, payload=json.dumps({"batchItemFailures": items}).encode())

    async with living(partly, redis_url=redis_url) as world:
        await world.put(STREAM + "s", report_failures=True, starting_position="TRIM_HORIZON")
        await settled(stream)
    assert seen == {"0": 1, "1": 1, "2": 2, "3": 2}


async def test_throttles_hold_the_stream_and_lose_nothing(stream, redis_url):
    await add(stream, "0", "1")
    answers = [TooManyRequests(), BAD, OK]
    async with living(lambda _: answers.pop(0), redis_url=redis_url) as world:
        await world.put(STREAM + "s", max_retries=1, starting_position="TRIM_HORIZON")
        await settled(stream)
        assert numbers(world.calls) == list("010101")


async def test_filtered_entries_are_acknowledged_without_a_call(stream, redis_url):
    await add(stream, *map(str, range(6)))
    async with living(redis_url=redis_url) as world:
        wanted = '{"redis": {"fields": {"n": ["2", "4"]}}}'
        await world.put(STREAM + "s", filters=(wanted,), starting_position="TRIM_HORIZON")
        await settled(stream)
        assert numbers(world.calls) == ["2", "4"]


async def test_what_a_dead_consumer_left_is_read_first(stream, redis_url):
    await add(stream, *map(str, range(4)))
    await stream.xgroup_create("s", "u-1", id="0")
    await stream.xreadgroup("u-1", "dead", {"s": ">"}, count=2)
    async with living(redis_url=redis_url) as world:
        await world.put(STREAM + "s", starting_position="TRIM_HORIZON")
        await settled(stream)
        assert numbers(world.calls) == list("0123")


async def test_what_was_not_finished_before_the_stop_is_read_again(stream, redis_url):
    await add(stream, "0", "1")
    store = MemoryStore()
    async with living(lambda _: BAD, store=store, redis_url=redis_url) as world:
        await world.put(STREAM + "s", starting_position="TRIM_HORIZON")
        await until(lambda: world.calls)
    async with living(store=store, redis_url=redis_url) as world:
        await settled(stream)
        assert numbers(world.calls) == ["0", "1"]


async def test_old_entries_are_given_up(stream, redis_url):
    await stream.xadd("s", {"n": "old"}, id="1000-0")
    await add(stream, "new")
    async with living(redis_url=redis_url) as world:
        await world.queues.create("lost", {}, {})
        await world.put(
            STREAM + "s",
            max_age=60,
            on_failure=QUEUE + "lost",
            starting_position="TRIM_HORIZON",
        )
        await settled(stream)
        assert numbers(world.calls) == ["new"]
        (found,) = await world.queues.get("lost").receive(10, wait=5)
        record = json.loads(found.content.body)
        assert record["requestContext"]["condition"] == "RecordAgeExceeded"
        assert "responseContext" not in record


async def test_without_a_redis_the_mapping_says_so():
    async with living() as world:
        await world.put(STREAM + "s", starting_position="LATEST")

        async def said():
            return "redis_url" in (await world.records.get("u-1")).last_result

        await until(said)


async def test_a_redis_that_is_away_is_asked_again(tmp_path):
    async with living(redis_url=f"unix://{tmp_path}/none.sock") as world:
        await world.put(STREAM + "s", starting_position="LATEST")

        async def said():
            return "cannot be read" in (await world.records.get("u-1")).last_result

        await until(said)
