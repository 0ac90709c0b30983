"""The functions service with a listener for function URLs, and boto3 pointed at it."""

import asyncio
import io
import json
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
from wherry.clock import SystemClock
from wherry.store.memory import MemoryStore

ROLE = "arn:aws:iam::000000000000:role/any"
EXAMPLE = Path(__file__).parents[2] / "examples" / "streaming"
KEYS = {"aws_access_key_id": "AKIDANN", "aws_secret_access_key": "hers"}
FILE = "[ann]\naws_access_key_id = AKIDANN\naws_secret_access_key = hers\n"


def zipped(files):
    """Return a package; what is called ``bootstrap`` may be executed."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, source in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o755 if name == "bootstrap" else 0o644) << 16
            archive.writestr(info, source)
    return sink.getvalue()


class House:
    """The running service.

    Attributes:
        faas: What `faas.app.running` yields.
        client: boto3's for Lambda.
        doors: Where function URLs are served.
    """

    def __init__(self, faas, client):
        self.faas, self.client, self.doors = faas, client, faas.urls

    async def do(self, operation, **arguments):
        return await asyncio.to_thread(getattr(self.client, operation), **arguments)

    async def made(self, name, files, **settings):
        """Create a function of these files and wait until it is active."""
        if isinstance(files, str):
            files = {"app.py": files}
        given = {
            "FunctionName": name,
            "Role": ROLE,
            "Runtime": "python3.11",
            "Handler": "app.handler",
            "Code": {"ZipFile": zipped(files)},
        }
        created = await self.do("create_function", **given | settings)
        waiter = self.client.get_waiter("function_active_v2")
        delay = {"Delay": 0.1, "MaxAttempts": 300}
        await asyncio.to_thread(waiter.wait, FunctionName=name, WaiterConfig=delay)
        return created

    async def streaming(self, name, source=None, **settings):
        """Create a function that runs on the example's runtime."""
        files = {
            "bootstrap": (EXAMPLE / "bootstrap").read_text(),
            "app.py": source or (EXAMPLE / "app.py").read_text(),
        }
        return await self.made(name, files, Runtime="provided.al2023", **settings)

    async def door(self, name, *, auth="NONE", public=True, **settings):
        """Give a function a URL and return it, as it is served here."""
        made = await self.do(
            "create_function_url_config", FunctionName=name, AuthType=auth, **settings
        )
        if public and auth == "NONE":
            qualifier = {k: v for k, v in settings.items() if k == "Qualifier"}
            await self.do(
                "add_permission",
                FunctionName=name,
                StatementId="public",
                Action="lambda:InvokeFunctionUrl",
                Principal="*",
                FunctionUrlAuthType="NONE",
                **qualifier,
            )
        return made["FunctionUrl"].rstrip("/")

    async def events(self, name, event=None, **arguments):
        """Return the pieces and the last event of a streamed invocation."""

        def collect():
            answer = self.client.invoke_with_response_stream(
                FunctionName=name, Payload=json.dumps(event).encode(), **arguments
            )
            return answer, list(answer["EventStream"])

        answer, events = await asyncio.to_thread(collect)
        pieces = [each["PayloadChunk"]["Payload"] for each in events[:-1]]
        return pieces, events[-1]["InvokeComplete"], answer

    async def refused(self, operation, **arguments):
        with pytest.raises(ClientError) as refused:
            await self.do(operation, **arguments)
        said = refused.value.response
        return said["Error"]["Code"], said["ResponseMetadata"]["HTTPStatusCode"], said


@asynccontextmanager
async def opened(tmp_path, *, credentials=None, kind="process", **settings):
    """Run the service with process sandboxes."""
    given = {"code_dir": tmp_path / "code", "run_dir": tmp_path / "run", "drain": 5.0}
    if credentials is not None:
        given["credentials"] = tmp_path / "credentials"
        given["credentials"].write_text(credentials)
    with tempfile.TemporaryDirectory(prefix="wherry-") as run:
        async with (
            chosen(kind, cache=tmp_path / "cache", run=Path(run)) as backend,
            running(Settings(**given | settings), MemoryStore(), backend, SystemClock()) as faas,
        ):
            session = boto3.Session(**KEYS, region_name="us-east-1")
            config = Config(retries={"total_max_attempts": 1}, max_pool_connections=50)
            client = session.client("lambda", endpoint_url=faas.address.url, config=config)
            try:
                yield House(faas, client)
            finally:
                client.close()
