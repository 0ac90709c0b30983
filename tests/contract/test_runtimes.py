"""Runtimes other than plain Python, layers and containers: what each promises on each backend."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from support.debian import program
from support.instances import (
    Lines,
    Pieces,
    answered,
    call,
    launch,
    machine_cache,
    skip,
    tree,
    works,
)

from faas.image.runtimes import runtime_root
from faas.vm import Container, Crashed, InitFailed
from wherry.errors import StartError

BOOTSTRAP = """#!/bin/sh
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
echo "cold start of $_HANDLER"
while true; do
  event=$(curl -sS --noproxy '*' -D /tmp/headers "$api/next")
  id=$(grep -i ^lambda-runtime-aws-request-id /tmp/headers | tr -d '[:space:]' | cut -d: -f2)
  notes=$(cat /opt/*.txt | tr -d '\\n')
  printf '{"got": %s, "opt": "%s"}' "$event" "$notes" |
    curl -sS --noproxy '*' -o /dev/null --data-binary @- "$api/$id/response"
done
"""


@pytest.fixture(scope="session", params=["bwrap", "unshare", "qemu"])
def kind(request) -> str:
    return works(request.param)


async def test_a_function_finds_no_package_that_is_installed_for_the_hosts_python(
    backend, tmp_path
):
    looking = launch(
        tmp_path,
        """
import importlib.util, sys

def handler(event, context):
    spec = importlib.util.find_spec("pip")
    return [spec and spec.origin, [p for p in sys.path if "packages" in p and "/opt/" not in p]]
""",
    )
    async with backend.boot(looking, lambda _: None) as vm:
        assert await answered(vm) == [None, []]


async def test_a_shell_script_is_a_runtime(backend, tmp_path):
    layer = tree(tmp_path, {"note.txt": "from a layer"})
    shell = launch(
        tmp_path,
        code=tree(tmp_path, {"bootstrap": BOOTSTRAP}),
        runtime="provided.al2023",
        handler="shell.handler",
        layers=(layer,),
    )
    lines = Lines()
    async with backend.boot(shell, lines) as vm:
        for number in range(3):
            seen = await answered(vm, number=number)
            assert seen == {"got": {"number": number}, "opt": "from a layer"}
    assert lines.seen[0] == "cold start of shell.handler"


async def test_a_bootstrap_may_come_from_a_layer(backend, tmp_path):
    layer = tree(tmp_path, {"bootstrap": BOOTSTRAP, "a.txt": "x"})
    code = tree(tmp_path, {"data": ""})
    shell = launch(tmp_path, code=code, runtime="provided.al2023", layers=(layer,))
    async with backend.boot(shell, lambda _: None) as vm:
        assert (await answered(vm, n=1))["opt"] == "x"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other": ""}, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ({"bootstrap": "echo"}, "fork/exec /var/task/bootstrap: permission denied"),
        ({"bootstrap": "#!/no/such/shell"}, "fork/exec /var/task/bootstrap: no such file"),
    ],
)
async def test_a_bootstrap_that_cannot_start_is_told_as_lambda_does(
    backend, tmp_path, files, message
):
    shell = launch(tmp_path, code=tree(tmp_path, files), runtime="provided.al2023")
    with pytest.raises(InitFailed) as caught:
        async with backend.boot(shell, lambda _: None):
            pass
    assert caught.value.error_type == "Runtime.InvalidEntrypoint"
    assert message in caught.value.message


LAYERED = """
import os, only, both, shared

def handler(event, context):
    return {"only": only.NAME, "both": both.NAME, "shared": shared.NAME,
            "tool": os.popen("tool").read().strip(), "opt": sorted(os.listdir("/opt"))}
"""


async def test_layers_are_merged_in_order_and_later_ones_win(backend, tmp_path):
    first = tree(
        tmp_path,
        {
            "python/only.py": "NAME = 'first'",
            "python/both.py": "NAME = 'first'",
            "bin/tool": "#!/bin/sh\necho first",
        },
    )
    second = tree(
        tmp_path,
        {
            "python/both.py": "NAME = 'second'",
            "python/lib/python3.11/site-packages/shared.py": "NAME = 'site'",
            "bin/tool": "#!/bin/sh\necho second",
            "data.txt": "x",
        },
    )
    layered = launch(tmp_path, LAYERED, layers=(first, second))
    async with backend.boot(layered, lambda _: None) as vm:
        assert await answered(vm) == {
            "only": "first",
            "both": "second",
            "shared": "site",
            "tool": "second",
            "opt": ["bin", "data.txt", "python"],
        }


WRAPPER = """#!/bin/sh
export WRAPPED=yes
echo "wrapping $(basename $1)"
exec "$@"
"""


async def test_a_wrapper_script_starts_the_runtime(backend, tmp_path):
    source = "import os\ndef handler(e, c): return os.environ.get('WRAPPED')"
    wrapped = launch(
        tmp_path,
        source,
        layers=(tree(tmp_path, {"wrap": WRAPPER}),),
        environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"},
    )
    lines = Lines()
    async with backend.boot(wrapped, lines) as vm:
        assert await answered(vm) == "yes"
    assert lines.seen[0].startswith("wrapping python3")


async def test_a_wrapper_that_is_not_there_is_said_in_the_log(backend, tmp_path):
    missing = launch(
        tmp_path, "def handler(e, c): pass", environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/no"}
    )
    lines = Lines()
    with pytest.raises((InitFailed, Crashed)):
        async with backend.boot(missing, lines):
            pass
    assert lines.seen == ["/opt/no: does not exist"]


FILL = """
import os

def handler(event, context):
    with open("/tmp/fill", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 20))
        except OSError as error:
            return {"error": error.errno, "mib": os.path.getsize("/tmp/fill") >> 20}
"""


async def test_tmp_has_the_size_that_was_asked_for(backend, tmp_path):
    sized = launch(tmp_path, FILL, tmp_mib=600, memory_mib=1024)
    async with backend.boot(sized, lambda _: None) as vm:
        seen = await answered(vm)
    assert seen["error"] == errno.ENOSPC
    assert 600 <= seen["mib"] < 640


NODE = """
export const handler = async (event, context) => ({
  event, node: process.version, id: context.awsRequestId, memory: context.memoryLimitInMB,
});
"""
COMMON = """
const { name } = require('lib');
exports.handler = async (event) => { console.log('handling'); return name; };
"""
STREAM = """
export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  stream = awslambda.HttpResponseStream.from(stream, {statusCode: 201, headers: {'x-a': 'b'}});
  for (let i = 0; i < 5; i++) stream.write(`piece ${i};`);
  stream.end();
});
"""
BROKEN_STREAM = """
export const handler = awslambda.streamifyResponse(async (event, stream) => {
  stream.write('half');
  await new Promise((done) => setTimeout(done, 100));
  throw new TypeError('gave up');
});
"""


@pytest.fixture(scope="session")
def node() -> str:
    """Node's runtime, which takes a minute to make where the cache does not have it."""
    try:
        runtime_root("nodejs22.x", machine_cache())
    except StartError as error:
        skip(str(error))
    return "nodejs22.x"


def in_node(folder: Path, runtime: str, files: dict[str, str], **fields):
    return launch(
        folder, code=tree(folder, files), runtime=runtime, handler="index.handler", **fields
    )


@pytest.mark.timeout(300)
async def test_an_es_module_runs_in_node_through_the_published_client(backend, node, tmp_path):
    lines = Lines()
    async with backend.boot(in_node(tmp_path, node, {"index.mjs": NODE}), lines) as vm:
        seen = await answered(vm, text="grüße")
        assert seen["event"] == {"text": "grüße"}
        assert seen["node"].startswith("v22.")
        assert (await vm.invoke(call())).used_mib > 10


@pytest.mark.timeout(300)
async def test_a_commonjs_handler_finds_modules_of_layers(backend, node, tmp_path):
    layer = tree(tmp_path, {"nodejs/node_modules/lib/index.js": "exports.name = 'layer';"})
    lines = Lines()
    common = in_node(tmp_path, node, {"index.js": COMMON}, layers=(layer,))
    async with backend.boot(common, lines) as vm:
        assert await answered(vm) == "layer"
    assert any("handling" in line for line in lines.seen)


@pytest.mark.timeout(300)
async def test_a_node_handler_that_throws_is_an_error(backend, node, tmp_path):
    source = "exports.handler = async () => { throw new RangeError('no such shelf'); };"
    async with backend.boot(in_node(tmp_path, node, {"index.js": source}), lambda _: None) as vm:
        answer = await vm.invoke(call())
        assert answer.error
        assert json.loads(answer.payload)["errorMessage"] == "no such shelf"
        assert json.loads(answer.payload)["errorType"] == "RangeError"


async def test_a_node_module_that_does_not_load_is_an_init_error(backend, node, tmp_path):
    with pytest.raises(InitFailed) as caught:
        async with backend.boot(in_node(tmp_path, node, {"index.mjs": "syntax("}), lambda _: None):
            pass
    assert caught.value.error_type == "Runtime.UserCodeSyntaxError"


async def test_a_streaming_handler_in_node_streams(backend, node, tmp_path):
    async with backend.boot(in_node(tmp_path, node, {"index.mjs": STREAM}), lambda _: None) as vm:
        taken = Pieces()
        answer = await vm.invoke(call(), taken)
        assert (answer.error, answer.payload) == (None, b"")
        assert taken.content_type == "application/vnd.awslambda.http-integration-response"
        prelude, _, body = b"".join(taken.pieces).partition(bytes(8))
        assert json.loads(prelude) == {"statusCode": 201, "headers": {"x-a": "b"}}
        assert body == b"piece 0;piece 1;piece 2;piece 3;piece 4;"
        whole = await vm.invoke(call())
        assert whole.payload.endswith(b"piece 4;")


async def test_a_stream_that_breaks_off_says_why(backend, node, tmp_path):
    broken = in_node(tmp_path, node, {"index.mjs": BROKEN_STREAM})
    async with backend.boot(broken, lambda _: None) as vm:
        taken = Pieces()
        answer = await vm.invoke(call(), taken)
        assert b"".join(taken.pieces) == b"half"
        assert "TypeError" in answer.error
        assert json.loads(answer.payload)["errorMessage"] == "gave up"


def test_a_node_that_is_not_offered_is_refused(tmp_path):
    with pytest.raises(StartError, match=r"expected one of nodejs22\.x, nodejs24.x"):
        runtime_root("nodejs12.x", tmp_path)


def test_without_npm_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartError, match=r"npm, cmake.*apt-get install npm"):
        runtime_root("nodejs22.x", tmp_path)


IN_IMAGE = """#!/bin/sh
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
  wget -Y off -q -O /tmp/event -S "$api/next" 2>/tmp/headers
  id=$(grep -i request-id /tmp/headers | tr -d ' \\r' | cut -d: -f2)
  printf '{"flavour": "%s", "pwd": "%s", "args": "%s", "root": "%s", "dev": "%s", "self": "%s"}' \\
    "$FLAVOUR" "$PWD" "$*" "$(ls / | tr '\\n' ' ')" "$(test -c /dev/null && echo null)" \\
    "$(test -d /proc/self && echo proc)" >/tmp/answer
  wget -Y off -q -O /dev/null --post-file /tmp/answer "$api/$id/response"
done
"""


@pytest.fixture
def image(tmp_path) -> Path:
    """A tiny container image of another distribution's kind: busybox and nothing else."""
    busybox = shutil.which("busybox") or program("bin/busybox", ["busybox-static"]).path
    root = tmp_path / "image"
    for name in ("bin", "app", "etc", "usr/bin"):
        (root / name).mkdir(parents=True)
    shutil.copyfile(busybox, root / "usr/bin/busybox")
    (root / "usr/bin/busybox").chmod(0o755)
    for name in ("sh", "ls", "tr", "wget", "grep", "cut", "printf", "test", "cat", "env"):
        (root / "bin" / name).symlink_to("../usr/bin/busybox")
    (root / "app/start").write_text(IN_IMAGE)
    (root / "app/start").chmod(0o755)
    (root / "sbin").symlink_to("bin")
    return root


def boxed(folder: Path, image: Path, **fields):
    container = Container(
        **{
            "root": image,
            "command": ("/app/start", "one", "two"),
            "environment": {"FLAVOUR": "plain", "PATH": "/bin"},
            "working_directory": "/app",
        }
        | fields
    )
    return launch(folder, runtime="", handler="", container=container, environment={})


async def test_a_container_runs_in_its_own_root(backend, image, tmp_path):
    async with backend.boot(boxed(tmp_path, image), lambda _: None) as vm:
        seen = await answered(vm)
        assert (seen["flavour"], seen["pwd"], seen["args"]) == ("plain", "/app", "one two")
        assert {"app", "bin", "sbin", "proc", "tmp", "dev"} <= set(seen["root"].split())
        assert {"root", "home", "work"}.isdisjoint(seen["root"].split())
        assert (seen["dev"], seen["self"]) == ("null", "proc")


@pytest.mark.parametrize(
    ("fields", "error_type"),
    [
        ({"command": ("/no/such",)}, "Runtime.InvalidEntrypoint"),
        ({"working_directory": "/no/such"}, "Runtime.InvalidWorkingDir"),
    ],
)
async def test_a_container_that_cannot_start_says_why(backend, image, tmp_path, fields, error_type):
    with pytest.raises(InitFailed) as caught:
        async with backend.boot(boxed(tmp_path, image, **fields), lambda _: None):
            pass
    assert caught.value.error_type == error_type
