"""A small client of the Lambda API: what ``wherry fn`` does, as functions that return values."""

import base64
import hashlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faas.build import Progress, built
from faas.package import checksum
from wherry.errors import WherryError

_FUNCTIONS = "/2015-03-31/functions"
_TIMEOUT = 960.0
"""Seconds without a byte; the longest invocation takes 900."""
_SETTLE = 300.0

Json = dict[str, Any]


class Refused(WherryError):
    """The Lambda API answered with an error.

    Attributes:
        code: The exception's name.
        status: The HTTP status.
    """

    def __init__(self, code: str, status: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.status = code, status


class Unreachable(WherryError):
    """Nothing answers at the endpoint."""

    def __init__(self, endpoint: str, error: OSError | http.client.HTTPException) -> None:
        super().__init__(
            f"Lambda API {endpoint}: {error}, expected it to answer; start it with wherry up"
        )
        self.endpoint = endpoint


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployed function is to be; None leaves what it is, or Lambda's default.

    Attributes:
        timeout: Seconds for one invocation.
        memory_mib: Memory.
        environment: Replaces all variables.
    """

    handler: str | None = None
    runtime: str | None = None
    timeout: int | None = None
    memory_mib: int | None = None
    environment: Mapping[str, str] | None = None
    description: str | None = None

    def request(self) -> Json:
        """Return the fields of a Lambda request that are set."""
        fields = {
            "Handler": self.handler,
            "Runtime": self.runtime,
            "Timeout": self.timeout,
            "MemorySize": self.memory_mib,
            "Environment": None
            if self.environment is None
            else {"Variables": dict(self.environment)},
            "Description": self.description,
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a deployment came to.

    Attributes:
        name: The function.
        arn: Its ARN.
        change: ``created``, ``updated`` or ``unchanged``.
        state: Lambda's state after it.
    """

    name: str
    arn: str
    change: str
    state: str


@dataclass(frozen=True, slots=True)
class Invoked:
    """What an invocation came to.

    Attributes:
        payload: The answer, or the error as JSON.
        error: None, or Lambda's ``FunctionError``.
        log: The last 4 KiB that it logged.
        start: How the instance came by: ``cold``, ``restored``, ``frozen`` or ``warm``.
    """

    payload: bytes
    error: str | None
    log: bytes
    start: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass(frozen=True, slots=True)
class Client:
    """The Lambda API at one endpoint; one connection per request.

    Attributes:
        endpoint: ``http://HOST:PORT``.
        sleep: Waits between looks at a function that is being made ready.
    """

    endpoint: str
    sleep: Callable[[float], None] = time.sleep

    def deploy(
        self, directory: Path, name: str, settings: Settings, *, cache_dir: Path, progress: Progress
    ) -> Deployed:
        """Create or update ``name`` from ``directory`` and return when it is ready.

        Raises:
            BuildError: The directory cannot be made into a package.
            Refused: The API would not have it.
            Unreachable: Nothing answers.
        """
        package = built(directory, cache_dir, progress)
        zipped = base64.b64encode(package).decode()
        path = f"{_FUNCTIONS}/{_quoted(name)}"
        try:
            before = self._send("GET", path + "/configuration").json()
        except Refused as error:
            if error.code != "ResourceNotFoundException":
                raise
            request = {
                "FunctionName": name,
                "Role": "arn:aws:iam::000000000000:role/wherry",
                "Code": {"ZipFile": zipped},
                "Handler": "app.handler",
                "Runtime": "python3.11",
            }
            self._send("POST", _FUNCTIONS, request | settings.request())
            return self._ready(name, "created", progress)
        wanted = settings.request()
        changed = any(before.get(key) != value for key, value in wanted.items())
        if changed:
            self._send("PUT", path + "/configuration", wanted)
        if checksum(hashlib.sha256(package).hexdigest()) != before["CodeSha256"]:
            self._send("PUT", path + "/code", {"ZipFile": zipped})
            changed = True
        return self._ready(name, "updated" if changed else "unchanged", progress)

    def invoke(self, name: str, payload: bytes) -> Invoked:
        """Run a function and wait for what comes of it.

        Raises:
            Refused: The API would not run it.
            Unreachable: Nothing answers.
        """
        path = f"{_FUNCTIONS}/{_quoted(name)}/invocations"
        answer = self._send("POST", path, payload, {"X-Amz-Log-Type": "Tail"})
        return Invoked(
            payload=answer.body,
            error=answer.headers.get("x-amz-function-error"),
            log=base64.b64decode(answer.headers.get("x-amz-log-result", "")),
            start=answer.headers.get("x-wherry-start", ""),
        )

    def logs(self, name: str, *, after: int = 0) -> list[Json]:
        """Return lines of a function's log, each with ``offset``, ``at_ns`` and ``text``.

        Raises:
            Refused: There is no such function.
            Unreachable: Nothing answers.
        """
        path = f"/wherry/functions/{_quoted(name)}/logs?after={after}"
        lines: list[Json] = self._send("GET", path).json()
        return lines

    def list(self) -> Iterator[Json]:
        """Yield every function's configuration, by name.

        Raises:
            Unreachable: Nothing answers.
        """
        marker = ""
        while True:
            page = self._send("GET", f"{_FUNCTIONS}?{urllib.parse.urlencode({'Marker': marker})}")
            yield from page.json()["Functions"]
            marker = page.json().get("NextMarker", "")
            if not marker:
                return

    def delete(self, name: str) -> None:
        """Remove a function.

        Raises:
            Refused: There is no such function.
            Unreachable: Nothing answers.
        """
        self._send("DELETE", f"{_FUNCTIONS}/{_quoted(name)}")

    def _ready(self, name: str, change: str, progress: Progress) -> Deployed:
        """Wait until the function is made ready."""
        waited = 0.0
        while True:
            found = self._send("GET", f"{_FUNCTIONS}/{_quoted(name)}/configuration").json()
            if found["State"] != "Pending" and found["LastUpdateStatus"] != "InProgress":
                state = found["State"]
                if state == "Failed":
                    state = f"Failed: {found.get('StateReason', '')}"
                elif found["LastUpdateStatus"] == "Failed":
                    state = f"Failed: {found.get('LastUpdateStatusReason', '')}"
                return Deployed(name, found["FunctionArn"], change, state)
            if waited >= _SETTLE:
                raise Refused("Timeout", 0, f"function {name}: not ready after {_SETTLE:g} s")
            if not waited:
                progress(f"starting {name}")
            self.sleep(0.1)
            waited += 0.1

    def _send(
        self,
        method: str,
        path: str,
        body: bytes | Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer:
        parts = urllib.parse.urlsplit(self.endpoint)
        if parts.scheme != "http" or not parts.hostname:
            raise Refused("Endpoint", 0, f"{self.endpoint}: expected http://HOST:PORT")
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=_TIMEOUT)
        with closing(connection):
            try:
                connection.request(method, path, data, {**(headers or {})})
                response = connection.getresponse()
                answer = _Answer(
                    response.status,
                    response.read(),
                    {key.lower(): value for key, value in response.getheaders()},
                )
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(self.endpoint, error) from error
        if answer.status >= http.client.BAD_REQUEST:
            raise _refused(answer)
        return answer


def _refused(answer: _Answer) -> Refused:
    code = answer.headers.get("x-amzn-errortype", f"HTTP {answer.status}")
    try:
        said = answer.json()
        message = said.get("Message") or said.get("message") or ""
    except ValueError:
        message = answer.body[:200].decode(errors="replace")
    return Refused(code, answer.status, message)


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
