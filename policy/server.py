"""Envoy's ext_authz over gRPC: one question, one decision."""

import logging

import grpc
import grpc.aio

from policy import wire
from policy.engine import Engine
from policy.tally import Tally
from wherry.config.watch import Worlds

logger = logging.getLogger(__name__)

SERVICE = "envoy.service.auth.v3.Authorization"

Context = grpc.aio.ServicerContext[bytes, bytes]


class Authorization:
    """Answers Check calls by the World that is current when a call arrives.

    Attributes:
        tally: What was decided.
    """

    def __init__(self, worlds: Worlds) -> None:
        self.tally = Tally()
        self._worlds = worlds
        self._world = worlds.current
        self._engine = Engine.of(self._world)

    async def check(self, request: bytes, context: Context) -> bytes:
        """Decide one CheckRequest; one that cannot be read is INVALID_ARGUMENT."""
        try:
            check = wire.check(request, context.invocation_metadata() or ())
        except wire.MalformedCheck as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        decision = self._current().decide(check)
        self.tally.add(decision)
        return wire.response(decision)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server needs to route calls here."""
        check: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.check)
        return grpc.method_handlers_generic_handler(SERVICE, {"Check": check})

    def _current(self) -> Engine:
        if self._world is not self._worlds.current:
            self._world = self._worlds.current
            self._engine = Engine.of(self._world)
            logger.info("policies taken", extra={"policies": len(self._world.check_policies)})
        return self._engine
