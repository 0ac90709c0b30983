"""Envoy's load reporting service over gRPC: one stream per client."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
import grpc.aio

from wherry.clock import Clock
from wherry.errors import WherryError
from xds.load import wire
from xds.load.report import ClusterReport, Reporter
from xds.load.rollup import Bounds, Rollup
from xds.load.status import NodeLoad

logger = logging.getLogger(__name__)

SERVICE = "envoy.service.load_stats.v3.LoadReportingService"

ALL_CLUSTERS = "envoy.lrs.supports_send_all_clusters"
"""Feature of a client that can report every cluster without being told their names."""

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked of clients, and what is taken of them.

    Attributes:
        interval_seconds: How often they report.
        clusters: What they report; None is all clusters.
        streams: Most streams at once.
        message_bytes: Longest report.
        reported: Most clusters in one report.
        places: Most places in one cluster of a report.
        first_seconds: Longest that a new stream may stay silent.
        idle_seconds: Longest that it may later; a gRPC client with no load sends nothing.
        bounds: How much is remembered.
    """

    interval_seconds: float = 10.0
    clusters: frozenset[str] | None = None
    streams: int = 10_000
    message_bytes: int = 4 << 20
    reported: int = 10_000
    places: int = 1_000
    first_seconds: float = 30.0
    idle_seconds: float = 3600.0
    bounds: Bounds = field(default_factory=Bounds)


class _Refused(WherryError):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Loads:
    """Takes load reports and tells what they add up to.

    A stream is read one message at a time: a client that sends faster waits.
    """

    def __init__(self, clock: Clock, settings: Settings | None = None) -> None:
        self._clock, self._settings = clock, settings or Settings()
        self._rollup = Rollup(self._settings.bounds)
        self._streams = 0
        self._ask = wire.ask_bytes(self._settings.interval_seconds, self._settings.clusters)

    @property
    def overflow(self) -> int:
        """How much in reports did not fit and was not counted, see `Bounds`."""
        return self._rollup.overflow

    def status(self) -> tuple[NodeLoad, ...]:
        """Return what each node reported, sorted by its id; also of nodes that left lately."""
        return self._rollup.status(now=self._clock.now())

    def each(self) -> Iterator[NodeLoad]:
        """Yield the same one by one, for who lets others have their turn between."""
        return self._rollup.each(now=self._clock.now())

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server needs to route streams here."""
        stream: grpc.RpcMethodHandler[bytes, bytes]
        stream = grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamLoadStats": stream})

    async def _stream(self, _requests: object, context: Context) -> None:
        self._streams += 1
        try:
            if self._streams > self._settings.streams:
                raise _full("streams", self._streams, self._settings.streams)
            await self._taken(context)
        except _Refused as error:
            await self._refuse(context, error.code, error)
        except wire.BadReport as error:
            await self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, error)
        finally:
            self._streams -= 1

    async def _refuse(self, context: Context, code: grpc.StatusCode, why: WherryError) -> None:
        logger.warning("load stream refused", extra={"reason": str(why), "peer": context.peer()})
        await context.abort(code, str(why))

    async def _taken(self, context: Context) -> None:
        first = await self._read(context, self._settings.first_seconds)
        if first is None:
            return
        reporter, reports = first
        if reporter is None or not reporter.id:
            raise wire.BadReport("load stream: no node at first, expected a node with an id")
        if self._settings.clusters is None and ALL_CLUSTERS not in reporter.features:
            raise _Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"node {reporter.id!r}: no client feature {ALL_CLUSTERS!r}, expected it where "
                "no clusters are listed",
            )
        await self._reported(context, reporter, reports)

    async def _reported(
        self, context: Context, reporter: Reporter, reports: tuple[ClusterReport, ...]
    ) -> None:
        if not self._rollup.joined(reporter, now=self._clock.now()):
            most = self._settings.bounds.nodes
            raise _full("nodes", most + 1, most)
        try:
            if reports:
                self._rollup.add(reporter.id, reports, now=self._clock.now())
            await context.write(self._ask)
            while (more := await self._read(context, self._settings.idle_seconds)) is not None:
                self._rollup.add(reporter.id, more[1], now=self._clock.now())
        finally:
            self._rollup.left(reporter.id, now=self._clock.now())

    async def _read(
        self, context: Context, seconds: float
    ) -> tuple[Reporter | None, tuple[ClusterReport, ...]] | None:
        try:
            async with asyncio.timeout(seconds):
                raw = await context.read()
        except TimeoutError:
            raise _Refused(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"load stream: silent for {seconds} s, expected a report",
            ) from None
        if not isinstance(raw, bytes):
            return None
        if len(raw) > self._settings.message_bytes:
            raise _full("bytes in a load report", len(raw), self._settings.message_bytes)
        reporter, reports = wire.report_from(raw)
        if len(reports) > self._settings.reported:
            raise _full("clusters in a load report", len(reports), self._settings.reported)
        widest = max((len(report.loads) for report in reports), default=0)
        if widest > self._settings.places:
            raise _full("places of a cluster", widest, self._settings.places)
        return reporter, reports


def _full(what: str, found: int, most: int) -> _Refused:
    text = f"{what}: {found}, expected at most {most}"
    return _Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
