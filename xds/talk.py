"""One discovery stream over gRPC: bytes in, a sans-IO stream, bytes out."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from wherry.clock import Clock
from wherry.errors import WherryError
from xds import wire
from xds.delta import DeltaRequest, DeltaStream
from xds.hub import Link
from xds.limits import Limits
from xds.node import Node
from xds.press import Response
from xds.resource import TypeUrl
from xds.services import DiscoveryService
from xds.snapshot import Snapshot
from xds.sotw import Request, SotwStream
from xds.status import StreamStatus, types_of
from xds.subscription import Nack, Subscription
from xds.tally import Tally

logger = logging.getLogger(__name__)

IN_SOTW = "xds.config.resource-in-sotw"
"""What a client says that understands envelopes around resources in the state of the world."""

LAST_WRITE_SECONDS = 1.0
"""Longest that the end of a stream waits for a client to take what is on its way."""

MOST_SOURCES = 10
"""How many files and lines one line of the log names."""

Context = grpc.aio.ServicerContext[bytes, bytes]
Read = Callable[[bytes], tuple[Any, Node | None]]


class Refused(WherryError):
    """A stream is ended because of what its client did or because the server is full.

    Attributes:
        code: What the client is told.
        reason: What it is counted as.
    """

    def __init__(self, code: grpc.StatusCode, reason: str, text: str) -> None:
        super().__init__(text)
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Setting:
    """What every stream of a server is told.

    Attributes:
        limits: See `Limits`.
        clock: Where times are read.
        tally: Where everything is counted.
        origin: Says where a resource of the World was written, by kind and name: ``file:line``.
    """

    limits: Limits
    clock: Clock
    tally: Tally
    origin: Callable[[str, str], str] | None = None


class Talk:
    """One stream: what its client says and what the hub publishes.

    One task reads and one writes; both are the stream's, and only one of them runs at a time.
    """

    def __init__(
        self,
        service: DiscoveryService,
        link: Link[Any],
        context: Context,
        setting: Setting,
        *,
        delta: bool,
    ) -> None:
        self.service, self._link, self._context, self._setting = service, link, context, setting
        self._stream = _stream(link, setting.limits, delta=delta)
        self._read: Read = wire.delta_request_from if delta else wire.request_from
        self._delta = delta
        self._since = setting.clock.unix_ns()
        self._outbox: list[Response] = []
        self._behind_since: float | None = setting.clock.now()
        self._logged: dict[TypeUrl, Nack] = {}
        self._nacked_at: dict[TypeUrl, int] = {}
        self._sent, self._sent_bytes = 0, 0
        self._task: asyncio.Task[Any] | None = None
        self._handed_over, self._ending = False, False
        self._waits: float | None = None

    @property
    def node(self) -> Node:
        """Who is at the other end."""
        return self._link.node

    @property
    def stream(self) -> SotwStream | DeltaStream:
        """The state of the stream; to be read only."""
        return self._stream

    @property
    def label(self) -> str:
        """The service and the variant."""
        return f"{self.service.short} {'delta' if self._delta else 'sotw'}"

    @property
    def subscriptions(self) -> Mapping[TypeUrl, Subscription]:
        """What the client asked for and holds, by type; to be read only."""
        return self._stream.subscriptions

    @property
    def snapshot(self) -> Snapshot | None:
        """What the client should hold."""
        return self._link.snapshot

    @property
    def nacked_at(self) -> Mapping[TypeUrl, int]:
        """When the client last refused a response, by type: Unix nanoseconds."""
        return self._nacked_at

    def status(self) -> StreamStatus:
        """Return what the stream looks like from outside."""
        return StreamStatus(
            self._link.node,
            self._link.scope,
            "delta" if self._delta else "sotw",
            self._since,
            self._stream.settled and not self._link.changed,
            types_of(self._stream.subscriptions, self._nacked_at),
            self.service.short,
            self._sent,
            self._sent_bytes,
            None if self._link.snapshot is None else self._link.snapshot.size,
        )

    def end(self) -> None:
        """Ask the client to come back, to this server or another."""
        if self._task is not None and not self._handed_over:
            self._handed_over = True
            self._task.cancel()

    async def run(self, first: Any) -> None:
        """Talk until the client hangs up. For the task of the call.

        Raises:
            WherryError: The client sent what cannot be read or is over a limit, or the server
                hands its streams over.
        """
        refusal: WherryError | None = None
        self._task = asyncio.current_task()
        try:
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(self._write(), name=f"write to {self.node.id}")
                try:
                    await self._listen(first)
                except WherryError as error:
                    refusal = error
                except asyncio.CancelledError:
                    if not self._handed_over:
                        raise
                    refusal = self._moved()
                await self._finish(writing)
        except asyncio.CancelledError:
            if not self._handed_over:
                raise
            refusal = self._moved()
        if refusal is not None:
            raise refusal

    def _moved(self) -> Refused:
        if self._task is not None:
            self._task.uncancel()
        return Refused(
            grpc.StatusCode.UNAVAILABLE, "handed over", "stream: handed over, expected again"
        )

    async def _finish(self, writing: asyncio.Task[None]) -> None:
        """Let a write that is under way end: gRPC sends no status after one that was cut off."""
        self._ending = True
        self._link.news.set()
        await asyncio.wait((writing,), timeout=LAST_WRITE_SECONDS)
        writing.cancel()

    async def _listen(self, first: Any) -> None:
        request, tally = first, self._setting.tally
        clock, stream, link = self._setting.clock, self._stream, self._link
        read, context, only = self._read, self._context, self.service.type_url
        while True:
            tally.requests += 1
            if request.type_url != only and only is not None:
                raise Refused(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "wrong type",
                    f"request: type_url {request.type_url!r}, expected {only!r}",
                )
            if request.error is not None:
                self._refused_by_client(request)
            elif request.nonce:
                tally.acks[request.type_url] += 1
            responses = stream.receive(request, clock.now())
            if responses:
                self._outbox += responses
                link.news.set()
            elif self._behind_since is not None and not link.changed and stream.settled:
                tally.converge(clock.now() - self._behind_since)
                self._behind_since = None
            self._rouse()
            self._within_limits(request)
            if self._logged or request.error is not None:
                self._log_nacks()
            raw = await context.read()
            if not isinstance(raw, bytes):
                return
            request, _ = read(raw)
            if not request.type_url:
                request = wire.retyped(request, only)

    def _rouse(self) -> None:
        """Wake the writer if something is due before it would look."""
        due = self._stream.wake_at
        if due is not None and (self._waits is None or due < self._waits):
            self._link.news.set()

    async def _write(self) -> None:
        link, stream, clock = self._link, self._stream, self._setting.clock
        while True:
            wake_at = self._waits = stream.wake_at
            if wake_at is None:
                await link.news.wait()
            else:
                await self._news_before(wake_at)
            link.news.clear()
            if self._ending:
                return
            now = clock.now()
            responses, self._outbox = self._outbox, []
            if link.changed:
                link.changed = False
                if self._behind_since is None:
                    self._behind_since = now
                if (snapshot := link.snapshot) is not None:
                    responses = responses + stream.publish(snapshot, now)
            elif wake_at is not None:
                responses = responses + stream.tick(now)
            for response in responses:
                if not await self._write_one(response) or self._ending:
                    return

    async def _write_one(self, response: Response) -> bool:
        self._count(response)
        try:
            await self._context.write(response.raw)
        except grpc.aio.InternalError:  # the client is gone; reading ends, too
            return False
        return True

    async def _news_before(self, wake_at: float) -> None:
        delay = wake_at - self._setting.clock.now()
        try:
            async with asyncio.timeout(max(delay, 0)):
                await self._link.news.wait()
        except TimeoutError:
            return

    def _count(self, response: Response) -> None:
        tally, size = self._setting.tally, len(response.raw)
        tally.pushes[response.type_url] += 1
        tally.sent_bytes[response.type_url] += size
        self._sent += 1
        self._sent_bytes += size

    def _refused_by_client(self, request: Request | DeltaRequest) -> None:
        self._setting.tally.nacks[request.type_url] += 1
        self._nacked_at[request.type_url] = self._setting.clock.unix_ns()

    def _within_limits(self, request: Request | DeltaRequest) -> None:
        limits, subscriptions = self._setting.limits, self._stream.subscriptions
        if len(subscriptions) > limits.types:
            raise self._over("types", len(subscriptions), limits.types)
        names = request.subscribe if isinstance(request, DeltaRequest) else request.names
        if len(names) > limits.names // limits.types or (self._delta and names):
            total = sum(len(s.wanted.names) for s in subscriptions.values())
            if total > limits.names:
                raise self._over("resource names", total, limits.names)

    def _over(self, what: str, found: int, most: int) -> Refused:
        return Refused(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"too many {what}",
            f"node {self._link.node.id!r}: {found} {what}, expected at most {most}",
        )

    def _sources(self, nack: Nack) -> list[str]:
        """Return where users wrote what a client refuses: files and lines."""
        snapshot, origin = self._link.snapshot, self._setting.origin
        if snapshot is None or origin is None:
            return []
        found = (snapshot.find(nack.type_url, name) for name in nack.names)
        sources = {origin(*source) for each in found if each for source in each.sources}
        return sorted(sources)[:MOST_SOURCES]

    def _log_nacks(self) -> None:
        nacks = {t: nack for t, nack in self._stream.nacks.items() if not nack.sought}
        for type_url, nack in nacks.items():
            before = self._logged.get(type_url)
            if before is None or (before.error, before.names) != (nack.error, nack.names):
                logger.warning(
                    "configuration refused",
                    extra={
                        "node": self._link.node.id,
                        "type_url": type_url,
                        "resources": nack.names,
                        "sources": self._sources(nack),
                        "reason": nack.error,
                    },
                )
        for type_url in self._logged.keys() - self._stream.nacks.keys():
            logger.info(
                "configuration accepted again",
                extra={"node": self._link.node.id, "type_url": type_url},
            )
        self._logged = {
            **{t: n for t, n in self._logged.items() if t in self._stream.nacks},
            **nacks,
        }


def _stream(link: Link[Any], limits: Limits, *, delta: bool) -> SotwStream | DeltaStream:
    if delta:
        return DeltaStream(link.press, drain=limits.drain_seconds, memory=link.memory)
    ttl = IN_SOTW in link.node.client_features
    return SotwStream(link.press, drain=limits.drain_seconds, memory=link.memory, ttl=ttl)
