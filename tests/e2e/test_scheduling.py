"""The workers on real processes under load: concurrency, streams, limits, ends and their lines."""

import asyncio
import json
import re
import signal
import time
from contextlib import asynccontextmanager

import pytest

from faas.backends.process import ProcessBackend
from faas.lambda_errors import TooManyRequests
from faas.running.workers import Limits, Workers
from faas.telemetry.journal import Journal
from faas.telemetry.logs import MAX_RING, Ring
from faas.telemetry.tracing import read
from faas.vm import Call, Launch
from wherry.clock import SystemClock

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

KITCHEN = """
import json, os, signal, sys, time

def handler(event, context):
    match event.get("do"):
        case "sleep":
            time.sleep(event["seconds"])
        case "exit":
            os._exit(event["status"])
        case "die":
            os.kill(os.getpid(), event["signal"])
        case "raise":
            raise LookupError("no such thing")
        case "print":
            line = "x" * 999
            for _ in range(event["lines"]):
                print(line)
        case "say":
            print(event["text"])
        case "trace":
            return os.environ["_X_AMZN_TRACE_ID"]
    return event.get("do")
"""


def launch(tmp_path, source=KITCHEN, **fields):
    code = tmp_path / f"code-{abs(hash(source))}"
    code.mkdir(exist_ok=True)
    (code / "app.py").write_text(source)
    given = {
        "function": "f",
        "version": "$LATEST",
        "arn": "arn:aws:lambda:us-east-1:000000000000:function:f",
        "code": code,
        "digest": "0" * 64,
        "handler": "app.handler",
        "runtime": "python3.11",
        "memory_mib": 256,
        "timeout": 60.0,
        "init_timeout": 30.0,
        "environment": {},
        "egress": None,
    }
    return Launch(**given | fields)


@asynccontextmanager
async def working(tmp_path, **limits):
    async with asyncio.TaskGroup() as tasks:
        backend = ProcessBackend(tmp_path / "cache")
        workers = Workers(backend, Limits(**limits), SystemClock(), tasks)
        try:
            yield workers
        finally:
            await workers.stop()


numbers = iter(range(10_000))


class Sink:
    """Keeps a streamed response; slow when told."""

    def __init__(self, stall=None):
        self.content_type, self.pieces, self.stall = None, [], stall

    async def begin(self, content_type):
        self.content_type = content_type

    async def write(self, piece):
        if self.stall is not None:
            await self.stall.wait()
        self.pieces.append(piece)


async def invoke(workers, what, ring=None, *, stream=None, trace="", **event):
    request = Call(f"r{next(numbers)}", json.dumps(event).encode(), 0, what.arn, trace_id=trace)
    ring = Ring(lines=1000) if ring is None else ring
    return await workers.invoke(what, request, ring, stream)


def texts(ring):
    return [line.text for line in ring.after(0, limit=10_000)]


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_fifty_calls_at_once_are_all_served_on_default_limits(tmp_path):
    what = launch(tmp_path)
    async with working(tmp_path) as workers:
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(invoke(workers, what, do="sleep", seconds=0.3)) for _ in range(50)
            ]
        assert [json.loads(done.result().payload) for done in calls] == ["sleep"] * 50
        assert not workers.tally.throttles
        assert workers.seen().total >= 4
        assert workers.queued_bytes == 0


async def test_reserved_concurrency_throttles_at_once_with_lambdas_reason(tmp_path):
    what = launch(tmp_path)
    async with working(tmp_path) as workers, asyncio.TaskGroup() as group:
        workers.reserve("f", 1)
        slow = group.create_task(invoke(workers, what, do="sleep", seconds=2))
        await until(lambda: workers.shares.running)
        with pytest.raises(TooManyRequests) as refused:
            await invoke(workers, what)
        assert refused.value.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
        assert (await slow).error is None
        workers.reserve("f", 0)
        with pytest.raises(TooManyRequests):
            await invoke(workers, what)
        workers.reserve("f", None)
        assert (await invoke(workers, what)).error is None


async def test_over_the_accounts_concurrency_calls_are_throttled_with_its_reason(tmp_path):
    what = launch(tmp_path)
    async with working(tmp_path, account=1) as workers, asyncio.TaskGroup() as group:
        slow = group.create_task(invoke(workers, what, do="sleep", seconds=1))
        await until(lambda: workers.shares.running)
        with pytest.raises(TooManyRequests) as refused:
            await invoke(workers, what)
        assert refused.value.reason == "ConcurrentInvocationLimitExceeded"
        assert (await slow).error is None


