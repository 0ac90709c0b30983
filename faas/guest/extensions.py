"""Lambda's Extensions API: programs beside the runtime that hear of each invocation.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

import json
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from faas.guest.http1 import Request, response
from faas.guest.order import Order
from faas.guest.rounds import Rounds
from faas.guest.server import JSON, accepted, refusal
from faas.guest.slot import Slot

ROOT = "/2020-01-01/extension/"
INVOKE, SHUTDOWN = "INVOKE", "SHUTDOWN"
FOLDER = "/opt/extensions"
MAX_EXTENSIONS = 10
_MAX_BODY = 65536
_ONLY_EXTERNAL = "ShutdownEventNotSupportedForInternalExtension"
_IDENTIFIER = "lambda-extension-identifier"

Failed = Callable[[str, str], None]
"""Takes the error type and message of an extension that gave up."""


@dataclass(slots=True)
class Extension:
    """One extension.

    Attributes:
        name: Of its file, or as it says when it runs within the runtime.
        external: Whether it is a process of its own, which the agent started.
        events: What it wants to hear of; None: it has not registered.
        slot: Its next event.
    """

    name: str
    external: bool
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    events: frozenset[str] | None = None
    slot: Slot = field(default_factory=Slot)


class Extensions:
    """Serves all extensions of one instance.

    Args:
        rounds: Told who waits.
        failed: Told of an extension that gives up.
        registered: Told of each that has registered.
    """

    def __init__(
        self, rounds: Rounds, failed: Failed, registered: Callable[[Extension], None]
    ) -> None:
        self._rounds = rounds
        self._failed = failed
        self._registered = registered
        self._order: Order | None = None
        self._all: dict[str, Extension] = {}
        self._changed = threading.Condition()
        self._open = True

    def __len__(self) -> int:
        return len(self._all)

    def expect(self, order: Order, names: list[str]) -> None:
        """Wait for the registration of the external extensions ``names`` before init goes on."""
        self._order = order
        for name in names:
            extension = Extension(name, external=True)
            self._all[extension.id] = extension
            self._rounds.join(extension.id)

    def external(self) -> list[Extension]:
        """Return those that are processes of their own."""
        return [each for each in self._all.values() if each.external]

    def wait_for_registration(self, over: Callable[[], bool]) -> None:
        """Return when every external extension has registered, or when ``over`` says so."""
        with self._changed:
            self._changed.wait_for(
                lambda: over() or all(each.events is not None for each in self.external())
            )

    def wake(self) -> None:
        """Let `wait_for_registration` look again."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Take no more registrations: init is over."""
        self._open = False

    def invoked(self, headers: Mapping[str, str]) -> None:
        """Tell those that asked for it of an invocation."""
        event = {
            "eventType": INVOKE,
            "deadlineMs": int(headers["Lambda-Runtime-Deadline-Ms"]),
            "requestId": headers["Lambda-Runtime-Aws-Request-Id"],
            "invokedFunctionArn": headers["Lambda-Runtime-Invoked-Function-Arn"],
            "tracing": {
                "type": "X-Amzn-Trace-Id",
                "value": headers.get("Lambda-Runtime-Trace-Id", ""),
            },
        }
        told = [each for each in self._all.values() if INVOKE in (each.events or ())]
        self._rounds.works({each.id for each in told})
        _tell(told, event)

    def shut_down(self, reason: str, deadline_ms: int) -> None:
        """Tell those that asked for it that the instance ends."""
        told = [each for each in self._all.values() if SHUTDOWN in (each.events or ())]
        _tell(told, {"eventType": SHUTDOWN, "shutdownReason": reason, "deadlineMs": deadline_ms})

    def answer(self, request: Request, connection: socket.socket) -> bytes | None:
        """Answer one request; None when the client has hung up."""
        body = request.body.collected(_MAX_BODY)
        path = request.path.removeprefix(ROOT)
        if body is None:
            return refusal(413, "RequestEntityTooLarge", f"over {_MAX_BODY} bytes")
        if (request.method, path) == ("POST", "register"):
            return self._register(request, body)
        extension = self.identified(request)
        if isinstance(extension, bytes):
            return extension
        match request.method, path:
            case "GET", "event/next":
                return self._next(extension, connection)
            case "POST", "init/error" | "exit/error":
                return self._gave_up(extension, request, body)
            case _:
                return refusal(404, "NotFound", f"no such operation: {request.method} {path[:40]}")

    def identified(self, request: Request) -> Extension | bytes:
        """Return the extension that asks, or the refusal that it gets."""
        given = request.headers.get(_IDENTIFIER, "")
        if not given:
            kind = "Extension.MissingExtensionIdentifier"
            return refusal(403, kind, "Missing Lambda-Extension-Identifier header")
        try:
            uuid.UUID(given)
        except ValueError:
            return refusal(
                403, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"
            )
        extension = self._all.get(given)
        if extension is None or extension.events is None:
            kind = "Extension.UnknownExtensionIdentifier"
            return refusal(403, kind, "Unknown extension " + given)
        return extension

    def _register(self, request: Request, body: bytes) -> bytes:
        name = request.headers.get("lambda-extension-name", "")
        if not name or self._order is None:
            return refusal(403, "Extension.InvalidExtensionName", "Empty extension name")
        events = _events(body)
        if events is None:
            return refusal(403, "InvalidRequestFormat", "expected a JSON object with events")
        with self._changed:
            found = next((each for each in self._all.values() if each.name == name), None)
            refused = self._refused(name, found, events)
            if refused is not None:
                return refused
            extension = found or Extension(name, external=False)
            extension.events = events
            if found is None:
                self._all[extension.id] = extension
                self._rounds.join(extension.id)
            self._changed.notify_all()
        self._registered(extension)
        document = {
            "functionVersion": self._order["version"],
            "functionName": self._order["function"],
            "handler": self._order["handler"],
        }
        features = request.headers.get("lambda-extension-accept-feature", "").split(",")
        if "accountId" in [feature.strip() for feature in features]:
            document["accountId"] = self._order["account"]
        headers = {**JSON, "Lambda-Extension-Identifier": extension.id}
        return response(200, json.dumps(document).encode(), headers)

    def _refused(self, name: str, found: Extension | None, events: frozenset[str]) -> bytes | None:
        """Return why an extension may not register; None: it may."""
        allowed = {INVOKE, SHUTDOWN} if found is not None and found.external else {INVOKE}
        wrong = sorted(events - allowed)
        if wrong:
            why = _ONLY_EXTERNAL if wrong[0] == SHUTDOWN else "InvalidEventType"
            return refusal(403, "Extension.InvalidEventType", f"{wrong[0]}: {why}")
        if not self._open:
            kind = "Extension.RegistrationClosed"
            return refusal(403, kind, "Extension registration closed already")
        if found is not None and found.events is not None:
            kind = "Extension.InvalidExtensionState"
            return refusal(403, kind, "Extension with this name already registered")
        if found is None and len(self._all) >= MAX_EXTENSIONS:
            kind = "Extension.TooManyExtensions"
            return refusal(403, kind, f"Extension limit ({MAX_EXTENSIONS}) reached")
        return None

    def _next(self, extension: Extension, connection: socket.socket) -> bytes | None:
        self._rounds.waits(extension.id)
        event = extension.slot.take(connection)
        if event is None:
            return None
        headers, body = event
        return response(200, body, headers)

    def _gave_up(self, extension: Extension, request: Request, body: bytes) -> bytes:
        kind = request.headers.get("lambda-extension-function-error-type", "")
        if not kind:
            missing = "Extension.MissingHeader"
            return refusal(403, missing, "Missing Lambda-Extension-Function-Error-Type header")
        self._failed(kind, f"extension {extension.name}: {_message(body)}")
        return accepted()


def found(root: str | None) -> list[Path]:
    """Return the files of external extensions, in the order in which they start."""
    folder = Path(root or "/") / FOLDER.lstrip("/")
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file())


def _tell(extensions: list[Extension], event: Mapping[str, object]) -> None:
    for extension in extensions:
        headers = {**JSON, "Lambda-Extension-Event-Identifier": str(uuid.uuid4())}
        extension.slot.put(headers, json.dumps(event).encode())


def _events(body: bytes) -> frozenset[str] | None:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    events = fields.get("events", []) if isinstance(fields, dict) else None
    if not isinstance(events, list) or not all(isinstance(event, str) for event in events):
        return None
    return frozenset(events)


def _message(body: bytes) -> str:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(fields.get("errorMessage", ""))[:500] if isinstance(fields, dict) else ""
