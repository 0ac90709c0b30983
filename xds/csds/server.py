"""Envoy's client status discovery over gRPC: what every proxy was sent and holds.

The answer to one question is one message. One that would be too long is refused with
RESOURCE_EXHAUSTED and says how to ask for less; it is never cut short.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import grpc
import grpc.aio

from wherry.errors import WherryError
from xds.csds import wire
from xds.csds.fleet import Config, Fleet, Proxy
from xds.csds.match import asked_for

logger = logging.getLogger(__name__)

SERVICE = "envoy.service.status.v3.ClientStatusDiscoveryService"

_SHARE = 100
"""How many resources are written before others get their turn."""

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is answered.

    Attributes:
        response_bytes: Longest answer; clients take 4 MiB unless told otherwise.
        request_bytes: Longest question.
        questions: Most questions that are worked on at once.
        idle_seconds: Longest that a stream may stay silent.
    """

    response_bytes: int = 4 << 20
    request_bytes: int = 64 << 10
    questions: int = 4
    idle_seconds: float = 300.0


class TooMuch(WherryError):
    """A question that costs more than one answer may."""


class ClientStatus:
    """Answers for the whole ``fleet``."""

    def __init__(self, fleet: Fleet, limits: Limits | None = None) -> None:
        self._fleet, self._limits = fleet, limits or Limits()
        self._asking = 0

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server needs to route calls here."""
        fetch: grpc.RpcMethodHandler[bytes, bytes]
        stream: grpc.RpcMethodHandler[bytes, bytes]
        fetch = grpc.unary_unary_rpc_method_handler(self._fetch)
        stream = grpc.stream_stream_rpc_method_handler(self._stream)
        methods = {"FetchClientStatus": fetch, "StreamClientStatus": stream}
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def answer(self, question: bytes) -> bytes:
        """Return the ClientStatusResponse to a ClientStatusRequest.

        Raises:
            BadQuery: It cannot be read.
            TooMuch: The answer would be too long, or too many are being written.
        """
        if len(question) > self._limits.request_bytes:
            raise TooMuch(
                f"status request: {len(question)} bytes, expected at most "
                f"{self._limits.request_bytes}"
            )
        matchers, contents = wire.query_from(question)
        if self._asking >= self._limits.questions:
            raise TooMuch(
                f"status request: {self._asking} others are being answered, expected fewer than "
                f"{self._limits.questions}; ask again"
            )
        self._asking += 1
        try:
            parts, size = [], 0
            for proxy in tuple(self._fleet.proxies()):
                await asyncio.sleep(0)
                if asked_for(proxy.node, matchers):
                    parts.append(await self._proxy(proxy, contents=contents, size=size))
                    size += len(parts[-1])
            return b"".join(parts)
        finally:
            self._asking -= 1

    async def _proxy(self, proxy: Proxy, *, contents: bool, size: int) -> bytes:
        parts = [wire.proxy_head(proxy)]
        configs = iter(tuple(proxy.configs()))
        while share := tuple(islice(configs, _SHARE)):
            parts += _fields(share, contents=contents)
            if size + sum(map(len, parts)) > self._limits.response_bytes:
                break
            await asyncio.sleep(0)
        whole = wire.proxy_field(parts)
        if size + len(whole) > self._limits.response_bytes:
            way_out = "set exclude_resource_contents or " if contents else ""
            raise TooMuch(
                f"status response: over {self._limits.response_bytes} bytes at node "
                f"{proxy.node.id!r}, expected at most that; {way_out}ask for fewer nodes with "
                "node_matchers"
            )
        return whole

    async def _fetch(self, raw: bytes, context: Context) -> bytes:
        try:
            return await self.answer(raw)
        except WherryError as error:
            return await context.abort(_code(error), str(error))

    async def _stream(self, _requests: object, context: Context) -> None:
        try:
            while (raw := await self._read(context)) is not None:
                await context.write(await self.answer(raw))
        except WherryError as error:
            await context.abort(_code(error), str(error))

    async def _read(self, context: Context) -> bytes | None:
        try:
            async with asyncio.timeout(self._limits.idle_seconds):
                raw = await context.read()
        except TimeoutError:
            return None
        return raw if isinstance(raw, bytes) else None


def _fields(configs: Iterable[Config], *, contents: bool) -> list[bytes]:
    return [wire.config_field(config, contents=contents) for config in configs]


def _code(error: WherryError) -> grpc.StatusCode:
    if isinstance(error, TooMuch):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return grpc.StatusCode.INVALID_ARGUMENT
