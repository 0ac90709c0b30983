"""What ``wherry fn`` does to functions over the Lambda API, as methods that return values."""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faas.client.api import (
    FUNCTIONS,
    Api,
    Json,
    Refused,
    Unreachable,
    quoted,
)
from faas.client.layers import Layers
from faas.code import build
from faas.code.build import Built, Progress
from faas.code.guess import guess
from faas.code.package import checksum

__all__ = ["Client", "Deployed", "Invoked", "Refused", "Settings", "Unreachable"]

ROLE = "arn:aws:iam::000000000000:role/wherry"
_OURS = (":layer:requirements-", ":layer:packages-")
"""What the ARNs of layers contain that deployments make."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a deployed function is to be; None leaves what it is, or Lambda's default.

    Attributes:
        timeout: Seconds for one invocation.
        memory_mib: Memory.
        environment: Replaces all variables.
        layers: ARNs of layers, in place of those that it has, beside what it asks for itself.
        tmp_mib: Size of ``/tmp``.
        command: For an image: in place of its CMD.
    """

    handler: str | None = None
    runtime: str | None = None
    timeout: int | None = None
    memory_mib: int | None = None
    environment: Mapping[str, str] | None = None
    description: str | None = None
    layers: Sequence[str] | None = None
    tmp_mib: int | None = None
    command: Sequence[str] | None = None

    def request(self) -> Json:
        """Return the fields of a Lambda request that are set."""
        variables, tmp, command = self.environment, self.tmp_mib, self.command
        fields = {
            "Handler": self.handler,
            "Runtime": self.runtime,
            "Timeout": self.timeout,
            "MemorySize": self.memory_mib,
            "Environment": None if variables is None else {"Variables": dict(variables)},
            "Description": self.description,
            "Layers": None if self.layers is None else list(self.layers),
            "EphemeralStorage": None if tmp is None else {"Size": tmp},
            "ImageConfig": None if command is None else {"Command": list(command)},
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
        version: The published version that has this code and configuration; empty: none.
    """

    name: str
    arn: str
    change: str
    state: str
    version: str = ""


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
class Client:
    """The functions of one endpoint.

    Attributes:
        api: What requests go through.
    """

    api: Api

    def deploy(
        self, directory: Path, name: str, settings: Settings, *, cache_dir: Path, progress: Progress
    ) -> Deployed:
        """Create or update ``name`` from ``directory``, publish it, and return when it is ready.

        What its requirements.txt or package.json asks for becomes a layer, once for each text.

        Raises:
            BuildError: The directory cannot be made into a package.
            Refused: The API would not have it.
            Unreachable: Nothing answers.
        """
        before = self.api.found(f"{FUNCTIONS}/{quoted(name)}/configuration")
        known = before or {}
        runtime = settings.runtime or known.get("Runtime")
        guessed = guess(
            directory, runtime=runtime, handler=settings.handler or known.get("Handler")
        )
        if before is None:
            progress(f"{guessed.runtime}, handler {guessed.handler} (from {guessed.because})")
        made = build.code(directory, cache_dir, progress, runtime=guessed.runtime)
        wanted = settings.request()
        layers = self._layers(known, settings, made, guessed.runtime, cache_dir, progress)
        if before is None:
            wanted = {"Handler": guessed.handler, "Runtime": guessed.runtime} | wanted
        return self.put(name, made.code, {**wanted, "Layers": layers}, progress)

    def deploy_image(
        self, image: str, name: str, settings: Settings, *, progress: Progress
    ) -> Deployed:
        """Create or update ``name`` as a function that runs a container image.

        Raises:
            Refused: The API would not have it.
            Unreachable: Nothing answers.
        """
        return self.put(name, image, settings.request(), progress)

    def put(self, name: str, code: bytes | str, wanted: Json, progress: Progress) -> Deployed:
        """Have the function ``name`` with this code and configuration, and publish it.

        Args:
            name: The function.
            code: A zip, or where a container image is.
            wanted: Fields of a Lambda request; what is not there stays as it is.
            progress: Told when it has to be waited for.

        Raises:
            Refused: The API would not have it.
            Unreachable: Nothing answers.
        """
        path = f"{FUNCTIONS}/{quoted(name)}"
        before = self.api.found(path + "/configuration")
        package = _code(code)
        if before is None:
            request = {"FunctionName": name, "Role": ROLE, "Code": package} | wanted
            if isinstance(code, str):
                request["PackageType"] = "Image"
                progress(f"fetching {code}")
            self.api.send("POST", FUNCTIONS, request)
            return self._published(name, "created", progress)
        changed = {key: value for key, value in wanted.items() if setting(before, key) != value}
        if changed:
            self.api.send("PUT", path + "/configuration", changed)
            self._settled(name, progress)
        if isinstance(code, str):
            progress(f"fetching {code}")
            tried = self.api.send("PUT", path + "/code", {**package, "DryRun": True}).json()
            fresh = tried["CodeSha256"] != before["CodeSha256"]
        else:
            fresh = _sum(code) != before["CodeSha256"]
        if fresh:
            self.api.send("PUT", path + "/code", package)
        return self._published(name, "updated" if changed or fresh else "unchanged", progress)

    def configure(self, name: str, wanted: Json, progress: Progress) -> Deployed:
        """Change the configuration of a function, leave its code, and publish it.

        Raises:
            Refused: The API would not have it.
            Unreachable: Nothing answers.
        """
        if wanted:
            self.api.send("PUT", f"{FUNCTIONS}/{quoted(name)}/configuration", wanted)
        return self._published(name, "updated" if wanted else "unchanged", progress)

    def invoke(self, name: str, payload: bytes, *, qualifier: str = "") -> Invoked:
        """Run a function and wait for what comes of it.

        Raises:
            Refused: The API would not run it.
            Unreachable: Nothing answers.
        """
        path = f"{FUNCTIONS}/{quoted(name)}/invocations"
        if qualifier:
            path += f"?Qualifier={quoted(qualifier)}"
        answer = self.api.send("POST", path, payload, {"X-Amz-Log-Type": "Tail"})
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
        lines: list[Json] = self.api.get(f"/wherry/functions/{quoted(name)}/logs", after=after)
        return lines

    def list(self) -> Iterator[Json]:
        """Yield every function's configuration, by name.

        Raises:
            Refused: The API would not say.
            Unreachable: Nothing answers.
        """
        return self.api.pages(FUNCTIONS, "Functions")

    def versions(self, name: str) -> Iterator[Json]:
        """Yield the published versions of a function, oldest first.

        Raises:
            Refused: There is no such function.
            Unreachable: Nothing answers.
        """
        for version in self.api.pages(f"{FUNCTIONS}/{quoted(name)}/versions", "Versions"):
            if version["Version"] != "$LATEST":
                yield version

    def aliases(self, name: str) -> Iterator[Json]:
        """Yield the aliases of a function.

        Raises:
            Refused: There is no such function.
            Unreachable: Nothing answers.
        """
        return self.api.pages(f"{FUNCTIONS}/{quoted(name)}/aliases", "Aliases")

    def delete(self, name: str) -> None:
        """Remove a function.

        Raises:
            Refused: There is no such function.
            Unreachable: Nothing answers.
        """
        self.api.send("DELETE", f"{FUNCTIONS}/{quoted(name)}")

    def _layers(
        self,
        known: Json,
        settings: Settings,
        made: Built,
        runtime: str,
        cache_dir: Path,
        progress: Progress,
    ) -> Sequence[str]:
        """Return the layers that a function is to have: what it asks for, then the others."""
        others = [arn for arn in setting(known, "Layers") or [] if not _ours(arn)]
        if settings.layers is not None:
            others = list(settings.layers)
        asked = made.wanted
        if asked is None:
            return others
        arn, new = Layers(self.api).named(
            asked.name,
            lambda: build.layer(asked, cache_dir, progress),
            description=f"what {asked.file.name} asks for",
            runtimes=(runtime,),
        )
        progress(f"{'published' if new else 'unchanged'} layer {asked.name} ({asked.file.name})")
        return [arn, *others]

    def _settled(self, name: str, progress: Progress) -> Json:
        def waiting(seconds: float) -> None:
            after = f", {seconds:.0f} s now: where Wherry runs it says why" if seconds else ""
            progress(f"starting {name}{after}")

        return self.api.settled(name, waiting)

    def _published(self, name: str, change: str, progress: Progress) -> Deployed:
        """Wait until the function is made ready, and publish it when it is."""
        found = self._settled(name, progress)
        state = str(found["State"])
        if state == "Failed":
            state = f"Failed: {found.get('StateReason', '')}"
        elif found.get("LastUpdateStatus") == "Failed":
            state = f"Failed: {found.get('LastUpdateStatusReason', '')}"
        if state.startswith("Failed"):
            return Deployed(name, found["FunctionArn"], change, state)
        path = f"{FUNCTIONS}/{quoted(name)}/versions"
        version = self.api.send("POST", path, {"CodeSha256": found["CodeSha256"]}).json()
        return Deployed(name, found["FunctionArn"], change, state, str(version["Version"]))


def setting(configuration: Json, key: str) -> Any:
    """Return a field of a function's configuration in the form that requests have it."""
    value = configuration.get(key)
    match key:
        case "Layers":
            return [layer["Arn"] for layer in value or []]
        case "Environment":
            return {"Variables": (value or {}).get("Variables", {})}
        case "ImageConfig":
            return configuration.get("ImageConfigResponse", {}).get("ImageConfig", {})
        case "SnapStart":
            return {"ApplyOn": (value or {}).get("ApplyOn", "None")}
        case _:
            return value


def _code(code: bytes | str) -> Json:
    if isinstance(code, str):
        return {"ImageUri": code}
    return {"ZipFile": base64.b64encode(code).decode()}


def _sum(code: bytes) -> str:
    return checksum(hashlib.sha256(code).hexdigest())


def _ours(arn: str) -> bool:
    return any(mark in arn for mark in _OURS)
