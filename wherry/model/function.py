"""Functions that are deployed with the configuration."""

from typing import Annotated, Literal

from pydantic import Field

from wherry.model.resource import Duration, Metadata, Name, Resource, Strict


class FunctionSpec(Strict):
    """See `Function`; the words and the bounds are Lambda's.

    Attributes:
        code: Folder of the handler, relative to the file.
        memory_mib: Memory of the microVM in MiB.
        timeout: Longest an invocation may run; at most 15 minutes.
        calls: Services that it may call; None allows all of them.
    """

    code: str = Field(min_length=1)
    handler: str = Field(pattern=r"^[^\s]+$", max_length=128)
    runtime: Literal["python3.11"] = "python3.11"
    memory_mib: int = Field(default=128, ge=128, le=10240)
    timeout: Duration = "3s"
    environment: dict[str, str] = {}
    calls: list[Name] | None = Field(default=None, max_length=1024)


class FunctionMetadata(Metadata):
    """As `Metadata`, with Lambda's rule for names."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-_]{1,64}$")]


class Function(Resource):
    """A Lambda function whose code lies beside the configuration."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["Function"]
    metadata: FunctionMetadata
    spec: FunctionSpec
