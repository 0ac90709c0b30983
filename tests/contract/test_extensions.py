"""Extensions beside a function, and what they are told: the same on each backend."""

import asyncio
import json
import time
from dataclasses import replace

import pytest
from support.instances import Lines, answered, call, launch, tree

from faas.running.workers import Limits, Workers
from faas.telemetry.logs import Ring
from faas.vm import Crashed, InitFailed, VmState
from wherry.clock import SystemClock

CLIENT = """
import json, os, sys, time, urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]

def ask(method, path, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(API + path, data, headers, method=method)
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()

def register(name, events, **headers):
    return ask("POST", "/2020-01-01/extension/register", {"events": events},
               Lambda_Extension_Name=name, **headers)

def following(id):
    return json.loads(ask("GET", "/2020-01-01/extension/event/next",
                          Lambda_Extension_Identifier=id)[2])
"""
EXTERNAL = (
    CLIENT
    + """
name = os.path.basename(sys.argv[0])
status, headers, body = register(name, ["INVOKE", "SHUTDOWN"],
                                 Lambda_Extension_Accept_Feature="accountId")
print(name, "registered", status, body.decode(), flush=True)
id = headers["Lambda-Extension-Identifier"]
while True:
    event = following(id)
    print(name, event["eventType"], event.get("requestId") or event.get("shutdownReason"),
          flush=True)
    if event["eventType"] == "SHUTDOWN":
        break
"""
)
HANDLER = "def handler(event, context):\n    print('handling')\n    return event\n"


def script(source: str) -> str:
    """Return a program in the runtime's Python."""
    return f"#!/var/lang/bin/python3\n{source}"


def with_extensions(folder, sources, handler=HANDLER, **fields):
    layer = tree(folder, {f"extensions/{name}": source for name, source in sources.items()})
    return launch(folder, handler, layers=(layer,), **fields)


async def test_an_external_extension_hears_of_invocations_and_the_end(backend, tmp_path):
    lines = Lines()
    extended = with_extensions(tmp_path, {"watcher": script(EXTERNAL)})
    async with backend.boot(extended, lines) as vm:
        registered = next(line for line in lines.seen if "registered" in line)
        document = json.loads(registered.partition(" 200 ")[2])
        assert document == {
            "functionName": "kitchen",
            "functionVersion": "$LATEST",
            "handler": "app.handler",
            "accountId": "000000000000",
        }
        first, second = call(n=1), call(n=2)
        await vm.invoke(first)
        await vm.invoke(second)
        await vm.freeze()
        await vm.thaw()
    told = [line for line in lines.seen if line.startswith("watcher INVOKE")]
    assert told == [f"watcher INVOKE {each.request_id}" for each in (first, second)]
    assert lines.seen[-1] == "watcher SHUTDOWN spindown"


async def test_layers_of_extensions_all_hear_and_the_answer_does_not_wait_for_them(
    backend, tmp_path
):
    slow = EXTERNAL.replace(
        'if event["eventType"] == "SHUTDOWN":',
        'if event["eventType"] == "INVOKE":\n        time.sleep(1)\n        '
        'print("late", flush=True)'
        "\n    else:",
    )
    lines = Lines()
    extended = with_extensions(tmp_path, {"quick": script(EXTERNAL), "slow": script(slow)})
    async with backend.boot(extended, lines) as vm:
        lines.seen.clear()
        assert await answered(vm, n=1) == {"n": 1}
        assert "late" not in lines.seen
        await vm.freeze()
        assert "late" in lines.seen
        await vm.thaw()


INTERNAL = (
    CLIENT
    + """
import threading
SEEN = []
status, headers, body = register("inside", ["INVOKE"])
CANNOT = [register("outside", ["SHUTDOWN"])[2].decode(), register("inside", ["INVOKE"])[2].decode()]

def listen():
    while True:
        SEEN.append(following(headers["Lambda-Extension-Identifier"])["requestId"])

threading.Thread(target=listen, daemon=True).start()

def handler(event, context):
    late = json.loads(register("late", ["INVOKE"])[2])["errorType"]
    unknown = json.loads(ask("GET", "/2020-01-01/extension/event/next",
        Lambda_Extension_Identifier="00000000-0000-0000-0000-000000000000")[2])["errorType"]
    missing = ask("GET", "/2020-01-01/extension/event/next")[0]
    return {"seen": SEEN, "late": late, "unknown": unknown, "missing": missing, "cannot": CANNOT}
"""
)


