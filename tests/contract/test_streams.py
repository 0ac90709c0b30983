"""Responses that are streamed, memory used, and functions that do their worst."""

import asyncio
import json
import time

import pytest
from support.instances import (
    Lines,
    Pieces,
    answered,
    call,
    launch,
    tree,
)

from faas.vm import MAX_PAYLOAD, Crashed, InitFailed

BOOTSTRAP = """#!/var/lang/bin/python3
import base64, json, os, socket, sys, time

HOST = os.environ["AWS_LAMBDA_RUNTIME_API"]

def connected():
    host, port = HOST.split(":")
    return socket.create_connection((host, int(port)))

def ask(text, body=b""):
    with connected() as wire:
        wire.sendall(text.encode() + body)
        answer = wire.makefile("rb")
        status = int(answer.readline().split()[1])
        headers = {}
        while line := answer.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return status, headers, answer.read(int(headers.get("content-length", 0)))

def following():
    status, headers, body = ask("GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n\\r\\n")
    return headers["lambda-runtime-aws-request-id"], headers, json.loads(body)

def posted(id, body, kind="response"):
    return ask(f"POST /2018-06-01/runtime/invocation/{id}/{kind} HTTP/1.1\\r\\n"
               f"Content-Length: {len(body)}\\r\\n\\r\\n", body)

def stream(id, pieces, trailers="", end=True):
    with connected() as wire:
        wire.sendall((f"POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\\r\\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\\r\\n"
            "Transfer-Encoding: chunked\\r\\nContent-Type: text/plain\\r\\n"
            "Trailer: Lambda-Runtime-Function-Error-Type\\r\\n\\r\\n").encode())
        for piece in pieces:
            wire.sendall(b"%x\\r\\n%s\\r\\n" % (len(piece), piece))
        if not end:
            return None
        wire.sendall(f"0\\r\\n{trailers}\\r\\n".encode())
        return int(wire.makefile("rb").readline().split()[1])

while True:
    id, headers, event = following()
    match event["do"]:
        case "stream":
            sent = stream(id, [b"piece %d;" % n for n in range(event["pieces"])])
            print("sent", sent, flush=True)
        case "large":
            stream(id, (bytes(1 << 20) for _ in range(event["mib"])))
            print("all sent", flush=True)
        case "trailer":
            body = base64.b64encode(json.dumps({"errorType": "Mid", "errorMessage": "half way"}
                ).encode()).decode()
            stream(id, [b"half"], f"Lambda-Runtime-Function-Error-Type: Mid\\r\\n"
                   f"Lambda-Runtime-Function-Error-Body: {body}\\r\\n")
        case "cut":
            stream(id, [b"half"], end=False)
        case "late":
            with connected() as wire:
                wire.sendall(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n\\r\\n")
                time.sleep(0.2)
                posted(id, b'"late"')
        case "die":
            pieces = [b"half"]
            def until_dead():
                yield b"half"
                time.sleep(0.3)
                os._exit(5)
            stream(id, until_dead())
        case "headers":
            posted(id, json.dumps(headers).encode())
        case "hostile":
            seen = {}
            other = "00000000-0000-0000-0000-000000000000"
            seen["other"] = posted(other, b"{}")[0]
            seen["other error"] = posted(other, b"{}", "error")[0]
            seen["late init error"] = ask("POST /2018-06-01/runtime/init/error HTTP/1.1\\r\\n"
                "Content-Length: 2\\r\\n\\r\\n{}")[0]
            seen["nonsense"] = ask("\\x01\\x02\\x03 what\\r\\n\\r\\n")[0]
            seen["length"] = ask("POST / HTTP/1.1\\r\\nContent-Length: minus\\r\\n\\r\\n")[0]
            seen["headers"] = ask("GET / HTTP/1.1\\r\\n" + "a: b\\r\\n" * 200 + "\\r\\n")[0]
            seen["nowhere"] = ask("GET /latest/meta-data HTTP/1.1\\r\\n\\r\\n")[0]
            open_ones = [connected() for _ in range(40)]
            seen["result"] = posted(id, json.dumps(seen).encode())[0]
        case "twice":
            posted(id, b'"first"')
            print("second", posted(id, b'"second"')[0], flush=True)
"""


