"""Wire the gateway together and run it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web import BaseRequest, RequestHandler, Server, ServerRunner, SockSite, StreamResponse

from gateway.catalogue import Catalogue, TemplateError
from gateway.invoke import Invoker, Signer
from gateway.keyring import Keyring
from gateway.pepper import pepper
from gateway.pipeline import Pipeline, refusal
from gateway.problem import Refused
from gateway.proxy import Proxy
from gateway.ratelimit import MAX_BUCKETS, Throttle
from gateway.recorder import QUEUE, Recorder
from wherry.clock import Clock, SystemClock
from wherry.config.watch import Worlds
from wherry.errors import StartError
from wherry.serve import Address, bound, listening
from wherry.store import Store

logger = logging.getLogger(__name__)

MAX_LINE = 8190
"""Most bytes in the request line, and in one header field."""

MAX_FIELDS = 100
"""Most header fields in a request."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the gateway listens and what it is connected to.

    Attributes:
        pepper: File of the secret under which key digests are made; made at first use.
        address: Where to listen.
        lambda_url: The Lambda API, like ``http://127.0.0.1:9001``; None: no functions.
        signer: Signs requests to the Lambda API; None: it checks no signatures.
        mesh: Unix socket of the outbound HTTP listener of the gateway's Envoy; None: no
            services.
        max_calls: Most calls under way at once; more get 503.
        max_buckets: See `gateway.ratelimit.Throttle`.
        max_unwritten: See `gateway.recorder.Recorder`.
        idle_seconds: How long a connection may stay without a request, and how long a client
            may take nothing of its answer.
        drain_seconds: How long calls under way may take to end when the gateway stops, and
            then how long the Store may take for what they used.
    """

    pepper: Path
    address: Address = field(default_factory=lambda: Address(port=8000))
    lambda_url: str | None = None
    signer: Signer | None = None
    mesh: Path | None = None
    max_calls: int = 2048
    max_buckets: int = MAX_BUCKETS
    max_unwritten: int = QUEUE
    idle_seconds: float = 75.0
    drain_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that takes calls.

    Attributes:
        address: Where it listens.
    """

    address: Address


class _NoAccessLog(AbstractAccessLogger):
    """Writes nothing: aiohttp's own lines would show keys that stand in a query."""

    @property
    def enabled(self) -> bool:
        return False

    def log(self, request: BaseRequest, response: StreamResponse, time: float) -> None:
        pass


class _Connection(RequestHandler):
    """Answers what is no HTTP, and our own failures, as problems.

    It hangs up on a client that takes nothing of its answer for `idle_seconds`.
    """

    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_progress(self._unsent())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_progress()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_progress()
        super().connection_lost(exc)

    def _watch_progress(self, unsent: int) -> None:
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(self.keepalive_timeout, self._look_at_progress, unsent)

    def _look_at_progress(self, before: int) -> None:
        unsent = self._unsent()
        if unsent < before:
            self._watch_progress(unsent)
        elif self.transport is not None:
            self.transport.abort()

    def _forget_progress(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def _unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> StreamResponse:
        if isinstance(exc, LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            refused = Refused(status, f"A line of the head is over {MAX_LINE} bytes.")
        elif status == HTTPStatus.BAD_REQUEST:
            refused = Refused(HTTPStatus.BAD_REQUEST, "The request is not valid HTTP.")
        else:
            logger.error("call failed", exc_info=exc)
            refused = Refused(HTTPStatus(status), "The gateway failed.")
        if request.writer.output_size > 0:
            raise ConnectionResetError("the answer had begun")
        answer = refusal(refused)
        answer.force_close()
        return answer


class _Server(Server):
    """Makes a `_Connection` for each connection."""

    def __init__(self, pipeline: Pipeline, settings: Settings) -> None:
        super().__init__(pipeline.handle, handler_cancellation=True)
        self._settings = settings

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log_class=_NoAccessLog,
            auto_decompress=False,
            keepalive_timeout=self._settings.idle_seconds,
            lingering_time=2.0,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_FIELDS,
            read_bufsize=1 << 16,
        )


@asynccontextmanager
async def running(
    settings: Settings, *, store: Store, worlds: Worlds, clock: Clock | None = None
) -> AsyncIterator[Running]:
    """Serve until the block ends; begins once keys are loaded and calls are taken.

    At the end calls under way are finished and all usage is written.

    Args:
        settings: See `Settings`.
        store: Holds keys and usage.
        worlds: Followed; a World with a template that cannot be used is refused and logged,
            and the one before stays.
        clock: Where the time is read; None is the host's.

    Raises:
        StartError: The pepper or the first World cannot be used.
        PortInUse: Another program listens at the address.
    """
    clock = clock or SystemClock()
    try:
        first = Catalogue.of(worlds.current)
    except TemplateError as error:
        raise StartError(str(error)) from None
    keyring = Keyring(store, await asyncio.to_thread(pepper, settings.pepper), clock)
    recorder = Recorder(store, places=settings.max_unwritten, patience=settings.drain_seconds)
    async with AsyncExitStack() as stack:
        sock = listening("gateway", settings.address)
        stack.callback(sock.close)
        pipeline = Pipeline(
            first,
            keyring=keyring,
            throttle=Throttle(settings.max_buckets),
            recorder=recorder,
            proxy=await stack.enter_async_context(Proxy.open(settings.mesh)),
            invoker=await stack.enter_async_context(
                Invoker.open(settings.lambda_url, settings.signer)
            ),
            clock=clock,
            most=settings.max_calls,
        )
        group = await stack.enter_async_context(_tasks())
        followers = (
            group.create_task(keyring.follow(), name="gateway: follow keys"),
            group.create_task(_follow(worlds, pipeline), name="gateway: follow configuration"),
        )
        for task in followers:
            stack.callback(task.cancel)
        group.create_task(recorder.run(), name="gateway: record usage")
        stack.callback(recorder.end)
        await keyring.loaded.wait()
        runner = ServerRunner(_Server(pipeline, settings), shutdown_timeout=settings.drain_seconds)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await SockSite(runner, sock, backlog=1024).start()
        yield Running(bound(sock))


@asynccontextmanager
async def _tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Own tasks as a TaskGroup does, but let an error of the block itself leave as it is."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        try:
            yield group
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure


async def _follow(worlds: Worlds, pipeline: Pipeline) -> None:
    async for world in worlds.follow():
        try:
            catalogue = Catalogue.of(world)
        except TemplateError as error:
            logger.warning("configuration refused: %s", error)
            continue
        for each in catalogue.overlapping:
            logger.warning("route belongs to another product: %s", each)
        pipeline.catalogue = catalogue
