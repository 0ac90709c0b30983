"""One endpoint for all of AWS: Lambda and SQS are Wherry's, everything else is moto's."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import boto3
from aiohttp import ClientSession, ClientTimeout, web
from botocore.config import Config
from botocore.exceptions import ClientError

_LAMBDA = re.compile(
    r"/\d{4}-\d{2}-\d{2}/"
    r"(functions|layers|layers-by-arn|event-source-mappings|account-settings|tags|code-signing)"
)
_HOP = {"host", "content-length", "transfer-encoding", "connection", "keep-alive"}


class Front:
    """A reverse proxy.

    Args:
        wherry: URL of the Lambda API.
        moto: URL of moto's server.
    """

    def __init__(self, wherry: str, moto: str, session: ClientSession) -> None:
        self._wherry, self._moto = wherry, moto
        self._session = session
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        self._lambda = boto3.client(
            "lambda",
            endpoint_url=wherry,
            region_name="us-west-2",
            config=Config(retries={"total_max_attempts": 1}),
            **keys,
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/moto-api/reset":
            await asyncio.to_thread(self._emptied)
        ours = _LAMBDA.match(request.path) or request.headers.get("X-Amz-Target", "").startswith(
            "AmazonSQS."
        )
        async with self._session.request(
            request.method,
            (self._wherry if ours else self._moto) + request.raw_path,
            data=await request.read(),
            headers={k: v for k, v in request.headers.items() if k.lower() not in _HOP},
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            headers.pop("Content-Encoding", None)
            return web.Response(body=body, status=answer.status, headers=headers)

    def _emptied(self) -> None:
        """Remove everything that a test left."""
        for page in self._pages("list_event_source_mappings", "EventSourceMappings"):
            self._gone("delete_event_source_mapping", UUID=page["UUID"])
        for function in self._pages("list_functions", "Functions"):
            self._gone("delete_function", FunctionName=function["FunctionName"])
        for layer in self._pages("list_layers", "Layers"):
            name = layer["LayerName"]
            for version in self._pages("list_layer_versions", "LayerVersions", LayerName=name):
                number = version["Version"]
                self._gone("delete_layer_version", LayerName=name, VersionNumber=number)

    def _pages(self, operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
        try:
            pages = self._lambda.get_paginator(operation).paginate(**arguments)
            return [each for page in pages for each in page[key]]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 501:
                return []
            raise

    def _gone(self, operation: str, **arguments: Any) -> None:
        try:
            getattr(self._lambda, operation)(**arguments)
        except self._lambda.exceptions.ResourceNotFoundException:
            return

    def close(self) -> None:
        self._lambda.close()


@asynccontextmanager
async def fronted(wherry: str, moto: str) -> AsyncIterator[str]:
    """Serve the front for the length of the block; yield its URL."""
    async with ClientSession(timeout=ClientTimeout(120), auto_decompress=True) as session:
        front = Front(wherry, moto, session)
        application = web.Application(client_max_size=1 << 28)
        application.router.add_route("*", "/{path:.*}", front.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()
            front.close()