async def test_provisioned_instances_are_there_before_calls_and_after_idle_time(tmp_path):
    what = launch(tmp_path, version="1", initialization="provisioned-concurrency")
    async with working(tmp_path, keep_idle=0.2) as workers:
        workers.provision(what, Ring(lines=10), 2)
        assert workers.provisioned("f", "1") == (0, 2)
        await until(lambda: workers.provisioned("f", "1") == (2, 2))

        def idled():
            [pool] = workers.seen().pools.values()
            now = time.monotonic()
            return len(pool.idle_since) == 2 and all(
                now - at > 0.6 for at in pool.idle_since.values()
            )

        await until(idled)
        assert workers.provisioned("f", "1") == (2, 2)
        ring = Ring(lines=100)
        outcome = await invoke(workers, what, ring)
        assert outcome.kind in ("warm", "frozen")
        assert workers.provisioning_failure("f", "1") == ""
        workers.provision(what, Ring(lines=10), 0)
        await until(lambda: not any(pool.size for pool in workers.seen().pools.values()))


async def test_what_cannot_be_provisioned_says_why(tmp_path):
    what = launch(tmp_path, "1 / 0", version="1")
    ring = Ring(lines=100)
    async with working(tmp_path) as workers:
        workers.provision(what, ring, 1)
        await until(lambda: workers.provisioning_failure("f", "1"))
        assert "ZeroDivisionError" in workers.provisioning_failure("f", "1")
        assert any(line.startswith("INIT_REPORT") for line in texts(ring))


async def test_a_version_that_is_called_often_has_instances_ready_ahead(tmp_path):
    what = launch(tmp_path)
    async with working(tmp_path) as workers:
        for _ in range(3):
            async with asyncio.TaskGroup() as group:
                for _ in range(6):
                    group.create_task(invoke(workers, what, do="sleep", seconds=0.2))
        [pool] = workers.seen().pools.values()
        assert pool.target >= 1
        await until(lambda: next(iter(workers.seen().pools.values())).living >= pool.target)


async def test_lines_of_a_cold_and_a_warm_call_are_lambdas(tmp_path):
    what, ring = launch(tmp_path), Ring(lines=100)
    async with working(tmp_path) as workers:
        await invoke(workers, what, ring, do="say", text="hello")
        first = texts(ring)
        assert first[0].startswith("INIT_START Runtime Version: python:3.11\tRuntime Version ARN: ")
        assert first[1].startswith("START RequestId: r")
        assert first[2] == "hello"
        assert first[3].startswith("END RequestId: r")
        found = re.fullmatch(
            r"REPORT RequestId: \S+\tDuration: ([\d.]+) ms\tBilled Duration: (\d+) ms\t"
            r"Memory Size: 256 MB\t(?:Max Memory Used: (\d+) MB\t)?Init Duration: ([\d.]+) ms\t",
            first[4],
        )
        assert found
        assert int(found[2]) >= float(found[1]) + float(found[4])
        assert int(found[2]) <= float(found[1]) + float(found[4]) + 1.01
        outcome = await invoke(workers, what, ring)
        assert "Init Duration" not in texts(ring)[-1]
        assert outcome.tail.decode().splitlines() == texts(ring)[-3:]


@pytest.mark.parametrize(
    ("event", "error_type", "message", "said"),
    [
        (
            {"do": "exit", "status": 3},
            "Runtime.ExitError",
            "Runtime exited with error: exit status 3",
            "Status: error\tError Type: Runtime.ExitError",
        ),
        (
            {"do": "exit", "status": 0},
            "Runtime.ExitError",
            "Runtime exited without providing a reason",
            "Status: error\tError Type: Runtime.ExitError",
        ),
        (
            {"do": "die", "signal": signal.SIGSEGV},
            "Runtime.ExitError",
            "Runtime exited with error: signal: segmentation fault",
            "Status: error\tError Type: Runtime.ExitError",
        ),
        (
            {"do": "sleep", "seconds": 30},
            "Sandbox.Timedout",
            "Task timed out after 2.00 seconds",
            "Status: timeout",
        ),
    ],
)
async def test_ends_of_a_sandbox_are_told_apart(tmp_path, event, error_type, message, said):
    what, ring = launch(tmp_path, timeout=2.0), Ring(lines=100)
    async with working(tmp_path) as workers:
        outcome = await invoke(workers, what, ring, **event)
        assert outcome.error == "Unhandled"
        body = json.loads(outcome.payload)
        assert body["errorType"] == error_type
        assert re.fullmatch(rf"RequestId: r\d+ Error: {re.escape(message)}", body["errorMessage"])
        lines = texts(ring)
        assert lines[-1].startswith("REPORT")
        assert lines[-1].endswith(said)
        assert any(message in line for line in lines[:-2])
        if error_type == "Sandbox.Timedout":
            assert "\tDuration: 2000.00 ms\t" in lines[-1]
        assert (await invoke(workers, what, ring)).kind == "cold"


