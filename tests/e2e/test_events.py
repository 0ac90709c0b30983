"""Asynchronous invocations through boto3: retries, destinations, dead letters; and kill -9."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from support.dying_events import living, over
from support.lambda_api import ECHO, SESSION, served

from faas.queues.service import Queues
from wherry.store.memory import MemoryStore
from wherry.store.sqlite import SqliteStore

pytestmark = pytest.mark.e2e

TESTS = Path(__file__).parents[1]
FAILING = "def handler(event, context):\n    raise ValueError('no good')\n"


class Sqs:
    """boto3's sqs client at the endpoint of Lambda."""

    def __init__(self, api):
        self.client = SESSION.client("sqs", endpoint_url=api.url)

    async def do(self, operation, **arguments):
        return await asyncio.to_thread(getattr(self.client, operation), **arguments)

    async def made(self, name, **attributes):
        """Return the URL and the ARN of a new queue."""
        url = (await self.do("create_queue", QueueName=name, Attributes=attributes))["QueueUrl"]
        got = await self.do("get_queue_attributes", QueueUrl=url, AttributeNames=["QueueArn"])
        return url, got["Attributes"]["QueueArn"]

    async def one(self, url):
        """Return the only message of a queue, waiting for it."""
        got = await self.do(
            "receive_message",
            QueueUrl=url,
            WaitTimeSeconds=20,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
        )
        (message,) = got["Messages"]
        return message


async def test_a_failing_event_is_tried_three_times_and_ends_in_both_places(tmp_path):
    async with served(tmp_path, event_retries=(0.01, 0.01)) as api:
        sqs = Sqs(api)
        ends, ends_arn = await sqs.made("ends")
        letters, letters_arn = await sqs.made("letters")
        await api.made("f", FAILING, DeadLetterConfig={"TargetArn": letters_arn})
        await api.do(
            "put_function_event_invoke_config",
            FunctionName="f",
            DestinationConfig={"OnFailure": {"Destination": ends_arn}},
        )
        accepted = await api.do(
            "invoke", FunctionName="f", InvocationType="Event", Payload=b'{"n": 1}'
        )
        assert accepted["StatusCode"] == 202
        request_id = accepted["ResponseMetadata"]["RequestId"]
        record = json.loads((await sqs.one(ends))["Body"])
        assert record["requestContext"]["condition"] == "RetriesExhausted"
        assert record["requestContext"]["approximateInvokeCount"] == 3
        assert record["requestContext"]["functionArn"].endswith(":function:f:$LATEST")
        assert record["requestPayload"] == {"n": 1}
        assert record["responseContext"]["functionError"] == "Unhandled"
        assert record["responsePayload"]["errorMessage"] == "no good"
        letter = await sqs.one(letters)
        assert json.loads(letter["Body"]) == {"n": 1}
        attributes = letter["MessageAttributes"]
        assert attributes["ErrorMessage"]["StringValue"] == "no good"
        assert attributes["ErrorCode"] == {"StringValue": "200", "DataType": "Number"}
        assert attributes["RequestID"]["StringValue"] == request_id
        assert record["requestContext"]["requestId"] == request_id


async def test_a_success_goes_on_to_a_function_and_from_there_to_a_queue(tmp_path):
    async with served(tmp_path) as api:
        sqs = Sqs(api)
        ends, ends_arn = await sqs.made("ends")
        await api.made("first", ECHO)
        second = await api.made("second", ECHO)
        for name, target in (("first", second["FunctionArn"]), ("second", ends_arn)):
            await api.do(
                "put_function_event_invoke_config",
                FunctionName=name,
                DestinationConfig={"OnSuccess": {"Destination": target}},
            )
        await api.do("invoke", FunctionName="first", InvocationType="Event", Payload=b'"hi"')
        record = json.loads((await sqs.one(ends))["Body"])
        assert record["requestContext"]["condition"] == "Success"
        inner = record["requestPayload"]
        assert (inner["requestPayload"], inner["responsePayload"]) == ("hi", "hi")


async def test_a_queue_is_read_into_a_function(tmp_path):
    async with served(tmp_path) as api:
        sqs = Sqs(api)
        source, source_arn = await sqs.made("source")
        source_code = "import json\ndef handler(event, _):\n    print('got', json.dumps(event))\n"
        await api.made("relay", source_code)
        made = await api.do(
            "create_event_source_mapping", FunctionName="relay", EventSourceArn=source_arn
        )
        await sqs.do("send_message", QueueUrl=source, MessageBody="through")

        def seen():
            lines = api.faas.functions.log("relay", after=0)
            return [line.text for line in lines if line.text.startswith("got ")]

        for _ in range(500):
            if seen():
                break
            await asyncio.sleep(0.02)
        (record,) = json.loads(seen()[0].removeprefix("got "))["Records"]
        assert (record["body"], record["eventSourceARN"]) == ("through", source_arn)
        await api.do("delete_event_source_mapping", UUID=made["UUID"])


async def test_a_large_event_survives_a_restart(tmp_path):
    store = MemoryStore()
    payload = json.dumps("x" * ((1 << 20) - 2)).encode()
    async with served(tmp_path, store=store, event_retries=(600.0,)) as api:
        sqs = Sqs(api)
        _, arn = await sqs.made("letters")
        await api.made("f", FAILING, DeadLetterConfig={"TargetArn": arn})
        await api.do("invoke", FunctionName="f", InvocationType="Event", Payload=payload)
        assert await store.list("event/")
    async with served(tmp_path, store=store) as api:
        assert api.faas.functions.events.pending == 1
        await api.do("delete_function", FunctionName="f")
        assert await store.list("event-payload/")


@pytest.mark.parametrize("writes", range(2, 20))
async def test_a_process_killed_between_two_writes_leaves_exactly_one_record(tmp_path, writes):
    path, ran = tmp_path / "store.db", tmp_path / "ran"
    async with SqliteStore.open(path) as store, living(store, ran) as (queues, _):
        await queues.create("dead", {}, {})
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.dying_events",
        str(path),
        str(ran),
        str(writes),
        env={**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await child.communicate()
    async with SqliteStore.open(path) as store, living(store, ran) as (queues, events):
        taken = await records(queues)
        await events.resume()
        await over(events)
        taken += await records(queues)
        assert b"accepted" in said
        assert taken == [b'{"n": 1}']
        assert 3 <= len(ran.read_text().splitlines()) <= 4
        assert not await store.list("event")


async def records(queues: Queues):
    """Take every message out of the queue."""
    held = queues.get("dead")
    found = await held.receive(10, wait=0)
    for each in found:
        await held.delete(each.handle)
    return [each.content.body.encode() for each in found]
