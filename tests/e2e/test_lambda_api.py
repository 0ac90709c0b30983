"""boto3 against the Lambda API, on real sandboxes."""

import asyncio
import base64
import json
import os
import signal
from pathlib import Path

import pytest
from aiohttp import ClientSession
from botocore.exceptions import ClientError
from support.lambda_api import ECHO, ROLE, descendants, served, start, tail, until, zipped
from typer.testing import CliRunner

from faas.client.api import Api as Endpoint
from faas.client.deploy import Client, Refused, Unreachable
from faas.client.deploy import Settings as Deployment
from faas.functions.declared import Declared
from faas.setup import QEMU, built, find
from wherry.cli.functions import app as commands
from wherry.cli.settings import cache_folder
from wherry.cli.state import write_addresses
from wherry.store.memory import MemoryStore
from wherry.store.sqlite import StoreFailed

pytestmark = pytest.mark.e2e


async def test_a_function_is_created_run_listed_and_deleted(tmp_path):
    async with served(tmp_path) as api:
        created = await api.made(
            "echo",
            ECHO,
            Timeout=7,
            MemorySize=256,
            Description="says it back",
            Environment={"Variables": {"COLOUR": "blue"}},
            Tags={"team": "a"},
            Architectures=["x86_64"],
        )
        assert created["State"] == "Pending"
        assert created["FunctionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:echo"

        payload, error, answer = await api.call("echo", {"a": [1, "ü"]}, LogType="Tail")
        assert (payload, error) == ({"a": [1, "ü"]}, None)
        assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
        request_id = answer["ResponseMetadata"]["RequestId"]
        log = tail(answer)
        assert f"START RequestId: {request_id} Version: $LATEST\ngot {{'a'" in log
        assert f"END RequestId: {request_id}\nREPORT RequestId: {request_id}\tDuration: " in log
        assert "Memory Size: 256 MB\t" in log
        assert "Init Duration: " in log

        found = await api.do("get_function", FunctionName=created["FunctionArn"])
        configuration = found["Configuration"]
        assert configuration["State"] == "Active"
        assert configuration["LastUpdateStatus"] == "Successful"
        assert configuration["Environment"] == {"Variables": {"COLOUR": "blue"}}
        assert (configuration["Timeout"], configuration["MemorySize"]) == (7, 256)
        assert found["Tags"] == {"team": "a"}
        async with ClientSession() as http, http.get(found["Code"]["Location"]) as package:
            assert await package.read() == zipped(ECHO)
        listed = await api.do("list_functions")
        assert [each["FunctionName"] for each in listed["Functions"]] == ["echo"]
        await api.do("delete_function", FunctionName="echo")
        code, status, _ = await api.refused("invoke", FunctionName="echo")
        assert (code, status) == ("ResourceNotFoundException", 404)


async def test_the_handler_sees_what_lambda_shows_it(tmp_path):
    source = """
import os
def handler(event, context):
    return {
        "id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "name": context.function_name,
        "memory": int(context.memory_limit_in_mb),
        "left": context.get_remaining_time_in_millis(),
        "client": context.client_context.custom["k"],
        "colour": os.environ["COLOUR"],
    }
"""
    async with served(tmp_path) as api:
        await api.made("seer", source, Timeout=9, Environment={"Variables": {"COLOUR": "red"}})
        context = base64.b64encode(b'{"custom": {"k": "v"}}').decode()
        seen, error, answer = await api.call("seer", ClientContext=context)
        assert error is None
        assert seen["id"] == answer["ResponseMetadata"]["RequestId"]
        assert seen["arn"].endswith(":function:seer")
        assert (seen["name"], seen["memory"]) == ("seer", 128)
        assert 1000 < seen["left"] <= 9000
        assert (seen["client"], seen["colour"]) == ("v", "red")


async def test_an_update_takes_over_when_it_is_ready_and_nothing_fails_meanwhile(tmp_path):
    slow = "import time\ntime.sleep(0.5)\ndef handler(event, context):\n    return 'new'\n"
    async with served(tmp_path) as api:
        await api.made("f", "def handler(event, context):\n    return 'old'\n")
        update = await api.do("update_function_code", FunctionName="f", ZipFile=zipped(slow))
        assert update["LastUpdateStatus"] == "InProgress"
        seen = []
        while not seen or seen[-1] != "new":
            payload, error, _ = await api.call("f")
            assert error is None
            seen.append(payload)
        assert seen[0] == "old"
        await api.updated("f")

        changed = await api.do(
            "update_function_configuration", FunctionName="f", Timeout=11, Description="d"
        )
        assert (changed["Timeout"], changed["Description"]) == (11, "d")
        await api.updated("f")
        stale = {"FunctionName": "f", "Timeout": 12, "RevisionId": update["RevisionId"]}
        code, status, _ = await api.refused("update_function_configuration", **stale)
        assert (code, status) == ("PreconditionFailedException", 412)
        await until(lambda: len(api.faas.functions.workers.seen().pools) == 1)


OUTCOMES = {
    "raises": ("raise ValueError('no good')", "ValueError", "no good"),
    "exits": ("import os; os._exit(3)", "Runtime.ExitError", "exit status 3"),
    "dies": ("import os; os.kill(os.getpid(), 9)", "Runtime.ExitError", "signal: killed"),
    "overruns": ("import time; time.sleep(60)", "Sandbox.Timedout", "timed out after 1.00 seconds"),
}


@pytest.mark.parametrize("name", OUTCOMES)
async def test_a_failing_call_gets_lambdas_error_and_the_next_call_works(tmp_path, name):
    statement, error_type, message = OUTCOMES[name]
    source = f"def handler(event, context):\n    if event == 'ok': return 'fine'\n    {statement}\n"
    async with served(tmp_path) as api:
        await api.made("f", source, Timeout=1)
        payload, error, answer = await api.call("f", "bad", LogType="Tail")
        assert error == "Unhandled"
        assert answer["StatusCode"] == 200
        assert payload["errorType"] == error_type
        assert message in payload["errorMessage"]
        request_id = answer["ResponseMetadata"]["RequestId"]
        if name == "raises":
            assert payload["requestId"] == request_id
            assert any("raise ValueError" in line for line in payload["stackTrace"])
        else:
            assert payload["errorMessage"].startswith(f"RequestId: {request_id} Error: ")
        assert f"REPORT RequestId: {request_id}" in tail(answer)
        assert (await api.call("f", "ok"))[:2] == ("fine", None)


@pytest.mark.parametrize(
    ("source", "handler", "error_type", "message"),
    [
        (ECHO, "nope.handler", "Runtime.ImportModuleError", "No module named 'nope'"),
        (ECHO, "app.nope", "Runtime.HandlerNotFound", "'nope' missing on module 'app'"),
        ("def handler(:\n", "app.handler", "Runtime.UserCodeSyntaxError", "Syntax error"),
        ("1 / 0", "app.handler", "ZeroDivisionError", "division by zero"),
        ("import os; os._exit(4)", "app.handler", "Runtime.ExitError", "exit status 4"),
    ],
)
async def test_a_function_that_cannot_load_says_why_until_it_is_mended(
    tmp_path, source, handler, error_type, message
):
    async with served(tmp_path) as api:
        await api.made("f", source, Handler=handler)
        for _ in range(2):
            payload, error, answer = await api.call("f", LogType="Tail")
            assert error == "Unhandled"
            assert payload["errorType"] == error_type
            assert message in payload["errorMessage"]
            assert f"Error Type: {error_type}" in tail(answer)
        mended = {"FunctionName": "f", "ZipFile": zipped(ECHO)}
        await api.do("update_function_code", **mended)
        await api.updated("f")
        await api.do("update_function_configuration", FunctionName="f", Handler="app.handler")
        await api.updated("f")
        assert (await api.call("f", 1))[:2] == (1, None)


async def test_a_worker_killed_by_force_is_replaced_and_the_call_in_flight_gets_an_error(tmp_path):
    source = """
import time
def handler(event, context):
    print("began")
    if event == "wait": time.sleep(30)
    return event
"""
    async with served(tmp_path) as api:
        await api.made("f", source, Timeout=40)
        assert (await api.call("f", 1))[0] == 1
        for pid in descendants(os.getpid()):
            kill(pid)
        workers = api.faas.functions.workers
        await until(lambda: all(pool.size == 0 for pool in workers.seen().pools.values()))
        assert (await api.call("f", 2))[:2] == (2, None)

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(api.call("f", "wait"))
            log = api.faas.functions.log
            await until(lambda: sum(line.text == "began" for line in log("f", after=0)) == 3)
            for pid in descendants(os.getpid()):
                kill(pid)
        payload, error, _ = waiting.result()
        assert error == "Unhandled"
        assert payload["errorType"] == "Runtime.ExitError"
        assert (await api.call("f", 3))[:2] == (3, None)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


async def test_instances_are_cold_then_warm_then_frozen_and_go_when_idle_for_long(tmp_path):
    async with served(tmp_path, eager=False, freeze_after=0.5, keep_idle=2.0) as api:
        await api.made("f", ECHO)
        assert start((await api.call("f"))[2]) == "cold"
        assert start((await api.call("f"))[2]) == "warm"
        workers = api.faas.functions.workers
        [vm] = workers.seen().pools
        await until(lambda: any(state(pid) == "T" for pid in descendants(os.getpid())))
        assert start((await api.call("f"))[2]) == "frozen"
        await until(lambda: workers.seen().pools[vm].size == 0)
        assert descendants(os.getpid()) == set()
        assert start((await api.call("f"))[2]) == "cold"
        assert dict(workers.starts) == {"cold": 2, "warm": 1, "frozen": 1}


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


async def test_calls_run_side_by_side_up_to_the_limit_and_the_others_wait_or_are_throttled(
    tmp_path,
):
    source = """
import time
def handler(event, context):
    time.sleep(0.5)
    return event
"""
    limits = {"concurrency": 2, "queue": 3, "eager": False}
    async with served(tmp_path, **limits) as api:
        await api.made("f", source, Timeout=20)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(outcome(api, "f")) for _ in range(12)]
        codes = [call.result() for call in calls]
        assert codes.count(200) >= 3
        throttled = [each for each in codes if each != 200]
        assert throttled
        assert set(throttled) == {("TooManyRequestsException", 429, "1")}
        [pool] = api.faas.functions.workers.seen().pools.values()
        assert pool.size <= 2


