"""A function as Wherry keeps it: one immutable value, its JSON record and its launch."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from faas.vm import Launch

LATEST = "$LATEST"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFERENCE = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)


class State(StrEnum):
    """Lambda's function states."""

    PENDING = "Pending"
    ACTIVE = "Active"
    FAILED = "Failed"


class Update(StrEnum):
    """Lambda's states of the last update."""

    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Function:
    """One function and how it is to run.

    Attributes:
        name: 1 to 64 of ``A-Za-z0-9-_``; unique.
        arn: The name as AWS spells it, without a qualifier.
        digest: SHA-256 of the code package, in hex: names its directory.
        code_size: Bytes in the uploaded package.
        timeout: Seconds that one invocation may take, 1 to 900.
        memory_mib: 128 to 10240.
        architecture: ``x86_64`` or ``arm64``.
        modified: When the function last changed, as Lambda formats it.
        revision: Changes with every update; callers send it back as ``RevisionId``.
        reason: Why the state or the last update is what it is; empty when all is well.
    """

    name: str
    arn: str
    runtime: str
    handler: str
    digest: str
    code_size: int
    modified: str
    revision: str
    role: str = ""
    description: str = ""
    timeout: int = 3
    memory_mib: int = 128
    architecture: str = "x86_64"
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    state: State = State.PENDING
    update: Update = Update.SUCCESSFUL
    reason: str = ""

    def launch(self, *, code: Path, init_timeout: float, egress: Path | None) -> Launch:
        """Return what a backend needs to run this function.

        Args:
            code: Directory of the unpacked package.
            init_timeout: Seconds that the function's own initialisation may take.
            egress: Unix socket of the function's way out, None for none.
        """
        return Launch(
            function=self.name,
            version=LATEST,
            arn=self.arn,
            code=code,
            digest=self.digest,
            handler=self.handler,
            runtime=self.runtime,
            memory_mib=self.memory_mib,
            timeout=float(self.timeout),
            init_timeout=init_timeout,
            environment=self.environment,
            egress=egress,
        )


def encoded(function: Function) -> bytes:
    """Return the record body that `decoded` reads."""
    return json.dumps(asdict(function), separators=(",", ":"), sort_keys=True).encode()


def decoded(body: bytes) -> Function:
    """Return the function that `encoded` wrote."""
    fields = json.loads(body)
    return Function(
        **{**fields, "state": State(fields["state"]), "update": Update(fields["update"])}
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """A function as callers name it: bare, partial ARN or ARN, with or without a qualifier."""

    name: str
    qualifier: str = LATEST

    @classmethod
    def parse(cls, text: str, qualifier: str | None = None) -> "Reference | None":
        """Read a function's name or ARN; return None when ``text`` is neither.

        Args:
            text: What the caller wrote.
            qualifier: A qualifier given apart from the name; the two may not differ.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            return None
        inside = match["qualifier"]
        if inside and qualifier and inside != qualifier:
            return None
        return cls(match["name"], inside or qualifier or LATEST)