async def test_an_internal_extension_hears_of_invocations_only(backend, tmp_path):
    async with backend.boot(launch(tmp_path, INTERNAL), lambda _: None) as vm:
        first, second = call(), call()
        await vm.invoke(first)
        seen = json.loads((await vm.invoke(second)).payload)
    assert seen["seen"][0] == first.request_id
    assert seen["late"] == "Extension.RegistrationClosed"
    assert seen["unknown"] == "Extension.UnknownExtensionIdentifier"
    assert seen["missing"] == 403
    refused = [json.loads(said)["errorType"] for said in seen["cannot"]]
    assert refused == ["Extension.InvalidEventType", "Extension.InvalidExtensionState"]


@pytest.mark.parametrize(
    ("source", "error_type", "message"),
    [
        ("#!/bin/sh\nexit 3\n", "Extension.Crash", "extension bad: exit status 3"),
        ("not a program", "Extension.LaunchError", "/opt/extensions/bad: permission denied"),
        (
            script(
                CLIENT
                + "id = register('bad', [])[1]['Lambda-Extension-Identifier']\n"
                + "ask('POST', '/2020-01-01/extension/init/error', {'errorMessage': 'no key'}, "
                "Lambda_Extension_Identifier=id, "
                "Lambda_Extension_Function_Error_Type='Extension.NoKey')\n" + "time.sleep(60)"
            ),
            "Extension.NoKey",
            "no key",
        ),
    ],
)
async def test_an_extension_that_fails_in_init_is_an_init_error(
    backend, tmp_path, source, error_type, message
):
    with pytest.raises(InitFailed) as caught:
        async with backend.boot(with_extensions(tmp_path, {"bad": source}), lambda _: None):
            pass
    assert caught.value.error_type == error_type
    assert message in caught.value.message


async def test_an_extension_that_crashes_later_ends_the_instance(backend, tmp_path):
    frail = EXTERNAL.replace('print(name, event["eventType"]', "os._exit(4); print(name, event")
    frail = frail.replace("event.get(", "(event).get(")
    source = "import time\ndef handler(e, c): time.sleep(30)"
    extended = with_extensions(tmp_path, {"frail": script(frail)}, source)
    async with backend.boot(extended, lambda _: None) as vm:
        with pytest.raises(Crashed) as caught:
            await vm.invoke(call())
    assert caught.value.error_type == "Extension.Crash"


async def test_a_call_that_is_given_up_ends_the_extensions_with_timeout(backend, tmp_path):
    lines = Lines()
    source = "import time\ndef handler(e, c): time.sleep(60)"
    extended = with_extensions(tmp_path, {"watcher": script(EXTERNAL)}, source)
    async with backend.boot(extended, lines) as vm:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await vm.invoke(call())
    assert lines.seen[-1] == "watcher SHUTDOWN timeout"


async def test_a_runtime_that_ends_ends_the_extensions_with_failure(backend, tmp_path):
    lines = Lines()
    source = "import os\ndef handler(e, c): os._exit(3)"
    extended = with_extensions(tmp_path, {"watcher": script(EXTERNAL)}, source)
    async with backend.boot(extended, lines) as vm:
        with pytest.raises(Crashed):
            await vm.invoke(call())
    assert lines.seen[-1] == "watcher SHUTDOWN failure"


async def test_a_crash_of_an_extension_reaches_the_caller_and_the_report(backend, tmp_path):
    crashes = script(EXTERNAL.partition("while True")[0] + "following(id)\nsys.exit(4)\n")
    source = "import time\ndef handler(e, c): time.sleep(60)"
    extended, ring = with_extensions(tmp_path, {"watcher": crashes}, source), Ring(lines=100)
    async with asyncio.TaskGroup() as tasks:
        workers = Workers(backend, Limits(), SystemClock(), tasks)
        outcome = await workers.invoke(extended, call(), ring)
        await workers.stop()
    assert outcome.error_type == "Extension.Crash"
    assert json.loads(outcome.payload)["errorType"] == "Extension.Crash"
    report = [line.text for line in ring.after(0, limit=100) if line.text.startswith("REPORT")]
    assert report[-1].endswith("Status: error\tError Type: Extension.Crash")