async def outcome(api, name):
    try:
        return (await api.do("invoke", FunctionName=name))["StatusCode"]
    except ClientError as error:
        said = error.response
        headers = said["ResponseMetadata"]["HTTPHeaders"]
        return (
            said["Error"]["Code"],
            said["ResponseMetadata"]["HTTPStatusCode"],
            headers["retry-after"],
        )


async def test_a_function_without_room_gets_that_of_the_one_idle_for_longest(tmp_path):
    async with served(tmp_path, instances=2) as api:
        for name in "abc":
            await api.made(name, ECHO)
            assert (await api.call(name, name))[0] == name
        pools = api.faas.functions.workers.seen().pools
        assert {key.split("#")[0]: pool.size for key, pool in pools.items()} == {
            "a": 0,
            "b": 1,
            "c": 1,
        }
        assert (await api.call("a", 1))[0] == 1


async def test_an_event_is_accepted_at_once_and_tried_again_when_it_fails(tmp_path):
    source = "def handler(event, context):\n    print('try', event)\n    assert event != 'bad'\n"
    async with served(tmp_path, event_retries=(0.01, 0.01)) as api:
        await api.made("f", source)
        log = api.faas.functions.log
        for event, tries in (("good", 1), ("bad", 3)):
            answer = await api.do(
                "invoke", FunctionName="f", InvocationType="Event", Payload=json.dumps(event)
            )
            assert answer["StatusCode"] == 202
            said = f"try {event}"
            await until(
                lambda: sum(line.text == said for line in log("f", after=0)) == tries  # noqa: B023
            )
        dry = await api.do("invoke", FunctionName="f", InvocationType="DryRun")
        assert dry["StatusCode"] == 204


