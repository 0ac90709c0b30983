"""Products that sidecars enforce: the same keys, plans and usage without the extra hop.

A sidecar asks the check service for each request, and that asks here. What the answer says of the
call travels through the sidecar's access log and comes back as `Sidecars.used` once the call ended.

Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/ext_authz_filter
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol
from urllib.parse import quote

from multidict import CIMultiDict

from gateway import path
from gateway.admission import Admission
from gateway.call import Head
from gateway.catalogue import Catalogue
from gateway.parts import Parts
from gateway.passing import GONE, Passing, Trail, refusal
from gateway.problem import Refused, out_of_capacity
from gateway.request import Request
from gateway.usage import REQUESTS, Usage
from policy.admission import Admitted, Rejected
from policy.engine import Check
from wherry.clock import Clock
from wherry.model.product import ApiProduct
from wherry.model.world import World

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Most calls that ended and are not yet recorded; more are dropped and counted.

From half of it on nobody is let in, so that calls under way still find room when they end.
"""

MAX_OPEN = 100_000
"""Most calls of which it is remembered that they have not ended; the oldest are forgotten."""

CONSUMER, SUBJECT = "x-wherry-consumer", "x-wherry-subject"
"""Headers in which a service is told who calls, and what the issuer of their token calls them."""


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
        admitted: Calls that were let in.
        reported: Of those, the ones whose end came to be known. What this is behind `admitted`
            for long was lost on the way from the sidecars.
        dropped: Calls that ended and could not be recorded.
        strange: Reports of ends that are not of our calls, or came before.
    """

    def __init__(self, parts: Parts, clock: Clock) -> None:
        self._parts, self._clock = parts, clock
        self._guarded: Mapping[str, Admission] = {}
        self._ended: asyncio.Queue[Usage] = asyncio.Queue(MAX_WAITING)
        self._open: dict[str, None] = {}
        self._boot = ""
        self.admitted = self.reported = self.dropped = self.strange = 0

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
            if 2 * self._ended.qsize() >= MAX_WAITING:
                raise out_of_capacity("What is used cannot be recorded now.")
            where, query = path.split(check.target)
            admission = self._guarded.get(check.service)
            if admission is None:
                raise out_of_capacity("The product of this service is not in force here yet.")
            peer = admission.peer(request)
            head = trail.head = Head(check.method, where, query, check.host.lower(), headers, peer)
            call = await admission.admitted(trail, head, admission.found(head))
        except Refused as refused:
            return _rejected(trail, refused)
        finally:
            if trail.grant is not None:
                trail.grant.release()
        self._begun(call.id)
        told = _told(call)
        sent = f"{where.text}?{head.query}" if head.query else where.text
        return Admitted(
            call.route.product,
            headers=told,
            removed=_removed(check.headers, told, call.route.authentication.secret_fields),
            target=None if sent == check.target else sent,
            answer={**call.fields, **dict(call.route.notices)},
            usage=_said(call),
        )

    def used(self, calls: Sequence[Ended]) -> None:
        """Take calls that ended, each once; those that nobody here admitted are none of ours.

        A call that was let in before this process began counts as well.
        """
        for each in calls:
            usage = _read(each.usage, each.status)
            if usage is None or not self._ends(usage.id):
                self.strange += 1
                logger.warning("usage in an access log is not ours, or came before")
                continue
            try:
                self._ended.put_nowait(usage)
            except asyncio.QueueFull:
                self.dropped += 1

    async def run(self) -> None:
        """Record what ended, until cancelled."""
        while True:
            # Not the other way round: a place that waits here would be one less for calls.
            usage = await self._ended.get()
            try:
                await self._parts.recorder.reserve()
            finally:
                self._parts.recorder.record(usage)

    def end(self) -> None:
        """Record what ended and still waits, before the recorder ends."""
        while not self._ended.empty():
            self._parts.recorder.record(self._ended.get_nowait())

    def _begun(self, call: str) -> None:
        self.admitted += 1
        self._boot = call.partition("-")[0]
        self._open[call] = None
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]

    def _ends(self, call: str) -> bool:
        """Return whether it is news that this call ended."""
        if call.partition("-")[0] != self._boot:
            return True
        if call not in self._open:
            return False
        del self._open[call]
        self.reported += 1
        return True


def guarded_worlds(world: World) -> Mapping[str, World]:
    """Return ``world`` as the sidecars of each program enforce it, by the program's name.

    Each has only the products that guard the program, of those only the routes to it, and every
    host name: clients of the mesh call the service by its own.
    """
    gateways = {
        name: each.model_copy(update={"spec": each.spec.model_copy(update={"hosts": []})})
        for name, each in world.api_gateways.items()
    }
    return {
        app: replace(
            world,
            products={name: _at(world, world.products[name], app) for name in products},
            api_gateways=gateways,
        )
        for app, products in world.guarded().items()
    }


def _at(world: World, product: ApiProduct, app: str) -> ApiProduct:
    """Return ``product`` with only the routes that lead to the program ``app``."""

    def leads(to: str | None) -> bool:
        service = world.services.get(to or "")
        return service is not None and service.spec.selector.get("app") == app

    routes = [route for route in product.spec.routes if leads(route.to.service)]
    return product.model_copy(update={"spec": product.spec.model_copy(update={"routes": routes})})


class _NoBody:
    """The body of a request that only its head is known of."""

    length: int | None = None
    empty = True

    def arrived(self) -> bytes | None:
        return b""

    async def pieces(self) -> AsyncIterator[bytes]:
        return
        yield b""


def _rejected(trail: Trail, refused: Refused) -> Rejected:
    answer = refusal(refused)
    return Rejected(
        "" if trail.route is None else trail.route.product,
        refused.status,
        dict(answer.headers),
        refused.body().decode(),
        refused.detail,
    )


def _told(call: Passing) -> dict[str, str]:
    """Return the fields that tell the service who calls."""
    told = {CONSUMER: call.caller.consumer}
    if call.caller.subject is not None:
        told[SUBJECT] = quote(call.caller.subject)
    return told


def _removed(given: Iterable[str], told: Mapping[str, str], secret: Iterable[str]) -> Sequence[str]:
    """Return the fields of a request that its program does not get.

    Secrets, and what a client claims about who calls: also with ``_`` for ``-``, for many servers
    show programs the two as one name.
    """
    private = {CONSUMER, SUBJECT, *(name.lower() for name in secret)}
    return sorted(name for name in given if name.replace("_", "-") in private and name not in told)


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
