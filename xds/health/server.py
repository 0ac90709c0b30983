"""Envoy's health discovery service over gRPC: Envoys check endpoints and tell us."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import grpc
import grpc.aio

from wherry.clock import Clock
from wherry.errors import WherryError
from xds.health import wire
from xds.health.check import BadCheck, ClusterChecks, Target
from xds.health.plan import plan
from xds.health.votes import EndpointHealth, Votes

logger = logging.getLogger(__name__)

SERVICE = "envoy.service.health.v3.HealthDiscoveryService"

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked of checkers, and what is taken of them.

    Attributes:
        copies: How many checkers look at each endpoint, where there are as many.
        report_seconds: How often a checker reports.
        silent_reports: A checker that has been silent for so many reports is cut off, and its
            opinions are forgotten.
        streams: Most checkers at once.
        endpoints: Most endpoints that are checked, all clusters together.
        message_bytes: Longest report.
        first_seconds: Longest that a new stream may stay silent.
        settle_seconds: How long to wait for more before work is shared out anew, so that many
            checkers that come at once cost one plan.
    """

    copies: int = 3
    report_seconds: float = 2.0
    silent_reports: int = 5
    streams: int = 10_000
    endpoints: int = 50_000
    message_bytes: int = 4 << 20
    first_seconds: float = 30.0
    settle_seconds: float = 0.1


class _Refused(WherryError):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Checker:
    """One stream: who is at the other end, what it was asked last, how long it may be silent."""

    def __init__(self, key: int, node: str) -> None:
        self.key, self.node = key, node
        self.replanned = asyncio.Event()
        self.share: tuple[ClusterChecks, ...] = ()
        self.silence = asyncio.timeout(None)