INVALID, OUT_OF_BOUNDS = "InvalidParameterValueException", "ValidationException"
BAD = {
    "no zip": ({"Code": {"ZipFile": b"not a zip"}}, INVALID, "Could not unzip uploaded file"),
    "runtime": ({"Runtime": "java21"}, INVALID, "provided.al2023"),
    "memory": ({"MemorySize": 20000}, OUT_OF_BOUNDS, "less than or equal to 10240"),
    "timeout": ({"Timeout": 901}, OUT_OF_BOUNDS, "less than or equal to 900"),
    "storage": ({"EphemeralStorage": {"Size": 20000}}, OUT_OF_BOUNDS, "equal to 10240"),
    "reserved": (
        {"Environment": {"Variables": {"AWS_REGION": "x"}}},
        INVALID,
        "Reserved keys used in this request: AWS_REGION",
    ),
    "environment": ({"Environment": {"Variables": {"LARGE": "x" * 5000}}}, INVALID, "4KB limit"),
    "architecture": ({"Architectures": ["arm64"]}, INVALID, "expected [x86_64]"),
    "name": ({"FunctionName": "a" * 65}, INVALID, "less than or equal to 64"),
    "role": ({"Role": "me"}, OUT_OF_BOUNDS, "regular expression pattern"),
    "tags": ({"Tags": {f"k{n}": "" for n in range(51)}}, INVALID, "tag limit"),
}