async def test_a_handlers_own_error_is_no_end_of_its_sandbox(tmp_path):
    what, ring = launch(tmp_path), Ring(lines=100)
    async with working(tmp_path) as workers:
        outcome = await invoke(workers, what, ring, do="raise")
        assert (outcome.error, outcome.error_type) == ("Unhandled", "LookupError")
        assert "Status" not in texts(ring)[-1]
        assert (await invoke(workers, what, ring)).kind in ("warm", "frozen")


async def test_a_function_that_does_not_load_in_time_is_no_failed_one(tmp_path):
    what = launch(tmp_path, "import time\ntime.sleep(60)", init_timeout=1.0)
    ring = Ring(lines=100)
    async with working(tmp_path) as workers:
        outcome = await invoke(workers, what, ring)
        assert json.loads(outcome.payload)["errorType"] == "Sandbox.Timedout"
        report = next(line for line in texts(ring) if line.startswith("INIT_REPORT"))
        assert report.endswith("Phase: init\tStatus: timeout")
        assert texts(ring)[-1].endswith("Status: timeout")


async def test_json_logs_are_records_of_the_platform(tmp_path):
    what, ring = launch(tmp_path, json_logs=True), Ring(lines=100)
    async with working(tmp_path) as workers:
        await invoke(workers, what, ring)
        records = [json.loads(line) for line in texts(ring)]
        assert [record["type"] for record in records] == [
            "platform.initStart",
            "platform.start",
            "platform.report",
        ]
        assert records[-1]["record"]["status"] == "success"


async def test_a_response_is_streamed_and_comes_whole_when_the_runtime_sends_it_so(tmp_path):
    async with working(tmp_path) as workers:
        sink = Sink()
        outcome = await invoke(workers, launch(tmp_path), stream=sink, do="say", text="x")
        assert outcome.error is None
        assert b"".join(sink.pieces) == b'"say"'
        assert sink.content_type is not None


async def test_a_reader_that_takes_nothing_is_given_up_and_the_instance_goes_on(tmp_path):
    async with working(tmp_path, reader=0.3) as workers:
        what = launch(tmp_path)
        outcome = await invoke(workers, what, stream=Sink(asyncio.Event()))
        assert outcome.error == "Unhandled"
        assert outcome.error_type == "Response.SlowReader"
        assert (await invoke(workers, what)).kind in ("warm", "frozen")


async def test_the_functions_timeout_holds_for_streams_too(tmp_path):
    async with working(tmp_path) as workers:
        what = launch(tmp_path, timeout=1.0)
        outcome = await invoke(workers, what, stream=Sink(), do="sleep", seconds=30)
        assert outcome.error_type == "Sandbox.Timedout"
        outcome = await invoke(workers, what, stream=Sink(asyncio.Event()))
        assert outcome.error_type == "Sandbox.Timedout"


async def test_a_function_that_prints_a_hundred_megabytes_costs_little(tmp_path):
    what = launch(tmp_path)
    async with Journal.opened(tmp_path / "logs") as journal, working(tmp_path) as workers:
        ring = journal.ring("f")
        outcome = await invoke(workers, what, ring, do="print", lines=100_000)
        assert outcome.error is None
        lines = texts(ring)
        assert sum(map(len, lines)) <= MAX_RING
        assert lines[-1].startswith("REPORT")
        assert any(re.match(r"WHERRY \d+ lines \(\d+ characters\) dropped", x) for x in lines)
    assert sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) < 20 << 20


async def test_a_function_is_told_the_callers_trace(tmp_path):
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    what, ring = launch(tmp_path), Ring(lines=100)
    async with working(tmp_path) as workers:
        outcome = await invoke(workers, what, ring, trace=caller, do="trace")
        told = read(json.loads(outcome.payload))
        assert told.id == read(caller).id
        assert told.sampled
        assert told.span != read(caller).span
        assert outcome.trace_id == told.header()
        assert texts(ring)[-1] == (
            f"XRAY TraceId: {told.root}\tSegmentId: {told.span}\tSampled: true\t"
        )