LISTENER = (
    CLIENT
    + """
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

EVENTS = []

class Takes(BaseHTTPRequestHandler):
    def do_POST(self):
        EVENTS.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

server = HTTPServer(("0.0.0.0", 4243), Takes)
threading.Thread(target=server.serve_forever, daemon=True).start()
id = register("listener", ["INVOKE", "SHUTDOWN"])[1]["Lambda-Extension-Identifier"]
wrong = [ask("PUT", "{api}", body, Lambda_Extension_Identifier=id)[0] for body in (
    {{"types": ["nothing"]}}, [], {{"types": ["platform"], "destination": {{"protocol": "HTTP",
    "URI": "http://example.org/"}}}})]
status, _, body = ask("PUT", "{api}", {{
    "schemaVersion": "{version}", "types": ["platform", "function", "extension"],
    "buffering": {{"timeoutMs": 25, "maxItems": 1000, "maxBytes": 262144}},
    "destination": {{"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/events"}},
}}, Lambda_Extension_Identifier=id)
print("subscribed", status, body.decode(), wrong, flush=True)
while following(id)["eventType"] != "SHUTDOWN":
    pass
time.sleep(0.3)
for event in EVENTS:
    if event["type"] != "extension":
        print("EVENT", json.dumps(event), flush=True)
"""
)


@pytest.mark.parametrize(
    ("api", "version"),
    [("/2022-07-01/telemetry", "2022-12-13"), ("/2020-08-15/logs", "2021-03-18")],
)
async def test_a_subscriber_is_told_of_all_that_happens(backend, tmp_path, api, version):
    head, _, rest = LISTENER.partition("id = register(")
    source = head + "id = register(" + rest.format(api=api, version=version)
    lines = Lines()
    async with backend.boot(with_extensions(tmp_path, {"listener": script(source)}), lines) as vm:
        asked = call(n=1)
        await vm.invoke(asked)
        await vm.invoke(call(n=2))
        await vm.freeze()
        await vm.thaw()
    assert "subscribed 200" in " ".join(lines.seen)
    assert "[400, 400, 400]" in " ".join(lines.seen)
    events = [json.loads(line[6:]) for line in lines.seen if line.startswith("EVENT")]
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["platform.initStart", "platform.extension"]
    once = ["platform.initRuntimeDone", "platform.initReport"]
    each = ["platform.start", "function", "platform.runtimeDone", "platform.report"]
    assert [kind for kind in kinds if kind in {*once, *each}] == [*once, *each, *each]
    start = events[kinds.index("platform.start")]
    assert start["record"]["requestId"] == asked.request_id
    report = events[kinds.index("platform.report")]["record"]
    assert report["status"] == "success"
    assert set(report["metrics"]) == {
        "durationMs",
        "billedDurationMs",
        "memorySizeMB",
        "maxMemoryUsedMB",
        "initDurationMs",
    }
    assert events[kinds.index("function")]["record"] == "handling"


DEAF = (
    CLIENT
    + """
import socket
server = socket.create_server(("127.0.0.1", 4244), backlog=1)
id = register("deaf", ["INVOKE"])[1]["Lambda-Extension-Identifier"]
ask("PUT", "/2022-07-01/telemetry", {
    "schemaVersion": "2022-12-13", "types": ["function"],
    "buffering": {"timeoutMs": 25, "maxItems": 1000, "maxBytes": 262144},
    "destination": {"protocol": "HTTP", "URI": "http://sandbox:4244/"},
}, Lambda_Extension_Identifier=id)
seen = b""
following(id)
following(id)
"""
)


async def test_a_subscriber_that_does_not_read_slows_nobody_down(backend, tmp_path):
    source = "def handler(event, context):\n    print('\\n'.join(['x' * 500] * 20_000))"
    deaf = with_extensions(tmp_path, {"deaf": script(DEAF)}, source)
    async with backend.boot(deaf, lambda _: None) as vm, asyncio.timeout(30):
        await answered(vm)


STUCK = (
    CLIENT
    + """
id = register("stuck", ["INVOKE"])[1]["Lambda-Extension-Identifier"]
following(id)
time.sleep(600)
"""
)


async def test_an_extension_that_is_never_done_ends_the_instance_at_the_deadline(backend, tmp_path):
    stuck = with_extensions(tmp_path, {"stuck": script(STUCK)})
    async with backend.boot(stuck, lambda _: None) as vm:
        soon = replace(call(), deadline_ms=time.time_ns() // 1_000_000 + 1500)
        assert (await vm.invoke(soon)).error is None
        with pytest.raises(Crashed):
            await vm.freeze()
        assert vm.state is VmState.GONE