async def test_an_event_that_is_tried_again_runs_the_code_of_then(tmp_path):
    source = "def handler(event, context):\n    print('try', {0})\n    assert {0} == 2\n"
    async with served(tmp_path, event_retries=(0.3,) * 20) as api:
        await api.made("f", source.format(1))

        def tried(number):
            lines = api.faas.functions.log("f", after=0)
            return any(line.text == f"try {number}" for line in lines)

        await api.do("invoke", FunctionName="f", InvocationType="Event", Payload=b"1")
        await until(lambda: tried(1))
        await api.do("update_function_code", FunctionName="f", ZipFile=zipped(source.format(2)))
        await until(lambda: tried(2))


async def test_a_client_context_of_several_lines_arrives_whole(tmp_path):
    source = "def handler(event, context): return [event, context.client_context.custom]"
    custom = {"name": "Zoë", "lines": "a\r\n\r\nb"}
    async with served(tmp_path) as api:
        await api.made("f", source)
        text = json.dumps({"custom": custom}, indent=1, ensure_ascii=False).replace("\n", "\r\n")
        given = base64.b64encode(text.encode()).decode()
        assert (await api.call("f", {"a": 1}, ClientContext=given))[0] == [{"a": 1}, custom]
        bad = base64.b64encode(b"{no").decode()
        code, status, _ = await api.refused("invoke", FunctionName="f", ClientContext=bad)
        assert (code, status) == ("InvalidRequestContentException", 400)


class FullStore(MemoryStore):
    """A store that refuses changes of records when it is told to."""

    def __init__(self):
        super().__init__()
        self.refusals = 0

    async def put(self, key, body, *, expect=None):
        if self.refusals and expect:
            self.refusals -= 1
            raise StoreFailed(Path("full"), "database or disk is full")
        return await super().put(key, body, expect=expect)


async def test_a_store_that_fails_ends_no_function_and_is_tried_again(tmp_path):
    store = FullStore()
    async with served(tmp_path, store=store) as api:
        await api.made("old", ECHO)
        store.refusals = 2
        await api.made("new", ECHO)
        assert store.refusals == 0
        assert (await api.call("old", 1))[:2] == (1, None)


