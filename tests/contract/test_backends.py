"""What every way of running functions promises; real awslambdaric in each."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.instances import (
    ARN,
    Lines,
    answered,
    call,
    launch,
    machine_cache,
    opened,
    works,
)

from faas.backends import chosen, qemu_vm
from faas.backends.child import descendants
from faas.backends.micro import MicroImage
from faas.vm import (
    MAX_PAYLOAD,
    Backend,
    BootFailed,
    Crashed,
    IllegalMove,
    InitFailed,
    InitTimeout,
    NotAtRestorePoint,
    VmState,
)

KITCHEN = """
import json, os, random, resource, socket, sys, time, urllib.error, urllib.request, uuid

print("init")
BORN = [random.random(), uuid.uuid4().hex]

def fetch(url, data=None):
    try:
        with urllib.request.urlopen(url, data=data, timeout=20) as answer:
            body = answer.read()
            return {"status": answer.status, "size": len(body), "text": body[:200].decode()}
    except urllib.error.HTTPError as error:
        return {"status": error.code}
    except OSError as error:
        return {"error": str(error)}

def attempt(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"

def handler(event, context):
    match event["do"]:
        case "echo":
            return event
        case "fail":
            raise ValueError(event["text"])
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), 9)
        case "sleep":
            time.sleep(event["seconds"])
        case "spin":
            children = [os.fork() for _ in range(2)]
            if 0 in children:
                while True:
                    pass
            return os.getpid()
        case "print":
            for number in range(event["lines"]):
                print("line", number, file=(sys.stdout, sys.stderr)[number % 2])
            print("x" * event.get("width", 0), end="")
        case "dice":
            return {"random": random.random(), "urandom": os.urandom(16).hex(),
                    "uuid": str(uuid.uuid4()), "born": BORN}
        case "time":
            return time.time()
        case "context":
            return {"id": context.aws_request_id, "left": context.get_remaining_time_in_millis(),
                    "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb,
                    "custom": context.client_context and context.client_context.custom,
                    "trace": os.environ.get("_X_AMZN_TRACE_ID"), "env": dict(os.environ)}
        case "eat":
            kept = [bytearray(1 << 20) for _ in range(event["mib"])]
            return len(kept)
        case "big":
            return "x" * event["size"]
        case "around":
            host = socket.socket()
            host.settimeout(2)
            return {
                "uid": os.getuid(),
                "task": attempt(lambda: open("/var/task/new", "w")),
                "root": attempt(lambda: open("/new", "w")),
                "tmp": attempt(lambda: open("/tmp/new", "w").write("x")),
                "loopback": attempt(lambda: host.connect(("127.0.0.1", event["port"]))),
                "links": os.listdir("/sys/class/net") if os.path.exists("/sys/class") else [],
                "interfaces": [name for _, name in socket.if_nameindex()],
            }
        case "fetch":
            return fetch(event["url"], event.get("data", "").encode() or None)
