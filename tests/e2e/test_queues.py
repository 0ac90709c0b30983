"""boto3's sqs client against the queues, at the API's own endpoint."""

import asyncio
import json
from contextlib import asynccontextmanager

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError

from faas.api.server import Signatures, application
from faas.place import Place
from faas.queues.service import Limits, Queues
from faas.sqs.service import sqs
from wherry.clock import SystemClock
from wherry.serve import Address, bound, listening
from wherry.store.memory import MemoryStore

SESSION = boto3.Session("wherry", "wherry", region_name="us-east-1")
ACCOUNT = "000000000000"
ARN = f"arn:aws:sqs:us-east-1:{ACCOUNT}:"


class SettableClock(SystemClock):
    """The host's clock, moved on by the test."""

    def __init__(self):
        self.ahead = 0.0

    def unix_ns(self):
        return super().unix_ns() + int(self.ahead * 1e9)


class Api:
    def __init__(self, client, clock):
        self.client, self.clock = client, clock

    async def do(self, operation, **arguments):
        return await asyncio.to_thread(getattr(self.client, operation), **arguments)

    async def made(self, name="q", **attributes):
        made = await self.do("create_queue", QueueName=name, Attributes=attributes)
        return made["QueueUrl"]

    async def bodies(self, url, **arguments):
        given = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 0}
        got = await self.do("receive_message", QueueUrl=url, **given | arguments)
        return [message["Body"] for message in got.get("Messages", [])]

    async def refused(self, operation, **arguments):
        with pytest.raises(ClientError) as refused:
            await self.do(operation, **arguments)
        return refused.value.response["Error"]["Code"]


@asynccontextmanager
async def served(store=None, **limits):
    clock = SettableClock()
    queues = Queues(store or MemoryStore(clock), Place(), clock, Limits(**limits))
    await queues.open()
    sock = listening("sqs", Address())
    address = bound(sock)
    app = application(
        {},
        signatures=Signatures(None, "us-east-1", clock),
        address=address,
        services=[sqs(queues, account=ACCOUNT)],
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.SockSite(runner, sock).start()
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=50)
    client = SESSION.client("sqs", endpoint_url=address.url, config=config)
    try:
        yield Api(client, clock)
    finally:
        client.close()
        queues.stop()
        await runner.cleanup()
        sock.close()