async def test_what_cannot_be_is_refused_with_the_reason(tmp_path):
    async with served(tmp_path, eager=False) as api:
        good = {
            "FunctionName": "f",
            "Role": ROLE,
            "Runtime": "python3.11",
            "Handler": "app.handler",
            "Code": {"ZipFile": zipped(ECHO)},
        }
        for bad, expected, message in BAD.values():
            code, status, said = await api.refused("create_function", **good | bad)
            assert (code, status) == (expected, 400), message
            assert message in said["Error"]["Message"]
        assert (await api.do("list_functions"))["Functions"] == []
        await api.do("create_function", **good)
        code, status, said = await api.refused("create_function", **good)
        assert (code, status) == ("ResourceConflictException", 409)
        assert said["Error"]["Message"] == "Function already exist: f"
        for operation in ("get_function", "delete_function", "get_function_configuration"):
            code, status, said = await api.refused(operation, FunctionName="nope")
            assert (code, status) == ("ResourceNotFoundException", 404)
            assert said["Type"] == "User"
        code, status, _ = await api.refused("invoke", FunctionName="f", Qualifier="7")
        assert (code, status) == ("ResourceNotFoundException", 404)
        code, status, _ = await api.refused("invoke", FunctionName="f", Payload=b"{nope")
        assert (code, status) == ("InvalidRequestContentException", 400)
        large = b'"' + b"x" * (6 * 1024 * 1024) + b'"'
        code, status, _ = await api.refused("invoke", FunctionName="f", Payload=large)
        assert (code, status) == ("RequestEntityTooLargeException", 413)
        code, status, _ = await api.refused(
            "put_function_code_signing_config",
            FunctionName="f",
            CodeSigningConfigArn=f"arn:aws:lambda:us-east-1:{'0' * 12}:code-signing-config:csc-"
            + "a" * 17,
        )
        assert (code, status) == ("NotImplementedException", 501)
        async with ClientSession() as http, http.get(f"{api.url}/nowhere") as answer:
            assert answer.status == 404
            assert (await answer.json())["Type"] == "User"
        listing = f"{api.url}/2015-03-31/functions"
        async with ClientSession() as http:
            for bad in ("?MaxItems=0", "?MaxItems=" + "9" * 5000, "?MaxItems=x", "?Marker=/"):
                async with http.get(listing + bad) as answer:
                    assert answer.status == 400, bad
            async with http.post(listing, data="{" * 100_000) as answer:
                assert answer.status == 400


async def test_a_web_page_cannot_reach_functions_through_a_visitors_browser(tmp_path):
    async with served(tmp_path, eager=False) as api, ClientSession() as http:
        marks = ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"})
        for headers in marks:
            url = f"{api.url}/2015-03-31/functions"
            async with http.post(url, data="{}", headers=headers) as answer:
                assert answer.status == 403
                assert answer.headers["x-amzn-ErrorType"] == "AccessDeniedException"


async def test_functions_are_listed_in_pages(tmp_path):
    async with served(tmp_path, eager=False) as api:
        names = [f"f{n:02d}" for n in range(7)]
        for name in reversed(names):
            await api.made(name, ECHO)
        pages = api.client.get_paginator("list_functions").paginate(
            PaginationConfig={"PageSize": 3}
        )
        found = await asyncio.to_thread(lambda: [page["Functions"] for page in pages])
        assert [len(page) for page in found] == [3, 3, 1]
        assert [each["FunctionName"] for page in found for each in page] == names


async def test_a_directory_is_deployed_only_when_it_changed(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "app.py").write_text(ECHO)
    async with served(tmp_path) as api:
        first = await api.faas.deploy_directory(Declared("f", source))
        assert first.state == "Active"
        assert await api.faas.deploy_directory(Declared("f", source)) == first
        assert (await api.faas.invoke("f", b'{"a": 1}')).payload == b'{"a": 1}'
        (source / "app.py").write_text(ECHO.replace("return event", "return 'new'"))
        second = await api.faas.deploy_directory(Declared("f", source, timeout=5))
        assert second.digest != first.digest
        assert (await api.faas.invoke("f", b"1")).payload == b'"new"'
        await api.faas.delete("f")