"""


@dataclass
class Ways:
    """One backend, and the quickest way to a running kitchen on it."""

    backend: Backend
    folder: Path
    image: MicroImage | None

    @asynccontextmanager
    async def kitchen(self, logs=lambda _: None, *, egress: Path | None = None):
        """Enter with a VM that runs `KITCHEN`."""
        if self.image is None:
            up = self.backend.boot(launch(self.folder, KITCHEN, egress=egress), logs)
        else:
            image = replace(self.image, launch=replace(self.image.launch, egress=egress))
            up = self.backend.restore(image, logs)
        async with up as vm:
            yield vm


@pytest.fixture(scope="session")
def cache() -> Path:
    return machine_cache()


@pytest.fixture(scope="session", params=["bwrap", "unshare", "qemu"])
def kind(request) -> str:
    """A backend, or a way of one, that works on this machine."""
    return works(request.param)


@pytest.fixture(scope="session")
def image(kind, cache, tmp_path_factory):
    """A snapshot of the kitchen; None where there are no snapshots."""
    if kind != "qemu":
        yield None
        return
    folder = tmp_path_factory.mktemp("kitchen")

    async def made() -> MicroImage:
        async with chosen(kind, cache=cache, run=folder / "run") as backend:
            async with backend.boot(launch(folder, KITCHEN), lambda _: None) as vm:
                image = await backend.snapshot(vm)
            return replace(image, folder=image.folder.rename(folder / "image"))

    yield asyncio.run(made())
    shutil.rmtree(folder)


@pytest.fixture
async def ways(kind, image, cache, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    async with opened(kind, cache, run) as backend:
        yield Ways(backend, tmp_path, image)
        assert descendants(os.getpid()) == []
        assert [path for path in run.rglob("*") if path.is_file()] == []
    assert list(run.iterdir()) == []


async def test_a_function_answers_and_keeps_its_state_between_calls(ways):
    lines = Lines()
    async with ways.kitchen(lines) as vm:
        assert vm.state is VmState.IDLE
        assert await answered(vm, do="echo", text="é") == {"do": "echo", "text": "é"}
        first, second = await answered(vm, do="dice"), await answered(vm, do="dice")
        assert first["born"] == second["born"]
        assert first["random"] != second["random"]


async def test_the_runtime_sees_what_lambda_shows(ways):
    async with ways.kitchen() as vm:
        asked = replace(
            call(do="context"),
            trace_id="Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=1",
            client_context='{"custom":{"a":"b"}}',
        )
        seen = json.loads((await vm.invoke(asked)).payload)
        assert seen["id"] == asked.request_id
        assert 0 < seen["left"] < 10_500
        assert (seen["arn"], seen["memory"]) == (ARN, "128")
        assert (seen["trace"], seen["custom"]) == (asked.trace_id, {"a": "b"})
        expected = {
            "_HANDLER": "app.handler",
            "AWS_LAMBDA_FUNCTION_NAME": "kitchen",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/kitchen",
            "AWS_REGION": "us-east-1",
            "LAMBDA_TASK_ROOT": "/var/task",
            "GREETING": "hello",
            "TZ": ":UTC",
        }
        assert expected.items() <= seen["env"].items()


async def test_an_exception_comes_back_as_lambdas_error_document(ways):
    async with ways.kitchen() as vm:
        answer = await vm.invoke(call(do="fail", text="no bread"))
        said = json.loads(answer.payload)
        assert answer.error
        assert (said["errorType"], said["errorMessage"]) == ("ValueError", "no bread")
        assert "handler" in "".join(said["stackTrace"])
        assert await answered(vm, do="echo") == {"do": "echo"}


@pytest.mark.parametrize(
    ("source", "handler", "error_type"),
    [
        ("def handler(e, c): pass", "missing.handler", "Runtime.ImportModuleError"),
        ("def other(e, c): pass", "app.handler", "Runtime.HandlerNotFound"),
        ("def handler(", "app.handler", "Runtime.UserCodeSyntaxError"),
        ("raise RuntimeError('at import')", "app.handler", "RuntimeError"),
    ],
)
async def test_code_that_cannot_be_loaded_is_an_init_error(ways, source, handler, error_type):
    lines = Lines()
    broken = launch(ways.folder, source, handler=handler)
    with pytest.raises(InitFailed) as caught:
        async with ways.backend.boot(broken, lines):
            pass
    assert caught.value.error_type.removeprefix("Exception.") == error_type
    assert json.loads(caught.value.payload)["errorType"] == error_type
    assert any("ERROR" in line for line in lines.seen)


async def test_code_that_exits_while_loading_is_a_crash(ways):
    with pytest.raises(Crashed) as caught:
        async with ways.backend.boot(launch(ways.folder, "import os; os._exit(7)"), print):
            pass
    assert caught.value.exit_status == 7


async def test_code_that_never_finishes_loading_is_an_init_timeout(ways):
    slow = launch(ways.folder, "import time; time.sleep(60)", init_timeout=1.0)
    with pytest.raises(InitTimeout):
        async with ways.backend.boot(slow, lambda _: None):
            pass


@pytest.mark.parametrize(("how", "status", "number"), [("exit", 3, None), ("kill", None, 9)])
async def test_a_runtime_that_dies_is_a_crash_and_a_new_one_works(ways, how, status, number):
    async with ways.kitchen() as vm:
        with pytest.raises(Crashed) as caught:
            await vm.invoke(call(do=how))
        assert (caught.value.exit_status, caught.value.signal) == (status, number)
        await vm.gone()
        assert vm.state is VmState.GONE
    async with ways.kitchen() as vm:
        assert await answered(vm, do="echo") == {"do": "echo"}


async def test_a_call_that_is_given_up_leaves_a_vm_that_only_ends(ways):
    async with ways.kitchen() as vm:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await vm.invoke(call(do="sleep", seconds=60))
        with pytest.raises(IllegalMove):
            await vm.invoke(call(do="echo"))


async def test_cancelling_a_boot_leaves_nothing_behind(ways):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15), ways.kitchen():
            await asyncio.Event().wait()


async def test_one_vm_takes_one_call_at_a_time(ways):
    async with ways.kitchen() as vm, asyncio.TaskGroup() as group:
        first = group.create_task(answered(vm, do="sleep", seconds=0.2), name="first")
        await asyncio.sleep(0)
        with pytest.raises(IllegalMove):
            await vm.invoke(call(do="echo"))
        assert await first is None


def cpu_ticks() -> int:
    total = 0
    for pid in descendants(os.getpid()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


async def test_a_frozen_vm_uses_no_cpu_and_goes_on_where_it_was(ways):
    async with ways.kitchen() as vm:
        await answered(vm, do="spin")
        await vm.freeze()
        assert vm.state is VmState.PAUSED
        with pytest.raises(IllegalMove):
            await vm.invoke(call(do="echo"))
        ticks, until = cpu_ticks(), time.monotonic() + 0.5
        while time.monotonic() < until:
            await asyncio.to_thread(os.sched_yield)
        assert cpu_ticks() - ticks <= 1
        await vm.thaw()
        assert await answered(vm, do="echo") == {"do": "echo"}


async def test_the_clock_is_right_after_start_and_after_a_freeze(ways):
    async with ways.kitchen() as vm:
        assert abs(await answered(vm, do="time") - time.time_ns() / 1e9) < 0.5
        await vm.freeze()
        await asyncio.to_thread(os.waitid, os.P_PID, pause(1.0), os.WEXITED)
        await vm.thaw()
        assert abs(await answered(vm, do="time") - time.time_ns() / 1e9) < 0.5


def pause(seconds: float) -> int:
    """Start a process that ends after ``seconds``; time passes and nothing else happens."""
    return os.posix_spawn("/bin/sleep", ["sleep", str(seconds)], {})


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_vm_killed_from_outside_is_gone_and_leaves_nothing(ways, frozen):
    async with ways.kitchen() as vm, asyncio.timeout(10):
        if frozen:
            await vm.freeze()
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await vm.gone()
        assert vm.state is VmState.GONE
        with pytest.raises((Crashed, IllegalMove)):
            await vm.invoke(call(do="echo"))


async def test_a_qemu_that_does_not_answer_is_given_up(ways, kind, monkeypatch):
    if kind != "qemu":
        pytest.skip("only microVMs have a monitor")
    monkeypatch.setattr(qemu_vm, "_BRAKING", 0.2)
    async with ways.kitchen() as vm, asyncio.timeout(10):
        for pid in descendants(os.getpid()):
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Crashed):
            await vm.freeze()


async def test_a_microvm_runs_from_folders_of_any_name(kind, cache, tmp_path):
    if kind != "qemu":
        pytest.skip("only microVMs have files of their own")
    run = tmp_path / "a b,c'd$(e)"
    async with opened(kind, cache, run) as backend, AsyncExitStack() as stack:
        vm = await stack.enter_async_context(
            backend.boot(launch(tmp_path, KITCHEN), lambda _: None)
        )
        image = await backend.snapshot(vm)
        stack.callback(image.discard)
        clone = await stack.enter_async_context(backend.restore(image, lambda _: None))
        assert await answered(clone, do="echo") == {"do": "echo"}


CONTROL = """
import asyncio, sys
from pathlib import Path
from test_backends import KITCHEN, launch, opened

