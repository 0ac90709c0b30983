"""The beginning of a streamed response, in which a function says status and headers. Pure.

A response of type `CONTENT_TYPE` begins with a JSON object, then eight NUL bytes, then the body.

Source: AWS Lambda Developer Guide, "Response streaming", ``awslambda.HttpResponseStream``.
"""

import json

from faas.urls.answer import BadAnswer, Head, Response

CONTENT_TYPE = "application/vnd.awslambda.http-integration-response"
OCTETS = "application/octet-stream"
END = bytes(8)
MAX_PRELUDE = 1 << 17
"""Most bytes before the NULs."""


class Prelude:
    """Reads the beginning of a response that comes in pieces."""

    def __init__(self) -> None:
        self._seen = bytearray()

    def take(self, piece: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the first of the body; None while the head is not complete.

        Raises:
            BadAnswer: It is no JSON object, or too long.
        """
        searched = max(0, len(self._seen) - len(END) + 1)
        self._seen += piece
        at = self._seen.find(END, searched)
        if at > MAX_PRELUDE or (at < 0 and len(self._seen) > MAX_PRELUDE + len(END)):
            raise BadAnswer("a prelude too long", f"at most {MAX_PRELUDE} bytes")
        if at < 0:
            return None
        return _head(bytes(self._seen[:at])), bytes(self._seen[at + len(END) :])


def collected(payload: bytes) -> Response:
    """Return the response for what a function streamed where it was to answer whole.

    What begins with a JSON object and eight NUL bytes says status and headers by that.

    Raises:
        BadAnswer: It says something that HTTP has no room for.
    """
    if not (payload.startswith(b"{") and END in payload[: MAX_PRELUDE + len(END)]):
        return Response(200, (("content-type", OCTETS),), payload)
    at = payload.index(END)
    head = _head(payload[:at])
    return Response(head.status, head.pairs(OCTETS), payload[at + len(END) :])


def _head(text: bytes) -> Head:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadAnswer("a prelude that is no JSON object", "one before eight NUL bytes")
    return Head.of(found)
