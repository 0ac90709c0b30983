"""A running Lambda API on real sandboxes, and boto3 pointed at it."""

import asyncio
import base64
import io
import json
import os
import tempfile
import zipfile
from contextlib import asynccontextmanager
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from faas.app import Settings, running
from faas.backends import chosen
from wherry.cli.settings import cache_folder
from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore

SESSION = boto3.Session("wherry", "wherry", region_name="us-east-1")
ROLE = "arn:aws:iam::000000000000:role/any"
ECHO = "def handler(event, context):\n    print('got', event)\n    return event\n"


def zipped(files):
    """Return a package of files by name, or of one text as ``app.py``.

    What is called ``bootstrap`` may be executed.
    """
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, source in ({"app.py": files} if isinstance(files, str) else files).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o755 if name == "bootstrap" else 0o644) << 16
            archive.writestr(info, source)
    return sink.getvalue()


class Api:
    """A running service, and boto3 pointed at it."""

    def __init__(self, faas, client):
        self.faas = faas
        self.client = client
        self.url = faas.address.url

    async def do(self, operation, **arguments):
        return await asyncio.to_thread(getattr(self.client, operation), **arguments)

    async def made(self, name, files, **settings):
        """Create a function of these files, see `zipped`, and wait until it is active."""
        given = {
            "FunctionName": name,
            "Role": ROLE,
            "Runtime": "python3.11",
            "Handler": "app.handler",
            "Code": {"ZipFile": zipped(files)},
        }
        created = await self.do("create_function", **given | settings)
        await self.active(name)
        return created

    async def active(self, name):
        waiter = self.client.get_waiter("function_active_v2")
        await asyncio.to_thread(
            waiter.wait, FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}
        )

    async def updated(self, name):
        waiter = self.client.get_waiter("function_updated_v2")
        await asyncio.to_thread(
            waiter.wait, FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 300}
        )

    async def call(self, name, event=None, **arguments):
        """Return the parsed payload, the function error and the whole answer."""
        answer = await self.do(
            "invoke", FunctionName=name, Payload=json.dumps(event).encode(), **arguments
        )
        return json.loads(answer["Payload"].read()), answer.get("FunctionError"), answer

    async def refused(self, operation, **arguments):
        with pytest.raises(ClientError) as refused:
            await self.do(operation, **arguments)
        said = refused.value.response
        return said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"], said


@asynccontextmanager
async def served(tmp_path, kind="process", *, store=None, session=SESSION, api=Api, **settings):
    """Enter with a running service; on exit nothing of it runs any more.

    Args:
        tmp_path: For its code, its logs and its cache.
        kind: Which backend.
        store: Where it keeps what is no file; None: a new one.
        session: Whose keys sign.
        api: What is made of the service and its client.
        settings: See `faas.app.Settings`.
    """
    cache = cache_folder() if kind == "qemu" else tmp_path / "cache"
    given = {"code_dir": tmp_path / "code", "run_dir": tmp_path / "run", "drain": 5.0}
    store = store or MemoryStore()
    with tempfile.TemporaryDirectory(prefix="wherry-") as run:
        async with (
            chosen(kind, cache=cache, run=Path(run)) as backend,
            running(Settings(**given | settings), store, backend, SystemClock()) as faas,
        ):
            config = Config(retries={"total_max_attempts": 1}, max_pool_connections=50)
            client = session.client("lambda", endpoint_url=faas.address.url, config=config)
            try:
                yield api(faas, client)
            finally:
                client.close()
    assert descendants(os.getpid()) == set()


def descendants(pid):
    """Return every live process below ``pid``."""
    found, pending = set(), [pid]
    while pending:
        for task in Path(f"/proc/{pending.pop()}/task").glob("*/children"):
            children = set(map(int, task.read_text().split()))
            pending += children
            found |= children
    return found


def start(answer):
    return answer["ResponseMetadata"]["HTTPHeaders"]["x-wherry-start"]


def tail(answer):
    return base64.b64decode(answer["LogResult"]).decode()


async def until(condition):
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited for 20 seconds in vain")
