"""The Lambda API of a running Wherry, spoken to over HTTP: one connection per request."""

import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from wherry.errors import WherryError

FUNCTIONS = "/2015-03-31/functions"
LAYERS = "/2018-10-31/layers"
_TIMEOUT = 960.0
"""Seconds without a byte; the longest invocation takes 900."""
_SETTLE = 300.0
_LOOK = 0.1
_SAY = 15.0
"""Seconds between two signs of life."""

Json = dict[str, Any]

Signer = Callable[[str, str, bytes, Mapping[str, str]], Mapping[str, str]]
"""Returns the headers of a signed request from its method, URL, body and headers."""


class Refused(WherryError):
    """The Lambda API answered with an error.

    Attributes:
        code: The exception's name.
        status: The HTTP status.
    """

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.status = code, status

    @property
    def missing(self) -> bool:
        """Whether what was asked for does not exist."""
        return self.code == "ResourceNotFoundException"


class Unreachable(WherryError):
    """Nothing answers at the endpoint."""

    def __init__(self, endpoint: str, error: OSError | http.client.HTTPException) -> None:
        super().__init__(
            f"Lambda API {endpoint}: {error}, expected it to answer; start it with wherry up"
        )
        self.endpoint = endpoint


@dataclass(frozen=True, slots=True)
class Reply:
    """What the API answered; header names are in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        """Return the body as JSON; nothing at all is an empty object."""
        return json.loads(self.body or b"{}")


@dataclass(frozen=True, slots=True)
class Api:
    """The Lambda API at one endpoint.

    Attributes:
        endpoint: ``http://HOST:PORT``.
        sleep: Waits between looks at a function that is being made ready.
        signer: Signs requests; None: they go unsigned.
    """

    endpoint: str
    sleep: Callable[[float], None] = time.sleep
    signer: Signer | None = None

    def send(
        self,
        method: str,
        path: str,
        body: bytes | Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Return the answer to one request.

        Raises:
            Refused: It is an error.
            Unreachable: Nothing answers.
        """
        parts = urllib.parse.urlsplit(self.endpoint)
        if parts.scheme != "http" or not parts.hostname:
            raise Refused("Endpoint", 0, f"{self.endpoint}: expected http://HOST:PORT")
        data = json.dumps(body).encode() if isinstance(body, dict) else body or b""
        sent = dict(headers or {})
        if self.signer is not None:
            sent = dict(self.signer(method, f"{self.endpoint}{path}", data, sent))
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT)
        with closing(connection):
            try:
                connection.request(method, path, data, sent)
                response = connection.getresponse()
                answer = Reply(
                    response.status,
                    response.read(),
                    {key.lower(): value for key, value in response.getheaders()},
                )
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(self.endpoint, error) from error
        if answer.status >= http.client.BAD_REQUEST:
            raise _refused(answer)
        return answer

    def get(self, path: str, **query: str | int) -> Any:
        """Return the JSON at ``path``.

        Raises:
            Refused: It is an error.
            Unreachable: Nothing answers.
        """
        asked = f"?{urllib.parse.urlencode(query)}" if query else ""
        return self.send("GET", path + asked).json()

    def found(self, path: str, **query: str | int) -> Any:
        """Return the JSON at ``path``, or None when there is no such thing.

        Raises:
            Refused: It is another error.
            Unreachable: Nothing answers.
        """
        try:
            return self.get(path, **query)
        except Refused as error:
            if error.missing:
                return None
            raise

    def pages(self, path: str, member: str) -> Iterator[Json]:
        """Yield what stands in ``member`` of each page at ``path``.

        Raises:
            Refused: It is an error.
            Unreachable: Nothing answers.
        """
        marker: str = ""
        while True:
            page = self.get(path, **({"Marker": marker} if marker else {}))
            yield from page[member]
            marker = page.get("NextMarker") or ""
            if not marker:
                return

    def fetch(self, location: str) -> bytes:
        """Return what is at a ``Location`` that the API named.

        Raises:
            Refused: It is not at this endpoint, or not there.
            Unreachable: Nothing answers.
        """
        parts, own = urllib.parse.urlsplit(location), urllib.parse.urlsplit(self.endpoint)
        if parts.netloc != own.netloc:
            raise Refused("Location", 0, f"{location}: expected it at {self.endpoint}")
        return self.send("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path).body

    def settled(self, name: str, waiting: Callable[[float], None]) -> Json:
        """Return a function's configuration when nothing about it is in progress any more.

        Args:
            name: The function.
            waiting: Told for how many seconds, at once and now and then.

        Raises:
            Refused: There is no such function, or it takes too long.
            Unreachable: Nothing answers.
        """
        waited = 0.0
        while True:
            found: Json = self.get(f"{FUNCTIONS}/{quoted(name)}/configuration")
            if found["State"] != "Pending" and found.get("LastUpdateStatus") != "InProgress":
                return found
            if waited >= _SETTLE:
                raise Refused("Timeout", 0, f"function {name}: not ready after {_SETTLE:g} s")
            if waited % _SAY < _LOOK:
                waiting(waited)
            self.sleep(_LOOK)
            waited += _LOOK


def quoted(name: str) -> str:
    """Return a name or an ARN as it stands in a path."""
    return urllib.parse.quote(name, safe="")


def _refused(answer: Reply) -> Refused:
    code = answer.headers.get("x-amzn-errortype", f"HTTP {answer.status}")
    try:
        said = answer.json()
        message = said.get("Message") or said.get("message") or ""
    except (ValueError, AttributeError):
        message = answer.body[:200].decode(errors="replace")
    return Refused(code, answer.status, " ".join(str(message).split()))
