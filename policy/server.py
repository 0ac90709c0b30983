"""Envoy's ext_authz over gRPC: one question, one decision."""

import logging

import grpc
import grpc.aio

from policy import wire
from policy.admission import Admission, Admitted
from policy.decision import Decision, Verdict
from policy.engine import Check, Engine
from policy.tally import Tally
from wherry.config.watch import Worlds

logger = logging.getLogger(__name__)

SERVICE = "envoy.service.auth.v3.Authorization"

Context = grpc.aio.ServicerContext[bytes, bytes]


class Authorization:
    """Answers Check calls by the World that is current when a call arrives.

    A request must pass the check policies first; then, when a product guards the service, that
    product's keys and plans.

    Args:
        worlds: Holds the check policies.
        admission: Knows the products; None: what they guard is refused.

    Attributes:
        tally: What was decided.
    """

    def __init__(self, worlds: Worlds, admission: Admission | None = None) -> None:
        self.tally = Tally()
        self._admission = admission
        self._worlds = worlds
        self._world = worlds.current
        self._engine = Engine.of(self._world)

    async def check(self, request: bytes, context: Context) -> bytes:
        """Decide one CheckRequest; one that cannot be read is INVALID_ARGUMENT."""
        try:
            check = wire.check(request, context.invocation_metadata() or ())
        except wire.MalformedCheck as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        engine = self._current()
        decision = engine.decide(check)
        if not decision.passes or check.service not in engine.guarded:
            self.tally.add(decision)
            return wire.response(decision, grpc=check.grpc)
        return await self._admit(check)

    async def _admit(self, check: Check) -> bytes:
        if self._admission is None:
            decision = Decision(
                Verdict.DENY, "", f"service {check.service}: no one here knows its product's keys"
            )
            self.tally.add(decision)
            return wire.response(decision, grpc=check.grpc)
        given = await self._admission.admit(check)
        rule = f"product {given.product}"
        if isinstance(given, Admitted):
            self.tally.add(Decision(Verdict.ALLOW, rule, "admitted"))
            return wire.admitted(given)
        self.tally.add(Decision(Verdict.DENY, rule, "rejected"))
        return wire.rejected(given, grpc=check.grpc)

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
