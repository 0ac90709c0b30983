"""``wherry fn``, ``layer`` and ``image`` against a Wherry that serves the Lambda API."""

import asyncio
import json
import shutil
import signal
import sys
import urllib.request
import zipfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.debian import program
from support.images import Layout, copied, registry
from typer.testing import CliRunner

from faas.app import Settings, running
from faas.backends import chosen
from faas.functions.declared import Declared
from faas.image.layout import laid_out
from faas.image.root import PACKAGES
from wherry.cli.commands import app as commands
from wherry.cli.functions import client
from wherry.cli.settings import cache_folder as cache_of_this_machine
from wherry.cli.state import write_addresses
from wherry.clock import SystemClock
from wherry.model.function import Function
from wherry.store.memory import MemoryStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("WHERRY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("WHERRY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@asynccontextmanager
async def served(place, store=None):
    settings = Settings(code_dir=place / "code", run_dir=place / "run", drain=5.0)
    async with (
        chosen("process", cache=place / "cache", run=place / "sandboxes") as backend,
        running(settings, store or MemoryStore(), backend, SystemClock()) as faas,
    ):
        write_addresses(place / "state", {"lambda": str(faas.address)})
        yield faas


class Wherry:
    """The command line."""

    async def __call__(self, *words, status=0):
        done = await asyncio.to_thread(CliRunner().invoke, commands, list(map(str, words)))
        assert done.exit_code == status, f"{words}: {done.output} {done.exception!r}"
        return done.output

    async def invoke(self, name, event="{}", *more):
        return json.loads((await self("fn", "invoke", name, event, *more)).splitlines()[-1])


wherry = Wherry()


def wheel(folder, name, files):
    """Write a wheel by hand; return how a requirements.txt asks for it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    written = {
        **files,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in written.items():
            archive.writestr(each, text)
    return f"{name} @ {path.as_uri()}\n"


async def test_a_function_is_begun_deployed_changed_and_put_back(place):
    async with served(place):
        assert "app.py" in await wherry("fn", "init", "hello")
        assert "expected a new one" in await wherry("fn", "init", "hello", status=1)
        said = await wherry("fn", "deploy", "hello")
        assert "python3.11, handler app.handler (from app.py)" in said
        assert "hello created: Active, version 1" in said
        assert await wherry.invoke("hello", '{"name": "A"}') == {"message": "Hello, A!"}
        assert "hello unchanged: Active, version 1" in await wherry("fn", "deploy", "hello")

        source = place / "hello/app.py"
        first = source.read_text()
        source.write_text(first.replace("Hello", "Goodbye"))
        said = await wherry("fn", "deploy", "hello", "--memory", "256", "--env", "AB=1")
        assert "hello updated: Active, version 2" in said
        assert await wherry.invoke("hello") == {"message": "Goodbye, you!"}
        old = await wherry.invoke("hello", "{}", "--qualifier", "1")
        assert old == {"message": "Hello, you!"}

        said = await wherry("fn", "rollback", "hello")
        assert "hello: version 1 is back" in said
        assert "code: replaced" in said
        assert "MemorySize: 256 -> 128" in said
        assert "version 3" in said
        assert await wherry.invoke("hello") == {"message": "Hello, you!"}
        listed = await wherry("fn", "ls", "hello", "--json")
        found = [json.loads(line) for line in listed.splitlines()]
        assert [(each["Version"], each["MemorySize"]) for each in found] == [
            *(("1", 128), ("2", 256), ("3", 128)),
        ]
        assert "1, 2, 3" in await wherry("fn", "ls")
        assert "Function not found" in await wherry("fn", "rollback", "hello", "9", status=1)
        logged = await wherry("fn", "logs", "hello")
        assert "greeting A" in logged
        assert "deleted" in await wherry("fn", "delete", "hello")
        assert "Function not found" in await wherry("fn", "invoke", "hello", status=1)


async def test_requirements_become_a_layer_that_functions_share(place):
    asked = wheel(place / "wheels", "tiny", {"tiny.py": "WORD = 'tiny'\n"})
    for name in ("one", "two"):
        (place / name).mkdir()
        (place / name / "requirements.txt").write_text(asked)
        (place / name / "lambda_function.py").write_text(
            "import tiny\n\ndef lambda_handler(event, context):\n    return [tiny.WORD]\n"
        )
    async with served(place):
        said = await wherry("fn", "deploy", "one")
        assert "tiny-1.0-py3-none-any.whl" in said
        assert "published layer requirements-" in said
        assert await wherry.invoke("one") == ["tiny"]
        said = await wherry("fn", "deploy", "two")
        assert "unchanged layer requirements-" in said
        assert "installing" not in said
        assert await wherry.invoke("two") == ["tiny"]
        assert len((await wherry("layer", "ls", "--json")).splitlines()) == 1
        assert "unchanged" in await wherry("fn", "deploy", "two")

        more = wheel(place / "wheels", "more", {"more.py": ""})
        (place / "two/requirements.txt").write_text(asked + more)
        said = await wherry("fn", "deploy", "two")
        assert "two updated: Active, version 2" in said
        assert len((await wherry("layer", "ls", "--json")).splitlines()) == 2
        said = await wherry("fn", "rollback", "two")
        assert "Layers: [" in said
        (place / "two/requirements.txt").write_text(
            "tiny @ file:///nowhere/tiny-1.0-py3-none-any.whl"
        )
        said = await wherry("fn", "deploy", "two", status=1)
        assert "pip said ERROR" in said
        assert await wherry.invoke("two") == ["tiny"]


async def test_layers_are_published_once_for_each_content(place):
    (place / "words/python").mkdir(parents=True)
    (place / "words/python/words.py").write_text("WORD = 'one'\n")
    (place / "f").mkdir()
    (place / "f/app.py").write_text("import words\n\ndef handler(e, c):\n    return words.WORD\n")
    async with served(place):
        said = await wherry("layer", "publish", "words", "--name", "words")
        assert "words published" in said
        first = said.splitlines()[-1]
        assert "words unchanged" in await wherry("layer", "publish", "words", "--name", "words")
        await wherry("fn", "deploy", "f", "--layer", first)
        assert await wherry.invoke("f") == "one"
        (place / "words/python/words.py").write_text("WORD = 'two'\n")
        second = (await wherry("layer", "publish", "words", "--name", "words")).splitlines()[-1]
        assert await wherry.invoke("f") == "one"
        await wherry("fn", "deploy", "f", "--layer", second)
        assert await wherry.invoke("f") == "two"
        await wherry("layer", "delete", "words", "1")
        listed = (await wherry("layer", "ls", "words", "--json")).splitlines()
        assert [json.loads(line)["Version"] for line in listed] == [2]
        await wherry("fn", "deploy", "f")
        assert await wherry.invoke("f") == "two"
        said = await wherry("fn", "deploy", "f", "--layer", first, status=1)
        assert "InvalidParameterValueException" in said
        assert "expected a folder or a zip" in await wherry(
            "layer", "publish", "nowhere", "--name", "n", status=1
        )


LIBRARY = "usr/local/lib/python3.11/site-packages"


@pytest.fixture
def image(place):
    """An image as people build them from python:3.11-slim, in seven layers."""
    made = Layout(place / "image")
    made.layer(
        {"etc/os-release": "ID=debian\n", "usr/bin/ls": "\x7fELF", "usr/lib/libx.so.1": "x"},
        programs=("usr/bin/ls",),
        said="/bin/sh -c #(nop) ADD file:1 in / ",
    )
    made.layer(
        {
            "usr/local/bin/python3.11": "\x7fELF",
            "usr/local/lib/python3.11/os.py": "",
            f"{LIBRARY}/pip/__init__.py": "",
            f"{LIBRARY}/setuptools/__init__.py": "",
        },
        programs=("usr/local/bin/python3.11",),
        said="/bin/sh -c make install",
    )
    made.layer(
        {
            f"{LIBRARY}/words.py": "WORD = 'from the image'\n",
            f"{LIBRARY}/gone.py": "",
            f"{LIBRARY}/awslambdaric/__init__.py": "",
            f"{LIBRARY}/__pycache__/words.cpython-311.pyc": "x",
        },
        said="/bin/sh -c pip install words awslambdaric",
    )
    made.layer({f"{LIBRARY}/gone.py": None}, said="/bin/sh -c pip uninstall gone")
    made.layer(
        {"opt/data/list.txt": "a b c\n", "usr/local/bin/say": "#!/bin/sh\necho said by $0\n"},
        programs=("usr/local/bin/say",),
        said="COPY data /opt/data",
    )
    made.layer({"etc/motd": "hello\n"}, said="RUN echo hello > /etc/motd")
    made.layer({"function/app.py": HANDLER}, said="COPY app.py /function")
    made.config(
        *("--config.entrypoint", "/usr/local/bin/python", "--config.entrypoint", "-m"),
        *("--config.entrypoint", "awslambdaric", "--config.cmd", "app.handler"),
        *("--config.workingdir", "/function", "--config.env", "STAGE=test"),
        *("--config.env", "PYTHON_VERSION=3.11.9", "--config.env", "PATH=/usr/local/bin"),
    )
    return made


HANDLER = """import os, subprocess, words

def handler(event, context):
    data = open("/opt/data/list.txt").read()
    said = subprocess.run(["say"], capture_output=True, text=True).stdout
    return [words.WORD, data, said, os.environ["STAGE"]]
"""


async def test_an_image_becomes_layers_and_a_function(place, image):
    async with served(place):
        said = await wherry("image", "layers", image.path, "--name", "ported", "--deploy")
        rows = [line for line in said.splitlines() if line[:4].strip().isdigit()]
        assert len(rows) == 7
        assert "no relevant files" in rows[0]
        assert "3 operating system" in rows[0]
        assert "no relevant files" in rows[1]
        assert "python: 1 " in rows[2]
        assert "no relevant files" in rows[3]
        assert "removes 1" in rows[3]
        assert "opt: 1 " in rows[4]
        assert "bin: 1 " in rows[4]
        assert "no relevant files" in rows[5]
        assert "code: 1 " in rows[6]
        assert "function: python3.11, handler app.handler" in said
        assert "environment: STAGE\n" in said
        assert "environment left out: PATH, PYTHON_VERSION" in said
        assert "ported created: Active, version 1" in said
        assert await wherry.invoke("ported") == [
            *("from the image", "a b c\n", "said by /opt/bin/say\n", "test"),
        ]

        image.layer({"function/extra.py": "x = 1\n", "opt/data/more.txt": "d\n"}, said="COPY more")
        said = await wherry("image", "layers", image.path, "--name", "ported", "--deploy")
        assert [line for line in said.splitlines() if line.startswith(("published", "unch"))] == [
            *(line for line in said.splitlines() if line.startswith("unchanged image-")),
            *(line for line in said.splitlines() if line.startswith("published image-")),
        ]
        assert said.count("unchanged image-") == 2
        assert said.count("published image-") == 1
        assert "ported updated: Active, version 2" in said


async def test_an_image_that_cannot_be_a_function_says_why(place, image):
    async with served(place):
        said = await wherry("image", "layers", image.path, "--deploy", "--handler", "b.c", status=1)
        assert "handler b.c: no b.py among the function's files" in said
        image.config("--clear", "config.entrypoint", "--clear", "config.cmd")
        said = await wherry("image", "layers", image.path, "--deploy", status=1)
        assert "expected a command that runs Python or Node" in said
        image.layer({f"{LIBRARY}/fast.cpython-312-x86_64-linux-gnu.so": "x"})
        given = ("--runtime", "python3.11", "--handler", "app.handler")
        said = await wherry("image", "layers", image.path, "--deploy", *given, status=1)
        assert "compiled for Python 3.12, expected 3.11" in said
        said = await wherry("image", "layers", "nowhere/image:1", status=1)
        assert "nowhere" in said
        assert "expected" in said


async def test_more_image_layers_than_a_function_may_have_are_joined(place):
    made = Layout(place / "many")
    for number in range(7):
        made.layer({f"opt/{number}": str(number) * 10 ** (number % 3)})
    copied(f"oci:{made.name}", f"docker-archive:{place}/many.tar:many:v1")
    async with served(place):
        said = await wherry("image", "layers", place / "many.tar")
        assert "5 layers" in said
        assert len([line for line in said.splitlines() if line.startswith("arn:")]) == 5
        said = await wherry("image", "layers", place / "many.tar", "--without", "opt")
        assert "0 layers" in said


async def test_what_a_configuration_declares_is_had_and_what_it_no_more_declares_goes(place):
    (place / "f").mkdir()
    (place / "f/app.py").write_text("import words\n\ndef handler(e, c):\n    return words.WORD\n")
    (place / "words/python").mkdir(parents=True)
    (place / "words/python/words.py").write_text("WORD = 'one'\n")
    spec = {
        "code": "f",
        "handler": "app.handler",
        "layers": ["words"],
        "tmpMib": 600,
        "reservedConcurrency": 3,
        "provisionedConcurrency": 1,
        "url": {"auth": "NONE", "cors": {"allowOrigins": ["*"], "maxAge": "1m"}},
        "delivery": {"retries": 1, "maxAge": "2m"},
    }
    async with served(place) as faas:
        written = function(spec)
        first = await faas.deploy_directory(Declared.of(written, place))
        assert (first.tmp_mib, len(first.layers)) == (600, 1)
        assert await wherry.invoke("f") == "one"
        api = client(None).api
        about = await asyncio.to_thread(api.get, "/2015-03-31/functions/f")
        assert about["Concurrency"] == {"ReservedConcurrentExecutions": 3}
        url = await asyncio.to_thread(api.get, "/2021-10-31/functions/f/url")
        assert (url["AuthType"], url["Cors"]["AllowOrigins"]) == ("NONE", ["*"])
        assert await asyncio.to_thread(fetched, url["FunctionUrl"]) == b'"one"'
        kept = await asyncio.to_thread(api.get, "/2019-09-25/functions/f/event-invoke-config")
        assert (kept["MaximumRetryAttempts"], kept["MaximumEventAgeInSeconds"]) == (1, 120)
        assert faas.functions.provisioned("f", "$LATEST")[1] == 1
        again = await faas.deploy_directory(Declared.of(written, place))
        assert (again.digest, again.modified) == (first.digest, first.modified)
        assert faas.functions.provisioned("f", "$LATEST")[1] == 1

        (place / "words/python/words.py").write_text("WORD = 'two'\n")
        plain = function({"code": "f", "handler": "app.handler", "layers": ["words"]})
        await faas.deploy_directory(Declared.of(plain, place))
        assert await wherry.invoke("f") == "two"
        about = await asyncio.to_thread(api.get, "/2015-03-31/functions/f")
        assert "Concurrency" not in about
        assert faas.functions.provisioned("f", "$LATEST") == (0, 0)
        for gone in (
            "/2021-10-31/functions/f/url",
            "/2019-09-25/functions/f/event-invoke-config",
            "/2015-03-31/functions/f/policy",
        ):
            assert await asyncio.to_thread(api.found, gone) is None


def fetched(url):
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 (our own port)
        return answer.read()


def function(spec):
    document = {"apiVersion": "wherry.dev/v1", "kind": "Function", "metadata": {"name": "f"}}
    return Function.model_validate({**document, "spec": spec})


async def test_the_example_becomes_layers_and_its_layers_stay_when_only_the_code_changes(place):
    example = place / "example"
    shutil.copytree(ROOT / "examples/image-layers", example)

    async def build():
        command = (sys.executable, str(example / "build.py"), str(place / "greeter"))
        async with asyncio.timeout(30):
            process = await asyncio.create_subprocess_exec(*command)
            assert await process.wait() == 0

    await build()
    async with served(place):
        said = await wherry("image", "layers", "greeter", "--deploy")
        assert said.count("no relevant files") == 3
        assert said.count("published image-") == 3
        assert "environment: GREETING\n" in said
        answer = await wherry.invoke("greeter", '{"language": "de"}')
        assert answer == {"said": "Guten Morgen!", "language": "Deutsch"}
        code = example / "image/function/app.py"
        code.write_text(code.read_text().replace('"said"', '"heard"'))
        await build()
        said = await wherry("image", "layers", "greeter", "--deploy")
        assert said.count("unchanged image-") == 3
        assert "greeter updated: Active, version 2" in said
        assert (await wherry.invoke("greeter"))["heard"] == "Good morning!"


@pytest.fixture
def runnable(place):
    """An image with Debian's Python, awslambdaric and a handler: it needs nothing of a guest's."""
    root = place / "debian"
    unpacked = program("usr/bin/python3.11", PACKAGES).path.parents[2]
    shutil.copytree(unpacked, root, symlinks=True)
    (root / "lib64").mkdir(exist_ok=True)
    runtime = laid_out(cache_of_this_machine()) / "runtime"
    shutil.copytree(runtime, root / "function", dirs_exist_ok=True)
    made = Layout(place / "runnable")
    made.folder(root)
    made.layer({"function/app.py": CONTAINER})
    made.config(
        *("--config.entrypoint", "/usr/bin/python3.11", "--config.entrypoint", "-m"),
        *("--config.entrypoint", "awslambdaric", "--config.cmd", "app.handler"),
        *("--config.workingdir", "/function", "--config.env", "STAGE=image"),
    )
    return made


CONTAINER = """import os

def handler(event, context):
    here = os.getcwd(), os.environ["STAGE"], os.path.exists("/usr/share/doc/zlib1g")
    return {"event": event, "here": here}
"""


async def test_a_container_image_runs_as_it_is_and_can_be_put_back(place, runnable):
    async with served(place), registry(place / "registry") as address:
        copied(f"oci:{runnable.name}", f"docker://{address}/team/app:v1")
        image = f"{address}/team/app:v1"
        said = await wherry("fn", "deploy", "--image", image, "--name", "boxed", "--timeout", "20")
        assert "boxed created: Active, version 1" in said
        answer = await wherry.invoke("boxed", '{"a": 1}')
        assert answer == {"event": {"a": 1}, "here": ["/function", "image", True]}
        said = await wherry("fn", "deploy", "--image", image, "--name", "boxed")
        assert "boxed unchanged: Active, version 1" in said

        runnable.layer({"function/app.py": "def handler(e, c):\n    return 'two'\n"})
        copied(f"oci:{runnable.name}", f"docker://{address}/team/app:v1")
        said = await wherry("fn", "deploy", "--image", image, "--name", "boxed")
        assert "boxed updated: Active, version 2" in said
        assert await wherry.invoke("boxed") == "two"
        said = await wherry("fn", "rollback", "boxed")
        assert "boxed: version 1 is back" in said
        assert (await wherry.invoke("boxed", "[]"))["event"] == []
        said = await wherry("fn", "deploy", "--image", f"{address}/no:v1", "--name", "no", status=1)
        assert "there is no such image" in said


async def test_logs_are_followed_over_a_restart(place):
    store = MemoryStore()
    (place / "f").mkdir()
    (place / "f/app.py").write_text("def handler(event, c):\n    print('said', event)\n")
    async with served(place, store):
        await wherry("fn", "deploy", "f")
        await wherry("fn", "invoke", "f", '"one"')
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from wherry.cli import main; main()", "fn", "logs", "f", "-f"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        lines = []

        async def until(text):
            async with asyncio.timeout(20):
                while text not in (line := await process.stdout.readline()).decode():
                    assert line, await process.stderr.read()
                    lines.append(line.decode())
                lines.append(line.decode())

        try:
            await until("said one")
        except BaseException:
            process.kill()
            raise
    try:
        async with asyncio.timeout(20):
            assert b"waiting for" in await process.stderr.readline()
        async with served(place, store):
            await wherry("fn", "invoke", "f", '"two"')
            await until("said two")
            await wherry("fn", "invoke", "f", '"three"')
            await until("said three")
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = [line.split(" ", 1)[1].strip() for line in lines if "said" in line]
    assert said == ["said one", "said two", "said three"]


async def test_a_runtime_of_ones_own_is_begun_and_deployed(place):
    async with served(place):
        assert "bootstrap" in await wherry("fn", "init", "own", "--runtime", "provided")
        said = await wherry("fn", "deploy", "own")
        assert "provided.al2023, handler bootstrap (from bootstrap)" in said
        assert await wherry.invoke("own", '{"name": "world"}') == {"name": "world"}
        said = await wherry("fn", "init", "x", "--runtime", "cobol", status=1)
        assert "expected python3.11" in said
