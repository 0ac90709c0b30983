"""Functions that are deployed with the configuration."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from wherry.model.resource import Duration, Metadata, Name, Resource, Strict, seconds

Expression = Annotated[str, Field(pattern=r"^(?:rate|cron)\([^()]{1,200}\)(?: \S+)?$")]
"""A schedule expression, by its form."""


def _several(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


Variable = Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]+$")]
"""A name of an environment variable, by Lambda's rule: two characters at least."""

Runtime = Literal[
    "python3.11",
    "nodejs18.x",
    "nodejs20.x",
    "nodejs22.x",
    "nodejs24.x",
    "provided",
    "provided.al2",
    "provided.al2023",
]
"""What functions may ask for, by Lambda's names; see `faas.functions.served` for what they get."""

Target = Annotated[
    str, Field(pattern=r"^arn:aws:(sqs|lambda):[a-z0-9-]+:\d{12}:[A-Za-z0-9-_:$.]{1,256}$")
]
"""ARN of a queue or of a function."""
QueueArn = Annotated[str, Field(pattern=r"^arn:aws:sqs:[a-z0-9-]+:\d{12}:[A-Za-z0-9-_.]{1,80}$")]
"""ARN of a queue."""


class UrlCors(Strict):
    """What pages of other origins may do; Lambda's ``Cors``."""

    allow_credentials: bool = False
    allow_headers: list[str] = Field(default=[], max_length=100)
    allow_methods: list[str] = Field(default=[], max_length=6)
    allow_origins: list[str] = Field(default=[], max_length=100)
    expose_headers: list[str] = Field(default=[], max_length=100)
    max_age: Duration = "0s"


class UrlSpec(Strict):
    """An HTTP door of the function's own.

    Attributes:
        auth: Who may call: anyone, or who signs as AWS asks and is allowed to.
        mode: Whether an answer is sent whole or as it comes.
    """

    auth: Literal["NONE", "AWS_IAM"] = "AWS_IAM"
    mode: Literal["BUFFERED", "RESPONSE_STREAM"] = "BUFFERED"
    cors: UrlCors | None = None


class DeliverySpec(Strict):
    """How events that nobody waits for are tried again and where they end.

    Attributes:
        retries: Tries after the first.
        max_age: After which an event is given up, 1 minute to 6 hours.
        on_success: Where to tell of those that came through.
        on_failure: Where to tell of those that did not.
    """

    retries: int = Field(default=2, ge=0, le=2)
    max_age: Duration = "6h"
    on_success: Target | None = None
    on_failure: Target | None = None

    @model_validator(mode="after")
    def _an_age_that_lambda_has(self) -> Self:
        if not 60 <= seconds(self.max_age) <= 6 * 3600:  # noqa: PLR2004 - Lambda's bounds
            raise ValueError(f"maxAge {self.max_age}: expected 1m to 6h")
        return self


class FunctionSpec(Strict):
    """See `Function`; the words and the bounds are Lambda's.

    Attributes:
        code: Folder of the handler, relative to the file.
        image: A container image in place of ``code``: a path relative to the file, such as
            ``./app.tar``, or ``[HOST/]NAME[:TAG]``.
        layers: Folders relative to the file, or ARNs of layer versions; later ones win.
        memory_mib: Memory of the microVM in MiB.
        tmp_mib: Size of ``/tmp`` in MiB.
        timeout: Longest an invocation may run; at most 15 minutes.
        calls: Services that it may call; None allows all of them.
        schedule: When it runs by itself: EventBridge's expressions, such as ``rate(1 minute)`` or
            ``cron(0 9 ? * MON-FRI *) Europe/Berlin``; one, or a list of them.
        reserved_concurrency: Instances that it may use, and no other function; None: as many as
            are free.
        provisioned_concurrency: Instances that are kept ready.
        url: An HTTP door of its own; None: none.
        delivery: How its asynchronous events are tried again.
        dead_letter: Queue for events that were given up.
    """

    code: str | None = Field(default=None, min_length=1)
    image: str | None = Field(default=None, min_length=1)
    handler: str | None = Field(default=None, pattern=r"^[^\s]+$", max_length=128)
    runtime: Runtime = "python3.11"
    layers: list[Annotated[str, Field(min_length=1)]] = Field(default=[], max_length=5)
    memory_mib: int = Field(default=128, ge=128, le=10240)
    tmp_mib: int = Field(default=512, ge=512, le=10240)
    timeout: Duration = "3s"
    environment: dict[Variable, str] = {}
    calls: list[Name] | None = Field(default=None, max_length=1024)
    schedule: Annotated[list[Expression], Field(max_length=50), BeforeValidator(_several)] = []
    reserved_concurrency: int | None = Field(default=None, ge=0, le=10_000)
    provisioned_concurrency: int | None = Field(default=None, ge=1, le=1000)
    url: UrlSpec | None = None
    delivery: DeliverySpec | None = None
    dead_letter: QueueArn | None = None

    @field_validator("timeout")
    @classmethod
    def _a_timeout_that_lambda_has(cls, text: str) -> str:
        if not 1 <= seconds(text) <= 900:  # noqa: PLR2004 - Lambda's bounds
            raise ValueError(f"{text}, expected 1s to 15m")
        return text

    @model_validator(mode="after")
    def _one_kind_of_code(self) -> Self:
        if (self.code is None) == (self.image is None):
            found = "neither code nor image" if self.code is None else "both code and image"
            raise ValueError(f"{found}, expected exactly one of code and image")
        if self.image is not None and (self.handler or self.layers):
            raise ValueError("image: found a handler or layers beside it, expected neither")
        if self.code is not None and self.handler is None:
            raise ValueError("code: no handler beside it, expected handler: FILE.FUNCTION")
        return self


class FunctionMetadata(Metadata):
    """As `Metadata`, with Lambda's rule for names."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9-_]{1,64}$")]


class Function(Resource):
    """A Lambda function whose code lies beside the configuration."""

    api_version: Literal["wherry.dev/v1"]
    kind: Literal["Function"]
    metadata: FunctionMetadata
    spec: FunctionSpec
