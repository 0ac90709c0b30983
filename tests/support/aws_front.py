"""One endpoint for all of AWS: Lambda and SQS are Wherry's, everything else is moto's.

A region is a Wherry of its own; requests say in their signatures which one they are for.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import boto3
from aiohttp import ClientSession, ClientTimeout, web
from botocore.config import Config

_LAMBDA = re.compile(
    r"/\d{4}-\d{2}-\d{2}/"
    r"(functions|layers|layers-by-arn|event-source-mappings|account-settings|tags|code-signing)"
)
_SCOPE = re.compile(r"Credential=[^/]*/\d{8}/([a-z0-9-]+)/")
_HOP = {"host", "content-length", "transfer-encoding", "connection", "keep-alive"}


class Front:
    """A reverse proxy.

    Args:
        wherry: URL of the Lambda API by region; the first one stands in for others.
        moto: URL of moto's server.
    """

    def __init__(self, wherry: Mapping[str, str], moto: str, session: ClientSession) -> None:
        self._wherry, self._moto = wherry, moto
        self._session = session
        self._clients = [
            boto3.client(
                "lambda",
                endpoint_url=url,
                region_name=region,
                config=Config(retries={"total_max_attempts": 1}),
                aws_access_key_id="testing",
                aws_secret_access_key="testing",  # noqa: S106
            )
            for region, url in wherry.items()
        ]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/moto-api/reset":
            for client in self._clients:
                await asyncio.to_thread(_emptied, client)
        ours = _LAMBDA.match(request.path) or request.headers.get("X-Amz-Target", "").startswith(
            "AmazonSQS."
        )
        async with self._session.request(
            request.method,
            (self._ours(request) if ours else self._moto) + request.raw_path,
            data=await request.read(),
            headers={k: v for k, v in request.headers.items() if k.lower() not in _HOP},
            allow_redirects=False,
        ) as answer:
            body = await answer.read()
            headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            headers.pop("Content-Encoding", None)
            return web.Response(body=body, status=answer.status, headers=headers)

    def _ours(self, request: web.Request) -> str:
        found = _SCOPE.search(request.headers.get("Authorization", ""))
        first = next(iter(self._wherry.values()))
        return self._wherry.get(found[1], first) if found else first

    def close(self) -> None:
        for client in self._clients:
            client.close()


def _emptied(client: Any) -> None:
    """Remove everything that a test left."""
    for mapping in _pages(client, "list_event_source_mappings", "EventSourceMappings"):
        _gone(client, "delete_event_source_mapping", UUID=mapping["UUID"])
    for function in _pages(client, "list_functions", "Functions"):
        _gone(client, "delete_function", FunctionName=function["FunctionName"])
    for layer in _pages(client, "list_layers", "Layers"):
        name = layer["LayerName"]
        for version in _pages(client, "list_layer_versions", "LayerVersions", LayerName=name):
            _gone(client, "delete_layer_version", LayerName=name, VersionNumber=version["Version"])


def _pages(client: Any, operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
    pages = client.get_paginator(operation).paginate(**arguments)
    return [each for page in pages for each in page[key]]


def _gone(client: Any, operation: str, **arguments: Any) -> None:
    try:
        getattr(client, operation)(**arguments)
    except client.exceptions.ResourceNotFoundException:
        return


@asynccontextmanager
async def fronted(wherry: Mapping[str, str], moto: str) -> AsyncIterator[str]:
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
