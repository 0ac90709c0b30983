"""Function URLs over HTTP, on a listener of their own."""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web
from multidict import CIMultiDict

from faas.api.received import body_of, digest_of, sent
from faas.api.server import Signatures
from faas.api.sigv4 import Claim, Sent
from faas.functions.control import Functions, Invocation
from faas.lambda_errors import (
    AccessDenied,
    LambdaError,
    RequestTooLarge,
    ResourceNotFound,
    ServiceFailure,
)
from faas.model.function import LATEST, Reference
from faas.model.url import FunctionUrl
from faas.place import Place
from faas.running.outcome import MAX_PAYLOAD
from faas.urls import cors
from faas.urls.access import refuse_outsiders
from faas.urls.address import Door
from faas.urls.answer import BadAnswer, NotJson, Response, buffered, failed, refused
from faas.urls.directory import Directory
from faas.urls.event import Asking, Caller, event
from faas.urls.prelude import collected
from faas.urls.response import StreamedResponse
from wherry.clock import Clock

logger = logging.getLogger(__name__)

MAX_HEADERS = 1 << 15
"""Most bytes in a request's headers and its line."""
BODY_SECONDS = 30.0
"""Within which a request's body has to come."""


class HeadersTooLarge(LambdaError):
    """The request's headers are over the limit."""

    code, status, fault = "RequestHeaderFieldsTooLargeException", 431, "User"


@dataclass(frozen=True, slots=True)
class Doors:
    """What function URLs need.

    Attributes:
        functions: What they run.
        directory: Where they are found.
        signatures: How those of ``AWS_IAM`` are checked; without keys nobody is let in there.
        clock: For the times in events.
    """

    functions: Functions
    directory: Directory
    signatures: Signatures
    clock: Clock


def application(doors: Doors) -> web.Application:
    """Return the application that serves every function URL; `runner` knows how to run it."""
    app = web.Application(client_max_size=MAX_PAYLOAD)
    app.router.add_route("*", "/{path:.*}", UrlServer(doors).handle)
    return app


def runner(doors: Doors) -> web.AppRunner:
    """Return what runs `application`: bodies stay as they were sent, compressed or not."""
    return web.AppRunner(
        application(doors), access_log=None, shutdown_timeout=1.0, auto_decompress=False
    )


class UrlServer:
    """Answers requests to function URLs."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; errors become answers, too."""
        headers = {"x-amzn-RequestId": str(uuid.uuid4())}
        received = sent(request)
        rules = None
        try:
            door, url = await self._found(received)
            rules = url.cors
            if rules is not None and cors.is_preflight(received.method, received.headers):
                found = Response(200, tuple(cors.preflight(rules, received.headers).items()))
                return _whole(found, headers)
            return await self._answer(request, received, door, url, headers)
        except LambdaError as error:
            found = refused(error) if error.status < 500 else failed()  # noqa: PLR2004
        except BadAnswer as error:
            logger.info("function answered no HTTP", extra={"found": str(error), **headers})
            found = failed()
        except Exception:
            logger.exception("function URL failed", extra=headers)
            found = failed()
        pairs = cors.merged(found.headers, rules, received.headers)
        return _whole(Response(found.status, tuple(pairs), found.body), headers)

    async def _found(self, received: Sent) -> tuple[Door, FunctionUrl]:
        head = len(received.path) + len(received.query)
        head += sum(len(name) + len(value) for name, value in received.headers.items())
        if head > MAX_HEADERS:
            raise HeadersTooLarge(f"headers: {head} bytes, expected at most {MAX_HEADERS}")
        door = Door.of(received.headers.get("host", ""), received.path)
        url = None if door is None else await self._doors.directory.find(door.id)
        if door is None or url is None:
            raise ResourceNotFound("Not Found")
        return door, url

    async def _answer(
        self,
        request: web.Request,
        received: Sent,
        door: Door,
        url: FunctionUrl,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        claim = self._claim(received, url)
        body = await body_of(request, MAX_PAYLOAD, "InvokeFunctionUrl", seconds=BODY_SECONDS)
        arn = "" if claim is None else claim.confirm(await digest_of(body))
        refuse_outsiders(url, await self._doors.directory.statements(url), arn)
        place = self._doors.functions.registry.place
        caller = Caller(request.remote or "")
        if claim is not None:
            caller = Caller(request.remote or "", claim.key.id, arn, place.account)
        payload = event(
            Asking(
                door=door,
                method=received.method,
                query=received.query,
                headers=received.headers,
                body=body,
                caller=caller,
                scheme=request.scheme,
                port=request.url.port or 0,
            ),
            request_id=headers["x-amzn-RequestId"],
            region=place.region,
            unix_ms=self._doors.clock.unix_ns() // 1_000_000,
        )
        if len(payload) > MAX_PAYLOAD:
            raise RequestTooLarge(MAX_PAYLOAD, "InvokeFunctionUrl")
        reference = Reference(url.function, url.qualifier)
        invocation = Invocation(
            payload,
            headers["x-amzn-RequestId"],
            trace_id=received.trace_id,
            arn=_arn(place, url),
        )
        if url.mode == "RESPONSE_STREAM":
            stream = StreamedResponse(request, url.cors, received.headers, headers)
            return await self._streamed(reference, invocation, stream)
        return await self._buffered(reference, invocation, received, url, headers)

    def _claim(self, received: Sent, url: FunctionUrl) -> Claim | None:
        """Return who signed; None where nobody needs to.

        Raises:
            LambdaError: Somebody needs to and did not, or no signature can be checked here.
        """
        if url.auth != "AWS_IAM":
            return None
        claim = self._doors.signatures.claim(received, "lambda")
        if claim is None:
            raise AccessDenied(
                "Forbidden: no credentials are configured that could be checked, expected some "
                "for a function URL with AWS_IAM"
            )
        return claim

    async def _buffered(
        self,
        reference: Reference,
        invocation: Invocation,
        received: Sent,
        url: FunctionUrl,
        headers: Mapping[str, str],
    ) -> web.StreamResponse:
        functions = self._doors.functions
        function = (await functions.registry.resolve(reference)).function
        outcome = await functions.invoke(function, invocation)
        found = failed() if outcome.error is not None else _response(outcome.payload)
        pairs = cors.merged(found.headers, url.cors, received.headers)
        return _whole(Response(found.status, tuple(pairs), found.body), headers)

    async def _streamed(
        self, reference: Reference, invocation: Invocation, stream: StreamedResponse
    ) -> web.StreamResponse:
        functions = self._doors.functions
        function = (await functions.registry.resolve(reference)).function
        try:
            outcome = await functions.invoke(function, invocation, stream)
        except LambdaError:
            if stream.response is None:
                raise
            return await stream.end(good=False)
        if outcome.error is not None and stream.response is None:
            raise ServiceFailure("the function failed")
        return await stream.end(good=outcome.error is None)


def _response(payload: bytes) -> Response:
    try:
        return buffered(payload)
    except NotJson:
        return collected(payload)


def _arn(place: Place, url: FunctionUrl) -> str:
    return place.arn(url.function, "" if url.qualifier == LATEST else url.qualifier)


def _whole(found: Response, headers: Mapping[str, str]) -> web.Response:
    pairs = CIMultiDict(found.headers)
    pairs.update(headers)
    return web.Response(status=found.status, headers=pairs, body=found.body or None)
