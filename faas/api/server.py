"""The API over HTTP: the one part of it that does I/O."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from aiohttp import web

from faas.api.asked import Answered, Asked, Operation
from faas.api.faults import UnsupportedMedia
from faas.api.model import OperationModel, ServiceModel
from faas.api.parse import Received, parsed
from faas.api.received import body_of, digest_of, sent
from faas.api.routing import Routed, Router
from faas.api.serialize import Reply, refusal, reply
from faas.api.services import service
from faas.api.sigv4 import Claim, Key, Scope, Sent
from faas.api.sink import ResponseSink
from faas.api.validate import refuse_invalid
from faas.lambda_errors import (
    AccessDenied,
    LambdaError,
    ServiceFailure,
    UnknownOperation,
    UnsupportedOperation,
)
from faas.running.outcome import MAX_PAYLOAD
from wherry.clock import Clock
from wherry.serve import Address
from wherry.web import local_names_only

logger = logging.getLogger(__name__)

MAX_UPLOAD = 70_167_211
"""Most bytes in a request with code: 50 MiB in base64 and the other fields."""
MAX_REQUEST = 1 << 20
"""Most bytes in any other request."""
LIMITS: Mapping[str, int] = {
    "CreateFunction": MAX_UPLOAD,
    "UpdateFunctionCode": MAX_UPLOAD,
    "PublishLayerVersion": MAX_UPLOAD,
    "Invoke": MAX_PAYLOAD,
    "InvokeWithResponseStream": MAX_PAYLOAD,
}
_PUBLIC_NAMES: Mapping[str, str] = {"Invoke": "InvokeFunction"}
_SLOW = 1 << 20
"""Bytes of a body that are parsed beside the loop."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and what of it is served.

    Attributes:
        operations: By name; the others of the model answer 501.
        limits: Most bytes in the body of an operation; `MAX_REQUEST` for the others.
    """

    model: ServiceModel
    operations: Mapping[str, Operation]
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signatures:
    """How signatures are checked.

    Attributes:
        keys: Those that are accepted, by their ids; None: signatures are not checked.
        region: What they have to be for.
        clock: For their age.
    """

    keys: Mapping[str, Key] | None
    region: str
    clock: Clock

    def claim(self, request: Sent, service_name: str) -> Claim | None:
        """Return who signed, still to be confirmed; None when signatures are not checked.

        Raises:
            LambdaError: Nobody that is known, or not for this, or not now.
        """
        if self.keys is None:
            return None
        now = datetime.fromtimestamp(self.clock.unix_ns() / 1e9, UTC)
        return Claim.of(request, self.keys, Scope(self.region, service_name), now)


def application(
    operations: Mapping[str, Operation],
    *,
    signatures: Signatures,
    address: Address,
    services: Sequence[Service] = (),
    beside: Iterable[web.AbstractRouteDef] = (),
) -> web.Application:
    """Return the application that serves Lambda's API and others at one address.

    Args:
        operations: Of Lambda.
        signatures: How they are checked.
        address: Where it listens; on loopback, only names of this machine are served.
        services: Further ones, whose requests have an ``X-Amz-Target``.
        beside: Routes of Wherry's own, which nobody signs.
    """
    api = Api([Service(service("lambda"), operations, LIMITS), *services], signatures)
    app = web.Application(
        middlewares=[_identified, local_names_only(address)], client_max_size=MAX_UPLOAD
    )
    app.add_routes(beside)
    app.router.add_route("*", "/{path:.*}", api.handle)
    return app


class Api:
    """Answers requests by the models of one or more services, the first of which is by path."""

    def __init__(self, services: Sequence[Service], signatures: Signatures) -> None:
        self._by_path = services[0]
        self._router = Router(services[0].model.operations.values())
        self._by_target = {each.model.target_prefix: each for each in services[1:]}
        self._signatures = signatures

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; errors become answers, too."""
        prefix, _, name = request.headers.get("X-Amz-Target", "").partition(".")
        found = self._by_target.get(prefix, self._by_path)
        request_id = request[REQUEST_ID]
        try:
            refuse_browsers(request)
            if found is self._by_path:
                routed = self._routed(request)
            else:
                routed = Routed(_targeted(found.model, name), {})
            return await self._answer(request, found, routed)
        except LambdaError as error:
            return _response(refusal(found.model, error))
        except Exception:
            logger.exception(
                "request failed", extra={"path": request.path, "request_id": request_id}
            )
            return _response(refusal(found.model, _internal()))

    def _routed(self, request: web.Request) -> Routed:
        path, _, query = request.raw_path.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        routed = self._router.find(request.method, path, pairs)
        if routed is None:
            raise UnknownOperation(
                f"{request.method} {request.path[:200]}: no such path, expected one of the "
                "Lambda API"
            )
        return routed

    async def _answer(
        self, request: web.Request, found: Service, routed: Routed
    ) -> web.StreamResponse:
        model, operation = found.model, routed.operation
        received = sent(request)
        claim = self._signatures.claim(received, model.signing_name)
        does = found.operations.get(operation.name)
        if does is None:
            raise UnsupportedOperation(
                f"{operation.name}: not served by Wherry, expected an operation that "
                "docs/lambda.md says is served"
            )
        if received.headers.get("content-encoding", "identity") != "identity":
            raise UnsupportedMedia("Content-Encoding: expected none")
        limit = found.limits.get(operation.name, MAX_REQUEST)
        public = _PUBLIC_NAMES.get(operation.name, operation.name)
        body = await body_of(request, limit, public)
        caller = "" if claim is None else claim.confirm(await digest_of(body))
        values = Received(
            query=parse_qsl(received.query, keep_blank_values=True),
            headers=received.headers,
            body=body,
            labels=routed.labels,
        )
        asked = Asked(
            operation=operation.name,
            parameters=await _parameters(model, operation, values),
            request_id=request[REQUEST_ID],
            base_url=f"{request.scheme}://{request.host}",
            caller=caller,
            trace_id=received.trace_id,
        )
        answered = await does(asked)
        if answered.events is None:
            return _response(reply(model, operation, answered))
        return await _streamed(request, model, operation, answered)


