"""Products that sidecars enforce: the same keys, plans and usage without the extra hop.

A sidecar asks the check service for each request, and that asks here. What the answer says of the
call travels through the sidecar's access log and comes back as `Sidecars.used` once the call ended.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/ext_authz_filter
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Protocol

from multidict import CIMultiDict

from gateway import path
from gateway.admission import Admission
from gateway.call import Head
from gateway.catalogue import Catalogue
from gateway.parts import Parts
from gateway.passing import GONE, Passing, Trail, refusal
from gateway.problem import Refused
from gateway.request import Request
from gateway.usage import REQUESTS, Usage
from policy.admission import Admitted, Rejected
from policy.engine import Check
from wherry.clock import Clock
from wherry.model.world import World

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Most calls that ended and are not yet recorded; more are dropped and counted."""

CONSUMER = "x-wherry-consumer"
"""Header in which a service is told who calls."""


class Ended(Protocol):
    """What an access log says of a call that ended; `telemetry.edge.Entry` is one."""

    @property
    def usage(self) -> str:
        """What the check service said of it."""
        ...

    @property
    def status(self) -> int:
        """Of the answer; 0 when the caller left before there was one."""
        ...


class Sidecars:
    """Admits calls at sidecars, and records them once they ended.

    Args:
        parts: Who is asked, the same as for calls at the gateway's own door.
        clock: Where the time is read.

    Attributes:
        dropped: Calls that could not be recorded.
    """

    def __init__(self, parts: Parts, clock: Clock) -> None:
        self._parts, self._clock = parts, clock
        self._guarded: Mapping[str, Admission] = {}
        self._ended: asyncio.Queue[Usage] = asyncio.Queue(MAX_WAITING)
        self.dropped = 0

    def use(self, catalogues: Mapping[str, Catalogue]) -> None:
        """Take the routes of each guarded program; see `guarded_worlds`."""
        parts, clock = self._parts, self._clock
        self._guarded = {app: Admission(each, parts, clock) for app, each in catalogues.items()}

    async def admit(self, check: Check) -> Admitted | Rejected:
        """Identify, authorise and limit one request; see `policy.admission.Admission`."""
        headers = CIMultiDict(check.headers)
        request = Request(check.method, check.target, headers, check.address, _NoBody())
        trail = Trail(request, self._clock.now())
        try:
            where, query = path.split(check.target)
            head = trail.head = Head(
                check.method, where, query, check.host.lower(), headers, check.address
            )
            admission = self._guarded.get(check.service)
            if admission is None:
                raise _not_yet()
            call = await admission.admitted(trail, head, admission.found(head))
        except Refused as refused:
            return _rejected(trail, refused)
        finally:
            if trail.grant is not None:
                trail.grant.release()
        return Admitted(
            call.route.product,
            headers={CONSUMER: call.caller.consumer},
            removed=sorted(call.route.authentication.secret_fields),
            removed_parameters=_taken(query, head.query),
            answer=call.fields,
            usage=_said(call),
        )

    def used(self, calls: Sequence[Ended]) -> None:
        """Take calls that ended; those that nobody here admitted are none of ours."""
        for each in calls:
            usage = _read(each.usage, each.status)
            if usage is None:
                logger.warning("usage in an access log is not ours")
                continue
            try:
                self._ended.put_nowait(usage)
            except asyncio.QueueFull:
                self.dropped += 1

    async def run(self) -> None:
        """Record what ended, until cancelled."""
        while True:
            usage = await self._ended.get()
            await self._parts.recorder.reserve()
            self._parts.recorder.record(usage)


def guarded_worlds(world: World) -> Mapping[str, World]:
    """Return ``world`` with only the products that guard each program, by its name."""
    return {
        app: replace(world, products={name: world.products[name] for name in products})
        for app, products in world.guarded().items()
    }


class _NoBody:
    """The body of a request that only its head is known of."""

    length: int | None = None
    empty = True

    def arrived(self) -> bytes | None:
        return b""

    async def pieces(self) -> AsyncIterator[bytes]:
        return
        yield b""


def _not_yet() -> Refused:
    detail = "The product of this service is not in force here yet."
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, detail)


def _rejected(trail: Trail, refused: Refused) -> Rejected:
    answer = refusal(refused)
    return Rejected(
        "" if trail.route is None else trail.route.product,
        refused.status,
        dict(answer.headers),
        refused.body().decode(),
    )


def _taken(before: str, after: str) -> Sequence[str]:
    """Return the names of the query's parameters that authentication took out."""
    if before == after:
        return ()
    names = [part.partition("=")[0] for part in before.split("&")]
    kept = {part.partition("=")[0] for part in after.split("&")}
    return [name for name in names if name not in kept]


def _said(call: Passing) -> str:
    route, caller = call.route, call.caller
    said = (
        call.id,
        call.at_ns,
        caller.consumer,
        caller.app,
        route.product,
        route.operation,
        call.terms.plan,
        caller.credential,
        route.cost,
        call.head.method,
        route.template,
        route.version,
    )
    return json.dumps(said, separators=(",", ":"))


def _read(said: str, status: int) -> Usage | None:
    try:
        read = json.loads(said)
        each, at_ns, cost = str(read[0]), int(read[1]), int(read[8])
        consumer, app, product, operation, plan, credential = map(str, read[2:8])
        method, template, version = map(str, read[9:])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if cost < 0:
        return None
    return Usage(
        each,
        at_ns,
        consumer,
        app,
        product,
        operation,
        plan,
        credential,
        status or GONE,
        {REQUESTS: cost},
        {"method": method, "route": template, "version": version, "at": "sidecar"},
    )