async def main(kind, cache, folder):
    async with opened(kind, Path(cache), Path(folder) / "run") as backend:
        async with backend.boot(launch(Path(folder), KITCHEN), lambda _: None):
            print("up", flush=True)
            await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_no_vm_outlives_a_control_process_that_is_killed(kind, cache, tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    control = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CONTROL, kind, cache, tmp_path),
        env={**os.environ, "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
    )
    assert await control.stdout.readline() == b"up\n"
    vms = descendants(control.pid)
    assert vms
    control.kill()
    await control.communicate()
    async with asyncio.timeout(10):
        while any(alive(pid) for pid in vms):
            await asyncio.sleep(0)


def alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@asynccontextmanager
async def far_side(path: Path):
    """Serve HTTP on a unix socket as the mesh's proxy does; yield what was asked of it."""
    asked: list[str] = []

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.splitlines()[0])
        size = next(
            (
                int(line.split(":")[1])
                for line in head.lower().splitlines()
                if "content-length" in line
            ),
            0,
        )
        body = await reader.readexactly(size)
        reply = b"entries!" + body
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(reply) + reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path, limit=1 << 24)
    async with server:
        yield asked


@pytest.fixture
def short():
    """A folder whose path fits a unix socket's address."""
    with tempfile.TemporaryDirectory(prefix="wherry-") as folder:
        yield Path(folder)


