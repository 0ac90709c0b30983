"""A call as every stage sees it, whatever shell brought it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.path import Path

Fields = CIMultiDict[str] | CIMultiDictProxy[str]
"""Header fields."""

FRAMING = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Names of fields that only the two ends of a connection set, in lower case."""


@dataclass(slots=True)
class Head:
    """The head of a request.

    Attributes:
        method: As sent.
        path: In its one spelling.
        query: Raw; a stage that takes a key out of it puts the rest here.
        host: Lower case, without a port.
        headers: As received.
        peer: The client's address: the connection's, or what a trusted proxy says.
        scheme: ``http`` or ``https``.
        protocol: Like ``HTTP/1.1``.
        certificate: The client's verified certificate in DER form, or None.
        authority: ``host`` and the port that was named, if one was; upstreams are told this.
    """

    method: str
    path: Path
    query: str
    host: str
    headers: Fields
    peer: str
    scheme: str = "http"
    protocol: str = "HTTP/1.1"
    certificate: bytes | None = None
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was identified.

    Attributes:
        consumer: Name of the consumer.
        app: Of theirs; ``default`` when the credential names none.
        credential: Public name of what they showed: a key's prefix, ``jwt:`` and a short digest
            of issuer and subject, ``cert:`` and the fingerprint's beginning; never a secret.
        method: How, by the names of `wherry.model.authentication`.
        scopes: What was granted; None is everything that the app may have.
        environment: The only one it counts in; None is every one.
        subject: What the issuer calls them, for the upstream; None when there is no issuer.
        body_digest: SHA-256 that the body must have, or None when it was not signed.
    """

    consumer: str
    app: str
    credential: str
    method: str
    scopes: frozenset[str] | None = None
    environment: str | None = None
    subject: str | None = None
    body_digest: bytes | None = None


@dataclass(slots=True)
class Answer:
    """What the client gets.

    Attributes:
        status: 200 to 599, or 101.
        headers: Without those that frame the message.
        body: The whole of it, or its pieces as they come.
        reason: Phrase beside the status; None is the usual one.
    """

    status: int
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes | AsyncIterator[bytes] = b""
    reason: str | None = None