async def _parameters(
    model: ServiceModel, operation: OperationModel, values: Received
) -> Mapping[str, object]:
    if len(values.body) > _SLOW and not operation.input.payload:
        return await asyncio.to_thread(_checked, model, operation, values)
    return _checked(model, operation, values)


def _checked(
    model: ServiceModel, operation: OperationModel, values: Received
) -> Mapping[str, object]:
    parameters = parsed(model, operation, values)
    refuse_invalid(model, operation, parameters)
    return parameters


async def _streamed(
    request: web.Request, model: ServiceModel, operation: OperationModel, answered: Answered
) -> web.StreamResponse:
    """Let the operation write its events; errors before the first are answers of their own."""
    assert answered.events is not None  # noqa: S101
    headers = {"x-amzn-RequestId": request[REQUEST_ID]}
    sink = ResponseSink(request, model, operation, answered, headers)
    try:
        await answered.events(sink)
    except LambdaError as error:
        if not sink.begun:
            raise
        await sink.fail(error)
    except Exception:
        if not sink.begun:
            raise
        logger.exception("stream failed", extra={"request_id": request[REQUEST_ID]})
        await sink.fail(_internal())
    return await sink.end()


def _targeted(model: ServiceModel, name: str) -> OperationModel:
    operation = model.operations.get(name)
    if operation is None:
        raise UnknownOperation(f"{name[:80]}: no such operation of {model.name}")
    return operation


REQUEST_ID = web.RequestKey("request_id", str)


@web.middleware
async def _identified(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id and every answer the same."""
    request_id = request[REQUEST_ID] = str(uuid.uuid4())
    try:
        response = await handler(request)
    except LambdaError as error:
        response = _refused(error)
    except web.HTTPForbidden as error:
        response = _refused(AccessDenied(error.text or ""))
    if not response.prepared:
        response.headers["x-amzn-RequestId"] = request_id
    return response


def refuse_browsers(request: web.Request) -> None:
    """Refuse what a web page sent: whoever visits one must not create functions by that.

    Raises:
        AccessDenied: The request has the marks of one that a page made.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if "Origin" in request.headers or site != "none":
        raise AccessDenied("Web pages may not call this API, expected an AWS SDK or a command")


def _refused(error: LambdaError) -> web.Response:
    return _response(refusal(service("lambda"), error))


def _internal() -> LambdaError:
    return ServiceFailure("An internal error occurred; see the faas log.")


def _response(found: Reply) -> web.Response:
    return web.Response(body=found.body or None, status=found.status, headers=found.headers)
