"""Messages of ``application/vnd.amazon.eventstream``. Pure.

A message is its length, the length of its headers and their CRC32; the headers; the payload; and
the CRC32 of all of that.

Source: https://smithy.io/2.0/aws/amazon-eventstream.html.
"""

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
MAX_PAYLOAD = (1 << 24) - (1 << 18)
"""Most bytes of payload in one message."""
_PRELUDE = struct.Struct(">II")
_CRC = struct.Struct(">I")
_STRING = 7


def message(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    """Return a message whose headers are all texts.

    Raises:
        ValueError: A header's name is over 255 bytes or its value over 32767, or the payload is
            over `MAX_PAYLOAD`.
    """
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"event: {len(payload)} bytes, expected at most {MAX_PAYLOAD}")
    encoded = b"".join(_header(name, value) for name, value in headers.items())
    prelude = _PRELUDE.pack(len(encoded) + len(payload) + 16, len(encoded))
    head = prelude + _CRC.pack(zlib.crc32(prelude)) + encoded
    return b"".join((head, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))))


def event(name: str, content_type: str, payload: bytes) -> bytes:
    """Return the message of an event of the operation's output."""
    headers = {":message-type": "event", ":event-type": name, ":content-type": content_type}
    return message(headers, payload)


def exception(name: str, body: bytes) -> bytes:
    """Return the message of an error of the model, which ends the stream."""
    headers = {
        ":message-type": "exception",
        ":exception-type": name,
        ":content-type": "application/json",
    }
    return message(headers, body)


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    if not 0 < len(key) < 1 << 8 or len(text) >= 1 << 15:
        raise ValueError(f"event header {name[:80]!r}: found {len(text)} bytes, expected < 32768")
    return struct.pack(f">B{len(key)}sBH", len(key), key, _STRING, len(text)) + text
