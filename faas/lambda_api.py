"""The Lambda API over HTTP, as far as an AWS SDK needs it to create, run and remove functions.

Requests are not checked for signatures: the API listens on loopback, where whoever can reach it
could as well edit its files.

Source: AWS Lambda API Reference, 2015-03-31.
"""

import base64
import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from aiohttp import web

from faas import lambda_requests as requests
from faas.control import Functions, Invocation
from faas.events import MAX_EVENT
from faas.lambda_errors import (
    AccessDenied,
    InvalidParameter,
    LambdaError,
    ServiceFailure,
    UnknownOperation,
    UnsupportedOperation,
)
from faas.lambda_shapes import (
    CONFIGURATION_FIELDS,
    Json,
    code_of,
    configuration,
    machine,
    refuse_unsupported,
    settings_of,
)
from faas.model.function import LATEST, Function
from faas.outcome import MAX_PAYLOAD, Outcome
from faas.package import zip_of

logger = logging.getLogger(__name__)

MAX_UPLOAD = 70_167_211
"""Most bytes in a request with code: 50 MiB in base64 and the other fields."""
MAX_CONFIGURATION = 1 << 20
MAX_ITEMS = 50
"""Most functions on a page. Source: Lambda API, ListFunctions, ``MaxItems``."""
_FUNCTIONS = "/2015-03-31/functions"
_VERSIONED = re.compile(r"/\d{4}-\d{2}-\d{2}/")
_MARKER = re.compile(r"[A-Za-z0-9_-]{1,64}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LambdaApi:
    """Handlers that turn requests into verbs of `Functions` and back."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions

    def application(self) -> web.Application:
        """Return the application that serves this API, health and logs."""
        one = _FUNCTIONS + "/{name}"
        application = web.Application(middlewares=[_answering], client_max_size=MAX_UPLOAD)
        application.add_routes(
            [
                web.post(_FUNCTIONS, self.create),
                web.get(_FUNCTIONS, self.list),
                web.get(_FUNCTIONS + "/", self.list),
                web.get(one, self.get),
                web.delete(one, self.delete),
                web.get(one + "/configuration", self.get_configuration),
                web.put(one + "/configuration", self.update_configuration),
                web.put(one + "/code", self.update_code),
                web.post(one + "/invocations", self.invoke),
                web.get("/healthz", self.health),
                web.get("/wherry/functions/{name}/logs", self.logs),
                web.get("/wherry/functions/{name}/package.zip", self.package),
            ]
        )
        return application

    async def create(self, request: web.Request) -> web.StreamResponse:
        """CreateFunction."""
        body = await requests.json_object(request, MAX_UPLOAD, "CreateFunction")
        refuse_unsupported(body, CONFIGURATION_FIELDS | {"FunctionName", "Code"})
        reference = requests.reference(str(body.get("FunctionName", "")), None)
        if reference.qualifier != LATEST:
            raise InvalidParameter("FunctionName: found a qualifier, expected a bare name or ARN")
        settings = settings_of(body, machine=machine())
        for field in ("runtime", "handler"):
            if not settings.get(field):
                raise InvalidParameter(f"{field} is missing, expected with .zip packages")
        settings.setdefault("architecture", machine())
        code = body.get("Code")
        zipped = code_of(cast("Json", code) if isinstance(code, dict) else {})
        package = await self._functions.registry.unpack(zipped)
        function = await self._functions.create(reference.name, package, settings)
        return web.json_response(configuration(function), status=201)

    async def list(self, request: web.Request) -> web.StreamResponse:
        """ListFunctions: by name, `MAX_ITEMS` to a page; the marker is the last name."""
        most = requests.number(request, "MaxItems", MAX_ITEMS)
        marker = request.query.get("Marker", "")
        if not most:
            raise InvalidParameter("MaxItems: found 0, expected a number over 0")
        if marker and not _MARKER.fullmatch(marker):
            raise InvalidParameter("Marker: found another, expected a NextMarker of this API")
        functions = [each for each in await self._functions.registry.list() if each.name > marker]
        size = min(most, MAX_ITEMS)
        page: Json = {"Functions": [configuration(each) for each in functions[:size]]}
        if len(functions) > size:
            page["NextMarker"] = functions[size - 1].name
        return web.json_response(page)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """GetFunction."""
        function = await self._found(request)
        url = request.url.origin() / "wherry/functions" / function.name / "package.zip"
        answer: Json = {
            "Configuration": configuration(function),
            "Code": {"RepositoryType": "Wherry", "Location": str(url)},
        }
        if function.tags:
            answer["Tags"] = dict(function.tags)
        return web.json_response(answer)

    async def get_configuration(self, request: web.Request) -> web.StreamResponse:
        """GetFunctionConfiguration."""
        return web.json_response(configuration(await self._found(request)))

    async def update_configuration(self, request: web.Request) -> web.StreamResponse:
        """UpdateFunctionConfiguration."""
        body = await requests.json_object(request, MAX_CONFIGURATION, "UpdateFunctionConfiguration")
        served = CONFIGURATION_FIELDS - {"Tags", "Architectures"}
        refuse_unsupported(body, served | {"RevisionId"})
        changes = settings_of(body, machine=machine())
        revision = _revision(body)
        function = await self._functions.update(requests.named(request), changes, revision=revision)
        return web.json_response(configuration(function))

    async def update_code(self, request: web.Request) -> web.StreamResponse:
        """UpdateFunctionCode."""
        body = await requests.json_object(request, MAX_UPLOAD, "UpdateFunctionCode")
        refuse_unsupported(
            body,
            frozenset(
                {"ZipFile", "S3Bucket", "S3Key", "ImageUri"}
                | {"Architectures", "RevisionId", "DryRun"}
            ),
        )
        function = await self._found(request)
        settings_of(
            {key: body[key] for key in ("Architectures",) if key in body}, machine=machine()
        )
        package = await self._functions.registry.unpack(code_of(body))
        changes: dict[str, Any] = {"digest": package.digest, "code_size": package.size}
        if body.get("DryRun"):
            return web.json_response(configuration(replace(function, **changes)))
        function = await self._functions.update(
            requests.named(request), changes, revision=_revision(body)
        )
        return web.json_response(configuration(function))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """DeleteFunction."""
        if request.query.get("Qualifier"):
            raise InvalidParameter(
                "Qualifier: versions are not supported by Wherry yet, expected none"
            )
        await self._functions.delete(requests.named(request))
        return web.Response(status=204)

    async def invoke(self, request: web.Request) -> web.StreamResponse:
        """Invoke: RequestResponse, Event or DryRun."""
        kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        if kind not in ("RequestResponse", "Event", "DryRun"):
            raise InvalidParameter(
                f"InvocationType: found {kind[:40]!r}, expected RequestResponse, Event or DryRun"
            )
        payload = await requests.body_of(
            request, MAX_EVENT if kind == "Event" else MAX_PAYLOAD, "Invoke"
        )
        invocation = Invocation(
            payload=requests.checked(payload),
            request_id=request[_REQUEST_ID],
            client_context=requests.client_context(request),
            trace_id=request.headers.get("X-Amzn-Trace-Id", ""),
        )
        function = await self._found(request)
        if kind == "DryRun":
            return web.Response(status=204)
        if kind == "Event":
            self._functions.accept(function, invocation)
            return web.Response(status=202)
        outcome = await self._functions.invoke(function, invocation)
        tail = request.headers.get("X-Amz-Log-Type") == "Tail"
        return web.Response(
            body=outcome.payload,
            content_type="application/json",
            headers=_outcome_headers(outcome, tail=tail),
        )

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """Say what runs."""
        return web.json_response(self._functions.health())

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Return the lines of a function's log after an offset."""
        function = await self._found(request)
        lines = self._functions.log(function.name, after=requests.number(request, "after", 0))
        return web.json_response(
            [{"offset": line.offset, "at_ns": line.at_ns, "text": line.text} for line in lines]
        )

    async def package(self, request: web.Request) -> web.StreamResponse:
        """Return a function's package as it was uploaded."""
        function = await self._found(request)
        return web.FileResponse(zip_of(self._functions.registry.code_dir, function.digest))

    async def _found(self, request: web.Request) -> Function:
        return await self._functions.registry.get(requests.named(request))


_REQUEST_ID = web.RequestKey("request_id", str)


@web.middleware
async def _answering(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id and every error its AWS shape."""
    request_id = request[_REQUEST_ID] = str(uuid.uuid4())
    try:
        _refuse_browsers(request)
        response = await handler(request)
    except LambdaError as error:
        response = _refusal(error)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        response = _refusal(_no_route(request))
    except web.HTTPException as error:
        response = error
    except Exception:
        logger.exception("request failed", extra={"path": request.path})
        response = _refusal(ServiceFailure("An internal error occurred; see the faas log."))
    response.headers["x-amzn-RequestId"] = request_id
    return response


def _refusal(error: LambdaError) -> web.Response:
    return web.Response(
        body=error.body(),
        status=error.status,
        headers=error.headers(),
        content_type="application/json",
    )


def _no_route(request: web.Request) -> LambdaError:
    what = f"{request.method} {request.path[:200]}"
    if _VERSIONED.match(request.path):
        return UnsupportedOperation(
            f"{what}: this operation is not supported by Wherry yet, expected one of "
            "CreateFunction, GetFunction, GetFunctionConfiguration, ListFunctions, "
            "UpdateFunctionCode, UpdateFunctionConfiguration, DeleteFunction, Invoke"
        )
    return UnknownOperation(f"{what}: no such path, expected one of the Lambda API")


def _refuse_browsers(request: web.Request) -> None:
    """Refuse what a web page sent: whoever visits one must not create functions by that.

    Raises:
        AccessDenied: The request has the marks of one that a page made.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if "Origin" in request.headers or site != "none":
        raise AccessDenied("Web pages may not call this API, expected an AWS SDK or a command")


def _revision(body: Json) -> str | None:
    revision = body.get("RevisionId")
    return revision if isinstance(revision, str) else None


def _outcome_headers(outcome: Outcome, *, tail: bool) -> Mapping[str, str]:
    headers = {"X-Amz-Executed-Version": LATEST, "X-Wherry-Start": outcome.kind.value}
    if outcome.error is not None:
        headers["X-Amz-Function-Error"] = outcome.error
    if tail:
        headers["X-Amz-Log-Result"] = base64.b64encode(outcome.tail).decode()
    return headers
