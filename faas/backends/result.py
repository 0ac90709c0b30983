"""What a runtime posted: as it arrives, and what a caller is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from faas.channel import ChannelError, Frame, Kind, document
from faas.running.outcome import TOO_LARGE
from faas.vm import MAX_PAYLOAD, Answer, InitFailed


@dataclass(slots=True)
class Result:
    """What a runtime posted, as far as it has arrived.

    Attributes:
        stream: Of the channel.
        header: What came first.
        streaming: Whether the runtime posts piece by piece.
        taken: Whether somebody takes the pieces as they come; each gets credit once taken.
        body: What has arrived and was not taken.
        size: Bytes that have arrived.
        whole: Whether its end has arrived.
        trailer: What came with the end.
    """

    stream: int
    header: Mapping[str, object]
    streaming: bool = False
    taken: bool = False
    body: bytearray = field(default_factory=bytearray)
    size: int = 0
    whole: bool = False
    trailer: Mapping[str, object] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return what the runtime said of ``name``; empty: nothing."""
        return str(self.trailer.get(name) or self.header.get(name) or "")

    def used_mib(self) -> int | None:
        """Return the most memory that was used; None: not measured."""
        used = self.trailer.get("used_kib") or self.header.get("used_kib")
        return -(-used // 1024) if isinstance(used, int) and used > 0 else None


def answer_of(result: Result) -> Answer:
    """Return what a call gave that came whole, or was collected."""
    if result.streaming and result.size > MAX_PAYLOAD:
        said = (
            f"Response payload size ({result.size} bytes) exceeded maximum allowed payload size "
            f"({MAX_PAYLOAD} bytes)."
        )
        body = document({"errorType": TOO_LARGE, "errorMessage": said})
        return Answer(body, TOO_LARGE, "application/json", result.used_mib())
    if result.streaming and result.text("error_type"):
        return streamed(result)
    error = None
    if result.text("kind") == "error":
        error = result.text("error_type") or "Unhandled"
    return Answer(bytes(result.body), error, result.text("content_type"), result.used_mib())


def streamed(result: Result) -> Answer:
    """Return what is left to say of a response that was streamed: its error, if it had one."""
    error = result.text("error_type")
    content_type = result.text("content_type")
    if not error:
        return Answer(b"", None, content_type, result.used_mib())
    body = result.text("error_body").encode()
    if not body:
        body = document({"errorType": error, "errorMessage": ""})
    return Answer(body, error, "application/json", result.used_mib())


def init_failed(result: Result) -> InitFailed:
    """Return the error for a runtime that reported that it cannot load the function."""
    payload = bytes(result.body)
    try:
        fields = Frame(Kind.RESULT, payload=payload).fields()
    except ChannelError:
        fields = {}
    error_type = str(result.text("error_type") or fields.get("errorType") or "Runtime.Unknown")
    return InitFailed(error_type, str(fields.get("errorMessage") or ""), payload)
