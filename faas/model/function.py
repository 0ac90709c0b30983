"""A function as Wherry keeps it: one immutable value for each version. Pure."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LATEST = "$LATEST"
MAX_ENVIRONMENT = 4096
"""Most bytes in a function's variables, as JSON. Source: Lambda quotas."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_REFERENCE = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]{1,128}))?"
)


class State(StrEnum):
    """Lambda's function states."""

    PENDING = "Pending"
    INACTIVE = "Inactive"
    ACTIVE = "Active"
    FAILED = "Failed"


class Update(StrEnum):
    """Lambda's states of the last update."""

    IN_PROGRESS = "InProgress"
    SUCCESSFUL = "Successful"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class LayerUse:
    """A layer version as a function uses it.

    Attributes:
        arn: With its version.
        digest: SHA-256 of its package, in hex: names its directory.
        size: Bytes in the uploaded package.
    """

    arn: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What overrides a container image's own configuration; empty: as the image says."""

    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""


@dataclass(frozen=True, slots=True)
class Logging:
    """How a function's log is written: Lambda's ``LoggingConfig``; an empty group: the usual."""

    format: str = "Text"
    application_level: str = ""
    system_level: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Vpc:
    """Where on AWS a function would have a network card: kept and shown, without an effect."""

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    ipv6: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """One function, or one published version of it, and how it is to run.

    Attributes:
        name: 1 to 64 of ``A-Za-z0-9-_``; unique.
        arn: The name as AWS spells it, without a qualifier.
        runtime: ``python3.11``, ``nodejs22.x``, ``provided.al2023``; empty for an image.
        handler: As the runtime reads it; empty for an image.
        digest: SHA-256 of the code package or the image, in hex: names its directory.
        code_size: Bytes in the uploaded package.
        modified: When the function last changed, as Lambda formats it.
        revision: Changes with every update; callers send it back as ``RevisionId``.
        version: `LATEST`, or the number of a published version, which never changes.
        timeout: Seconds that one invocation may take, 1 to 900.
        memory_mib: 128 to 10240.
        architecture: ``x86_64`` or ``arm64``.
        environment: The function's own variables, readable: only in memory, see `Vault`.
        tags: Of the function, kept with `LATEST` only.
        reason: Why the state or the last update is what it is; empty when all is well.
        layers: In the order in which they are merged under ``/opt``; later ones win.
        tmp_mib: Size of ``/tmp``, 512 to 10240.
        package_type: ``Zip`` or ``Image``.
        image_uri: Where the image came from; empty for a zip.
        dead_letter: ARN of the dead-letter queue; empty: none.
        kms_key: ARN of the key that its variables are sealed with; empty: the place's own.
        tracing: ``PassThrough`` or ``Active``.
        snap_start: ``None`` or ``PublishedVersions``.
        published: Of `LATEST`: the highest number that a version of it was ever given.
        origin: Of a published version: the revision of `LATEST` that it is a copy of.
        sealed: Base64 of its variables when the vault cannot read them; empty: it can.
        reason_code: Lambda's code that goes with ``reason``.
        image_manifest: Digest of the image's manifest, ``sha256:HEX``; empty when it has none.
        vpc: See `Vpc`.
    """

    name: str
    arn: str
    runtime: str
    handler: str
    digest: str
    code_size: int
    modified: str
    revision: str
    version: str = LATEST
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
    layers: tuple[LayerUse, ...] = ()
    tmp_mib: int = 512
    package_type: str = "Zip"
    image_uri: str = ""
    image_config: ImageConfig = ImageConfig()
    dead_letter: str = ""
    kms_key: str = ""
    tracing: str = "PassThrough"
    snap_start: str = "None"
    logging: Logging = Logging()
    published: int = 0
    origin: str = ""
    sealed: str = ""
    reason_code: str = ""
    image_manifest: str = ""
    vpc: Vpc = Vpc()

    @property
    def code_sha256(self) -> str:
        """Its ``CodeSha256``: of a zip in base64, of an image in hex."""
        if self.package_type == "Image":
            return self.image_manifest.removeprefix("sha256:") or self.digest
        return base64.b64encode(bytes.fromhex(self.digest)).decode()

    @property
    def qualified_arn(self) -> str:
        """The ARN with the version; `LATEST` has none."""
        return self.arn if self.version == LATEST else f"{self.arn}:{self.version}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A function as callers name it: bare, partial ARN or ARN, with or without a qualifier.

    Attributes:
        name: The function's.
        qualifier: `LATEST` when there was none.
        qualified: Whether the caller said a qualifier, be it `LATEST`.
        region: As the caller said it; empty: not.
        account: As the caller said it; empty: not.
    """

    name: str
    qualifier: str = LATEST
    qualified: bool = field(default=False, compare=False)
    region: str = field(default="", compare=False)
    account: str = field(default="", compare=False)

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
        return cls(
            match["name"],
            inside or qualifier or LATEST,
            qualified=bool(inside or qualifier),
            region=match["region"] or "",
            account=match["account"] or "",
        )
