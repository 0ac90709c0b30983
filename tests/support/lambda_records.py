"""The operations that are about records over HTTP, with boto3 in front and nothing that runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiohttp import web
from botocore.config import Config
from botocore.exceptions import ClientError

from faas.api.server import Signatures, application
from faas.code.origin import Code
from faas.functions.registry import Registry
from faas.operations.records import record_operations
from faas.place import Place
from faas.queues.attributes import PREFIX, Queue
from faas.records import Records
from support import lambda_api
from wherry.clock import SystemClock
from wherry.serve import Address, bound, listening
from wherry.store.memory import MemoryStore

ACCOUNT = "arn:aws:lambda:us-east-1:000000000000"
QUEUES = "arn:aws:sqs:us-east-1:000000000000"
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def zipped(**files: str) -> bytes:
    """Return a package of Python modules; ``a__b`` is ``a/b.py``."""
    return lambda_api.zipped(
        {f"{name.replace('__', '/')}.py": text for name, text in files.items()}
    )


class Ready:
    """Runs nothing, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.up = 0
        self.failure = ""

    async def concurrency_changed(self, name: str) -> None:
        self.told.append((name,))

    async def provisioned_changed(self, name: str, qualifier: str) -> None:
        self.told.append((name, qualifier))

    def provisioned(self, name: str, version: str) -> tuple[int, int]:
        return self.up, self.up

    def provisioning_failure(self, name: str, version: str) -> str:
        return self.failure


class Api:
    """The API over HTTP with a registry behind it, and boto3 in front of it."""

    def __init__(self, registry: Registry, code: Code, client: Any, capacity: Ready) -> None:
        self.registry, self.code, self.client, self.capacity = registry, code, client, capacity

    async def __call__(self, operation: str, **parameters: Any) -> Any:
        return await asyncio.to_thread(getattr(self.client, operation), **parameters)

    async def refused(self, operation: str, **parameters: Any) -> tuple[str, str]:
        with pytest.raises(ClientError) as caught:
            await self(operation, **parameters)
        error = caught.value.response["Error"]
        return error["Code"], error["Message"]

    async def function(self, name: str, **settings: Any) -> str:
        package = await self.code.package({"ZipFile": zipped(app="x = 1")})
        found = await self.registry.create(
            name,
            {
                "digest": package.digest,
                "code_size": package.size,
                "runtime": "python3.11",
                "handler": "app.handler",
                **settings,
            },
        )
        await self.registry.settle(found)
        return found.arn

    async def version(self, name: str, alias: str = "") -> str:
        found, _ = await self.registry.publish(name)
        if alias:
            await self.registry.alias(name, alias, found.version, description="", weights={})
        return found.version

    async def queue(self, name: str, **attributes: str) -> str:
        records = Records(self.registry.store, PREFIX, Queue)
        await records.put(name, Queue(name, name, 0.0, 0.0, attributes))
        return f"{QUEUES}:{name}"


def connected(url: str) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=url,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
        **dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "any"),
    )


@asynccontextmanager
async def recorded(tmp_path: Path) -> AsyncIterator[Api]:
    """Enter with the operations on records served, without anything that runs functions."""
    clock = SystemClock()
    registry = Registry(MemoryStore(), tmp_path / "code", Place(), clock)
    code, capacity = Code(tmp_path / "code"), Ready()
    operations = record_operations(
        registry,
        capacity,
        code,
        clock,
        address=lambda name: f"http://{name}.lambda-url.us-east-1.localhost:9000/",
    )
    address = Address()
    app = application(
        operations,
        signatures=Signatures(None, "us-east-1", clock),
        address=address,
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    with closing(listening("lambda", address)) as sock:
        await web.SockSite(runner, sock).start()
        client = connected(f"http://{bound(sock)}")
        try:
            yield Api(registry, code, client, capacity)
        finally:
            client.close()
            await runner.cleanup()