async def test_the_command_lines_client_deploys_invokes_reads_logs_and_deletes(tmp_path):
    source = tmp_path / "hello"
    source.mkdir()
    (source / "app.py").write_text(ECHO)
    async with served(tmp_path) as api:
        client, said = Client(Endpoint(api.url)), []

        def deploy(**settings):
            given = Deployment(**settings)
            return client.deploy(
                source, "hello", given, cache_dir=tmp_path / "c", progress=said.append
            )

        done = await asyncio.to_thread(deploy, environment={"AB": "1"})
        assert (done.change, done.state) == ("created", "Active")
        assert (await asyncio.to_thread(deploy)).change == "unchanged"
        assert (await asyncio.to_thread(deploy, timeout=8)).change == "updated"
        (source / "more.py").write_text("")
        assert (await asyncio.to_thread(deploy)).change == "updated"
        invoked = await asyncio.to_thread(client.invoke, "hello", b"[1]")
        assert (invoked.payload, invoked.error) == (b"[1]", None)
        lines = await asyncio.to_thread(client.logs, "hello")
        assert "got [1]" in [line["text"] for line in lines]
        newest = lines[-1]["offset"]
        assert await asyncio.to_thread(lambda: client.logs("hello", after=newest)) == []
        [listed] = await asyncio.to_thread(lambda: list(client.list()))
        assert (listed["FunctionName"], listed["Timeout"]) == ("hello", 8)
        await asyncio.to_thread(client.delete, "hello")
        with pytest.raises(Refused, match="ResourceNotFoundException: Function not found"):
            await asyncio.to_thread(client.delete, "hello")
    with pytest.raises(Unreachable, match="start it with wherry up"):
        client.delete("hello")