class Health:
    """Has endpoints checked and tells which are unhealthy. For one event loop."""

    def __init__(self, clock: Clock, settings: Settings | None = None) -> None:
        self._clock, self._settings = clock, settings or Settings()
        self._votes = Votes()
        self._clusters: tuple[ClusterChecks, ...] = ()
        self._checkers: dict[int, _Checker] = {}
        self._plan: Mapping[str, tuple[ClusterChecks, ...]] = {}
        self._planning = False
        self._calls = self._keys = 0
        self._followers: set[asyncio.Event] = set()

    @property
    def unhealthy(self) -> frozenset[Target]:
        """Every endpoint that the checkers together say is unhealthy, see `votes`."""
        return self._votes.unhealthy

    def checks(self, clusters: Iterable[ClusterChecks]) -> None:
        """Have exactly ``clusters`` checked from now on; the same again changes nothing.

        Raises:
            BadCheck: A cluster stands twice, has no check, or there are too many endpoints.
        """
        wanted = tuple(sorted(clusters, key=lambda each: each.cluster))
        names = [each.cluster for each in wanted]
        if len(names) != len(set(names)):
            raise BadCheck("health checks: a cluster stands twice, expected each once")
        for each in wanted:
            if not each.checks:
                raise BadCheck(f"health checks of {each.cluster!r}: none, expected at least one")
        if (found := sum(len(each.endpoints) for each in wanted)) > self._settings.endpoints:
            raise BadCheck(
                f"health checks: {found} endpoints, expected at most {self._settings.endpoints}"
            )
        if wanted != self._clusters:
            self._clusters = wanted
            self._replan()

    async def follow(self) -> AsyncGenerator[frozenset[Target]]:
        """Yield what is unhealthy now and after each change; skips to the newest."""
        changed = asyncio.Event()
        self._followers.add(changed)
        told: frozenset[Target] | None = None
        try:
            while True:
                changed.clear()
                if self.unhealthy is not told:
                    told = self.unhealthy
                    yield told
                await changed.wait()
        finally:
            self._followers.discard(changed)

    def status(self) -> tuple[EndpointHealth, ...]:
        """Return every endpoint that is being checked, sorted by cluster."""
        return self._votes.status()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server needs to route streams here."""
        stream: grpc.RpcMethodHandler[bytes, bytes]
        stream = grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamHealthCheck": stream})

    def _replan(self) -> None:
        if not self._planning and self._checkers:
            self._planning = True
            asyncio.get_running_loop().call_later(self._settings.settle_seconds, self._share_out)

    def _share_out(self) -> None:
        self._planning = False
        nodes = {each.node for each in self._checkers.values()}
        self._plan = plan(nodes, self._clusters, copies=self._settings.copies)
        for checker in self._checkers.values():
            checker.replanned.set()

    def _tell(self, change: Callable[[], None]) -> None:
        """Make a change to the votes and wake who follows them."""
        before = self.unhealthy
        change()
        if self.unhealthy is not before:
            for follower in self._followers:
                follower.set()

    async def _stream(self, _requests: object, context: Context) -> None:
        self._calls += 1
        try:
            if self._calls > self._settings.streams:
                raise _full("health streams", self._calls, self._settings.streams)
            await self._checked(context)
        except _Refused as error:
            await self._refuse(context, error.code, error)
        except wire.BadHealth as error:
            await self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, error)
        finally:
            self._calls -= 1

    async def _refuse(self, context: Context, code: grpc.StatusCode, why: WherryError) -> None:
        logger.warning("health stream refused", extra={"reason": str(why), "peer": context.peer()})
        await context.abort(code, str(why))

    async def _checked(self, context: Context) -> None:
        first = await self._read(context, asyncio.timeout(self._settings.first_seconds))
        if first is None:
            return
        if not isinstance(first, str) or not first:
            raise wire.BadHealth("health stream: no node at first, expected a request with one")
        self._keys += 1
        checker = self._checkers[self._keys] = _Checker(self._keys, first)
        self._replan()
        refusal: WherryError | None = None
        try:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(self._ask(checker, context), name=f"checks of {first}")
                try:
                    await self._listen(checker, context)
                except WherryError as error:
                    refusal = error
                asking.cancel()
        finally:
            del self._checkers[checker.key]
            self._tell(lambda: self._votes.leave(checker.key))
            self._replan()
        if refusal is not None:
            raise refusal

    async def _ask(self, checker: _Checker, context: Context) -> None:
        while True:
            await checker.replanned.wait()
            checker.replanned.clear()
            share = self._plan.get(checker.node, ())
            if share != checker.share:
                self._assign(checker, share)
                seconds = self._settings.report_seconds
                await context.write(wire.specifier_bytes(share, report_seconds=seconds))

    def _assign(self, checker: _Checker, share: tuple[ClusterChecks, ...]) -> None:
        checker.share = share
        now = self._clock.now()
        targets = {
            (each.cluster, endpoint): each.first_seconds
            for each in share
            for endpoint, _ in each.endpoints
        }
        self._tell(lambda: self._votes.assign(checker.key, targets, now=now))
        if not checker.silence.expired():
            patience = self._patience(checker)
            start = asyncio.get_running_loop().time()
            checker.silence.reschedule(None if patience is None else start + patience)

    def _patience(self, checker: _Checker) -> float | None:
        """Return how long ``checker`` may be silent: for ever while it has nothing to do."""
        if not checker.share:
            return None
        return self._settings.report_seconds * self._settings.silent_reports

    async def _listen(self, checker: _Checker, context: Context) -> None:
        while True:
            checker.silence = asyncio.timeout(self._patience(checker))
            said = await self._read(context, checker.silence)
            if said is None:
                return
            if isinstance(said, dict):
                now = self._clock.now()
                self._tell(partial(self._votes.say, checker.key, said, now=now))

    async def _read(
        self, context: Context, silence: asyncio.Timeout
    ) -> str | dict[Target, bool] | None:
        try:
            async with silence:
                raw = await context.read()
        except TimeoutError:
            raise _Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "health stream: silent for too long, expected a request or a report",
            ) from None
        if not isinstance(raw, bytes):
            return None
        if len(raw) > self._settings.message_bytes:
            raise _full("bytes in a health report", len(raw), self._settings.message_bytes)
        return wire.message_from(raw)


def _full(what: str, found: int, most: int) -> _Refused:
    text = f"{what}: {found}, expected at most {most}"
    return _Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