@pytest.fixture
async def vm(backend, tmp_path):
    code = tree(tmp_path, {"bootstrap": BOOTSTRAP})
    lines = Lines()
    raw = launch(tmp_path, code=code, runtime="provided.al2023", memory_mib=128)
    async with backend.boot(raw, lines) as vm:
        vm.lines = lines
        yield vm


async def test_a_streamed_response_comes_piece_by_piece(vm):
    taken = Pieces()
    answer = await vm.invoke(call(do="stream", pieces=5), taken)
    assert (answer.payload, answer.error, answer.content_type) == (b"", None, "text/plain")
    assert taken.content_type == "text/plain"
    assert b"".join(taken.pieces) == b"piece 0;piece 1;piece 2;piece 3;piece 4;"
    assert answer.used_mib > 0


async def test_a_streamed_response_is_collected_where_nobody_takes_it(vm):
    answer = await vm.invoke(call(do="stream", pieces=3))
    assert answer.payload == b"piece 0;piece 1;piece 2;"


async def test_a_response_that_comes_whole_is_one_piece_of_a_stream(vm):
    taken = Pieces()
    answer = await vm.invoke(call(do="headers"), taken)
    assert answer.payload == b""
    assert len(taken.pieces) == 1
    assert json.loads(taken.pieces[0])["lambda-runtime-deadline-ms"]


async def test_a_slow_taker_slows_the_function_and_not_the_host(vm):
    taken = Pieces(room=asyncio.Semaphore(0))
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(vm.invoke(call(do="large", mib=8), taken), name="asked")
        await taken.begun.wait()
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            await asyncio.sleep(0.01)
        assert "all sent" not in vm.lines.seen
        assert taken.pieces == []
        for _ in range(10_000):
            taken.room.release()
    assert asked.result().error is None
    assert sum(map(len, taken.pieces)) == 8 << 20


async def test_a_collected_stream_over_the_limit_is_an_error(vm):
    answer = await vm.invoke(call(do="large", mib=7))
    assert answer.error == "Function.ResponseSizeTooLarge"
    assert str(MAX_PAYLOAD) in json.loads(answer.payload)["errorMessage"]
    assert (await vm.invoke(call(do="stream", pieces=1))).payload == b"piece 0;"


async def test_an_error_in_the_trailers_comes_after_what_was_streamed(vm):
    taken = Pieces()
    answer = await vm.invoke(call(do="trailer"), taken)
    assert b"".join(taken.pieces) == b"half"
    assert answer.error == "Mid"
    assert json.loads(answer.payload) == {"errorType": "Mid", "errorMessage": "half way"}


async def test_a_stream_that_is_cut_off_is_an_error(vm):
    taken = Pieces()
    answer = await vm.invoke(call(do="cut"), taken)
    assert answer.error == "Runtime.TruncatedResponse"
    assert (await vm.invoke(call(do="stream", pieces=1))).error is None


async def test_a_response_counts_that_is_heard_after_the_runtime_asks_for_the_next_event(vm):
    assert await answered(vm, do="late") == "late"


async def test_a_runtime_that_dies_while_it_streams_is_a_crash(vm):
    taken = Pieces()
    try:
        ended = (await vm.invoke(call(do="die"), taken)).error
    except Crashed as crash:
        ended = crash.exit_status
    assert ended in (5, "Runtime.TruncatedResponse")
    await vm.gone()
    assert b"".join(taken.pieces) == b"half"


async def test_nonsense_on_the_runtime_api_is_refused_and_the_call_goes_on(vm):
    seen = await answered(vm, do="hostile")
    assert seen == {
        "other": 400,
        "other error": 400,
        "late init error": 403,
        "nonsense": 400,
        "length": 400,
        "headers": 400,
        "nowhere": 404,
    }
    assert (await vm.invoke(call(do="stream", pieces=1))).error is None


