"""A request as a shell hands it to the pipeline, whatever server read it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from gateway.call import Fields
from wherry.errors import WherryError


class Source(Protocol):
    """Where the body of one request comes from.

    Attributes:
        length: Bytes that the request says its body has, or None.
    """

    length: int | None

    @property
    def empty(self) -> bool:
        """Whether no byte will come."""
        ...

    def arrived(self) -> bytes | None:
        """Return the whole body if all of it is here; None: some of it is still to come."""
        ...

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; a client that asked first is told to go ahead."""
        ...


@dataclass(slots=True)
class Request:
    """What the pipeline gets.

    Attributes:
        method: As sent.
        target: The request target, as sent.
        headers: As received.
        peer: The address at the connection's other end.
        body: Where it comes from.
        scheme: ``http`` or ``https``.
        protocol: Like ``HTTP/1.1``.
        certificate: The client's verified certificate in DER form, or None.
    """

    method: str
    target: str
    headers: Fields
    peer: str
    body: Source
    scheme: str = "http"
    protocol: str = "HTTP/1.1"
    certificate: bytes | None = None


class ClientGone(WherryError):
    """The client hung up before its request was whole."""