async def test_a_function_reaches_the_mesh_through_its_proxy(ways, short):
    async with far_side(short / "egress") as asked, ways.kitchen(egress=short / "egress") as vm:
        seen = await answered(vm, do="fetch", url="http://entries/all?x=1")
        assert (seen["status"], seen["text"]) == (200, "entries!")
        assert asked == ["GET http://entries/all?x=1 HTTP/1.1"]


async def test_a_megabyte_goes_out_and_comes_back_through_the_proxy(ways, short):
    async with far_side(short / "egress"), ways.kitchen(egress=short / "egress") as vm:
        seen = await answered(vm, do="fetch", url="http://entries/", data="x" * (1 << 20))
        assert (seen["status"], seen["size"]) == (200, (1 << 20) + len("entries!"))


async def test_without_a_way_out_a_function_gets_a_clean_502(ways, short):
    for egress in (None, short / "nobody"):
        async with ways.kitchen(egress=egress) as vm:
            assert await answered(vm, do="fetch", url="http://entries/") == {"status": 502}
            assert await answered(vm, do="echo") == {"do": "echo"}


async def test_lines_arrive_in_order_and_before_the_answer(ways):
    lines = Lines()
    async with ways.kitchen(lines) as vm:
        lines.seen.clear()
        await answered(vm, do="print", lines=500, width=20_000)
        assert lines.seen[:500] == [f"line {number}" for number in range(500)]
        assert "".join(lines.seen[500:]) == "x" * 20_000


async def test_a_function_is_shut_in(ways):
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with ways.kitchen() as vm:
            seen = await answered(vm, do="around", port=server.getsockname()[1])
    assert seen["uid"] not in (0, os.getuid())
    assert seen["task"] in ("OSError", "PermissionError")
    assert seen["root"] in ("OSError", "PermissionError")
    assert seen["tmp"] == "done"
    assert seen["loopback"] == "ConnectionRefusedError"
    assert seen["links"] == []
    assert seen["interfaces"] == ["lo"]


async def end_of_greed(vm):
    try:
        answer = await vm.invoke(call(do="eat", mib=300))
    except Crashed as crash:
        return crash.signal
    return json.loads(answer.payload).get("errorType")


async def test_a_function_cannot_use_more_memory_than_it_was_given(ways):
    async with ways.kitchen() as vm:
        assert await end_of_greed(vm) in ("MemoryError", signal.SIGKILL)
    async with ways.kitchen() as vm:
        assert await answered(vm, do="eat", mib=60) == 60


async def test_six_megabytes_go_in_and_come_out(ways):
    async with ways.kitchen() as vm:
        size = 6 * (1 << 20) - 100
        seen = await vm.invoke(call(do="echo", text="x" * (size - 100)))
        assert len(seen.payload) > size - 100
        assert len(await answered(vm, do="big", size=size)) == size


