"""Lambda's Telemetry API and Logs API: what happens, told to extensions that subscribe.

Source: https://docs.aws.amazon.com/lambda/latest/dg/telemetry-api-reference.html and
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-logs-api.html
"""

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from faas.guest.extensions import Extension
from faas.guest.http1 import Request, response
from faas.guest.server import refusal
from faas.guest.subscriber import Destination, Subscriber, Wants

TELEMETRY, LOGS = "/2022-07-01/telemetry", "/2020-08-15/logs"
_TYPES = {"platform", "function", "extension"}
_PROTOCOLS = {TELEMETRY: {"HTTP"}, LOGS: {"HTTP", "TCP"}}
_VERSIONS = {
    TELEMETRY: {"2022-07-01", "2022-12-13", "2025-01-29"},
    LOGS: {"2020-08-15", "2021-03-18"},
}
_HOSTS = ("sandbox.localdomain", "sandbox")
_MAX_BODY = 65536
_EARLY = 1000
"""Most events that are kept for subscribers that come during init."""


@dataclass(frozen=True, slots=True)
class _Bound:
    least: int
    most: int
    usual: int


_BUFFERING: Mapping[str, _Bound] = {
    "maxItems": _Bound(1000, 10_000, 10_000),
    "maxBytes": _Bound(262_144, 1_048_576, 262_144),
    "timeoutMs": _Bound(25, 30_000, 1000),
}


class Telemetry:
    """Passes events to those who subscribed; without any it costs next to nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscribers: dict[str, Subscriber] = {}
        self._early: deque[dict[str, object]] | None = deque(maxlen=_EARLY)

    @property
    def heard(self) -> bool:
        """Whether somebody hears of events, or may yet subscribe."""
        return self._early is not None or bool(self._subscribers)

    def emit(self, kind: str, record: object) -> None:
        """Tell of one thing that happened now; never blocks.

        Args:
            kind: ``platform.start`` and so on, ``function`` or ``extension``.
            record: What is said of it, as JSON.
        """
        if not self.heard:
            return
        event: dict[str, object] = {"time": stamp(), "type": kind, "record": record}
        with self._lock:
            if self._early is not None:
                self._early.append(event)
            for subscriber in self._subscribers.values():
                subscriber.offer(event)

    def log(self, kind: str, line: bytes) -> None:
        """Tell of one line of log, as `emit` does."""
        if self.heard:
            self.emit(kind, line.decode("utf-8", "replace"))

    def close(self) -> None:
        """Take no more subscriptions: init is over."""
        with self._lock:
            self._early = None

    def flush(self, seconds: float) -> None:
        """Wait until subscribers have got what there is, at most so many seconds each."""
        for subscriber in list(self._subscribers.values()):
            subscriber.flush(seconds)

    def answer(self, request: Request, extension: Extension) -> bytes:
        """Subscribe an extension."""
        body = request.body.collected(_MAX_BODY)
        if request.method != "PUT":
            return refusal(404, "NotFound", f"no such operation: {request.method}")
        try:
            wants = _wants(json.loads(body or b""), request.path)
        except (ValueError, RecursionError) as error:
            return refusal(400, "ValidationError", str(error))
        with self._lock:
            if self._early is None:
                kind = "Telemetry.SubscriptionClosed"
                return refusal(403, kind, "Telemetry API subscription is closed already")
            subscriber = Subscriber(extension.name, wants)
            previous = self._subscribers.get(extension.id)
            self._subscribers[extension.id] = subscriber
            for event in self._early:
                subscriber.offer(event)
        if previous is not None:
            previous.stop()
        subscriber.start()
        kind = "platform.telemetrySubscription"
        if request.path == LOGS:
            kind = "platform.logsSubscription"
        types = sorted(wants.types)
        self.emit(kind, {"name": extension.name, "state": "Subscribed", "types": types})
        return response(200, b'"OK"', {"Content-Type": "application/json"})


def stamp() -> str:
    """Return the time now as events carry it: UTC, in milliseconds."""
    now = time.time_ns() // 1_000_000
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1000))
    return f"{whole}.{now % 1000:03d}Z"


def _wants(fields: object, path: str) -> Wants:
    """Return what a subscription asks for.

    Raises:
        ValueError: It is not valid; the message says why.
    """
    if not isinstance(fields, dict):
        raise ValueError("a subscription: expected a JSON object")  # noqa: TRY004
    version = fields.get("schemaVersion", min(_VERSIONS[path]))
    if version not in _VERSIONS[path]:
        raise ValueError(f"schemaVersion {version!r}: expected {sorted(_VERSIONS[path])}")
    types = fields.get("types")
    if not isinstance(types, list) or not types or not set(map(str, types)) <= _TYPES:
        raise ValueError(f"types {types!r}: expected some of {sorted(_TYPES)}")
    buffering = fields.get("buffering") or {}
    if not isinstance(buffering, dict):
        raise ValueError("buffering: expected an object")  # noqa: TRY004
    items, size, patience = (
        _bounded(buffering.get(name), name, bound) for name, bound in _BUFFERING.items()
    )
    destination = _destination(fields.get("destination"), path)
    return Wants(frozenset(map(str, types)), destination, items, size, patience / 1000)


def _bounded(value: object, name: str, bound: _Bound) -> int:
    if value is None:
        return bound.usual
    if not isinstance(value, int) or not bound.least <= value <= bound.most:
        raise ValueError(f"{name} {value!r}: expected {bound.least} to {bound.most}")
    return value


def _destination(fields: object, path: str) -> Destination:
    if not isinstance(fields, dict):
        raise ValueError("destination: expected an object")  # noqa: TRY004
    protocol = fields.get("protocol")
    if protocol not in _PROTOCOLS[path]:
        raise ValueError(f"protocol {protocol!r}: expected {sorted(_PROTOCOLS[path])}")
    if protocol == "TCP":
        port = fields.get("port")
        if not isinstance(port, int) or not 0 < port < 1 << 16:
            raise ValueError(f"port {port!r}: expected 1 to 65535")
        return Destination(port, None)
    uri = str(fields.get("URI"))
    rest = uri.removeprefix("http://")
    authority, slash, tail = rest.partition("/")
    host, _, number = authority.partition(":")
    if rest == uri or host not in _HOSTS or (number and not number.isdecimal()):
        raise ValueError(f"URI {uri!r}: expected http://sandbox.localdomain:PORT/PATH")
    return Destination(int(number or 80), slash + tail or "/")
