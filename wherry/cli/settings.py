"""Where each part listens and where Wherry keeps its files."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from wherry.errors import StartError
from wherry.serve import Address

PARTS: Mapping[str, int] = {
    "gateway": 8000,
    "admin": 8001,
    "portal": 8002,
    "xds": 18000,
    "policy": 18001,
    "telemetry": 18002,
    "metrics": 9090,
    "lambda": 9001,
    "urls": 9002,
    "pilot": 18003,
}
"""Every part that listens, with its usual port on loopback."""

CREDENTIALS = "credentials"
"""File of the state folder with the AWS keys that the Lambda API accepts."""

REGION = "us-east-1"
"""The region that functions say they are in, unless told otherwise."""

INGRESS = "ingress"
"""The port of the first listener of a `Gateway`; unlike the others it is written there."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where each part listens.

    Attributes:
        by_part: Address by name of `PARTS`, and of `INGRESS` when the operator moved it.
    """

    by_part: Mapping[str, Address]

    def of(self, part: str) -> Address:
        """Return where ``part`` listens."""
        return self.by_part[part]

    def moved(self, part: str, address: Address) -> "Listen":
        """Return the same with ``part`` at ``address``."""
        return replace(self, by_part={**self.by_part, part: address})


Transport = Literal["grpc", "http2"]
"""What carries the Pilot's gRPC: gRPC's own library, or a shell of ours."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What functions are connected to that is not Wherry's.

    Attributes:
        region: What stands in their ARNs, and in signatures.
        s3: URL of the S3-compatible store that packages may come from; None: there is none.
        redis: URL of the Redis whose streams may be mapped to functions; None: there is none.
        limits: What is set of `LIMITS`, by name.
    """

    region: str = REGION
    s3: str | None = None
    redis: str | None = None
    limits: Mapping[str, float] = field(default_factory=dict)


LIMITS: Mapping[str, type[int | float]] = {
    "concurrency": int,
    "instances": int,
    "queue": int,
    "queue_wait": float,
    "keep_idle": float,
    "freeze_after": float,
    "drain": float,
    "init_timeout": float,
    "events": int,
}
"""What an operator may limit of functions: fields of `faas.app.Settings`."""


def limits(options: Sequence[str]) -> Mapping[str, float]:
    """Read ``--limit NAME=NUMBER`` options.

    Raises:
        StartError: An option names no limit, or its number is none of 0 or more.
    """
    found: dict[str, float] = {}
    for option in options:
        name, _, text = option.partition("=")
        kind = LIMITS.get(name)
        try:
            number = None if kind is None else kind(text)
        except ValueError:
            number = None
        if number is None or not 0 <= number < math.inf or (kind is int and not number):
            names = ", ".join(f"{name} ({kind.__name__})" for name, kind in LIMITS.items())
            raise StartError(
                f"--limit {option!r}: expected NAME=NUMBER with a number over 0, or 0 seconds, "
                f"for one of {names}"
            )
        found[name] = number
    return found


@dataclass(frozen=True, slots=True)
class Options:
    """What ``wherry up`` or ``wherry run`` was asked for.

    Attributes:
        source: File or folder of the configuration.
        state: Folder that outlives this run: records, keys, code, data.
        listen: Where each part listens.
        backend: ``auto``, ``qemu``, ``firecracker`` or ``process``.
        workers: How many processes the Pilot is; None: this one.
        transport: What carries the Pilot's gRPC: ``grpc`` or ``http2``.
        worker: What such a process is told, see `wherry.workers.place`; None: this is none.
        beside: Whether other such processes serve already.
        outside: What functions are connected to that is not Wherry's.
        store: URL of the Store, maybe with a password; None: see `wherry.cli.stores.chosen`.
        settle: Seconds that the gateway still takes calls after it says that its end is near.
    """

    source: Path
    state: Path
    listen: Listen
    backend: str = "auto"
    workers: int | None = None
    transport: Transport = "grpc"
    worker: Path | None = None
    beside: bool = False
    outside: Outside = Outside()
    store: str | None = field(default=None, repr=False)
    settle: float = 0.0


def listen(options: Sequence[str], *, free_ports: bool) -> Listen:
    """Read ``--listen PART=HOST:PORT`` options.

    Args:
        options: What follows each ``--listen``.
        free_ports: Let the kernel choose every port that no option names.

    Raises:
        StartError: An option names no part or no address.
    """
    chosen = {part: Address(port=0 if free_ports else port) for part, port in PARTS.items()}
    if free_ports:
        chosen[INGRESS] = Address()
    for option in options:
        part, equals, text = option.partition("=")
        if not equals or part not in {*PARTS, INGRESS}:
            parts = ", ".join([*PARTS, INGRESS])
            raise StartError(f"--listen {option!r}: expected PART=HOST:PORT with one of {parts}")
        try:
            chosen[part] = Address.parse(text)
        except ValueError as error:
            raise StartError(f"--listen {option!r}: {error}") from None
    return Listen(chosen)


def cache_folder() -> Path:
    """Return where downloads and images are kept: WHERRY_CACHE, or ``~/.cache/wherry``."""
    given = os.environ.get("WHERRY_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wherry"