async def test_a_response_over_the_limit_is_an_error(ways):
    async with ways.kitchen() as vm:
        answer = await vm.invoke(call(do="big", size=MAX_PAYLOAD + 1))
        assert answer.error == "Function.ResponseSizeTooLarge"
        assert str(MAX_PAYLOAD) in json.loads(answer.payload)["errorMessage"]


async def test_clones_share_their_past_and_no_random_number(ways):
    if not ways.backend.saves(launch(ways.folder, KITCHEN)):
        pytest.skip("no snapshots to clone")
    async with AsyncExitStack() as stack:
        clones = [await stack.enter_async_context(ways.kitchen()) for _ in range(3)]
        dice = [await answered(clone, do="dice") for clone in clones]
        for name in ("random", "urandom", "uuid"):
            assert len({each[name] for each in dice}) == 3
        assert len({json.dumps(each["born"]) for each in dice}) == 1


SECRETIVE = """
import secrets, ssl, tempfile

def greeting():
    hello, nothing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    talk = context.wrap_bio(nothing, hello, server_hostname="example.org")
    try:
        talk.do_handshake()
    except ssl.SSLWantReadError:
        return hello.read().hex()

BORN = greeting(), secrets.token_hex()

def handler(event, context):
    return {"tls": greeting(), "token": secrets.token_hex(), "openssl": ssl.RAND_bytes(16).hex(),
            "file": tempfile.mktemp(), "born": BORN}
"""
"""Has drawn from OpenSSL before it is saved; a client's greeting holds its public key."""
X25519 = "003300260024001d0020"
"""What stands before that key: extension key_share with one key of 32 bytes (RFC 8446, 4.2.8)."""


async def test_clones_share_no_tls_key(ways):
    secretive = launch(ways.folder, SECRETIVE)
    if not ways.backend.saves(secretive):
        pytest.skip("no snapshots to clone")
    async with ways.backend.boot(secretive, lambda _: None) as vm:
        image = await ways.backend.snapshot(vm)
    async with AsyncExitStack() as stack:
        clones = [
            await stack.enter_async_context(ways.backend.restore(image, lambda _: None))
            for _ in range(3)
        ]
        drawn = [await answered(clone) for clone in clones]
    image.discard()
    assert len({json.dumps(each["born"]) for each in drawn}) == 1
    for name in ("tls", "token", "openssl", "file"):
        assert len({each[name] for each in drawn}) == 3, name
    keys = {each["tls"].partition(X25519)[2][:64] for each in drawn}
    assert len(keys) == 3
    assert all(len(key) == 64 for key in keys)


async def test_only_a_vm_fresh_from_init_can_be_saved_and_then_it_only_dies(ways):
    if not ways.backend.saves(launch(ways.folder, KITCHEN)):
        pytest.skip("no snapshots")
    async with ways.kitchen() as vm:
        with pytest.raises(NotAtRestorePoint):
            await ways.backend.snapshot(vm)
    async with ways.backend.boot(launch(ways.folder, KITCHEN), lambda _: None) as vm:
        image = await ways.backend.snapshot(vm)
        assert vm.state is VmState.SAVED
        with pytest.raises(IllegalMove):
            await vm.invoke(call(do="echo"))
    image.discard()
    with pytest.raises(BootFailed):
        async with ways.backend.restore(image, lambda _: None):
            pass


async def test_a_booted_vm_serves_calls_without_a_snapshot(ways):
    lines = Lines()
    async with ways.backend.boot(launch(ways.folder, KITCHEN, memory_mib=128), lines) as vm:
        assert await answered(vm, do="echo") == {"do": "echo"}
        assert lines.seen == ["init"]


async def test_a_failing_after_restore_hook_is_an_init_error(ways):
    if not ways.backend.saves(launch(ways.folder, KITCHEN)):
        pytest.skip("no snapshots")
    source = """
from snapshot_restore_py import register_after_restore

@register_after_restore
def hook():
    raise LookupError("no lease")

def handler(event, context):
    pass
"""
    async with ways.backend.boot(launch(ways.folder, source), lambda _: None) as vm:
        image = await ways.backend.snapshot(vm)
    with pytest.raises(InitFailed, match="no lease"):
        async with ways.backend.restore(image, lambda _: None):
            pass
    image.discard()
