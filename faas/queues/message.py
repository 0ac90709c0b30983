"""Messages as values, and the digests by which SDKs check them. Pure.

Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/
sqs-message-metadata.html
"""

import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from faas.queues.faults import InvalidMessageContents, InvalidParameterValue

MAX_ATTRIBUTES = 10
_NAME = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_TYPE = re.compile(r"(?:String|Number|Binary)(?:\..{1,240})?")
_ALLOWED = re.compile("[\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*")
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RESERVED = ("aws.", "amazon.")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One message attribute.

    Attributes:
        kind: ``String``, ``Number`` or ``Binary``, perhaps with a label after a dot.
        text: Of a String or Number.
        binary: Of a Binary.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        ser_json_bytes="base64", val_json_bytes="base64"
    )

    kind: str
    text: str = ""
    binary: bytes = b""

    @property
    def value(self) -> bytes:
        """The value's bytes."""
        return self.binary if self.kind.startswith("Binary") else self.text.encode()


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a message.

    Attributes:
        body: Text.
        trace: X-Ray header; empty: none.
        sender: Who sent it.
    """

    body: str
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    trace: str = ""
    sender: str = ""

    @property
    def size(self) -> int:
        """Bytes as SQS counts them: body, and names, types and values of attributes."""
        return len(self.body.encode()) + sum(
            len(name.encode()) + len(each.kind.encode()) + len(each.value)
            for name, each in self.attributes.items()
        )


@dataclass(frozen=True, slots=True)
class Message:
    """A message's state; its content is kept apart.

    Attributes:
        id: UUID.
        sequence: Its place in the queue.
        sent: Unix seconds.
        visible: Unix seconds from which it can be received.
        size: As `Content.size`.
        pieces: In how many records its content is kept.
        receives: How often it was received.
        first: Unix seconds of its first receive; 0: none yet.
        receipt: Tells the last receive from earlier ones.
        group: Message group of a first-in-first-out queue.
        dedup: Deduplication id of such a queue.
        source: ARN of the queue whose dead letter it is; empty: none.
        once: Whether its sender may send it again, not knowing that it did.
        gone: Whether only the memory of it is left.
    """

    id: str
    sequence: int
    sent: float
    visible: float
    size: int
    pieces: int
    receives: int = 0
    first: float = 0.0
    receipt: str = ""
    group: str = ""
    dedup: str = ""
    source: str = ""
    once: bool = False
    gone: bool = False


def check(content: Content) -> None:
    """Check a message's content.

    Raises:
        InvalidMessageContents: The body has characters that XML 1.0 does not have.
        InvalidParameterValue: The body is empty, or an attribute is not as it has to be.
    """
    if not content.body:
        raise InvalidParameterValue("The request must contain the parameter MessageBody.")
    if not _ALLOWED.fullmatch(content.body):
        raise InvalidMessageContents(
            "Invalid binary character was found in the message body, the set of allowed "
            "characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to "
            "#x10FFFF"
        )
    if len(content.attributes) > MAX_ATTRIBUTES:
        raise InvalidParameterValue(
            f"Number of message attributes [{len(content.attributes)}] exceeds the allowed "
            f"maximum [{MAX_ATTRIBUTES}]."
        )
    for name, attribute in content.attributes.items():
        if not _NAME.fullmatch(name) or name.lower().startswith(_RESERVED):
            raise InvalidParameterValue(
                f"The message attribute name '{name[:256]}' is invalid. Attribute name can contain "
                "A-Z, a-z, 0-9, underscore (_), hyphen (-), and period (.) characters."
            )
        if not _TYPE.fullmatch(attribute.kind):
            raise InvalidParameterValue(
                f"The message attribute '{name}' has an invalid message attribute type, the set "
                "of supported type prefixes is Binary, Number, and String."
            )
        if not attribute.value or not _ALLOWED.fullmatch(attribute.text):
            raise InvalidParameterValue(
                f"The message attribute '{name}' must contain a non-empty message attribute value "
                "of allowed characters."
            )
        if attribute.kind.startswith("Number") and not _number(attribute.text):
            raise InvalidParameterValue(
                f"Can't cast the value of message attribute '{name}' to a number."
            )


def cleaned(text: str) -> str:
    """Return the text with U+FFFD for what a message may not have."""
    return _FORBIDDEN.sub("\ufffd", text)


def _number(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", text))


def md5(text: str) -> str:
    """Return the digest of a body."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def attributes_md5(attributes: Mapping[str, Attribute]) -> str:
    """Return the digest of attributes; empty when there are none."""
    if not attributes:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        attribute = attributes[name]
        for part in (name.encode(), attribute.kind.encode()):
            digest.update(struct.pack(">I", len(part)) + part)
        digest.update(b"\x02" if attribute.kind.startswith("Binary") else b"\x01")
        digest.update(struct.pack(">I", len(attribute.value)) + attribute.value)
    return digest.hexdigest()
