"""What the API's address serves beside AWS's own operations: health, logs, code."""

import re
from collections.abc import Sequence

from aiohttp import web

from faas.api.received import digest_of, sent
from faas.api.server import Signatures
from faas.code.origin import LOCATION
from faas.code.package import zip_of
from faas.functions.control import Functions
from faas.lambda_errors import InvalidParameter, ResourceNotFound
from faas.model.function import Reference
from faas.telemetry.journal import Journal
from faas.telemetry.metrics import exposition

_NUMBER = re.compile(r"[0-9]{1,15}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Pages:
    """Handlers of Wherry's own.

    Args:
        functions: What they are about.
        journal: Their logs.
        signatures: Logs are for those who may use the API.
    """

    def __init__(self, functions: Functions, journal: Journal, signatures: Signatures) -> None:
        self._functions = functions
        self._journal = journal
        self._signatures = signatures

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        """Return every route."""
        return [
            web.get("/healthz", self.health),
            web.get("/metrics", self.metrics),
            web.get("/wherry/functions/{name}/logs", self.logs),
            web.get(LOCATION, self.package),
        ]

    async def health(self, _request: web.Request) -> web.StreamResponse:
        """Say what runs."""
        return web.json_response(self._functions.health())

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Return what is counted, as Prometheus reads it."""
        accept = request.headers.get("Accept", "")
        kind, text = exposition(self._functions.workers, self._journal, accept)
        return web.Response(body=text, headers={"Content-Type": kind})

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """Return the lines of a function's log after an offset."""
        claim = self._signatures.claim(sent(request), "lambda")
        if claim is not None:
            claim.confirm(await digest_of(b""))
        after = request.query.get("after", "0")
        if not _NUMBER.fullmatch(after):
            raise InvalidParameter(f"after: found {after[:20]!r}, expected a number of 15 digits")
        reference = self._functions.registry.place.reference(request.match_info["name"])
        function = await self._functions.registry.get(Reference(reference.name))
        lines = self._functions.log(function.name, after=int(after))
        return web.json_response(
            [{"offset": line.offset, "at_ns": line.at_ns, "text": line.text} for line in lines]
        )

    async def package(self, request: web.Request) -> web.StreamResponse:
        """Return a package as it was uploaded, to whoever knows its digest."""
        digest = request.match_info["digest"]
        path = zip_of(self._functions.registry.code_dir, digest)
        if not _DIGEST.fullmatch(digest) or not path.is_file():
            raise ResourceNotFound(f"Code not found: {digest[:64]}")
        return web.FileResponse(path)