async def test_the_second_response_to_a_call_is_refused(vm):
    assert await answered(vm, do="twice") == "first"
    await answered(vm, do="headers")
    assert "second 400" in vm.lines.seen


WORST = """
import os, signal, time

def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]

def handler(event, context):
    match event["do"]:
        case "fork":
            children = []
            try:
                while True:
                    pid = os.fork()
                    if pid == 0:
                        time.sleep(60)
                    children.append(pid)
            except OSError as error:
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                return {"children": len(children), "error": type(error).__name__}
        case "print":
            line = "x" * 99 + chr(10)
            for _ in range(event["mib"] * 10):
                os.write(1, (line * 1049).encode())
            return "printed"
        case "kill":
            refused = 0
            for pid in pids():
                if pid not in (os.getpid(), 1):
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except PermissionError:
                        refused += 1
            time.sleep(1)
            return {"refused": refused}
        case "peek":
            import ctypes
            libc = ctypes.CDLL(None, use_errno=True)
            traced, read = [], []
            for pid in pids():
                if pid != os.getpid():
                    if libc.ptrace(16, pid, 0, 0) == 0:
                        traced.append(pid)
                    for name in ("mem", "environ", "fd/3"):
                        try:
                            open(f"/proc/{pid}/{name}", "rb").read(1)
                            read.append((pid, name))
                        except OSError:
                            pass
            return {"traced": traced, "read": read}
        case "echo":
            return event
"""


@pytest.fixture
async def worst(backend, kind, tmp_path):
    mib = 128 if kind == "qemu" else 1024
    async with backend.boot(launch(tmp_path, WORST, memory_mib=mib), lambda _: None) as vm:
        yield vm


async def test_a_function_cannot_fork_without_end(worst, kind):
    if kind == "qemu":
        pytest.skip("a thousand processes take an emulated machine too long")
    seen = await answered(worst, do="fork")
    assert 100 < seen["children"] <= 1088
    assert seen["error"] == "BlockingIOError"
    assert await answered(worst, do="echo") == {"do": "echo"}


async def test_a_function_may_print_a_hundred_megabytes(worst, kind):
    mib = 100 if kind == "bwrap" else 3
    assert await answered(worst, do="print", mib=mib) == "printed"
    assert await answered(worst, do="echo") == {"do": "echo"}


async def test_a_function_can_at_most_kill_itself(worst, kind):
    if kind == "qemu":
        assert (await answered(worst, do="kill"))["refused"] > 0
        assert await answered(worst, do="echo") == {"do": "echo"}
        return
    with pytest.raises(Crashed):
        await worst.invoke(call(do="kill"))


async def test_a_function_can_look_into_no_other_process(worst):
    assert await answered(worst, do="peek") == {"traced": [], "read": []}


async def test_memory_used_is_the_most_that_was_ever_used(backend, tmp_path):
    source = "def handler(event, c):\n    kept = b'x' * (event['mib'] << 20)\n    del kept"
    async with backend.boot(launch(tmp_path, source), lambda _: None) as vm:
        little = (await vm.invoke(call(mib=1))).used_mib
        much = (await vm.invoke(call(mib=50))).used_mib
        after = (await vm.invoke(call(mib=1))).used_mib
    assert 5 < little < 60
    assert little + 40 < much <= 128
    assert after == much


async def test_init_errors_posted_twice_count_once(backend, tmp_path):
    twice = BOOTSTRAP.partition("while True:")[0] + (
        "path = 'POST /2018-06-01/runtime/init/error HTTP/1.1\\r\\n'\n"
        "path += 'Lambda-Runtime-Function-Error-Type: Shop.Closed\\r\\n'\n"
        "path += 'Content-Length: 2\\r\\n\\r\\n{}'\n"
        "print(ask(path)[0], ask(path)[0], flush=True)\n"
    )
    code = tree(tmp_path, {"bootstrap": twice})
    with pytest.raises(InitFailed) as caught:
        async with backend.boot(
            launch(tmp_path, code=code, runtime="provided.al2023"), lambda _: None
        ):
            pass
    assert caught.value.error_type == "Shop.Closed"