async def test_a_message_comes_back_with_its_attributes_and_is_gone_once_deleted():
    async with served() as api:
        url = await api.made()
        attributes = {
            "kind": {"DataType": "String", "StringValue": "größer"},
            "count": {"DataType": "Number.int", "StringValue": "7"},
            "raw": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        }
        sent = await api.do(
            "send_message", QueueUrl=url, MessageBody="hällo", MessageAttributes=attributes
        )
        got = await api.do(
            "receive_message",
            QueueUrl=url,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        )
        (message,) = got["Messages"]
        assert message["Body"] == "hällo"
        assert message["MessageId"] == sent["MessageId"]
        assert message["MessageAttributes"] == attributes
        assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"
        assert await api.bodies(url) == []
        await api.do("delete_message", QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        api.clock.ahead = 60
        assert await api.bodies(url) == []


async def test_a_message_is_seen_again_after_its_visibility_timeout_or_when_it_is_cut_short():
    async with served() as api:
        url = await api.made(VisibilityTimeout="10")
        await api.do("send_message", QueueUrl=url, MessageBody="m")
        first = await api.do("receive_message", QueueUrl=url)
        handle = first["Messages"][0]["ReceiptHandle"]
        await api.do(
            "change_message_visibility", QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0
        )
        assert await api.bodies(url) == ["m"]
        api.clock.ahead = 11
        assert await api.bodies(url) == ["m"]
        api.clock.ahead = 22
        code = await api.refused(
            "change_message_visibility", QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0
        )
        assert "NotInflight" in code
        assert await api.bodies(url) == ["m"]
        await api.do("delete_message", QueueUrl=url, ReceiptHandle=handle)
        api.clock.ahead = 44
        assert await api.bodies(url) == []


async def test_names_of_message_attributes_are_taken_where_the_model_lists_those_of_queues():
    async with served() as api:
        url = await api.made()
        await api.do("send_message", QueueUrl=url, MessageBody="m")
        got = await api.do("receive_message", QueueUrl=url, AttributeNames=["SentTimestamp"])
        assert set(got["Messages"][0]["Attributes"]) == {"SentTimestamp"}
        code = await api.refused("get_queue_attributes", QueueUrl=url, AttributeNames=["no-such"])
        assert code == "InvalidAttributeName"


async def test_a_delayed_message_comes_later_and_an_old_one_never():
    async with served() as api:
        url = await api.made(MessageRetentionPeriod="60")
        await api.do("send_message", QueueUrl=url, MessageBody="late", DelaySeconds=5)
        assert await api.bodies(url) == []
        counts = await api.do("get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
        assert counts["Attributes"]["ApproximateNumberOfMessagesDelayed"] == "1"
        api.clock.ahead = 6
        assert await api.bodies(url, VisibilityTimeout=0) == ["late"]
        api.clock.ahead = 61
        assert await api.bodies(url) == []


async def test_a_receiver_that_waits_gets_a_message_as_soon_as_it_is_sent():
    async with served() as api:
        url = await api.made()
        waiting = asyncio.ensure_future(api.bodies(url, WaitTimeSeconds=20))  # noqa: TID251
        await api.do("send_message", QueueUrl=url, MessageBody="now")
        async with asyncio.timeout(10):
            assert await waiting == ["now"]


async def test_a_message_received_too_often_goes_to_the_dead_letters():
    async with served() as api:
        dead = await api.made("dead")
        policy = {"deadLetterTargetArn": ARN + "dead", "maxReceiveCount": 2}
        url = await api.made(VisibilityTimeout="0", RedrivePolicy=json.dumps(policy))
        await api.do("send_message", QueueUrl=url, MessageBody="poison")
        assert await api.bodies(url) == ["poison"]
        assert await api.bodies(url) == ["poison"]
        assert await api.bodies(url) == []
        got = await api.do("receive_message", QueueUrl=dead, MessageSystemAttributeNames=["All"])
        assert got["Messages"][0]["Body"] == "poison"
        assert got["Messages"][0]["Attributes"]["DeadLetterQueueSourceArn"] == ARN + "q"
        sources = await api.do("list_dead_letter_source_queues", QueueUrl=dead)
        assert sources["queueUrls"] == [url]


async def test_a_first_in_first_out_queue_keeps_each_groups_order_and_knows_repeats():
    async with served() as api:
        url = await api.made("q.fifo", FifoQueue="true", ContentBasedDeduplication="true")
        for body, group in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("a1", "a")):
            await api.do("send_message", QueueUrl=url, MessageBody=body, MessageGroupId=group)
        one = await api.do("receive_message", QueueUrl=url)
        assert one["Messages"][0]["Body"] == "a1"
        assert await api.bodies(url) == ["b1"]
        handle = one["Messages"][0]["ReceiptHandle"]
        await api.do("delete_message", QueueUrl=url, ReceiptHandle=handle)
        await api.do("send_message", QueueUrl=url, MessageBody="a1", MessageGroupId="a")
        assert await api.bodies(url) == ["a2"]
        assert await api.refused("send_message", QueueUrl=url, MessageBody="x") == (
            "MissingParameter"
        )


async def test_batches_name_what_failed_and_do_the_rest():
    async with served() as api:
        url = await api.made()
        entries = [{"Id": str(n), "MessageBody": f"m{n}"} for n in range(9)]
        sent = await api.do(
            "send_message_batch",
            QueueUrl=url,
            Entries=[*entries, {"Id": "bad", "MessageBody": "\x01"}],
        )
        assert [each["Id"] for each in sent["Successful"]] == [str(n) for n in range(9)]
        assert sent["Failed"][0]["Code"] == "InvalidMessageContents"
        got = await api.do("receive_message", QueueUrl=url, MaxNumberOfMessages=10)
        gone = await api.do(
            "delete_message_batch",
            QueueUrl=url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": each["ReceiptHandle"]}
                for n, each in enumerate(got["Messages"])
            ]
            + [{"Id": "bad", "ReceiptHandle": "no"}],
        )
        assert len(gone["Successful"]) == 9
        assert gone["Failed"][0]["Code"] == "ReceiptHandleIsInvalid"
        code = await api.refused("send_message_batch", QueueUrl=url, Entries=entries[:1] * 2)
        assert "BatchEntryIdsNotDistinct" in code
        many = [{"Id": str(n), "MessageBody": "x"} for n in range(11)]
        code = await api.refused("send_message_batch", QueueUrl=url, Entries=many)
        assert "TooManyEntriesInBatchRequest" in code
        large = [{"Id": str(n), "MessageBody": "x" * 600_000} for n in range(2)]
        code = await api.refused("send_message_batch", QueueUrl=url, Entries=large)
        assert "BatchRequestTooLong" in code


