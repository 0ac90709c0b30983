"""Responses that stream, from runtimes that do and from one that does not."""

import asyncio
import base64
import gc
import json
import time
import warnings

import pytest
from support.doors import EXAMPLE, opened
from typer.testing import CliRunner

from wherry.cli.functions import app as commands

pytestmark = pytest.mark.e2e

PLAIN = "def handler(event, context):\n    print('seen')\n    return event\n"
BAD = "def handler(event, context):\n    raise ValueError('no')\n"
HALF = "def handler(event):\n    yield 'half'\n    raise ValueError('no')\n"
NEVER = "def handler(event):\n    raise ValueError('no')\n    yield\n"
LARGE = """
def handler(event):
    for _ in range(event["mib"]):
        yield bytes(1 << 20)
"""
ENDLESS = """
import time
def handler(event):
    while True:
        yield "x"
        time.sleep(0.01)
"""


async def test_pieces_come_as_the_function_gives_them(tmp_path):
    async with opened(tmp_path) as house:
        await house.streaming("countdown")

        def collect():
            answer = house.client.invoke_with_response_stream(
                FunctionName="countdown",
                Payload=json.dumps({"from": 3, "pause": 0.3}).encode(),
                LogType="Tail",
            )
            return answer, [(time.monotonic(), event) for event in answer["EventStream"]]

        answer, events = await asyncio.to_thread(collect)
        said = b"".join(
            each["PayloadChunk"]["Payload"] for _, each in events if "PayloadChunk" in each
        )
        assert said == b"3\n2\n1\nlift-off\n"
        assert events[-1][0] - events[0][0] > 0.6
        assert answer["StatusCode"] == 200
        assert answer["ExecutedVersion"] == "$LATEST"
        last = events[-1][1]["InvokeComplete"]
        assert "ErrorCode" not in last
        assert b"REPORT RequestId: " in base64.b64decode(last["LogResult"])


async def test_a_function_that_streams_is_invoked_plainly_too(tmp_path):
    async with opened(tmp_path) as house:
        await house.streaming("countdown")
        answer = await house.do(
            "invoke", FunctionName="countdown", Payload=b'{"from": 2, "pause": 0}'
        )
        assert answer["Payload"].read() == b"2\n1\nlift-off\n"


async def test_a_function_that_does_not_stream_comes_in_one_piece(tmp_path):
    async with opened(tmp_path) as house:
        await house.made("plain", PLAIN)
        pieces, last, _ = await house.events("plain", {"a": 1})
        assert (b"".join(pieces), last) == (b'{"a": 1}', {})


async def test_errors_before_and_after_the_first_piece_are_told_at_the_end(tmp_path):
    async with opened(tmp_path) as house:
        for name, source, said in [("half", HALF, b"half"), ("never", NEVER, b"")]:
            await house.streaming(name, source)
            pieces, last, _ = await house.events(name, {})
            assert b"".join(pieces) == said
            assert last["ErrorCode"] == "ValueError"
            assert json.loads(last["ErrorDetails"])["errorMessage"] == "no"
        await house.made("bad", BAD)
        pieces, last, _ = await house.events("bad", {})
        assert (pieces, last["ErrorCode"]) == ([], "ValueError")


async def test_a_stream_may_be_larger_than_an_answer(tmp_path):
    async with opened(tmp_path) as house:
        await house.streaming("large", LARGE, Timeout=30)
        pieces, last, _ = await house.events("large", {"mib": 12})
        assert sum(map(len, pieces)) == 12 << 20
        assert last == {}
        answer = await house.do("invoke", FunctionName="large", Payload=b'{"mib": 12}')
        assert answer["FunctionError"] == "Unhandled"
        assert b"Function.ResponseSizeTooLarge" in answer["Payload"].read()


async def test_a_function_that_runs_out_of_time_in_a_stream_is_told_so(tmp_path):
    async with opened(tmp_path) as house:
        await house.streaming("endless", ENDLESS, Timeout=1)
        pieces, last, _ = await house.events("endless", {})
        assert pieces
        assert "timed out after 1.00 seconds" in last["ErrorDetails"]