async def test_an_endpoint_that_speaks_no_http_is_said_in_one_line():
    async def serve(_, writer):
        writer.write(b"SSH-2.0-server\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        client = Client(Endpoint(f"http://{host}:{port}"))
        with pytest.raises(Unreachable, match=r"SSH-2\.0-server"):
            await asyncio.to_thread(client.delete, "f")


async def test_a_deployment_that_cannot_start_says_why(tmp_path):
    source = tmp_path / "hello"
    source.mkdir()
    (source / "app.py").write_text(ECHO)
    async with served(tmp_path) as api:
        (tmp_path / "cache").write_text("no folder: no sandbox can be laid out")
        client = Client(Endpoint(api.url))
        done = await asyncio.to_thread(
            lambda: client.deploy(
                source, "hello", Deployment(), cache_dir=tmp_path / "c", progress=lambda _: None
            )
        )
    assert done.state.startswith("Failed: The platform failed")


@pytest.fixture
def at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERRY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("WHERRY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "state"


async def test_wherry_fn_finds_the_running_service_and_speaks_in_single_lines(tmp_path, at_home):
    def fn(*words):
        done = CliRunner().invoke(commands, list(words))
        return done.exit_code, done.output

    status, said = await asyncio.to_thread(fn, "ls")
    assert status == 1
    assert "nothing runs here: start with wherry up" in said
    source = tmp_path / "hello"
    source.mkdir()
    (source / "app.py").write_text(ECHO + "    1\ndef broken(event, context): raise OSError('x')\n")
    async with served(tmp_path) as api:
        write_addresses(at_home, {"lambda": api.url})
        status, said = await asyncio.to_thread(fn, "deploy", str(source), "--env", "AB=c=d")
        assert (status, "hello created: Active" in said) == (0, True), said
        status, said = await asyncio.to_thread(fn, "invoke", "hello", '{"a": 1}', "--log")
        assert (status, '{"a": 1}' in said, "got {'a': 1}" in said) == (0, True, True), said
        status, said = await asyncio.to_thread(fn, "logs", "hello")
        assert (status, "got {'a': 1}" in said) == (0, True)
        status, said = await asyncio.to_thread(fn, "ls")
        assert (status, "hello" in said, "Active" in said) == (0, True, True)
        status, said = await asyncio.to_thread(
            fn, "deploy", str(source), "--name", "bad", "--handler", "app.broken"
        )
        assert status == 0
        status, said = await asyncio.to_thread(fn, "invoke", "bad")
        assert (status, '"OSError"' in said) == (1, True)
        for name in ("hello", "bad"):
            assert (await asyncio.to_thread(fn, "delete", name))[0] == 0
        status, said = await asyncio.to_thread(fn, "delete", "hello")
        assert status == 1
        assert said.startswith("wherry: ResourceNotFoundException: Function not found")
        status, said = await asyncio.to_thread(fn, "deploy", str(tmp_path / "no"))
        assert (status, said.count("\n")) == (1, 1)


async def test_calls_in_flight_end_before_the_service_does(tmp_path):
    source = "import time\ndef handler(event, context):\n    time.sleep(1)\n    return 'done'\n"
    async with asyncio.TaskGroup() as group, served(tmp_path) as api:
        await api.made("f", source)
        waiting = group.create_task(api.do("invoke", FunctionName="f"))
        workers = api.faas.functions.workers
        await until(lambda: any(pool.busy for pool in workers.seen().pools.values()))
    assert waiting.result()["Payload"].read() == b'"done"'


async def test_health_says_what_runs(tmp_path):
    async with served(tmp_path) as api:
        await api.made("f", ECHO)
        async with ClientSession() as http, http.get(f"{api.url}/healthz") as answer:
            health = await answer.json()
    assert (health["status"], health["backend"]) == ("ok", "process")
    assert "no VM" in health["isolation"]
    assert [pool["idle"] for pool in health["pools"].values()] == [1]


@pytest.fixture
def microvms():
    """Need microVMs: without their image, skip on a developer's machine and fail in CI."""
    if built(cache_folder()) is None or find(QEMU) is None:
        if os.environ.get("CI"):
            pytest.fail("the guest image is not built, expected wherry faas setup before the tests")
        pytest.skip("the guest image is not built; run: wherry faas setup")


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("microvms")
async def test_in_a_microvm_a_function_is_restored_frozen_and_replaced_when_it_dies(tmp_path):
    source = """
import os, time, uuid
def handler(event, context):
    print("got", event)
    if event == "slow": time.sleep(2)
    if event == "exit": os._exit(3)
    if event == "raise": raise ValueError("no good")
    return str(uuid.uuid4())
"""
    async with served(tmp_path, "qemu", freeze_after=0.0, eager=False) as api:
        await api.made("f", source, Timeout=30)
        first, error, answer = await api.call("f", "a", LogType="Tail")
        assert (error, start(answer)) == (None, "cold")
        assert "got a" in tail(answer)
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(api.call("f", "slow")) for _ in range(2)]
        answers = [call.result() for call in calls]
        assert sorted(start(answer) for _, _, answer in answers) == ["frozen", "restored"]
        assert len({first, *(payload for payload, _, _ in answers)}) == 3

        payload, error, _ = await api.call("f", "raise")
        assert (error, payload["errorType"]) == ("Unhandled", "ValueError")
        payload, error, _ = await api.call("f", "exit")
        assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
        assert "exit status 3" in payload["errorMessage"]
        dead = descendants(os.getpid())
        for pid in dead:
            kill(pid)
        await until(lambda: not dead & descendants(os.getpid()))
        _, error, answer = await api.call("f", "b")
        assert error is None
        assert start(answer) in {"restored", "frozen"}


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("microvms")
async def test_in_a_microvm_a_function_that_overruns_or_cannot_load_says_so(tmp_path):
    source = "import time\ndef handler(event, context): time.sleep(event); return event\n"
    async with served(tmp_path, "qemu") as api:
        await api.made("f", source, Timeout=2)
        payload, error, _ = await api.call("f", 60)
        assert (error, payload["errorType"]) == ("Unhandled", "Sandbox.Timedout")
        assert "Task timed out after 2.00 seconds" in payload["errorMessage"]
        assert (await api.call("f", 0))[:2] == (0, None)
        await api.made("g", source, Handler="nope.handler")
        payload, error, _ = await api.call("g", 0)
        assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ImportModuleError")
