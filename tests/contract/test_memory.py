"""What a function may hold: its memory, after which it is killed and said to be, and its disk."""

import asyncio
import errno
import json
import os
import re
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from support.instances import Lines, answered, call, launch, machine_cache, opened, works

from faas.backends.loop import Loops
from faas.running.workers import Limits, Workers
from faas.telemetry.logs import Ring
from faas.vm import Crashed
from wherry.clock import SystemClock

pytestmark = pytest.mark.timeout(180)

GREEDY = """
import os, signal, subprocess, sys

def held():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmRSS"))

def handler(event, context):
    match event["do"]:
        case "eat":
            kept = []
            for number in range(event["mib"]):
                kept.append(os.urandom(4096) * 256)
                if number % 4 == 0:
                    os.write(1, f"held {held()}\\n".encode())
            return len(kept)
        case "fill":
            with open("/tmp/fill", "ab", buffering=0) as file:
                try:
                    while file.tell() < event["mib"] << 20:
                        file.write(os.urandom(4096) * 256)
                except OSError as error:
                    return {"errno": error.errno, "mib": file.tell() >> 20}
                return {"mib": file.tell() >> 20}
        case "read":
            with open("/tmp/note") as file:
                return file.read()
        case "note":
            with open("/tmp/note", "w") as file:
                file.write(event["text"])
            os.sync()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "child":
            eat = "kept = [bytearray(b'x' * (1 << 20)) for _ in range(400)]"
            return subprocess.run([sys.executable, "-c", eat]).returncode
"""


@pytest.fixture(scope="session", params=["bwrap", "unshare", "qemu"])
def kind(request) -> str:
    return works(request.param)


@pytest.fixture
async def backend(kind, tmp_path):
    async with opened(kind, machine_cache(), tmp_path / "run") as backend:
        if "limits of each process only" in backend.isolation:
            pytest.skip("without control groups no kernel counts a function's memory")
        yield backend


@asynccontextmanager
async def working(backend):
    async with asyncio.TaskGroup() as tasks:
        workers = Workers(backend, Limits(), SystemClock(), tasks)
        try:
            yield workers
        finally:
            await workers.stop()


async def test_a_function_has_about_the_memory_it_was_given_and_is_killed_above_it(
    backend, tmp_path
):
    lines = Lines()
    async with backend.boot(launch(tmp_path, GREEDY, timeout=90.0), lines) as vm:
        assert await answered(vm, do="eat", mib=64) == 64
        with pytest.raises(Crashed) as caught:
            await vm.invoke(call(do="eat", mib=200))
    assert caught.value.signal == signal.SIGKILL
    assert caught.value.out_of_memory
    most = max(int(line.split()[1]) for line in lines.seen if line.startswith("held"))
    assert 96 < most < 160


async def test_a_function_that_kills_itself_is_not_out_of_memory(backend, tmp_path):
    async with backend.boot(launch(tmp_path, GREEDY), lambda _: None) as vm:
        with pytest.raises(Crashed) as caught:
            await vm.invoke(call(do="kill"))
    assert caught.value.signal == signal.SIGKILL
    assert not caught.value.out_of_memory


async def test_a_child_killed_for_memory_earlier_is_no_reason_for_a_later_end(backend, tmp_path):
    async with backend.boot(launch(tmp_path, GREEDY, timeout=90.0), lambda _: None) as vm:
        assert await answered(vm, do="child") == -signal.SIGKILL
        with pytest.raises(Crashed) as caught:
            await vm.invoke(call(do="kill"))
    assert not caught.value.out_of_memory


async def test_a_function_writes_more_to_tmp_than_it_has_memory_until_no_space_is_left(
    backend, tmp_path
):
    async with backend.boot(launch(tmp_path, GREEDY, timeout=90.0), lambda _: None) as vm:
        assert await answered(vm, do="fill", mib=300) == {"mib": 300}
        end = await answered(vm, do="fill", mib=700)
        assert end["errno"] == errno.ENOSPC
        assert 512 <= end["mib"] < 550


async def test_instances_share_no_tmp_but_what_init_left_there(backend, tmp_path):
    what = launch(tmp_path, "open('/tmp/note', 'w').write('from init')\n" + GREEDY)
    async with AsyncExitStack() as stack:
        if backend.saves(what):
            async with backend.boot(what, lambda _: None) as vm:
                image = await backend.snapshot(vm)
            ways = [backend.restore(image, lambda _: None) for _ in range(2)]
        else:
            ways = [backend.boot(what, lambda _: None) for _ in range(2)]
        one, other = [await stack.enter_async_context(way) for way in ways]
        await answered(one, do="note", text="one")
        assert await answered(other, do="read") == "from init"
        await answered(other, do="note", text="other")
        assert await answered(one, do="read") == "one"
        if backend.saves(what):
            third = await stack.enter_async_context(backend.restore(image, lambda _: None))
            assert await answered(third, do="read") == "from init"


async def test_without_root_tmp_is_memory_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    works("bwrap")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    async with Loops(tmp_path).tmp(512) as device:
        assert device is None
    assert "sandboxes have /tmp in their memory" in caplog.text


@pytest.mark.parametrize(
    ("event", "report"),
    [({"do": "eat", "mib": 300}, "Runtime.OutOfMemory"), ({"do": "kill"}, "Runtime.ExitError")],
)
async def test_a_report_says_whether_memory_was_the_reason(backend, tmp_path, event, report):
    what, ring = launch(tmp_path, GREEDY, timeout=90.0), Ring(lines=1000)
    async with working(backend) as workers:
        outcome = await workers.invoke(what, call(**event), ring)
    assert outcome.error == "Unhandled"
    body = json.loads(outcome.payload)
    assert body["errorType"] == "Runtime.ExitError"
    assert body["errorMessage"].endswith("Error: Runtime exited with error: signal: killed")
    said = [line.text for line in ring.after(0, limit=1000)][-1]
    assert said.endswith(f"Status: error\tError Type: {report}")
    if report == "Runtime.OutOfMemory":
        assert "\tMax Memory Used: 128 MB\t" in said
        assert re.search(r"Memory Size: 128 MB\t", said)


async def test_a_function_that_eats_its_memory_in_init_is_out_of_memory(backend, tmp_path):
    eats = "kept = [bytearray(b'x' * (1 << 20)) for _ in range(300)]\ndef handler(e, c): pass\n"
    what, ring = launch(tmp_path, eats), Ring(lines=1000)
    async with working(backend) as workers:
        outcome = await workers.invoke(what, call(), ring)
    assert json.loads(outcome.payload)["errorType"] == "Runtime.ExitError"
    said = [line.text for line in ring.after(0, limit=1000)][-1]
    assert said.endswith("Status: error\tError Type: Runtime.OutOfMemory")
