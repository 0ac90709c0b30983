"""Wire the faas service together and run it."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from faas.api.asked import Operation
from faas.api.credentials import Credentials
from faas.api.server import Signatures, application
from faas.code.build import Progress
from faas.functions.control import Functions, Invocation
from faas.functions.declared import Declared, deploy_directory
from faas.functions.sweeper import EVERY, GRACE
from faas.model.function import Function, Reference
from faas.pages import Pages
from faas.parts import Ground, Parts, operations, put_together
from faas.running.outcome import Outcome
from faas.running.workers import Limits
from faas.sqs.service import sqs
from faas.telemetry.journal import Journal
from faas.telemetry.otlp import Collector, exporting
from faas.urls.directory import Directory
from faas.urls.server import Doors, runner
from faas.vm import Backend
from wherry.clock import Clock, SystemClock
from wherry.errors import StartError
from wherry.serve import Address, bound, listening
from wherry.store import Store
from wherry.web import is_loopback

logger = logging.getLogger(__name__)


def no_egress(_function: str) -> Path | None:
    """Give functions no way out."""
    return None


@dataclass(frozen=True, slots=True)
class Settings:
    """What the faas service can be told.

    Attributes:
        address: Where the Lambda API listens.
        urls: Where function URLs are served: a port of their own, since a page that a function
            serves must not have the API's origin.
        code_dir: Where code packages are kept; packages that no function names are removed.
        run_dir: Where resolved requirements and functions' logs are kept.
        region: For ARNs.
        account: For ARNs, 12 digits.
        credentials: AWS credentials file whose users' signatures are accepted; without that
            file signatures are not checked.
        s3_endpoint: URL of the S3-compatible store that ``S3Bucket`` is looked up in; None: none.
        redis_url: Where event source mappings find Redis Streams; None: nowhere.
        concurrency: See `faas.running.workers.Limits`, as the next ones.
        instances: Most instances of all functions together.
        queue: Most calls of one function that wait for an instance.
        queue_wait: Seconds that a call waits for an instance before it is throttled.
        keep_idle: Seconds that an instance is kept after its last call.
        freeze_after: Seconds that an instance runs on after a call before it is frozen.
        drain: Seconds that calls in flight have to end when the service stops.
        init_timeout: Seconds that a function's own initialisation may take.
        eager: Start one instance right after a create or an update.
        events: Most asynchronous events in flight.
        event_retries: Seconds before the second, the third ... try of an event.
        sweep: Seconds between two looks for packages that nothing names any more.
        sweep_grace: Seconds that such a package stays, for a deploy that has not recorded it yet.
        egress: Returns the unix socket of a function's way out, None for none.
    """

    code_dir: Path
    run_dir: Path
    address: Address = field(default_factory=Address)
    urls: Address = field(default_factory=Address)
    region: str = "us-east-1"
    account: str = "000000000000"
    credentials: Path | None = None
    s3_endpoint: str | None = None
    redis_url: str | None = None
    concurrency: int | None = None
    instances: int | None = None
    queue: int = 1000
    queue_wait: float = 60.0
    keep_idle: float = 300.0
    freeze_after: float = 0.05
    drain: float = 10.0
    init_timeout: float = 30.0
    eager: bool = True
    events: int = 1000
    event_retries: tuple[float, ...] = (60.0, 120.0)
    sweep: float = EVERY
    sweep_grace: float = GRACE
    egress: Callable[[str], Path | None] = no_egress

    def limits(self) -> Limits:
        """Return what the workers may use."""
        return Limits(
            concurrency=self.concurrency,
            instances=self.instances,
            queue=self.queue,
            queue_wait=self.queue_wait,
            keep_idle=self.keep_idle,
            freeze_after=self.freeze_after,
            drain=self.drain,
        )


@dataclass(frozen=True, slots=True)
class Faas:
    """The running service.

    Attributes:
        address: Where the Lambda API listens.
        urls: Where function URLs are served.
        parts: What it is made of.
        cache_dir: Where resolved requirements are kept.
        signed: Whether callers have to sign.
        operations: Of the Lambda API, by name.
    """

    address: Address
    urls: Address
    parts: Parts
    cache_dir: Path
    signed: bool
    operations: Mapping[str, Operation]

    @property
    def functions(self) -> Functions:
        """Everything that can be done with functions, in this process."""
        return self.parts.functions

    async def deploy_directory(
        self, declared: Declared, *, progress: Progress = lambda _: None
    ) -> Function:
        """See `faas.functions.declared.deploy_directory`."""
        return await deploy_directory(
            self.functions,
            declared,
            operations=self.operations,
            cache_dir=self.cache_dir,
            progress=progress,
        )

    async def invoke(self, name: str, payload: bytes) -> Outcome:
        """Run a function in-process, without the HTTP API between.

        Raises:
            ResourceNotFound: There is no such function.
            TooManyRequests: The limits leave no room.
            ServiceFailure: The platform failed.
        """
        function = await self.functions.registry.get(Reference(name))
        return await self.functions.invoke(function, Invocation.of(payload))

    async def delete(self, name: str) -> None:
        """Remove a function.

        Raises:
            ResourceNotFound: There is no such function.
        """
        await self.functions.delete(Reference(name))


@asynccontextmanager
async def running(
    settings: Settings, store: Store, backend: Backend, clock: Clock | None = None
) -> AsyncIterator[Faas]:
    """Serve the Lambda API until the block ends; then nothing of any function runs.

    Raises:
        PortInUse: Another program listens on an address.
        StartError: The credentials cannot be read.
    """
    clock = clock or SystemClock()
    file = settings.credentials
    keys = None if file is None else Credentials.read(file, settings.account)
    signatures = Signatures(keys, settings.region, clock)
    logs = settings.run_dir / "logs"
    with (
        closing(listening("lambda", settings.address)) as sock,
        closing(listening("urls", settings.urls)) as door,
    ):
        async with (
            Journal.opened(logs) as journal,
            exporting(_collector()) as spans,
            _owning() as tasks,
        ):
            ground = Ground(store, backend, clock, journal, spans, tasks)
            parts = await put_together(settings, ground)
            functions, urls = parts.functions, bound(door)
            offered = operations(
                settings,
                functions,
                clock,
                lambda id_: f"{urls.url}/{id_}/",
                files=keys is None and is_loopback(settings.address.host),
            )
            app = application(
                offered,
                signatures=signatures,
                address=settings.address,
                services=[sqs(parts.queues, account=settings.account)],
                beside=Pages(functions, journal, signatures).routes(),
            )
            doors = Doors(functions, Directory(store), signatures, clock)
            api = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            async with _serving(parts, {api: sock, runner(doors): door}):
                await parts.start()
                address = bound(sock)
                said = {
                    "address": str(address),
                    "backend": backend.name,
                    "isolation": backend.isolation,
                    "signatures": "not checked" if keys is None else "checked",
                }
                logger.info("faas serves", extra=said)
                kept = settings.run_dir / "requirements"
                yield Faas(address, urls, parts, kept, keys is not None, offered)


def _collector() -> Collector | None:
    """Return where OpenTelemetry's variables say that traces go.

    Raises:
        StartError: They name no URL.
    """
    try:
        return Collector.of(os.environ)
    except ValueError as error:
        raise StartError(str(error)) from None


@asynccontextmanager
async def _owning() -> AsyncIterator[asyncio.TaskGroup]:
    """Own tasks until the block ends, and let the block's own error through as it is."""
    failure = None
    async with asyncio.TaskGroup() as tasks:
        try:
            yield tasks
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure


@asynccontextmanager
async def _serving(
    parts: Parts, runners: Mapping[web.AppRunner, socket.socket]
) -> AsyncIterator[None]:
    """Serve HTTP until the block ends; then let calls in flight end before their connections."""
    try:
        sites = []
        for each, sock in runners.items():
            await each.setup()
            sites.append(web.SockSite(each, sock))
            await sites[-1].start()
        try:
            yield
        finally:
            for site in sites:
                await site.stop()
    finally:
        await parts.stop()
        for each in runners:
            await each.cleanup()