async def test_a_message_of_one_mebibyte_fits_and_one_byte_more_does_not():
    async with served() as api:
        url = await api.made()
        body = '"' * (1 << 20)
        await api.do("send_message", QueueUrl=url, MessageBody=body)
        assert await api.bodies(url) == [body]
        code = await api.refused("send_message", QueueUrl=url, MessageBody=body + "x")
        assert code == "InvalidParameterValue"


async def test_queues_are_listed_changed_tagged_purged_and_deleted():
    async with served() as api:
        urls = [await api.made(f"q{n}") for n in range(3)]
        page = await api.do("list_queues", QueueNamePrefix="q", MaxResults=2)
        rest = await api.do(
            "list_queues", QueueNamePrefix="q", MaxResults=2, NextToken=page["NextToken"]
        )
        assert page["QueueUrls"] + rest["QueueUrls"] == urls
        await api.do(
            "set_queue_attributes", QueueUrl=urls[0], Attributes={"VisibilityTimeout": "5"}
        )
        got = await api.do("get_queue_attributes", QueueUrl=urls[0], AttributeNames=["All"])
        assert got["Attributes"]["VisibilityTimeout"] == "5"
        assert got["Attributes"]["QueueArn"] == ARN + "q0"
        code = await api.refused(
            "set_queue_attributes", QueueUrl=urls[0], Attributes={"VisibilityTimeout": "50000"}
        )
        assert code == "InvalidAttributeValue"
        await api.do("tag_queue", QueueUrl=urls[0], Tags={"a": "1", "b": "2"})
        await api.do("untag_queue", QueueUrl=urls[0], TagKeys=["a"])
        assert (await api.do("list_queue_tags", QueueUrl=urls[0]))["Tags"] == {"b": "2"}
        await api.do("send_message", QueueUrl=urls[0], MessageBody="m")
        await api.do("purge_queue", QueueUrl=urls[0])
        assert await api.bodies(urls[0]) == []
        assert "PurgeQueueInProgress" in await api.refused("purge_queue", QueueUrl=urls[0])
        await api.do("delete_queue", QueueUrl=urls[0])
        code = await api.refused("get_queue_url", QueueName="q0")
        assert code == "AWS.SimpleQueueService.NonExistentQueue"
        code = await api.refused("create_queue", QueueName="q1", Attributes={"DelaySeconds": "3"})
        assert code == "QueueAlreadyExists"
        assert await api.made("q1") == urls[1]


async def test_an_operation_that_is_left_out_says_so():
    async with served() as api:
        url = await api.made()
        code = await api.refused(
            "add_permission", QueueUrl=url, Label="l", AWSAccountIds=["1"], Actions=["*"]
        )
        assert code == "NotImplementedException"


async def test_messages_and_what_was_received_outlive_the_process():
    store = MemoryStore()
    async with served(store) as api:
        url = await api.made()
        for body in ("one", "two"):
            await api.do("send_message", QueueUrl=url, MessageBody=body)
        got = await api.do("receive_message", QueueUrl=url)
        handle = got["Messages"][0]["ReceiptHandle"]
    async with served(store) as api:
        url = (await api.do("get_queue_url", QueueName="q"))["QueueUrl"]
        assert await api.bodies(url) == ["two"]
        await api.do("delete_message", QueueUrl=url, ReceiptHandle=handle)
        api.clock.ahead = 31
        assert await api.bodies(url) == ["two"]
        await api.do("delete_queue", QueueUrl=url)
    assert not [key for key in await store.list("queue") if "q" in key]


async def test_a_full_queue_says_so():
    async with served(messages=1) as api:
        url = await api.made()
        await api.do("send_message", QueueUrl=url, MessageBody="m")
        assert "OverLimit" in await api.refused("send_message", QueueUrl=url, MessageBody="m")
