"""Envoy's access log service over gRPC: one stream per Envoy and worker."""

import logging
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from telemetry import wire
from telemetry.ingest import Ingest
from wherry.clock import Clock

logger = logging.getLogger(__name__)

SERVICE = "envoy.service.accesslog.v3.AccessLogService"

Context = grpc.aio.ServicerContext[bytes, bytes]


class AccessLogs:
    """Reads streams one message at a time.

    The next message of a stream is read when the one before is counted: an Envoy that sends
    faster fills its own buffer and drops there, as its ``logs_dropped`` tells.
    """

    def __init__(self, ingest: Ingest, clock: Clock) -> None:
        self._ingest = ingest
        self._clock = clock

    async def stream(self, messages: AsyncIterator[bytes], context: Context) -> bytes:
        """Count a stream's entries until it ends; a message that cannot be read ends it."""
        metrics = self._ingest.metrics
        metrics.stream(+1)
        try:
            async for message in messages:
                batch = wire.batch(message)
                if batch.node:
                    logger.debug("access log stream open", extra={"node": batch.node})
                self._ingest.take(batch, now=self._clock.now())
        except wire.MalformedLog as error:
            metrics.received("malformed", 1)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            metrics.stream(-1)
        return wire.RESPONSE

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server needs to route streams here."""
        stream: grpc.RpcMethodHandler[bytes, bytes]
        stream = grpc.stream_unary_rpc_method_handler(self.stream)
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": stream})