async def test_a_caller_who_hangs_up_leaves_nothing_behind(tmp_path):
    async with opened(tmp_path) as house:
        await house.streaming("endless", ENDLESS, Timeout=2)

        def hang_up():
            answer = house.client.invoke_with_response_stream(FunctionName="endless")
            next(iter(answer["EventStream"]))
            answer["EventStream"].close()
            del answer
            with warnings.catch_warnings():  # botocore leaves the socket to the collector
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()

        await asyncio.to_thread(hang_up)

        async def ended():
            lines = house.faas.functions.log("endless", after=0)
            return any("Status: timeout" in line.text for line in lines)

        async with asyncio.timeout(20):
            while not await ended():
                await asyncio.sleep(0.05)
        await house.streaming("countdown")
        pieces, _, _ = await house.events("countdown", {"from": 1, "pause": 0})
        assert b"".join(pieces) == b"1\nlift-off\n"


async def test_who_cannot_be_invoked_gets_a_plain_error(tmp_path):
    async with opened(tmp_path) as house:
        code, status, _ = await house.refused("invoke_with_response_stream", FunctionName="none")
        assert (code, status) == ("ResourceNotFoundException", 404)
        await house.made("plain", PLAIN)
        dry = await house.do(
            "invoke_with_response_stream", FunctionName="plain", InvocationType="DryRun"
        )
        assert dry["StatusCode"] == 204


async def test_payloads_are_checked(tmp_path):
    async with opened(tmp_path) as house:
        await house.made("plain", PLAIN)
        for given, code in [
            ({"Payload": b"{"}, "InvalidRequestContentException"),
            ({"ClientContext": "%%"}, "InvalidRequestContentException"),
            ({"ClientContext": base64.b64encode(b"[]").decode()}, "InvalidRequestContentException"),
            ({"TenantId": "a"}, "InvalidParameterValueException"),
            ({"Qualifier": "7"}, "ResourceNotFoundException"),
            ({"LogType": "Head"}, "ValidationException"),
        ]:
            assert (await house.refused("invoke", FunctionName="plain", **given))[0] == code
        large = b'"' + b"x" * (1 << 20) + b'"'
        code, status, said = await house.refused(
            "invoke", FunctionName="plain", InvocationType="Event", Payload=large
        )
        assert (code, status) == ("RequestEntityTooLargeException", 413)
        assert said["Error"]["Message"] == (
            "1048578 byte payload is too large for the Event invocation type (limit 1048576 bytes)"
        )
        answer = await house.do("invoke", FunctionName="plain", Payload=large)
        assert len(answer["Payload"].read()) == len(large)


async def test_events_are_accepted_in_both_forms(tmp_path):
    async with opened(tmp_path) as house:
        await house.made("plain", PLAIN)
        answer = await house.do(
            "invoke", FunctionName="plain", InvocationType="Event", Payload=b"{}"
        )
        assert answer["StatusCode"] == 202
        assert answer["Payload"].read() == b""
        answer = await house.do("invoke_async", FunctionName="plain", InvokeArgs=b"{}")
        assert answer["Status"] == 202

        async with asyncio.timeout(20):
            while [line.text for line in house.faas.functions.log("plain", after=0)].count(
                "seen"
            ) < 2:
                await asyncio.sleep(0.05)
        dry = await house.do("invoke", FunctionName="plain", InvocationType="DryRun")
        assert dry["StatusCode"] == 204


async def test_the_example_is_deployed_as_its_readme_says(tmp_path):
    async with opened(tmp_path) as house:
        options = ["--runtime", "provided.al2023", "--handler", "app.handler", "--timeout", "30"]
        options += ["--endpoint", house.faas.address.url]
        deployed = await asyncio.to_thread(
            CliRunner().invoke,
            commands,
            ["deploy", str(EXAMPLE), "--name", "countdown", *options],
        )
        assert deployed.exit_code == 0, deployed.output
        pieces, last, _ = await house.events("countdown", {"from": 1, "pause": 0})
        assert (b"".join(pieces), last) == (b"1\nlift-off\n", {})
